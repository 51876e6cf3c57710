"""The store beside bare sqlite3 on the same disk in the same run: read the ratios, not the rates.

    python benchmarks/store.py [folder]

Prints durable enqueues and claim + complete pairs a second, and what position and backlog cost.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from docv2.store.engine import DRIVER
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import NewTask, Result

ROUNDS = 5
"""The two sides take turns, so that a busy moment of the machine meets both."""
COUNT = 1500
RESULT = Result(content="The total is 42. " * 20, model_used="model-a", finish_reason="stop")
BARE_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, status TEXT, prompt TEXT, result TEXT);
CREATE INDEX jobs_waiting ON jobs (id) WHERE status = 'waiting';
"""


def new_task(number: int) -> NewTask:
    return NewTask(
        task_id=str(uuid.uuid4()), user_id="user-1", filename="report.pdf", sha256="0" * 64, prompt="What is the total? " * 5,
        media_type=("application/pdf", "text/plain", "image/png", "image/jpeg")[number % 4], size=50_000 + number % 1000,
        model=f"model-{number % 3}", temperature=0.7, max_tokens=8000,
    )  # fmt: skip


async def rate(count: int, work: Awaitable[None]) -> float:
    started = time.perf_counter()
    await work
    return count / (time.perf_counter() - started)


async def enqueue(store: SQLiteStore, at_once: int) -> None:
    numbers = iter(range(COUNT))

    async def client() -> None:
        for number in numbers:
            await store.enqueue(new_task(number))

    await asyncio.gather(*(client() for _ in range(at_once)))


async def work_off(store: SQLiteStore, at_once: int) -> None:
    left = iter(range(COUNT))

    async def worker() -> None:
        for _ in left:
            task = await store.claim("server-1")
            assert task is not None
            await store.complete(task.claim, RESULT)

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def bare_enqueue(bare: sqlite3.Connection) -> None:
    for _ in range(COUNT):
        bare.execute(
            "INSERT INTO jobs (key, status, prompt) VALUES (?, 'waiting', ?)", (str(uuid.uuid4()), "What? " * 20)
        )


async def bare_work_off(bare: sqlite3.Connection) -> None:
    for _ in range(COUNT):
        ((job,),) = bare.execute(
            "UPDATE jobs SET status = 'running' WHERE id = "
            "(SELECT id FROM jobs WHERE status = 'waiting' ORDER BY id LIMIT 1) RETURNING id"
        ).fetchall()
        bare.execute("UPDATE jobs SET status = 'completed', result = ? WHERE id = ?", (RESULT.content, job))


async def throughput(folder: Path) -> None:
    bare: sqlite3.Connection = DRIVER.connect(folder / "bare.db", isolation_level=None)
    bare.executescript(BARE_SCHEMA)
    measured: dict[str, list[float]] = {}
    async with await SQLiteStore.open(folder / "docv2.db") as store:
        sides: dict[str, Callable[[], Awaitable[None]]] = {
            "bare sqlite3, enqueue": lambda: bare_enqueue(bare),
            "bare sqlite3, claim + complete": lambda: bare_work_off(bare),
            "store, enqueue, 1 at once": lambda: enqueue(store, 1),
            "store, claim + complete, 1 at once": lambda: work_off(store, 1),
            "store, enqueue, 16 at once": lambda: enqueue(store, 16),
            "store, claim + complete, 16 at once": lambda: work_off(store, 16),
        }
        for _ in range(ROUNDS):
            for name, side in sides.items():
                measured.setdefault(name, []).append(await rate(COUNT, side()))
    bare.close()
    for name, rates in measured.items():
        base = measured["bare sqlite3, enqueue" if "enqueue" in name else "bare sqlite3, claim + complete"]
        ratio = statistics.median(mine / theirs for mine, theirs in zip(rates, base, strict=True))
        print(f"{name:40} {statistics.median(rates):8,.0f} /s   {ratio:5.2f} x bare")


async def reads(folder: Path) -> None:
    async with await SQLiteStore.open(folder / "reads.db") as store:
        for waiting in (100, 100_000):
            have = (await store.depth()).waiting
            for first in range(have, waiting, 1000):
                tasks = [
                    await each
                    for each in [
                        asyncio.ensure_future(store.enqueue(new_task(number)))
                        for number in range(first, min(first + 1000, waiting))
                    ]
                ]
            last = tasks[-1]
            for name, read in {
                "get": lambda: store.get(last.task_id),
                "position": lambda: store.position(last.place),
                "backlog": lambda: store.backlog(last.place),
                "depth": store.depth,
            }.items():
                times = []
                for _ in range(100):
                    started = time.perf_counter()
                    await read()
                    times.append((time.perf_counter() - started) * 1000)
                times.sort()
                print(f"{name:10} at {waiting:7,} waiting: median {times[50]:7.3f} ms, p99 {times[98]:7.3f} ms")


def main() -> None:
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    print(f"{DRIVER.__name__}, SQLite {DRIVER.sqlite_version}, synchronous=FULL")
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        asyncio.run(throughput(Path(folder)))
        asyncio.run(reads(Path(folder)))


if __name__ == "__main__":
    main()
