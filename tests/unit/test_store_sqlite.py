"""What is particular to SQLite: the connections, the schema's own guards, and how little the hot queries look at."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from docv2.errors import DocV2Error
from docv2.store import sqlite
from docv2.store.base import BLOCKS, QueueDepth
from docv2.store.engine import DRIVER, connect_writer, is_safe_beside_writer
from docv2.store.kept import Kept
from docv2.store.migrate import migrate
from docv2.store.queries import QUERIES
from docv2.store.sqlite import SQLiteStore
from docv2.store.writer import Kind
from docv2.tasks import TRANSITIONS, Stage, Task, TaskStatus
from tests.conformance.conftest import SQLITE_DRIVERS
from tests.conformance.samples import RESULT, current, enqueue, page, running


@pytest.fixture(params=SQLITE_DRIVERS)
def schema(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty database with the schema and what statements need of the connection."""
    path = tmp_path / "schema.db"
    connection = connect_writer(path, SQLITE_DRIVERS[request.param], checkpoints=True)
    migrate(connection, path)
    Kept().watch(connection)
    yield connection
    connection.close()


def add(schema: sqlite3.Connection, count: int = 1, **values: Any) -> None:
    """Rows as acceptance makes them."""
    row = {
        "user_id": "u", "filename": "f", "media_type": "application/pdf", "size": 10, "sha256": "0",
        "prompt": "p" * 200, "model": "model-a", "temperature": 0.5, "max_tokens": 10, "created_at": 1e9, **values,
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    (have,) = schema.execute("SELECT count(*) FROM tasks").fetchone()
    schema.execute("BEGIN")
    schema.executemany(
        f"INSERT INTO tasks (task_id, {names}) VALUES (:task_id, {marks})",
        ({"task_id": f"task-{have + number}", **row} for number in range(count)),
    )
    schema.execute("COMMIT")


# -- connections ------------------------------------------------------------------------------------------------------
async def test_the_connections_are_as_the_queue_needs_them(store: SQLiteStore, tmp_path: Path) -> None:
    def pragmas(connection: sqlite3.Connection) -> list[Any]:
        names = ("journal_mode", "foreign_keys", "busy_timeout", "mmap_size", "cache_size", "journal_size_limit")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._writer.submit(Kind.READ, pragmas) == ["wal", 1, 500, 0, -65536, 64 * 1024 * 1024]
    if store._reader is not None:
        with pytest.raises(DRIVER.OperationalError, match="readonly"):
            store._reader.execute("DELETE FROM tasks")
    assert stat.S_IMODE((tmp_path / "docv2.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [
        ((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
        ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True), ((4, 0, 0), True),
    ],
)  # fmt: skip
def test_the_versions_that_may_read_beside_the_writer(version: tuple[int, int, int], is_safe: bool) -> None:
    driver = cast("ModuleType", SimpleNamespace(sqlite_version_info=version))
    assert is_safe_beside_writer(driver) is is_safe


@pytest.mark.parametrize("driver", list(SQLITE_DRIVERS.values()))
async def test_an_old_library_gets_one_connection_and_a_warning(
    driver: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with await SQLiteStore.open(tmp_path / "docv2.db", driver=driver) as store:
        is_old = not is_safe_beside_writer(driver)
        assert (store._reader is None) is (store._lists is None) is is_old
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * is_old


async def test_a_second_process_works_beside_the_server(store: SQLiteStore, tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from docv2.store.sqlite import SQLiteStore
from tests.conformance.samples import enqueue, user

async def main():
    async with await SQLiteStore.open(Path(sys.argv[1]), checkpoints=False) as store:
        await store.add_user(user(email="ann@example.org"))
        assert (await store.depth()).waiting >= 1
        for _ in range(300):
            await enqueue(store)

asyncio.run(main())
"""
    await enqueue(store)
    guest = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path / "docv2.db"))
    await asyncio.gather(*(enqueue(store) for _ in range(300)))
    assert await guest.wait() == 0
    assert await store.user_by_email("ann@example.org")
    assert await store.depth() == QueueDepth(waiting=601, running=0)


async def test_a_guest_leaves_checkpoints_to_the_server(store: SQLiteStore, tmp_path: Path) -> None:
    async with await SQLiteStore.open(tmp_path / "docv2.db", checkpoints=False) as guest:

        def checkpoint_after_pages(connection: sqlite3.Connection) -> int:
            return int(connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0])

        assert await guest._writer.submit(Kind.READ, checkpoint_after_pages) == 0
        assert await store._writer.submit(Kind.READ, checkpoint_after_pages) == 1000


PRAGMA = 19
"""SQLITE_PRAGMA, as an authorizer is told of it; pysqlite3 has no name for it."""


@pytest.mark.parametrize("name", SQLITE_DRIVERS)
async def test_a_statement_is_compiled_once(tmp_path: Path, name: str) -> None:
    """Compiling a claim with its triggers takes three times as long as running it."""
    driver, compiled = SQLITE_DRIVERS[name], list[tuple[object, ...]]()

    def watch(*what: object) -> int:
        if what[0] != PRAGMA:  # which is nothing but compiled
            compiled.append(what)
        return int(driver.SQLITE_OK)

    def others(connection: sqlite3.Connection) -> None:
        for number in range(len(QUERIES)):  # as many as there are
            connection.execute(f"SELECT {number}").fetchall()

    async with await SQLiteStore.open(tmp_path / "new.db", driver=driver) as store:

        async def work() -> None:
            await enqueue(store)
            task = await store.claim("server-1")
            assert task is not None
            await store.report(task.claim, stage=Stage.ASKING, progress=1)
            await store.complete(task.claim, RESULT)

        await store._writer.submit(Kind.READ, others)
        await work()
        await store._writer.submit(Kind.READ, lambda connection: connection.set_authorizer(watch))
        await work()  # whoever watches has all of them compiled anew
        assert compiled
        compiled.clear()
        await work()
        await store._writer.submit(Kind.READ, lambda connection: connection.set_authorizer(None))
    assert compiled == []


async def test_what_is_read_in_one_turn_is_of_one_moment(store: SQLiteStore, tmp_path: Path) -> None:
    task = await enqueue(store)
    assert await store.position(task.place) == 1
    ended = threading.Event()

    def end() -> None:
        with contextlib.closing(connect_writer(tmp_path / "docv2.db", DRIVER, checkpoints=False)) as beside:
            beside.execute("UPDATE tasks SET status = 'failed', error = 'e', error_type = 't', ended_at = 1")
        ended.set()

    threading.Thread(target=end).start()
    assert ended.wait(10)  # in this very turn
    assert (await current(store, task)).status is TaskStatus.WAITING
    await asyncio.sleep(0)
    assert (await current(store, task)).status is TaskStatus.FAILED


async def test_a_write_is_seen_by_whoever_waited_for_it_however_much_is_read_beside(store: SQLiteStore) -> None:
    task, over = await enqueue(store), asyncio.Event()

    async def poll() -> None:
        while not over.is_set():
            await store.get(task.task_id)
            await asyncio.sleep(0)

    polling = [asyncio.create_task(poll()) for _ in range(3)]
    for _ in range(50):
        new = await enqueue(store)
        assert await store.get(new.task_id) == new
    over.set()
    await asyncio.gather(*polling)


async def test_reads_go_on_after_one_that_ended_the_transaction(store: SQLiteStore) -> None:
    task = await enqueue(store)
    await store.get(task.task_id)
    assert store._reader is not None
    store._reader.execute("ROLLBACK")  # as SQLite does by itself where it has no memory
    assert await store.get(task.task_id) == task
    await asyncio.sleep(0)
    assert not store._reader.in_transaction


async def test_a_store_may_be_closed_in_the_turn_of_a_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = await SQLiteStore.open(tmp_path / "new.db")
    task = await enqueue(store)
    closing = asyncio.create_task(store.close())
    with contextlib.suppress(DocV2Error):
        while not closing.done():
            await store.get(task.task_id)
            await asyncio.sleep(0)
    await closing
    await asyncio.sleep(0)
    assert caplog.records == []


async def test_removal_goes_in_bounded_bites(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "EXPIRE_BITE", 3)
    ended = [await running(store) for _ in range(7)]
    for task in ended:
        await store.complete(task.claim, RESULT)
    assert await store.expire(time.time() + 1) == [task.task_id for task in ended]
    assert await store.known([task.task_id for task in ended]) == {}


# -- statements -------------------------------------------------------------------------------------------------------
def test_every_statement_has_its_reason_and_is_understood(schema: sqlite3.Connection) -> None:
    text = Path(sqlite.__file__).with_name("sqlite.sql").read_text()
    assert len(QUERIES) == text.count("-- name: ")
    for name, statement in QUERIES.items():
        assert statement.startswith("-- "), name
        parameters = dict.fromkeys(itertools.chain(_parameters(statement)), 0)
        schema.execute(f"EXPLAIN {statement}", parameters).fetchall()


def _parameters(statement: str) -> Iterator[str]:
    code = "\n".join(line for line in statement.splitlines() if not line.startswith("--"))
    for word in code.replace("(", " ").replace(")", " ").replace(",", " ").split():
        if word.startswith(":"):
            yield word[1:]


PARAMETERS = {
    "owner": "server-1", "blocked_models": "[]", "now": 2e9, "task_id": "task-5", "place": 4000, "before": 4000,
    "ended_before": 1.0, "ended_after": 1.0, "bite": 10, "attempt": 1, "result": "{}", "sha256": "0", "crash_limit": 3,
    "error": "e", "error_type": "t", "stage": "asking", "progress": 1.0,
    "user_id": "user-1", "key": "k", "newer": "[0]", "since": "[1.0]", "until": 1.0, "limit": 10, "status": None,
    "first": 0, "before_id": "task-6", "task_ids": '["task-1"]', "most_pages": 5,
}  # fmt: skip


HOT = ["claim", "get", "next_retry", "position", "backlog", "report", "complete", "cancel", "expire", "user_by_key"]
HOT += ["answered", "complete_again", "copy_pages", "tasks_to_remove", "hangs_on_tasks", "remove_tasks", "tail"]
HOT += ["credentials", "same_request", "tasks_of", "depth", "own_key"]
HOT += ["standing", "submitted", "forget_submissions", "retry", "user", "ended_since"]


@pytest.mark.parametrize("name", [*HOT, "give_up", "requeue"])
def test_no_hot_statement_scans_a_table(schema: sqlite3.Connection, name: str) -> None:
    for _, _, _, step in schema.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", PARAMETERS).fetchall():
        if step.startswith("SCAN") and any(
            table in step for table in ("tasks", "users", "api_keys", "pages", "parts", "submissions", "answers")
        ):
            assert "tasks_running" in step, step  # as long as what runs


def test_a_page_of_a_list_costs_the_same_wherever_it_is(schema: sqlite3.Connection) -> None:
    add(schema, 5000, user_id="user-1", status="failed", error="e", error_type="t", ended_at=1.0)
    newest, oldest = (steps(schema, "tasks_of", before=before) for before in (5000, 50))
    assert oldest < newest + 100
    # Others' statuses are passed over within the index.
    assert steps(schema, "tasks_of", before=5000, status="waiting") < 5000 * 12


def steps(schema: sqlite3.Connection, name: str, **values: Any) -> int:
    """Instructions of SQLite's machine that a statement takes: work, without the machine's mood. Changes nothing."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    schema.execute("BEGIN")
    schema.set_progress_handler(tick, 1)
    schema.execute(QUERIES[name], {**PARAMETERS, **values}).fetchall()
    schema.set_progress_handler(None, 1)
    schema.execute("ROLLBACK")
    return count


def test_a_claim_does_not_look_at_the_tasks_of_blocked_models(schema: sqlite3.Connection) -> None:
    add(schema, 10)
    add(schema, 10, model="model-b")
    few = steps(schema, "claim", blocked_models='["model-a"]')
    add(schema, 5000)
    assert steps(schema, "claim", blocked_models='["model-a"]') < few + 100
    assert steps(schema, "claim", blocked_models='["model-a", "model-b"]') < few
    assert steps(schema, "claim") < 2 * few


def test_a_rank_and_the_work_ahead_cost_a_block_not_the_queue(schema: sqlite3.Connection) -> None:
    narrow, wide = BLOCKS
    add(schema, 2 * wide)
    place = 2 * wide - 1
    once = {name: steps(schema, name, place=place, before=place) for name in ("position", "backlog")}
    within = {block: steps(schema, "backlog", before=place, first=place // block * block) for block in BLOCKS}
    assert within[narrow] < within[wide] < once["backlog"]
    add(schema, 8 * wide)
    place = 10 * wide - 1
    for name, before in once.items():
        assert steps(schema, name, place=place, before=place) < before + 300
    for block, before in within.items():
        assert steps(schema, "backlog", before=place, first=place // block * block) < before + 10, (
            "the rest is left out"
        )
    assert steps(schema, "depth") < 300
    assert steps(schema, "tail") < 50


def test_limits_cost_the_same_however_much_a_window_holds(schema: sqlite3.Connection) -> None:
    def cost() -> int:
        return sum(
            steps(schema, name, newer="[9, 99]", until=0.0, since="[5.0, 50.0]")
            for name in ("standing", "submitted", "add_submission", "forget_submissions")
        )

    for moment in range(20):
        schema.execute(QUERIES["add_submission"], {**PARAMETERS, "now": moment + 1.0})
    few = cost()
    for moment in range(3000):
        schema.execute(QUERIES["add_submission"], {**PARAMETERS, "now": moment + 100.0})
    assert cost() < few + 10


# -- the schema's own guards ------------------------------------------------------------------------------------------
NOT_RUNNING = "owner = NULL, claimed_at = NULL"
STATUS_VALUES = {
    TaskStatus.WAITING: f"{NOT_RUNNING}, ended_at = NULL, result = NULL, error = NULL, error_type = NULL",
    TaskStatus.RUNNING: "owner = 's', claimed_at = 1, ended_at = NULL, result = NULL, error = NULL, error_type = NULL",
    TaskStatus.COMPLETED: f"{NOT_RUNNING}, ended_at = 2, result = '{{}}', error = NULL, error_type = NULL",
    TaskStatus.FAILED: f"{NOT_RUNNING}, ended_at = 2, result = NULL, error = 'e', error_type = 't'",
}
PATHS = {
    TaskStatus.WAITING: [],
    TaskStatus.RUNNING: [TaskStatus.RUNNING],
    TaskStatus.COMPLETED: [TaskStatus.RUNNING, TaskStatus.COMPLETED],
    TaskStatus.FAILED: [TaskStatus.FAILED],
}


def move(schema: sqlite3.Connection, to: TaskStatus) -> None:
    schema.execute(f"UPDATE tasks SET status = '{to}', {STATUS_VALUES[to]}")


@pytest.mark.parametrize(("start", "to"), list(itertools.permutations(TaskStatus, 2)))
def test_the_schema_allows_the_same_moves_as_the_code(
    schema: sqlite3.Connection, start: TaskStatus, to: TaskStatus
) -> None:
    add(schema)
    for status in PATHS[start]:
        move(schema, status)
    if to in TRANSITIONS[start]:
        move(schema, to)
    else:
        with pytest.raises((sqlite3.IntegrityError, DRIVER.IntegrityError), match="cannot go from this status"):
            move(schema, to)


@pytest.mark.parametrize(
    "half",
    [
        "status = 'running'",
        "status = 'failed'",
        "status = 'failed', ended_at = 1",
        "status = 'cancelled'",
        "owner = 'server-1'",
        "ended_at = 1",
        "result = '{}'",
        "size = -1",
        "size = 'large'",
        "progress = 101",
        "stage = 'thinking'",
    ],
)
def test_half_an_edit_is_refused(schema: sqlite3.Connection, half: str) -> None:
    add(schema)
    with pytest.raises((sqlite3.IntegrityError, DRIVER.IntegrityError)):
        schema.execute(f"UPDATE tasks SET {half}")


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM tasks WHERE place % 3 = 0",
        "UPDATE tasks SET model = 'model-b' WHERE place % 5 = 0",
        "UPDATE tasks SET size = size * 2, media_type = 'text/plain' WHERE place > 2000",
        "UPDATE tasks SET pages_total = 10, progress = 44 WHERE place BETWEEN 4000 AND 4200",
        "UPDATE tasks SET place = 10000 + place WHERE place < 4",
        f"UPDATE tasks SET status = 'failed', {STATUS_VALUES[TaskStatus.FAILED]} WHERE place < 2100",
        "DELETE FROM tasks",
    ],
)
def test_the_sums_stay_right_when_someone_edits_rows(schema: sqlite3.Connection, edit: str) -> None:
    add(schema, 4500)
    schema.execute(edit)
    plain = """
        SELECT column1, place / column1, model, media_type, count(*), sum(pages_total IS NULL),
            sum(iif(pages_total IS NULL, size, 0)), sum(coalesce(CAST(round(pages_total * 0.56) AS INTEGER), 0))
        FROM tasks, (VALUES (128), (1024), (8192)) WHERE status = 'waiting' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    """
    summed = [tuple(row) for row in schema.execute("SELECT * FROM backlog ORDER BY 1, 2, 3, 4").fetchall()]
    assert summed == [tuple(row) for row in schema.execute(plain).fetchall()]


# -- for people at the shell ------------------------------------------------------------------------------------------
async def _something_of_everything(store: SQLiteStore) -> list[Task]:
    completed = await running(store, filename="done.pdf")
    await store.complete(completed.claim, RESULT)
    failed = await running(store, filename="broken.pdf")
    await store.fail(failed.claim, "The file is encrypted.", "processing_error")
    working = await running(store, filename="now.pdf")
    await store.save_pages(working.claim, [page(1)], progress=10, pages_total=3)
    await store.report(working.claim, stage=Stage.ASKING, progress=33.333)
    waiting = [await enqueue(store, filename="next.pdf", size=1536 * 1024), await enqueue(store, filename="later.pdf")]
    return [await current(store, task) for task in (completed, failed, working, *waiting)]


def shell(path: Path, view: str) -> list[dict[str, str]]:
    """What Debian's sqlite3 shows; the standard library's where there is none."""
    query = f"SELECT * FROM {view}"
    try:
        answer = subprocess.run(
            ["sqlite3", "-readonly", "-header", "-separator", "\t", str(path), query],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        header, *lines = answer.stdout.splitlines()
        return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    except FileNotFoundError:
        connection = sqlite3.connect(path)
        connection.row_factory = sqlite3.Row
        rows = [{k: "" if row[k] is None else str(row[k]) for k in row.keys()} for row in connection.execute(query)]  # noqa: SIM118
        connection.close()
        return rows


async def test_the_views_read_well(store: SQLiteStore, tmp_path: Path) -> None:
    completed, failed, working, first, _ = await _something_of_everything(store)
    path = tmp_path / "docv2.db"
    if not is_safe_beside_writer(DRIVER):
        await store.close()

    def utc(seconds: float | None) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))

    queue, running_, failures, throughput = [
        await asyncio.to_thread(shell, path, view) for view in ("queue", "running", "failures", "throughput")
    ]
    assert [(row["position"], row["filename"], row["pages"]) for row in queue] == [
        ("1", "next.pdf", "0/?"), ("2", "later.pdf", "0/?"),
    ]  # fmt: skip
    assert queue[0]["megabytes"] == "1.5"
    assert queue[0]["accepted"] == utc(first.created_at)
    assert queue[0]["retried_at"] == ""
    assert 0 <= int(queue[0]["waiting_seconds"]) < 100
    (row,) = running_
    assert (row["stage"], row["percent"], row["pages"], row["owner"]) == ("asking", "33.3", "1/3", "server-1")
    assert row["claimed"] == utc(working.claimed_at)
    (row,) = failures
    assert (row["filename"], row["stage"], row["error"]) == ("broken.pdf", "reading", "The file is encrypted.")
    assert row["failed"] == utc(failed.ended_at)
    assert throughput[0]["hour"] == time.strftime("%Y-%m-%d %H:00Z", time.gmtime(completed.ended_at))
    assert sum(int(row["completed"]) for row in throughput) == sum(int(row["failed"]) for row in throughput) == 1
