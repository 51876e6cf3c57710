"""Group commit: who is acknowledged when, and what a command, a caller or the disk that fails does to the others."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from docv2.errors import ClaimLost, DiskFull, Unavailable
from docv2.store import writer
from docv2.store.engine import DRIVER, connect_writer
from docv2.store.kept import Kept
from docv2.store.sqlite import SQLiteStore
from docv2.store.writer import Kind, Writer
from docv2.tasks import Stage, TaskStatus
from tests.conformance.samples import RESULT, current, enqueue, part, running
from tests.waiting import until


class Bench:
    """A writer over one table, whose transactions are counted and whose thread can be held."""

    def __init__(self, connection: sqlite3.Connection, other: sqlite3.Connection) -> None:
        self.commits = 0
        connection.set_trace_callback(self._trace)
        self.writer = Writer(connection, Kept())
        self._other = other

    def _trace(self, statement: str) -> None:
        self.commits += statement == "COMMIT"

    def add(self, word: str, kind: Kind = Kind.REQUEST) -> asyncio.Future[None]:
        return self.writer.submit(kind, partial(insert, word))

    def words(self) -> set[str]:
        """What everyone else sees."""
        return {word for (word,) in self._other.execute("SELECT word FROM words").fetchall()}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, the thread is busy with a transaction, so that whatever is submitted becomes the next one."""
        busy, go_on = threading.Event(), threading.Event()

        def hold(connection: sqlite3.Connection) -> None:
            busy.set()
            go_on.wait(10)

        self.writer.submit(Kind.REQUEST, hold)
        assert busy.wait(10)
        self.commits = -1  # that one does not count
        yield
        go_on.set()


def another_connection(path: Path) -> sqlite3.Connection:
    # By the same library: two copies of SQLite in one process do not see each other's locks.
    connection: sqlite3.Connection = DRIVER.connect(path, isolation_level=None)
    return connection


def insert(word: str, connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO words VALUES (?)", (word,))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    path = tmp_path / "words.db"
    connection = await asyncio.to_thread(connect_writer, path, DRIVER, checkpoints=True)
    await asyncio.to_thread(connection.execute, "CREATE TABLE words (word TEXT UNIQUE)")
    made = Bench(connection, another_connection(path))
    yield made
    await made.writer.close()


# -- transactions -----------------------------------------------------------------------------------------------------
async def test_whatever_is_pending_shares_one_commit(bench: Bench) -> None:
    with bench.held():
        pending = [bench.add(str(number)) for number in range(100)]
    await asyncio.gather(*pending)
    assert bench.commits == 1
    assert len(bench.words()) == 100


async def test_a_transaction_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH", 10)
    with bench.held():
        pending = [bench.add(str(number)) for number in range(95)]
    await asyncio.gather(*pending)
    assert bench.commits == 10
    assert len(bench.words()) == 95


async def test_nobody_is_acknowledged_before_the_commit(bench: Bench) -> None:
    executed, go_on = threading.Event(), threading.Event()

    def wait(connection: sqlite3.Connection) -> None:
        executed.set()
        go_on.wait(10)

    with bench.held():
        first = bench.add("first")
        second = bench.writer.submit(Kind.REQUEST, wait)
    await asyncio.to_thread(executed.wait, 10)
    await asyncio.sleep(0)
    assert not first.done()
    assert bench.words() == set()
    go_on.set()
    await first
    assert bench.words() == {"first"}
    await second


async def test_a_command_that_fails_leaves_nothing_and_the_others_alone(bench: Bench) -> None:
    def fails_halfway(connection: sqlite3.Connection) -> None:
        insert("half", connection)
        raise ClaimLost("on purpose")

    def is_refused_halfway(connection: sqlite3.Connection) -> None:
        insert("other half", connection)
        insert("before", connection)

    with bench.held():
        commands = [
            bench.add("before"),
            bench.writer.submit(Kind.REQUEST, fails_halfway),
            bench.writer.submit(Kind.RESULT, is_refused_halfway),
            bench.add("after"),
        ]
    answers = await asyncio.gather(*commands, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["NoneType", "ClaimLost", "DocV2Error", "NoneType"]
    assert bench.words() == {"before", "after"}
    assert bench.commits == 1


async def test_a_caller_that_goes_away_harms_nobody(bench: Bench) -> None:
    with bench.held():
        gone, stays = bench.add("gone"), bench.add("stays")
        gone.cancel()
    await stays
    # Handed in is handed in.
    assert bench.words() == {"gone", "stays"}


async def test_only_what_is_promised_is_flushed(bench: Bench) -> None:
    def flushes(connection: sqlite3.Connection) -> bool:
        return bool(connection.execute("PRAGMA synchronous").fetchone()[0] == 2)

    assert await bench.writer.submit(Kind.REQUEST, flushes)
    assert await bench.writer.submit(Kind.RESULT, flushes)
    assert not await bench.writer.submit(Kind.NOTE, flushes)
    with bench.held():
        together = [bench.writer.submit(kind, flushes) for kind in (Kind.NOTE, Kind.REQUEST, Kind.NOTE)]
    assert await asyncio.gather(*together) == [True, True, True]


# -- trouble ----------------------------------------------------------------------------------------------------------
@contextmanager
def shell_holds_the_lock(path: Path) -> Iterator[None]:
    """What an operator does who types BEGIN IMMEDIATE and goes for lunch."""
    shell = another_connection(path)
    shell.execute("BEGIN IMMEDIATE")
    yield
    shell.execute("ROLLBACK")
    shell.close()


async def test_a_locked_database_refuses_clients_soon_and_keeps_results(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 0.3)
    task = await running(store)
    waiting = await enqueue(store)
    with shell_holds_the_lock(tmp_path / "docv2.db"):
        results = [
            asyncio.ensure_future(store.save_part(task.claim, part(0), stage=Stage.ASKING, progress=50)),
            asyncio.ensure_future(store.complete(task.claim, RESULT)),
            asyncio.ensure_future(store.claim("server-1")),
        ]
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(Unavailable) as refusal:
                await enqueue(store)
            assert refusal.value.retry_after
        assert time.monotonic() - began < 4  # twice 0.3 s and a try of 0.5 s, on a busy machine
        # Whoever only asks is answered.
        assert (await current(store, task)).status is TaskStatus.RUNNING
        assert [each.task_id for each in (await store.known([waiting.task_id])).values()] == [waiting.task_id]
        assert not any(result.done() for result in results)
    _, _, claimed = await asyncio.gather(*results)
    assert (await current(store, task)).result == RESULT
    assert await store.parts(task.task_id) == [part(0)]
    assert claimed is not None
    assert claimed.task_id == waiting.task_id
    messages = [record.message for record in caplog.records]
    assert messages == ["the database cannot be written: database is locked", "the database is written again"]


async def test_a_client_waits_for_a_lock_that_is_soon_gone(
    store: SQLiteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with shell_holds_the_lock(tmp_path / "docv2.db"):
        accepted = asyncio.ensure_future(enqueue(store))
        await until(lambda: "the database cannot be written: database is locked" in caplog.messages)
    assert await store.get((await accepted).task_id)


async def test_a_full_disk_refuses_clients_at_once_and_keeps_results(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAUSE", 0.01)
    task = await running(store)

    def fill(connection: sqlite3.Connection) -> int:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        return int(connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()[0])

    def make_room(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1000000")

    await store._writer.submit(Kind.READ, fill)
    answer = part(0, content="a long answer " * 10_000)
    result = asyncio.ensure_future(store.save_part(task.claim, answer, stage=Stage.ASKING, progress=50))
    with pytest.raises(DiskFull) as refusal:
        await enqueue(store, prompt="x" * 100_000)
    assert refusal.value.retry_after
    assert await current(store, task) == task
    assert not result.done()
    await store._writer.submit(Kind.READ, make_room)
    await result
    assert await store.parts(task.task_id) == [answer]
    await enqueue(store, prompt="x" * 100_000)


@contextmanager
def files_cannot_grow(limit: int) -> Iterator[None]:
    """Writing beyond `limit` bytes of any file fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_commit_that_fails_fails_for_all_and_what_must_not_be_lost_is_committed_later(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAUSE", 0.01)
    await bench.add("early")
    log_size = (tmp_path / "words.db-wal").stat().st_size
    with files_cannot_grow(log_size):
        with bench.held():
            requests = [bench.add(f"request-{number}") for number in range(3)]
            result, note = bench.add("result", Kind.RESULT), bench.add("note", Kind.NOTE)
        answers = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 3
        assert len({id(answer) for answer in answers}) == 3
        assert bench.words() == {"early"}
        assert not result.done()
    await asyncio.gather(result, note)
    assert bench.words() == {"early", "result", "note"}


async def test_a_read_only_database_is_unavailable(bench: Bench) -> None:
    def forbid(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = ON")

    await bench.writer.submit(Kind.READ, forbid)
    with pytest.raises(Unavailable):
        await bench.add("word")


# -- the end ----------------------------------------------------------------------------------------------------------
async def test_closing_finishes_what_was_handed_in(bench: Bench) -> None:
    with bench.held():
        pending = [bench.add(str(number)) for number in range(600)]
        closing = asyncio.create_task(bench.writer.close())
        await until(lambda: bench.writer._closing_until)
        with pytest.raises(Unavailable):
            await bench.add("too late")
    await closing
    await asyncio.gather(*pending)
    assert len(bench.words()) == 600
    await bench.writer.close()


async def test_closing_gives_up_on_a_database_that_stays_locked(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 0.1)
    with shell_holds_the_lock(tmp_path / "words.db"):
        result = bench.add("result", Kind.RESULT)
        await bench.writer.close()
        with pytest.raises(Unavailable):
            await result
