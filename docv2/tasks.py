"""A task: one document and one question, from acceptance to its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from docv2.documents import Detail

JSONObject = dict[str, Any]
"""A decoded JSON object, where its shape is the sender's."""


class TaskStatus(StrEnum):
    """What the row says. The words clients see while a task waits are derived from its rank (see intake)."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


TRANSITIONS: dict[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.WAITING: frozenset({TaskStatus.RUNNING, TaskStatus.FAILED}),
    TaskStatus.RUNNING: frozenset({TaskStatus.WAITING, TaskStatus.COMPLETED, TaskStatus.FAILED}),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.FAILED: frozenset(),
}
"""Every legal move within one place. The schema enforces the same table, whoever writes; it knows one more, by which an
administrator has a failed task tried again at a new place."""


class Stage(StrEnum):
    """What a running task is doing."""

    READING = "reading"
    ASKING = "asking"
    COMBINING = "combining"


@dataclass(frozen=True, slots=True)
class Result:
    """The answer and what it stands on."""

    content: str
    model_used: str
    finish_reason: str
    """As the endpoint said it: `stop`, or `length` for an answer cut short."""
    warnings: tuple[str, ...] = ()
    """Whatever the reader of the answer must know: pages not used, answer cut short, parameters dropped."""
    temperature: float = 0.0
    max_tokens: int = 0
    prompt_tokens: int = 0
    """Summed over every model call of the task; 0 where the endpoint did not say."""
    completion_tokens: int = 0
    pages: dict[str, int] = field(default_factory=dict)
    """How many pages were used as what: a PageSource to a count."""
    cached: bool = False
    """Whether it is the answer of an earlier task, for which no model was asked this time."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """What acceptance hands to the store."""

    task_id: str
    user_id: str
    filename: str
    """For display only; never part of a path."""
    media_type: str
    size: int
    """Bytes."""
    sha256: str
    prompt: str
    model: str
    """The model asked for, or the default at acceptance."""
    temperature: float
    max_tokens: int
    detail: Detail = Detail.AUTO
    response_format: JSONObject | None = None
    """The form that the answer must have, as OpenAI's interface says it."""
    fresh: bool = False
    """Whether only a fresh answer will do."""
    estimated_wait: float | None = None
    """Seconds until it starts, as expected at acceptance."""
    estimated_work: float | None = None
    """Seconds from its start to its end, likewise."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the store holds it. Times are Unix seconds."""

    task_id: str
    place: int
    """Its place in the queue: lower is earlier. Kept when a running task returns to waiting."""
    user_id: str
    status: TaskStatus
    filename: str
    media_type: str
    size: int
    sha256: str
    prompt: str
    model: str
    temperature: float
    max_tokens: int
    created_at: float
    detail: Detail = Detail.AUTO
    response_format: JSONObject | None = None
    fresh: bool = False
    estimated_wait: float | None = None
    estimated_work: float | None = None
    started_at: float | None = None
    """Of the first attempt."""
    claimed_at: float | None = None
    """Of the present attempt, while one runs."""
    worked_seconds: float = 0.0
    """What the attempts that are over worked on it; one that died with the server is not counted."""
    ended_at: float | None = None
    attempt: int = 0
    """Counts claims; with `owner` the fence of every later write."""
    owner: str | None = None
    crashes: int = 0
    """Server deaths during this task since it last finished a step."""
    upstream_failures: int = 0
    not_before: float = 0.0
    """Not claimed before this time: the back-off after an endpoint's failure."""
    stage: Stage | None = None
    progress: float = 0.0
    """Percent; never goes back."""
    pages_done: int = 0
    """Pages that were read."""
    pages_total: int | None = None
    """None until the document has been opened."""
    result: Result | None = None
    error: str | None = None
    error_type: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in (TaskStatus.COMPLETED, TaskStatus.FAILED)

    @property
    def claim(self) -> Claim:
        """The fence under which this attempt writes."""
        assert self.owner is not None
        return Claim(self.task_id, self.attempt, self.owner)


@dataclass(frozen=True, slots=True)
class Claim:
    """Proof that one attempt of one server process owns a task."""

    task_id: str
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True)
class Part:
    """One model call of a task whose answer is kept, so that it is never paid for twice."""

    level: int
    """0 asks about pages; each level above combines the answers of the one below."""
    scope: str
    """What it covers, in a word that is the same in every plan: the key of a part within its level."""
    first_page: int
    last_page: int
    model: str
    content: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    notes: tuple[str, ...] = field(default=())
    """Warnings of this call: a parameter dropped, the answer cut short."""
    first_byte: int = 0
    """Where in the first page's text it begins."""
    last_byte: int | None = None
    """Where in the last page's text it ends; None: with the page."""


class Backlog(NamedTuple):
    """Work of one kind that stands before a task, for the estimate; a dozen are made at every poll."""

    model: str
    media_type: str
    tasks: int
    unread: int
    """Documents that were not opened yet, and in `unread_bytes` how large they are together."""
    unread_bytes: int
    pages: int
    """Pages left of the documents that were opened, by their progress."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Fading sums over measured pairs of x and y."""

    weight: float
    """About how many pairs they stand for."""
    x: float
    y: float
    xx: float
    xy: float
