"""The use cases: submit a document, look at tasks, cancel one. Whoever faces the caller calls only these."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import sys
import time
import unicodedata
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from docv2.config import Config, RuntimeConfig
from docv2.documents import Detail
from docv2.errors import Cancelled, Conflict, DocV2Error, NotFound, Unauthenticated, Unavailable, UnsupportedType
from docv2.estimate import Estimator
from docv2.events import Changes
from docv2.extract import sniff
from docv2.llm.catalog import Catalog
from docv2.llm.forms import FormCheck, read_form
from docv2.llm.health import EndpointHealth
from docv2.quote import Quoted, Quotes
from docv2.storage.base import Incoming, Storage
from docv2.store.base import Limits, Request, Store, User
from docv2.tasks import JSONObject, NewTask, Task, TaskStatus
from docv2.telemetry import metrics
from docv2.validation import PLAIN_BOOLEAN, PLAIN_NUMBER, Input, checked
from docv2.views import (
    Accepted,
    CancelledTask,
    PageCounts,
    PageList,
    Rate,
    Standing,
    TaskList,
    TaskSummary,
    TaskView,
    Wait,
    accepted,
    memory_usage,
    page_view,
    summary,
    view,
)
from docv2.worker.gate import Gate, Level
from docv2.worker.pool import Pool

log = logging.getLogger(__name__)

T = TypeVar("T")

TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

MAX_WAIT = 60.0
"""Seconds that a look at a task may wait for a change."""
MAX_LISTED = 100
"""Tasks on one page of a list."""
MAX_PAGES_LISTED = 1000
"""Document pages in one answer: some 200 kB."""
MAX_FILENAME = 255
MAX_TOKENS = 1_000_000
"""Beyond what any model writes; keeps the number within what every endpoint can read."""

_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of text: they make `exe.pdf` of `fdp.exe`."""


# -- what comes in ----------------------------------------------------------------------------------------------------
def _form(value: object) -> object:
    return read_form(value) if isinstance(value, str) else value


class Question(Input):
    """What is asked of the document, as the fields of a form say it."""

    prompt: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=5, max_length=4000, pattern=r"^[^\x00]*$")
    ] = Field(
        description="5 to 4000 characters of text",
        # The same as a pattern, for those who only read the schema.
        json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]{3,}[^\s\x00][^\x00]*$"},
    )
    model: str | None = Field(None, description="the id of a listed model")
    temperature: Annotated[float, Field(ge=0, le=2), PLAIN_NUMBER] | None = Field(
        None, description="a number from 0.0 to 2.0"
    )
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), PLAIN_NUMBER] | None = Field(
        None, description=f"a whole number from 1 to {MAX_TOKENS}"
    )
    detail: Detail = Field(Detail.AUTO, description="auto, text or image")
    response_format: Annotated[
        JSONObject | None,
        BeforeValidator(_form),
        WithJsonSchema({"type": "string", "contentMediaType": "application/json"}),
    ] = Field(None, description="JSON of OpenAI's form: of type json_schema, json_object or text")
    dry_run: Annotated[bool, PLAIN_BOOLEAN] = Field(False, description="true or false")


FIELD_BYTES: Mapping[str, int] = {
    "prompt": 20_000,
    "model": 1_000,
    "temperature": 100,
    "max_tokens": 100,
    "detail": 100,
    "response_format": 32_000,
    "dry_run": 100,
}
"""The fields beside the file with the most bytes each may hold; a prompt of 4000 characters has at most 16,000."""


class Look(Input):
    """How to look at a task."""

    wait: Annotated[float, Field(ge=0, le=MAX_WAIT), PLAIN_NUMBER] = Field(
        0.0, description=f"a number of seconds from 0 to {MAX_WAIT:g}"
    )


class PageListing(Input):
    """Which pages of a task's document to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGES_LISTED), PLAIN_NUMBER] = Field(
        100, description=f"a whole number from 1 to {MAX_PAGES_LISTED}"
    )
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")] | None = Field(
        None, description="the next_cursor of the answer before"
    )


class Listing(Input):
    """Which tasks to list."""

    status: Literal["pending", "queued", "processing", "completed", "failed"] | None = Field(
        None, description="pending, queued, processing, completed or failed; the first two find all that wait"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED), PLAIN_NUMBER] = Field(
        20, description=f"a whole number from 1 to {MAX_LISTED}"
    )
    cursor: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{11}$")] | None = Field(
        None, description="the next_cursor of the page before"
    )


ROW_STATUS = {
    "pending": TaskStatus.WAITING,
    "queued": TaskStatus.WAITING,
    "processing": TaskStatus.RUNNING,
    "completed": TaskStatus.COMPLETED,
    "failed": TaskStatus.FAILED,
}
"""Which of `pending` and `queued` a task is changes from one moment to the next, so either finds both."""


class Upload(Protocol):
    """A document and its fields on their way in."""

    async def read_into(self, file: Incoming) -> tuple[str, dict[str, str]]:
        """Hand the document's bytes to `file`; answer the name it was sent under and the other fields."""
        ...


class Intake:
    """What callers may do with tasks."""

    def __init__(
        self,
        *,
        store: Store,
        storage: Storage,
        config: RuntimeConfig,
        catalog: Catalog,
        health: EndpointHealth,
        gate: Gate,
        pool: Pool,
        changes: Changes,
        estimate: Estimator,
        forms: FormCheck,
        quotes: Quotes,
    ) -> None:
        self._store = store
        self._storage = storage
        self._config = config
        self._catalog = catalog
        self._health = health
        self._gate = gate
        self._pool = pool
        self._changes = changes
        self._estimate = estimate
        self._forms = forms
        self._quotes = quotes

    # -- submit -------------------------------------------------------------------------------------------------------
    async def submit(
        self, user: User, upload: Upload, *, key: str | None = None, fresh: bool = False
    ) -> Accepted | Quoted:
        """Take a document and a question; both are on disk when this returns, and on failure nothing is.

        What was sent before under the same `key` becomes no second task, and Conflict where it is something else.
        Unavailable while no documents are taken; FileTooLarge as soon as the file passes the limit; UnsupportedType,
        BadRequest and InvalidValue for what cannot be used; Forbidden for a model that is not for them; DiskFull where
        there is no room. Where only a quote is wanted nothing is kept in any case, and Unreadable tells that the task
        would fail. `fresh`: no answer of before.
        """
        self._check_open()
        limits = self._config.current.limits(user.email)
        if key is None:  # before the document is read; with a key it may have been accepted before
            await self._store.check_limits(user.user_id, limits)
        task_id = str(uuid.uuid4())
        async with self._storage.receive(task_id, self._config.current.max_file_size) as file:
            sent_name, fields = await upload.read_into(file)
            question = read_question(fields)
            filename = display_name(sent_name)
            config = self._config.current
            received, media_type = await file.finish(partial(sniff.check, filename=filename))
            key = None if question.dry_run else key
            request = Request(key, _fingerprint(received.sha256, filename, question)) if key else None
            if request and (before := await self._store.accepted(user.user_id, request)):
                return await self._accepted(before, self._pool.free_slots())
            may = partial(config.permits, user)
            model = self._catalog.choose(question.model or "", may)
            check_allowed(filename, config)
            of_model = config.model(model)
            if question.response_format:
                await self._forms.schema(question.response_format)
            new = NewTask(
                task_id=task_id,
                user_id=user.user_id,
                filename=filename,
                media_type=media_type,
                size=received.size,
                sha256=received.sha256,
                prompt=question.prompt,
                model=model,
                temperature=_first(question.temperature, of_model.temperature, config.temperature),
                max_tokens=question.max_tokens or of_model.max_tokens or config.max_tokens,
                detail=question.detail,
                response_format=question.response_format,
                fresh=fresh,
            )
            if question.dry_run:
                return await self._quotes.quote(new, received.path, config, may)
            if await self._store.credentials(user.user_id) is None:  # an upload may take an hour
                raise Unauthenticated("The account was shut out or removed meanwhile")
            return await _to_the_end(self._accept(file, new, request, limits))

    def _check_open(self) -> None:
        if not self._config.current.enabled:
            raise Unavailable("API v2 is currently disabled", retry_after=60)
        if self._pool.draining:
            raise Unavailable("The server is shutting down", retry_after=10)
        if self._gate.level >= Level.CRITICAL:
            raise Unavailable("The server is short of memory", retry_after=30)

    async def _accept(self, file: Incoming, new: NewTask, request: Request | None, limits: Limits) -> Accepted:
        wait, work = await self._expected(new)
        task = await self._store.enqueue(replace(new, estimated_wait=wait, estimated_work=work), request, limits)
        free = self._pool.free_slots()
        if task.task_id == new.task_id:  # else the same request came twice at once, and the other one was first
            file.keep()
            log.info("task accepted", extra={"task_id": task.task_id, "user_id": task.user_id, "bytes": task.size})
            self._pool.wake()
        return await self._accepted(task, free, seconds=None if wait is None or work is None else wait + work)

    async def _expected(self, new: NewTask) -> tuple[float | None, float | None]:
        """Seconds that a task will wait and take, to be held against the truth once it is known."""
        try:
            return await self._estimate.at_tail(new.model, new.media_type, new.size)
        except DocV2Error as error:
            log.warning("no estimate for task %s: %s", new.task_id, error)
            return None, None

    async def _accepted(self, task: Task, free_slots: int, *, seconds: float | None = None) -> Accepted:
        """`seconds` until its end is expected, where that is known already."""
        try:
            waits = task.status is TaskStatus.WAITING
            return accepted(task, await self._wait(task, free_slots, seconds) if waits else None)
        except DocV2Error as error:
            # The task is accepted whatever else fails now; an error would make the client send it again.
            log.warning("cannot tell the position of task %s: %s", task.task_id, error)
            return accepted(task, None)

    # -- look ---------------------------------------------------------------------------------------------------------
    async def status(self, user: User, task_id: str, *, wait: float = 0.0) -> TaskView:
        """The task as it stands, or as it stands once it changed within `wait` seconds. NotFound where not theirs."""
        if not wait:
            return await self._view(await self._find(user, task_id))
        with self._changes.watch(task_id) as changed:
            before = task = await self._find(user, task_id)
            try:
                async with asyncio.timeout(wait):
                    while not task.ended and _moving(task) == _moving(before) and not self._changes.closed:
                        await changed.wait()
                        changed.clear()
                        task = await self._find(user, task_id)
            except TimeoutError:
                task = await self._find(user, task_id)
        return await self._view(task)

    async def _find(self, user: User, task_id: str) -> Task:
        """A task of this user's; the same answer for one that is not theirs as for one that is not there."""
        task = await self._store.get(task_id) if TASK_ID.fullmatch(task_id) else None
        if task is None or (task.user_id != user.user_id and not user.is_admin):
            raise NotFound("Task not found")
        return task

    async def _view(self, task: Task) -> TaskView:
        waits = task.status is TaskStatus.WAITING
        return view(
            task, memory_usage(self._gate.memory), await self._wait(task, self._pool.free_slots()) if waits else None
        )

    async def _wait(self, task: Task, free_slots: int, seconds: float | None = None) -> Wait:
        stands = self._standing(task, await self._store.position(task.place), free_slots)
        return Wait(stands, await self._estimate.seconds(task) if seconds is None else seconds)

    def _standing(self, task: Task, position: int, free_slots: int) -> Standing:
        reason = self._waiting_reason(task)
        return Standing(position, reason, reason == "slots" and position <= free_slots)

    def _waiting_reason(self, task: Task) -> str:
        if self._config.current.paused:
            return "paused"
        if task.not_before > time.time() or self._health.holds_back(task.model):
            return "upstream"
        return "memory" if self._gate.level >= Level.HOLD else "slots"

    async def tasks(self, user: User, listing: Listing) -> TaskList:
        """One page of the user's own tasks, newest first."""
        rows = await self._store.tasks_of(
            user.user_id,
            before=_place(listing.cursor) if listing.cursor else None,
            limit=listing.limit + 1,  # one more tells whether there is a next page
            status=ROW_STATUS[listing.status] if listing.status else None,
        )
        return self._listed(rows, listing.limit)

    def _listed(self, rows: Sequence[tuple[Task, int | None]], limit: int, *, with_user: bool = False) -> TaskList:
        shown, free = rows[:limit], self._pool.free_slots()
        return TaskList(
            tasks=tuple(
                summary(task, self._standing(task, position, free) if position else None, with_user=with_user)
                for task, position in shown
            ),
            next_cursor=_cursor(shown[-1][0].place) if len(rows) > len(shown) else None,
        )

    # -- administrators -----------------------------------------------------------------------------------------------
    async def all_tasks(self, listing: Listing, *, user_id: str | None) -> TaskList:
        """One page of everyone's tasks, or of one user's, newest first."""
        rows = await self._store.all_tasks(
            user_id=user_id,
            before=_place(listing.cursor) if listing.cursor else None,
            limit=listing.limit + 1,
            status=ROW_STATUS[listing.status] if listing.status else None,
        )
        return self._listed(rows, listing.limit, with_user=True)

    async def retry(self, task_id: str) -> TaskSummary:
        """Put a failed task at the tail of the queue; NotFound where there is none, Conflict where it did not fail."""
        task = await self._store.retry(task_id)
        if task is None:
            if await self._store.get(task_id) is None:
                raise NotFound("Task not found")
            raise Conflict("Only a failed task can be tried again")
        log.info("task is tried again", extra={"task_id": task_id})
        self._changes.announce(task_id)
        self._pool.wake()
        stands = self._standing(task, await self._store.position(task.place), self._pool.free_slots())
        return summary(task, stands, with_user=True)

    async def rates(self, user: User) -> tuple[Rate, ...]:
        """How much of what a user may send is used."""
        limits = self._config.current.limits(user.email)
        used = await self._store.submitted(user.user_id, limits)
        now = time.time()
        return tuple(
            Rate(most, max(0, most - count), max(0.0, oldest + seconds - now) if count else 0.0)
            for (seconds, most), (count, oldest) in zip(limits.windows, used, strict=True)
        )

    # -- look closer --------------------------------------------------------------------------------------------------
    async def pages(self, user: User, task_id: str, listing: PageListing) -> PageList:
        """What became of the pages of a task's document, while it runs and as long as it is kept."""
        task = await self._find(user, task_id)
        rows = await self._store.ledger(task_id, after=int(listing.cursor or 0), limit=listing.limit + 1)
        shown = rows[: listing.limit]
        return PageList(
            task_id=task_id,
            counts=PageCounts.read(await self._store.page_counts(task_id)),
            pages_total=task.pages_total,
            pages=tuple(map(page_view, shown)),
            next_cursor=str(shown[-1].number) if len(rows) > len(shown) else None,
        )

    # -- cancel -------------------------------------------------------------------------------------------------------
    async def cancel(self, user: User, task_id: str) -> CancelledTask:
        """End a task that waits or runs; Conflict where it has ended, NotFound where it is not theirs."""
        await self._find(user, task_id)
        return await _to_the_end(self._cancel(task_id))

    async def _cancel(self, task_id: str) -> CancelledTask:
        message = "Cancelled on request"
        before = await self._store.cancel(task_id, error=message, error_type=Cancelled.error_type)
        if before is None:
            raise NotFound("Task not found")
        if before.ended:
            raise Conflict(f"The task has ended already: {before.status}")
        self._pool.cancel(task_id)
        metrics.task_failed(Cancelled.error_type)
        self._changes.announce(task_id)
        log.info("task cancelled", extra={"task_id": task_id, "was": before.status})
        return CancelledTask(task_id, TaskStatus.FAILED, Cancelled.error_type, message)


def check_allowed(filename: str, config: Config) -> None:
    """UnsupportedType for a type that the administrator does not accept."""
    extension = filename.rpartition(".")[2].lower()
    if extension in config.blocked_extensions or extension not in config.supported_formats:
        accepted = [known for known in config.supported_formats if known not in config.blocked_extensions]
        raise UnsupportedType(f"Files of this type are not accepted; accepted are: {', '.join(accepted) or 'none'}")


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def read_question(fields: Mapping[str, str]) -> Question:
    """The fields of a form, checked: BadRequest where one is missing or unreadable, InvalidValue where out of range."""
    given = {name: value for name, value in fields.items() if value.strip() or name == "prompt"}
    return checked(Question, given)


def _fingerprint(sha256: str, filename: str, question: Question) -> str:
    """The same for the same request, also from a docv2 that knows more fields."""
    asked = question.model_dump(mode="json", exclude_unset=True)
    return hashlib.sha256(json.dumps([sha256, filename, asked], sort_keys=True).encode()).hexdigest()


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(place.to_bytes(8)).rstrip(b"=").decode()


def _place(cursor: str) -> int:
    """Whatever a caller makes up, it is a place in the list of its own tasks."""
    return min(int.from_bytes(base64.urlsafe_b64decode(cursor + "=")), sys.maxsize)


def display_name(sent: str) -> str:
    """What is shown of a file name: its last part, without characters that could deceive or break a display."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", sent))[-1]
    kept = "".join(
        char
        for char in name
        if unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") and char not in _BIDIRECTIONAL
    ).strip()
    stem, dot, extension = kept.rpartition(".")
    if len(kept) > MAX_FILENAME and dot and len(extension) < 10:
        return f"{stem[: MAX_FILENAME - len(extension) - 1]}.{extension}"
    return kept[:MAX_FILENAME] or "document"


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Let work that must not stop halfway end before a cancellation goes on: its client may leave at any moment."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _moving(task: Task) -> tuple[object, ...]:
    """What someone who waits wants to hear of."""
    return (task.status, task.stage, task.progress, task.pages_done)
