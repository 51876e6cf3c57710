"""The races that the claim and the fence are there for: first shown without them, then with them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from docv2.errors import ClaimLost
from docv2.store.engine import DRIVER
from docv2.store.queries import fetch
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import TaskStatus
from tests.conformance.samples import RESULT, current, enqueue, running

TASKS = 20


def connect(path: Path) -> sqlite3.Connection:
    connection: sqlite3.Connection = DRIVER.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = DRIVER.Row
    return connection


async def test_select_then_update_hands_tasks_out_twice(store: SQLiteStore, tmp_path: Path) -> None:
    for _ in range(TASKS):
        await enqueue(store)
    claimers = [connect(tmp_path / "docv2.db") for _ in range(2)]
    taken: list[int] = []
    for _ in range(TASKS):
        # Each looks before either writes: what happens whenever two are at it at once.
        seen = [
            claimer.execute("SELECT min(place) FROM tasks WHERE status = 'waiting'").fetchone()[0]
            for claimer in claimers
        ]
        for number, (claimer, place) in enumerate(zip(claimers, seen, strict=True)):
            claimer.execute(
                "UPDATE tasks SET status = 'running', owner = ?, claimed_at = ?, attempt = attempt + 1 WHERE place = ?",
                (f"server-{number}", time.time(), place),
            )
            taken.append(place)
    assert len(taken) == 2 * TASKS
    assert len(set(taken)) == TASKS


async def test_the_claim_hands_each_out_once(store: SQLiteStore, tmp_path: Path) -> None:
    for _ in range(TASKS):
        await enqueue(store)
    claimers = [connect(tmp_path / "docv2.db") for _ in range(2)]
    taken = []
    for _ in range(TASKS):
        for number, claimer in enumerate(claimers):
            values = {"owner": f"server-{number}", "blocked_models": [], "now": time.time()}
            taken += [row["place"] for row in await asyncio.to_thread(fetch, "claim", values, claimer)]
    assert taken == sorted(taken)
    assert len(set(taken)) == len(taken) == TASKS


async def test_without_the_fence_a_stale_attempt_overwrites_its_successor(store: SQLiteStore, tmp_path: Path) -> None:
    task = await running(store, "server-1")
    await store.release(task.claim)
    assert await store.claim("server-2")
    connect(tmp_path / "docv2.db").execute(
        "UPDATE tasks SET status = 'completed', owner = NULL, claimed_at = NULL, ended_at = 1, result = ? "
        "WHERE task_id = ?",
        (json.dumps(asdict(RESULT)), task.task_id),
    )
    overwritten = await current(store, task)
    assert (overwritten.status, overwritten.attempt) == (TaskStatus.COMPLETED, 2)


async def test_with_the_fence_it_does_not(store: SQLiteStore) -> None:
    task = await running(store, "server-1")
    await store.release(task.claim)
    successor = await store.claim("server-2")
    assert successor is not None
    with pytest.raises(ClaimLost):
        await store.complete(task.claim, RESULT)
    assert (await current(store, task)).status is TaskStatus.RUNNING
    await store.complete(successor.claim, RESULT)
