"""The store on SQLite: one writer thread, point reads on the event loop, lists beside it.

Reading a row where the caller stands takes microseconds; a hop to another thread and back was measured to cost 38
times as much. So what is asked at every request (a task, a key, a position) is read on the event loop, through a
connection that cannot write and hardly ever waits. Lists, which can be long, are read by aiosqlite's thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from itertools import starmap
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import aiosqlite

from docv2.documents import Page, PageRecord, PageSource, PageUse
from docv2.errors import Conflict, StartError
from docv2.store import commands
from docv2.store.administration import Administration
from docv2.store.base import ApiKey, Credentials, Limits, QueueDepth, Recovery, Request, User
from docv2.store.engine import DRIVER, ERRORS, connect_reader, connect_writer, is_safe_beside_writer, translate
from docv2.store.kept import Kept
from docv2.store.migrate import inspect, migrate
from docv2.store.queries import QUERIES, Values, bind, count, fetch
from docv2.store.rows import task_of, task_of_request, user_of, values_of
from docv2.store.writer import Command, Kind, T, Writer
from docv2.tasks import Backlog, Claim, JSONObject, NewTask, Part, Result, Stage, Sums, Task, TaskStatus

log = logging.getLogger(__name__)

EXPIRE_BITE = 500
"""Tasks removed in one transaction."""


class SQLiteStore(Administration):
    """Implements docv2.store.base.Store. Open it with `open`, leave it with `close` or as an async context."""

    def __init__(
        self, writer: Writer, kept: Kept, reader: sqlite3.Connection | None, lists: aiosqlite.Connection | None
    ) -> None:
        """Without `reader` and `lists` everything is read through the writer."""
        self._writer = writer
        self._kept = kept
        self._reader = reader
        self._lists = lists
        self._handing_back: set[asyncio.Task[None]] = set()
        self.revocations = 0
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, checkpoints: bool = True, driver: ModuleType = DRIVER) -> Self:
        """Open the database, made or brought up to date first; StartError where that cannot be.

        The server opens it with `checkpoints`; a process that works beside it for a moment, without: checkpoints belong
        to one writer. `driver` is sqlite3 or a module like it.
        """
        kept = Kept()
        connection = await asyncio.to_thread(_prepare, path, driver, kept, checkpoints=checkpoints)
        writer = Writer(connection, kept)
        if not is_safe_beside_writer(driver):
            log.warning(
                "SQLite %s can lose data with several connections: using one, which makes reads slower. "
                "Mended in 3.51.3; installing pysqlite3 brings it",
                driver.sqlite_version,
            )
            return cls(writer, kept, None, None)
        try:
            reader = await asyncio.to_thread(connect_reader, path, driver)
            lists = await aiosqlite.Connection(partial(connect_reader, path, driver), iter_chunk_size=64)
        except ERRORS as error:
            await writer.close()
            raise StartError(f"{path} cannot be opened: {error}") from error
        return cls(writer, kept, reader, lists)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what was handed in and let go of the database."""
        await asyncio.gather(*self._handing_back, return_exceptions=True)
        if self._lists is not None:
            await self._lists.close()
        if self._reader is not None:
            self._closed = True
            self._reader.close()
        # Last, so that it is the writer that makes the final checkpoint.
        await self._writer.close()

    # -- the queue ----------------------------------------------------------------------------------------------------
    async def enqueue(self, new: NewTask, request: Request | None = None, limits: Limits | None = None) -> Task:
        """Accept a task at the tail of the queue, or find the one that the same request became."""
        return await self._request(partial(commands.enqueue, {**values_of(new), "now": time.time()}, request, limits))

    async def accepted(self, user_id: str, request: Request) -> Task | None:
        """The task that this request became, if it did; Conflict where another one was sent under its key."""
        rows = await self._read("same_request", user_id=user_id, key=request.key)
        return task_of_request(rows, request)

    async def tasks_of(
        self, user_id: str, *, before: int | None, limit: int, status: TaskStatus | None = None
    ) -> list[tuple[Task, int | None]]:
        """A user's tasks, newest first, those in places below `before` alone; with each its position while it waits."""
        values: Values = {"before": sys.maxsize if before is None else before, "limit": limit, "status": status}
        rows = await self._read_list("tasks_of", user_id=user_id, **values)
        return [(task_of(row), row["position"]) for row in rows]

    async def get(self, task_id: str) -> Task | None:
        """The task as it stands, or None."""
        if task := self._kept.task(task_id):
            return task
        rows = await self._read("get", task_id=task_id)
        if not rows:
            return None
        task = task_of(rows[0])
        self._kept.keep_task(task, rows[0])
        return task

    async def claim(self, owner: str, *, blocked_models: Collection[str] = ()) -> Task | None:
        """Take the first waiting task that may run now; None where there is none.

        A caller that is cancelled meanwhile gives the task back.
        """
        values = {"owner": owner, "blocked_models": list(blocked_models), "now": time.time()}
        claiming = self._writer.submit(Kind.NOTE, partial(fetch, "claim", values))
        try:
            rows = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            handing_back = asyncio.create_task(self._hand_back(claiming))
            self._handing_back.add(handing_back)
            handing_back.add_done_callback(self._handing_back.discard)
            raise
        return task_of(rows[0]) if rows else None

    async def _hand_back(self, claiming: asyncio.Future[list[sqlite3.Row]]) -> None:
        for row in await claiming:
            await self.release(task_of(row).claim)

    async def next_retry(self) -> float | None:
        """When the next backed-off task may run (Unix seconds), or None where none is backed off."""
        when: float | None = (await self._read("next_retry", now=time.time()))[0][0]
        return when

    async def release(self, claim: Claim, *, not_before: float = 0.0, upstream_failed: bool = False) -> None:
        """Put a running task back in its place, keeping its finished steps."""
        await self._result("release", claim, {"not_before": not_before, "upstream_failed": upstream_failed})

    async def report(self, claim: Claim, *, stage: Stage, progress: float) -> None:
        """Say how far a running task is."""
        values = {"stage": stage, "progress": progress}
        await self._writer.submit(Kind.NOTE, partial(commands.claimed, "report", _fenced(claim, values), []))

    async def save_pages(
        self, claim: Claim, pages: Sequence[Page], *, progress: float, pages_total: int | None
    ) -> None:
        """Keep pages as read, one finished step."""
        pages_done = max((page.number for page in pages), default=0)
        values = {"progress": progress, "pages_done": pages_done, "pages_total": pages_total}
        await self._result("save_pages", claim, values, [("save_page", values_of(page)) for page in pages])

    async def count_call(self, claim: Claim, pages: Sequence[int]) -> None:
        """Note in the ledger that a model is about to be asked about these pages."""
        steps: list[commands.Step] = [("count_call_pages", {"numbers": list(pages)})]
        command = partial(commands.claimed, "count_call", _fenced(claim, {}), steps)
        await self._writer.submit(Kind.NOTE, command)

    async def save_part(
        self, claim: Claim, part: Part, *, stage: Stage, progress: float, uses: Sequence[PageUse] = ()
    ) -> None:
        """Keep the answer to one part, one finished step, and what it was given of each page."""
        answer = {"model": part.model, "finish_reason": part.finish_reason}
        steps = [("save_part_answer", values_of(part)), *(("use_page", {**answer, **values_of(use)}) for use in uses)]
        await self._result("save_part", claim, {"stage": stage, "progress": progress}, steps)

    async def pages(self, task_id: str) -> list[Page]:
        """The pages read so far, in order."""
        rows = await self._read_list("pages", task_id=task_id)
        return [Page(**{**dict(row), "source": PageSource(row["source"])}) for row in rows]

    async def parts(self, task_id: str) -> list[Part]:
        """The parts answered so far, by level and where they begin."""
        rows = await self._read_list("parts", task_id=task_id)
        return [Part(**{**dict(row), "notes": tuple(json.loads(row["notes"]))}) for row in rows]

    async def ledger(self, task_id: str, *, after: int = 0, limit: int = -1) -> list[PageRecord]:
        """What became of the pages behind page `after`, in order."""
        rows = await self._read_list("ledger", task_id=task_id, after=after, limit=limit)
        return [PageRecord(**{**dict(row), **_sources(row)}) for row in rows]

    async def page_counts(self, task_id: str) -> dict[str, int]:
        """How many pages were used as what."""
        return dict(map(tuple, await self._read_list("page_counts", task_id=task_id)))

    async def complete(self, claim: Claim, result: Result, *, key: str = "") -> None:
        """End a running task with its answer, kept under `key` where there is one."""
        steps: list[commands.Step] = [("keep_answer", {"key": key})] if key else []
        await self._result("complete", claim, {"result": values_of(result)}, steps)

    async def complete_again(self, claim: Claim, key: str, *, since: float) -> bool:
        """End a running task with the answer that was kept under a key; False where there is none."""
        if not await self._read("answered", key=key, since=since):
            return False
        values = _fenced(claim, {"key": key, "since": since})
        return await self._writer.submit(Kind.RESULT, partial(commands.complete_again, values))

    async def fail(self, claim: Claim, error: str, error_type: str) -> None:
        """End a running task with an error."""
        await self._result("fail", claim, {"error": error, "error_type": error_type})

    async def cancel(self, task_id: str, *, error: str, error_type: str) -> Task | None:
        """End a waiting or running task as failed, whoever owns it; answers the task as it was just before."""
        values = {"task_id": task_id, "error": error, "error_type": error_type, "now": time.time()}
        return await self._request(partial(commands.cancel, values))

    async def recover(self, *, crash_limit: int, error: str, error_type: str) -> Recovery:
        """At start, with no other server alive: return running tasks to their place and count their crash."""
        values = {"crash_limit": crash_limit, "error": error, "error_type": error_type, "now": time.time()}
        return await self._request(partial(commands.recover, values))

    async def position(self, place: int) -> int:
        """Rank among the waiting tasks: 1 is next."""
        if (rank := self._kept.position(place)) is None:
            rank = int((await self._read("position", place=place))[0][0])
            self._kept.keep_position(place, rank)
        return rank

    @property
    def queue_generation(self) -> int | None:
        """Another one after each change to what stands before any task in the queue, None where nobody looks."""
        return self._kept.generation

    async def tail(self) -> int:
        """The place of the next task that is accepted."""
        place: int = (await self._read("tail"))[0][0]
        return place

    async def backlog(self, before: int | None = None, *, since: int = 0) -> list[Backlog]:
        """Waiting work before a place, or all of it, by model and type; `since` is where a block of `before` begins."""
        rows = await self._read("backlog", before=sys.maxsize if before is None else before, first=since)
        return list(starmap(Backlog, rows))

    async def depth(self) -> QueueDepth:
        """Counts of waiting and running tasks."""
        return QueueDepth(*(await self._read("depth"))[0])

    async def ended_since(self, when: float) -> tuple[int, int]:
        """How many tasks ended since a time (Unix seconds), and how many of those failed without being cancelled."""
        [(ended, failed)] = await self._read_list("ended_since", ended_after=when)
        return ended, failed

    async def expire(self, ended_before: float) -> list[str]:
        """Remove tasks that ended before a time (Unix seconds); answers their ids."""
        removed: list[str] = []
        while True:
            rows = await self._request(partial(fetch, "expire", {"ended_before": ended_before, "bite": EXPIRE_BITE}))
            removed += [row["task_id"] for row in rows]
            if len(rows) < EXPIRE_BITE:
                return removed

    async def known(self, task_ids: Collection[str]) -> dict[str, Task]:
        """Those of the given tasks that exist."""
        rows = await self._read_list("known", task_ids=list(task_ids))
        return {row["task_id"]: task_of(row) for row in rows}

    async def writes_of_others(self) -> int:
        """A number that is another one after each write of another process."""
        # Asked of the connection that writes: to that, only what others write is news.
        rows = await self._writer.submit(Kind.READ, partial(fetch, "writes_of_others", {}))
        number: int = rows[0][0]
        # What is read through the writer may be a write behind by the time at which its caller would keep it.
        if self._reader is not None:
            self._kept.follow(number)
        return number

    # -- what was measured and learned --------------------------------------------------------------------------------
    async def measure(self, kind: str, name: str, x: float, y: float) -> None:
        """Add a measured pair."""
        values = {"kind": kind, "name": name, "x": float(x), "y": float(y), "now": time.time()}
        await self._writer.submit(Kind.NOTE, partial(count, "measure", values))

    async def measured(self, kind: str) -> dict[str, Sums]:
        """All sums of a kind by name."""
        return {name: Sums(*sums) for name, *sums in await self._read("measured", kind=kind)}

    async def estimate_errors(self, last: int) -> list[float]:
        """How far off the estimates of the last so many completed tasks were, newest first."""
        return [error for (error,) in await self._read_list("estimate_errors", last=last)]

    async def save_note(self, kind: str, name: str, value: JSONObject) -> None:
        """Keep a small fact."""
        values = {"kind": kind, "name": name, "value": value, "now": time.time()}
        await self._writer.submit(Kind.RESULT, partial(count, "save_note", values))

    async def notes(self, kind: str) -> dict[str, JSONObject]:
        """All facts of a kind by name."""
        return {name: json.loads(value) for name, value in await self._read_list("notes", kind=kind)}

    # -- accounts -----------------------------------------------------------------------------------------------------
    async def add_user(self, user: User) -> None:
        """Add a user; Conflict where the e-mail is taken."""
        if not await self._request(partial(count, "add_user", values_of(user))):
            raise Conflict("A user with this e-mail exists already.")

    async def user_by_email(self, email: str) -> User | None:
        """The user with this e-mail, compared without case."""
        rows = await self._read_list("user_by_email", email=email)
        return user_of(rows[0]) if rows else None

    async def users(self) -> list[User]:
        """Everyone, in order of creation."""
        return [user_of(row) for row in await self._read_list("users")]

    async def credentials(self, user_id: str) -> Credentials | None:
        """What an active user signs in with."""
        rows = await self._read("credentials", user_id=user_id)
        return Credentials(user_of(rows[0][:6]), *rows[0][6:]) if rows else None

    async def set_password(self, user_id: str, password: str) -> None:
        """Keep the hash of a new password; every session of the user ends."""
        await self._request(partial(count, "set_password", {"user_id": user_id, "password": password}))

    async def add_key(self, key: ApiKey, sha256: str) -> None:
        """Add a key by the SHA-256 of its text."""
        if not await self._request(partial(count, "add_key", {**values_of(key), "sha256": sha256, "own": False})):
            raise Conflict("This key exists already.")

    async def own_key(self, user_id: str) -> ApiKey | None:
        """The key that the user made, while it is not revoked."""
        rows = await self._read_list("own_key", user_id=user_id)
        return ApiKey(*rows[0]) if rows else None

    async def replace_own_key(self, key: ApiKey, sha256: str) -> None:
        """Add the key that its user made; the one before it is revoked in the same moment."""
        values = {**values_of(key), "sha256": sha256, "own": True, "now": time.time()}
        await self._revoke(partial(commands.replace_own_key, values))

    async def revoke_own_key(self, user_id: str) -> ApiKey | None:
        """Revoke the key that the user made and answer it; None where there is none."""
        rows = await self._revoke(partial(fetch, "revoke_own_key", {"user_id": user_id, "now": time.time()}))
        return ApiKey(*rows[0]) if rows else None

    async def user_by_key(self, sha256: str) -> tuple[User, ApiKey, str] | None:
        """The active user of an unrevoked key, the key, and the stored digest."""
        rows = await self._read("user_by_key", sha256=sha256)
        return (user_of(rows[0][:6]), ApiKey(*rows[0][6:13]), rows[0][13]) if rows else None

    async def keys(self, user_id: str) -> list[ApiKey]:
        """A user's keys, oldest first, revoked ones included."""
        return [ApiKey(*row) for row in await self._read_list("keys", user_id=user_id)]

    async def revoke_key(self, key_id: str) -> bool:
        """Revoke a key; False where there is no such unrevoked key."""
        return await self._revoke(partial(count, "revoke_key", {"key_id": key_id, "now": time.time()})) > 0

    async def key_used(self, key_id: str, when: float) -> None:
        """Note when a key was used last (Unix seconds)."""
        await self._writer.submit(Kind.NOTE, partial(count, "key_used", {"key_id": key_id, "when": when}))

    # -- ways to the database -----------------------------------------------------------------------------------------
    async def _request(self, command: Command[T]) -> T:
        return await self._writer.submit(Kind.REQUEST, command)

    async def _revoke(self, command: Command[T]) -> T:
        def count_it(ended: asyncio.Future[T]) -> None:
            self.revocations += 1
            ended.exception()  # looked at, should nobody wait any more

        revoking = self._writer.submit(Kind.REQUEST, command)
        revoking.add_done_callback(count_it)
        return await asyncio.shield(revoking)  # it is done even if its caller leaves, and must be counted then

    async def _result(self, name: str, claim: Claim, values: Values, steps: Sequence[commands.Step] = ()) -> None:
        """A worker's write: only under its claim, and tried until it is done, for it must not be lost."""
        await self._writer.submit(Kind.RESULT, partial(commands.claimed, name, _fenced(claim, values), steps))

    async def _read(self, name: str, **values: Any) -> list[sqlite3.Row]:
        """A read short enough to be made right here."""
        if self._reader is None:
            return await self._writer.submit(Kind.READ, partial(fetch, name, values))
        try:
            if not self._reader.in_transaction:
                # The snapshot is taken by the first statement after this, so the end is due before any acknowledgement
                # of a later write: callbacks run in the order in which they were asked for.
                self._reader.execute("BEGIN")
                asyncio.get_running_loop().call_soon(self._end_turn, self._reader)
            return fetch(name, values, self._reader)
        except ERRORS as error:
            raise translate(error) from error

    def _end_turn(self, reader: sqlite3.Connection) -> None:
        """End what was begun for all reads of a turn, unless the store was closed or an error has ended it."""
        if self._closed or not reader.in_transaction:
            return
        try:
            reader.execute("COMMIT")
        except ERRORS as error:
            log.warning("a read could not be ended: %s", error)
            with suppress(*ERRORS):
                reader.execute("ROLLBACK")

    async def _read_list(self, name: str, **values: Any) -> list[sqlite3.Row]:
        """A read that may be long."""
        if self._lists is None:
            return await self._writer.submit(Kind.READ, partial(fetch, name, values))
        try:
            return list(await self._lists.execute_fetchall(QUERIES[name], bind(values)))
        except ERRORS as error:
            raise translate(error) from error


def _prepare(path: Path, driver: ModuleType, kept: Kept, *, checkpoints: bool) -> sqlite3.Connection:
    inspect(path, driver, quick_check=checkpoints)
    try:
        with suppress(FileExistsError):
            # For its owner alone: documents' text is in it. Only where it is new, for closing any descriptor of an
            # SQLite database drops the locks that this process has on it.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = connect_writer(path, driver, checkpoints=checkpoints)
    except (OSError, *ERRORS) as error:
        raise StartError(f"{path} cannot be opened: {error}") from error
    try:
        migrate(connection, path)
        kept.watch(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, ERRORS):
            raise StartError(f"{path} cannot be brought up to date: {error}") from error
        raise
    return connection


def _fenced(claim: Claim, values: Values) -> Values:
    return {**values_of(claim), **values, "now": time.time()}


def _sources(row: sqlite3.Row) -> dict[str, PageSource | None]:
    return {"source": PageSource(row["source"]), "used": PageSource(row["used"]) if row["used"] else None}
