"""The one writer: a thread that commits all that is pending in one transaction and only then acknowledges it.

An fsync costs the same for one write as for a hundred, so the more callers there are, the cheaper each becomes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from docv2.errors import Unavailable
from docv2.store.engine import BUSY, ERRORS, OUTAGE, error_code, translate
from docv2.store.kept import Kept, Touched

log = logging.getLogger(__name__)

T = TypeVar("T")
Command = Callable[[sqlite3.Connection], T]
"""A plain function over the connection. It may run more than once, but only one run is committed."""

BATCH = 256
"""Commands in one transaction at most, so that none waits long for the others."""
PATIENCE = 5.0
"""Seconds that a caller with a client behind it waits for a database that someone else has locked."""
PAUSE = 0.5
"""Seconds between tries while the disk is full or failing."""


class Kind(Enum):
    """What the caller of a command needs."""

    REQUEST = auto()
    """A client waits. On disk before it is acknowledged; Unavailable where someone else locks the database for longer
    than PATIENCE."""
    RESULT = auto()
    """Work that must not be lost, of a caller with nothing better to do. On disk before it is acknowledged; tried again
    until it is done or the store closes."""
    NOTE = auto()
    """Nobody is promised anything. Tried again like a RESULT, and survives the death of the process, but it is the next
    REQUEST or RESULT that brings it to the disk: the log is flushed in order."""
    READ = auto()
    """Runs outside of the transaction."""


class _Job:
    __slots__ = ("command", "deadline", "error", "future", "kind", "result")

    def __init__(self, kind: Kind, command: Command[Any], future: asyncio.Future[Any]) -> None:
        self.kind = kind
        self.command = command
        self.future = future
        self.deadline = time.monotonic() + (PATIENCE if kind is Kind.REQUEST else math.inf)
        self.result: Any = None
        self.error: Exception | None = None


class Writer:
    """Owns the writing connection and its thread."""

    def __init__(self, connection: sqlite3.Connection, kept: Kept) -> None:
        """Take the connection over. To be called on the event loop whose coroutines will submit.

        `kept` is told there what was committed, before those whose commands it were.
        """
        self._connection = connection
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing_until: float | None = None
        self._failing = False
        self._flushes: bool | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, kind: Kind, command: Command[T]) -> asyncio.Future[T]:
        """Run a command in the next transaction; the future is done once that is committed, or has failed.

        Handed in is handed in: cancelling the future does not take the command back.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closing_until is not None:
            future.set_exception(Unavailable("docv2 is shutting down."))
        else:
            self._jobs.put(_Job(kind, command, future))
        return cast("asyncio.Future[T]", future)

    async def close(self) -> None:
        """Finish what was handed in, then close the connection."""
        if self._closing_until is None:
            self._closing_until = time.monotonic() + PATIENCE
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _resolve(self, jobs: list[_Job], touched: Touched) -> None:
        self._kept.forget(touched)
        for job in jobs:
            if job.future.done():
                continue  # its caller has left
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    # -- on the thread ------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        jobs: list[_Job] = []
        is_open = True
        while is_open or jobs:
            if is_open:
                is_open = self._collect(jobs)
            try:
                jobs = self._work(jobs)
            except Exception as error:
                # A defect here must not leave anyone waiting for ever.
                log.exception("the writer failed on %d commands", len(jobs))
                self._fail(jobs, error)
                jobs = []
        self._connection.close()

    def _collect(self, jobs: list[_Job]) -> bool:
        """Add what is pending, waiting for the first; False when the store closes."""
        try:
            for _ in range(BATCH):
                job = self._jobs.get(block=not jobs)
                if job is None:
                    return False
                jobs.append(job)
        except Empty:
            pass
        return True

    def _work(self, jobs: list[_Job]) -> list[_Job]:
        """Answer the jobs; return those to be tried again."""
        reads = [job for job in jobs if job.kind is Kind.READ]
        for job in reads:
            try:
                job.result = job.command(self._connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is its caller's to handle
                job.error = _told(error)
        self._answer(reads)
        writes = [job for job in jobs if job.kind is not Kind.READ]
        if not writes:
            return []
        try:
            self._flush_at_commit(any(job.kind is not Kind.NOTE for job in writes))
            self._connection.execute("BEGIN IMMEDIATE")
            for job in writes:
                self._execute(job)
            self._connection.execute("COMMIT")
        except ERRORS as error:
            self._roll_back()
            return self._put_off(writes, error)
        if self._failing:
            self._failing = False
            log.warning("the database is written again")
        self._answer(writes)
        return []

    def _flush_at_commit(self, flush: bool) -> None:
        if flush is not self._flushes:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
            self._flushes = flush

    def _execute(self, job: _Job) -> None:
        """Run one command so that its failure leaves nothing behind and the others of its transaction alone."""
        self._connection.execute("SAVEPOINT command")
        try:
            job.error = None
            job.result = job.command(self._connection)
        except Exception as error:
            # Whatever it is, it is its caller's to handle, except where the whole transaction is in trouble.
            if not self._connection.in_transaction or error_code(error) in OUTAGE:
                raise
            self._connection.execute("ROLLBACK TO command")
            job.error = _told(error)
        self._connection.execute("RELEASE command")

    def _roll_back(self) -> None:
        # After a full disk or a failed fsync SQLite has rolled back by itself, and an explicit ROLLBACK is an error.
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except ERRORS:
                log.exception("rolling back failed")

    def _put_off(self, jobs: list[_Job], error: Exception) -> list[_Job]:
        """Fail those that cannot wait longer; return the others."""
        if not self._failing:
            self._failing = True
            log.warning("the database cannot be written: %s", error)
        code, now = error_code(error), time.monotonic()
        is_closing = self._closing_until is not None and now >= self._closing_until
        again, over = [], []
        for job in jobs:
            may_wait = code in BUSY or job.kind is not Kind.REQUEST
            if code in OUTAGE and may_wait and now < job.deadline and not is_closing:
                again.append(job)
            else:
                over.append(job)
        self._fail(over, error)
        if again and code not in BUSY:  # a busy database was waited for already
            time.sleep(PAUSE)
        return again

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        for job in jobs:
            job.error = _told(error)
        self._answer(jobs)

    def _answer(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        try:
            self._loop.call_soon_threadsafe(self._resolve, jobs, self._kept.touched())
        except RuntimeError:
            log.warning("%d commands ended after the event loop was closed", len(jobs))


def _told(error: Exception) -> Exception:
    """The error as its caller gets it. A new one each time: one instance is not to be raised in several coroutines."""
    if not isinstance(error, ERRORS):
        return error
    told = translate(error)
    told.__cause__ = error
    return told
