"""The store beside bare sqlite3, and beside huey where it is installed, on the same disk in the same run."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
import uuid
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.samples import RESULT, fill, new_task
from docv2.estimate import Estimator
from docv2.store.engine import DRIVER
from docv2.store.sqlite import SQLiteStore

ROUNDS = 5
"""The sides take turns, so that a busy moment of the machine meets all of them."""
COUNT = 1000
LOOKS = 300
BARE_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, status TEXT, prompt TEXT, result TEXT);
CREATE INDEX jobs_waiting ON jobs (id) WHERE status = 'waiting';
"""

Side = tuple[Callable[[], Any], Callable[[], Any]]
"""What enqueues, and what claims and completes, COUNT tasks."""


def measure(_folder: Path, scratch: Path) -> dict[str, float]:
    """Durable acceptances, 16 callers at once, and claim with completion by one caller."""
    return asyncio.run(_throughput(scratch))


async def _throughput(scratch: Path) -> dict[str, float]:
    measured: dict[str, list[tuple[float, float]]] = {}
    async with await SQLiteStore.open(scratch / "docv2.db") as store:
        sides: dict[str, Side] = {"ours": (lambda: enqueue(store), lambda: work_off(store))}
        sides["bare"] = bare(scratch / "bare.db")
        if find_spec("huey"):
            sides["huey"] = huey(scratch / "huey.db")
        for _ in range(ROUNDS):
            for name, (accept, work) in sides.items():
                measured.setdefault(name, []).append((await seconds(accept), await seconds(work)))
    figures = {}
    for name in sides.keys() - {"ours"}:
        pairs = list(zip(measured[name], measured["ours"], strict=True))
        figures[f"enqueue_{name}"] = statistics.median(theirs[0] / mine[0] for theirs, mine in pairs)
        figures[f"work_{name}"] = statistics.median(theirs[1] / mine[1] for theirs, mine in pairs)
    return figures


async def seconds(work: Callable[[], Coroutine[Any, Any, None] | None]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    running = work()
    if running is not None:
        await running
    return time.perf_counter() - began


async def enqueue(store: SQLiteStore) -> None:
    """COUNT tasks by 16 callers."""
    numbers = iter(range(COUNT))

    async def client() -> None:
        for number in numbers:
            await store.enqueue(new_task(number))

    await asyncio.gather(*(client() for _ in range(16)))


async def work_off(store: SQLiteStore) -> None:
    """COUNT tasks by one worker."""
    for _ in range(COUNT):
        task = await store.claim("server-1")
        assert task is not None
        await store.complete(task.claim, RESULT)


def bare(path: Path) -> Side:
    """One statement a step and a commit for each, with as much text as ours and no rules."""
    database: sqlite3.Connection = DRIVER.connect(path, isolation_level=None)
    database.executescript(BARE_SCHEMA)

    def accept() -> None:
        insert = "INSERT INTO jobs (key, status, prompt) VALUES (?, 'waiting', ?)"
        for _ in range(COUNT):
            database.execute(insert, (str(uuid.uuid4()), "What is the total? " * 5))

    def work() -> None:
        for _ in range(COUNT):
            ((job,),) = database.execute(
                "UPDATE jobs SET status = 'running' WHERE id = "
                "(SELECT id FROM jobs WHERE status = 'waiting' ORDER BY id LIMIT 1) RETURNING id"
            ).fetchall()
            database.execute("UPDATE jobs SET status = 'completed', result = ? WHERE id = ?", (RESULT.content, job))

    return accept, work


def huey(path: Path) -> Side:
    """The peer with fsync=True, called as its own producer and consumer do: one at a time, as it has no other way."""
    queue = import_module("huey").SqliteHuey(filename=str(path), fsync=True, results=True)

    @queue.task()  # type: ignore[untyped-decorator]
    def answer(prompt: str) -> str:
        return RESULT.content + prompt[:0]

    def accept() -> None:
        for _ in range(COUNT):
            answer("What is the total? " * 5)

    def work() -> None:
        for _ in range(COUNT):
            queue.execute(queue.dequeue())

    return accept, work


# -- position ---------------------------------------------------------------------------------------------------------
def measure_position(_folder: Path, scratch: Path) -> dict[str, float]:
    """What the last of so many waiting tasks costs to tell its position and time, p99."""
    return asyncio.run(_positions(scratch))


async def _positions(scratch: Path) -> dict[str, float]:
    figures = {}
    async with await SQLiteStore.open(scratch / "waiting.db") as store:
        estimate = Estimator(store, slots=lambda: 4, running=list)
        for waiting, more in ((100, 100), (100_000, 99_900)):
            task = await store.get((await fill(store, more))[-1])
            assert task is not None
            taken = []
            for _ in range(LOOKS):
                began = time.perf_counter()
                assert await store.position(task.place) == waiting
                await estimate.seconds(task)
                taken.append(time.perf_counter() - began)
            figures[f"position_{waiting}"] = sorted(taken)[LOOKS * 99 // 100] * 1000
    return figures
