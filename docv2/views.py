"""What callers see of tasks. The words for a waiting task are derived here; the row only says that it waits.

Not frozen, since several are made at every poll, and making a frozen one takes three times as long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from docv2.documents import PageRecord, PageSource
from docv2.tasks import Result, Stage, Task, TaskStatus
from docv2.worker.gate import Memory

PENDING = "pending"
QUEUED = "queued"
PROCESSING = "processing"


@dataclass(slots=True)
class AppliedConfig:
    """What the model will be asked with."""

    model: str
    temperature: float
    max_tokens: int


@dataclass(slots=True)
class Accepted:
    """A document that is safe with us."""

    task_id: str
    status: str
    """`processing` or `queued`."""
    message: str
    config_applied: AppliedConfig
    created_at: float
    position: int | None = None
    """1 is next."""
    estimated_time: int | None = None
    """Seconds until the answer is expected."""


@dataclass(slots=True)
class FileInfo:
    """The document as it was sent."""

    filename: str
    size: int
    type: str


@dataclass(slots=True)
class ModelConfig:
    """What the model was asked with."""

    temperature: float
    max_tokens: int


@dataclass(slots=True)
class Metadata:
    """Figures about the question and the answer, in characters."""

    prompt_length: int
    response_length: int
    model_config: ModelConfig


@dataclass(slots=True)
class Usage:
    """Tokens over all model calls of the task; 0 where the endpoint did not count."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


_SOURCES = [source.value for source in PageSource]


@dataclass(slots=True)
class PageCounts:
    """Pages by what a model is given of them."""

    total: int
    text: int
    picture: int
    both: int
    none: int
    """Pages that could not be used at all."""

    @classmethod
    def read(cls, counts: Mapping[str, int]) -> PageCounts:
        """From counts by source."""
        return cls(sum(counts.values()), **{source: counts.get(source, 0) for source in _SOURCES})


@dataclass(slots=True)
class Answer:
    """The answer and what must be known to read it."""

    content: str
    model_used: str
    finish_reason: str
    warnings: tuple[str, ...]
    pages: PageCounts
    file_info: FileInfo
    processing_metadata: Metadata
    usage: Usage
    cached: bool
    """Whether it was given to an earlier task, and no model was asked this time."""


@dataclass(slots=True)
class MemoryUsage:
    """Memory of the server."""

    used_percent: float
    available_mb: int
    total_mb: int


@lru_cache(maxsize=1)  # every poll tells it, and it is the same reading for half a second
def memory_usage(memory: Memory) -> MemoryUsage:
    """A reading of the gate for clients."""
    return MemoryUsage(memory.used_percent, memory.available_mb, memory.total_mb)


@dataclass(slots=True)
class TaskView:
    """A task as its owner sees it. What does not apply is None."""

    task_id: str
    status: str
    progress: float
    message: str
    created_at: float
    memory_usage: MemoryUsage
    position: int | None = None
    estimated_time: int | None = None
    waiting_reason: str | None = None
    """`slots`, `memory`, `upstream` or `paused`."""
    stage: Stage | None = None
    pages_done: int | None = None
    pages_total: int | None = None
    result: Answer | None = None
    error: str | None = None
    error_type: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    processing_time: float | None = None


@dataclass(slots=True)
class PageView:
    """A page in the ledger. What does not apply, or not yet, is None."""

    page: int
    """1-based."""
    read_as: str
    """`text`, `picture`, `both`, or `none` where it could not be read."""
    reason: str
    """Why so."""
    used_as: str | None
    """What a model was given of it, in the same words; not there before a model has answered."""
    model: str | None
    attempts: int
    """Calls that it was part of, those that failed included."""
    tokens: int
    """Its share of the tokens that the endpoint counted."""
    finish_reason: str | None
    """How the answer that it went into ended; `length`: cut short."""
    characters: int
    picture_width: int | None
    """Pixels."""
    picture_height: int | None


@dataclass(slots=True)
class PageList:
    """Part of the ledger of a task's pages, in order."""

    task_id: str
    counts: PageCounts
    """Of all pages read so far."""
    pages_total: int | None
    """Not there before the document was opened."""
    pages: tuple[PageView, ...]
    next_cursor: str | None
    """Asks for those that follow, of which there may be more by then; not there at the end."""


@dataclass(slots=True)
class CancelledTask:
    """A task that was ended by its owner."""

    task_id: str
    status: str
    error_type: str
    message: str


@dataclass(slots=True)
class TaskSummary:
    """A task as it is listed. What does not apply is None."""

    task_id: str
    status: str
    progress: float
    message: str
    model: str
    file_info: FileInfo
    created_at: float
    position: int | None = None
    waiting_reason: str | None = None
    stage: Stage | None = None
    pages_done: int | None = None
    pages_total: int | None = None
    error: str | None = None
    error_type: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    processing_time: float | None = None
    user_id: str | None = None
    """Whose it is; told to administrators."""


@dataclass(slots=True)
class Rate:
    """How much of what a user may send in one span of time is used."""

    limit: int
    remaining: int
    reset: float
    """Seconds until one more is free."""


@dataclass(slots=True)
class TaskList:
    """One page of tasks, newest first."""

    tasks: tuple[TaskSummary, ...]
    next_cursor: str | None = None
    """Of the next page; None on the last one."""


class Standing(NamedTuple):
    """Where a waiting task stands."""

    position: int
    """1 is next."""
    reason: str
    """A key of WAITING_FOR."""
    has_slot: bool
    """Whether a slot is free for it, so that it starts within moments."""


class Wait(NamedTuple):
    """Likewise, and how long it will take."""

    stands: Standing
    seconds: float
    """Until its end is expected."""


WAITING_FOR = {
    "slots": "Waiting for its turn",
    "memory": "Waiting until the server has memory to spare",
    "upstream": "Waiting for the model's endpoint",
    "paused": "Waiting until the administrator resumes the queue",
}


def accepted(task: Task, wait: Wait | None) -> Accepted:
    """A task that was accepted; `wait` where it waits, unless that could not be found out."""
    starts = task.status is not TaskStatus.WAITING or (wait is not None and wait.stands.has_slot)
    return Accepted(
        task_id=task.task_id,
        status=PROCESSING if starts else QUEUED,
        message="Processing of the document starts" if starts else "The document waits in the queue",
        config_applied=AppliedConfig(task.model, task.temperature, task.max_tokens),
        created_at=task.created_at,
        position=wait.stands.position if wait and not starts else None,
        estimated_time=math.ceil(wait.seconds) if wait else None,
    )


def view(task: Task, memory: MemoryUsage, wait: Wait | None = None) -> TaskView:
    """The task as its owner sees it; `wait` where it waits."""
    return TaskView(
        **_common(task, wait.stands if wait else None),
        memory_usage=memory,
        estimated_time=math.ceil(wait.seconds) if wait else None,
        result=_answer(task, task.result) if task.result else None,
    )


def summary(task: Task, stands: Standing | None, *, with_user: bool = False) -> TaskSummary:
    """The task as it is listed; `stands` where it waits."""
    return TaskSummary(
        **_common(task, stands),
        model=task.model,
        file_info=FileInfo(task.filename, task.size, task.media_type),
        user_id=task.user_id if with_user else None,
    )


def _common(task: Task, stands: Standing | None) -> dict[str, Any]:
    common: dict[str, Any] = {
        "task_id": task.task_id,
        "progress": round(task.progress, 1),
        "created_at": task.created_at,
        "pages_done": task.pages_done if task.pages_total else None,
        "pages_total": task.pages_total,
        "started_at": task.started_at,
    }
    if task.ended:
        return common | _ended(task)
    if stands is None:
        return common | {"status": PROCESSING, "message": _doing(task), "stage": task.stage}
    return common | {
        "status": PENDING if stands.has_slot else QUEUED,
        "message": WAITING_FOR[stands.reason],
        "position": stands.position,
        "waiting_reason": stands.reason,
    }


def page_view(record: PageRecord) -> PageView:
    """A page of the ledger as its owner sees it."""
    return PageView(
        page=record.number,
        read_as=record.source.value,
        reason=record.reason,
        used_as=record.used.value if record.used else None,
        model=record.model,
        attempts=record.attempts,
        tokens=record.tokens,
        finish_reason=record.finish_reason,
        characters=record.chars,
        picture_width=record.picture_width or None,
        picture_height=record.picture_height or None,
    )


def _doing(task: Task) -> str:
    pages = f": {task.pages_done} of {task.pages_total} pages" if task.pages_total else ""
    match task.stage:
        case Stage.ASKING:
            return "Asking the model"
        case Stage.COMBINING:
            return "Combining the answers"
        case _:
            return "Reading the document" + pages


def _ended(task: Task) -> dict[str, Any]:
    assert task.ended_at is not None
    times = {
        "status": task.status.value,
        "completed_at": task.ended_at,
        "processing_time": round(task.ended_at - (task.started_at or task.ended_at), 3),
    }
    if task.status is TaskStatus.FAILED:
        return {**times, "message": "The task failed", "error": task.error, "error_type": task.error_type}
    return {**times, "message": "The task is completed"}


def _answer(task: Task, result: Result) -> Answer:
    return Answer(
        content=result.content,
        model_used=result.model_used,
        finish_reason=result.finish_reason,
        warnings=result.warnings,
        pages=PageCounts.read(result.pages),
        file_info=FileInfo(task.filename, task.size, task.media_type),
        processing_metadata=Metadata(
            prompt_length=len(task.prompt),
            response_length=len(result.content),
            model_config=ModelConfig(result.temperature, result.max_tokens),
        ),
        usage=Usage(result.prompt_tokens, result.completion_tokens, result.prompt_tokens + result.completion_tokens),
        cached=result.cached,
    )
