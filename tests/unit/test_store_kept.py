"""What the store keeps of what it has read: never more than is true."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docv2.errors import ClaimLost
from docv2.estimate import Estimator
from docv2.store import kept
from docv2.store.sqlite import SQLiteStore
from docv2.store.writer import Kind
from docv2.tasks import Stage, Task
from tests.conformance.samples import RESULT, current, enqueue, page, running

STEPS = 120


@pytest.fixture
async def looked_after(store: SQLiteStore) -> SQLiteStore:
    """A store of which somebody asks what others write."""
    await store.writes_of_others()
    return store


@asynccontextmanager
async def another(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """Another process on the same database, which keeps nothing."""
    async with await SQLiteStore.open(tmp_path / "docv2.db", checkpoints=False) as opened:
        yield opened


@contextmanager
def read(store: SQLiteStore) -> Iterator[list[str]]:
    """What is read point by point meanwhile."""
    statements: list[str] = []

    def trace(statement: str) -> None:
        if "SELECT" in statement:  # BEGIN and COMMIT go with it
            statements.append(statement)

    assert store._reader is not None
    store._reader.set_trace_callback(trace)
    yield statements
    store._reader.set_trace_callback(None)


async def wait_seconds(store: SQLiteStore, estimate: Estimator, task: Task) -> tuple[int, float]:
    return await store.position(task.place), round(await estimate.wait_seconds(task), 6)


def estimator(store: SQLiteStore) -> Estimator:
    return Estimator(store, slots=lambda: 1, running=list)


async def change(store: SQLiteStore, task: Task, chosen: random.Random) -> None:
    """Something that may happen to a task as it stands."""
    if task.owner is not None:
        claim = task.claim
        steps: dict[str, Callable[[], Awaitable[Task | None]]] = {
            "release": lambda: store.release(claim, not_before=time.time() - chosen.random()),
            "report": lambda: store.report(claim, stage=Stage.ASKING, progress=chosen.uniform(1, 90)),
            "pages": lambda: store.save_pages(claim, [page(1)], progress=10, pages_total=chosen.randint(1, 9)),
            "complete": lambda: store.complete(claim, RESULT),
            "fail": lambda: store.fail(claim, "broken", "processing_error"),
            "cancel": lambda: store.cancel(task.task_id, error="no", error_type="cancelled"),
        }
        await steps[chosen.choice(list(steps))]()
    elif task.error is not None:
        await store.retry(task.task_id)
    elif not task.ended and chosen.random() < 0.3:
        await store.cancel(task.task_id, error="no", error_type="cancelled")
    else:
        await store.claim("server-1")


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_it_says_what_the_database_says(
    looked_after: SQLiteStore, tmp_path: Path, seed: int
) -> None:
    store, chosen, ids = looked_after, random.Random(seed), list[str]()
    await store.measure("asking", "image/png model-a", 1, 10)
    estimate = estimator(store)
    async with another(tmp_path) as truth:
        for _ in range(STEPS):
            what = chosen.random()
            if what < 0.35 or not ids:
                ids.append((await enqueue(store, media_type="image/png", size=chosen.randint(1, 9))).task_id)
            elif what < 0.37:
                await store.expire(time.time() + 1)
            elif what < 0.39:
                await store.remove_tasks("user-1")
            elif what < 0.45 and (task := await truth.get(chosen.choice(ids))):
                await change(truth, task, chosen)
                await store.writes_of_others()
            elif what < 0.47:
                await store.recover(crash_limit=2, error="crashed", error_type="processing_error")
            elif task := await store.get(chosen.choice(ids)):
                await change(store, task, chosen)
            for task_id in ids:
                task = await truth.get(task_id)
                assert await store.get(task_id) == task
                if task and not task.ended and task.owner is None:
                    told = await wait_seconds(store, estimate, task)
                    assert told == await wait_seconds(truth, estimator(truth), task)


async def test_what_did_not_change_is_not_read_again(looked_after: SQLiteStore) -> None:
    first, task, later = [await enqueue(looked_after) for _ in range(3)]
    estimate = estimator(looked_after)

    async def poll() -> None:
        await current(looked_after, task)
        await wait_seconds(looked_after, estimate, task)

    await poll()
    with read(looked_after) as statements:
        await poll()
        await enqueue(looked_after)  # stands behind
        await poll()
    assert statements == []
    await looked_after.cancel(later.task_id, error="no", error_type="cancelled")
    with read(looked_after) as statements:
        await current(looked_after, task)
    assert statements == [], "another task was written to"
    await looked_after.cancel(first.task_id, error="no", error_type="cancelled")
    with read(looked_after) as statements:
        await poll()
    assert len(statements) == 2, "its position and the work ahead"


async def test_what_others_write_is_told_once_it_was_looked_for(looked_after: SQLiteStore, tmp_path: Path) -> None:
    first, task = [await enqueue(looked_after) for _ in range(2)]
    before = looked_after.queue_generation
    assert (await current(looked_after, first), await looked_after.position(task.place)) == (first, 2)
    async with another(tmp_path) as other:
        await other.cancel(first.task_id, error="no", error_type="cancelled")
        await looked_after.writes_of_others()
    assert (await current(looked_after, first)).error == "no"
    assert await looked_after.position(task.place) == 1
    assert looked_after.queue_generation != before


async def test_while_nobody_looks_nothing_is_kept(store: SQLiteStore, tmp_path: Path) -> None:
    task = await enqueue(store)
    await current(store, task)
    assert store.queue_generation is None
    async with another(tmp_path) as other:
        await other.cancel(task.task_id, error="no", error_type="cancelled")
    assert (await current(store, task)).error == "no"


async def test_what_nobody_has_looked_after_lately_is_read_again(
    looked_after: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await enqueue(looked_after)
    assert (await current(looked_after, task), await looked_after.position(task.place)) == (task, 1)
    async with another(tmp_path) as other:
        await other.cancel(task.task_id, error="no", error_type="cancelled")
    now = time.monotonic()
    monkeypatch.setattr("docv2.store.kept.time.monotonic", lambda: now + kept.GOOD_SECONDS)
    assert (await current(looked_after, task)).error == "no"
    assert looked_after.queue_generation is None


async def test_a_lost_claim_is_not_told_as_if_it_held(looked_after: SQLiteStore, tmp_path: Path) -> None:
    task = await running(looked_after)
    await current(looked_after, task)
    async with another(tmp_path) as other:
        await other.remove_tasks(task.user_id)
    with pytest.raises(ClaimLost):
        await looked_after.report(task.claim, stage=Stage.ASKING, progress=10)
    assert await looked_after.get(task.task_id) is None


async def test_what_was_read_before_a_write_is_not_kept_after_it(looked_after: SQLiteStore) -> None:
    other, task = [await enqueue(looked_after) for _ in range(2)]
    written = threading.Event()
    assert await looked_after.position(other.place) == 1, "which begins what this turn of the loop reads"
    cancelling = asyncio.ensure_future(looked_after.cancel(task.task_id, error="no", error_type="cancelled"))
    await asyncio.sleep(0)  # it is handed in
    assert await looked_after.get("of this turn, too") is None
    while not looked_after._writer._jobs.empty():  # until it is taken up
        os.sched_yield()
    looked_after._writer.submit(Kind.READ, lambda _: written.set())  # which is answered after the commit
    while not written.is_set():
        os.sched_yield()
    assert not cancelling.done()
    await current(looked_after, task)
    await cancelling
    assert (await current(looked_after, task)).error == "no"


async def test_a_caller_that_leaves_leaves_nothing_old(looked_after: SQLiteStore) -> None:
    task = await enqueue(looked_after)
    await current(looked_after, task)
    cancelling = asyncio.ensure_future(looked_after.cancel(task.task_id, error="no", error_type="cancelled"))
    await asyncio.sleep(0)
    cancelling.cancel()
    for _ in range(2):  # what is read goes before what is written with it
        await looked_after.writes_of_others()
    assert (await current(looked_after, task)).error == "no"


async def test_what_is_kept_has_bounds(looked_after: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    tasks = [await enqueue(looked_after) for _ in range(3)]
    for _ in range(2):
        for task in tasks:
            assert await current(looked_after, task) == task
            assert await looked_after.position(task.place) == task.place


@pytest.mark.parametrize("large", ["prompt", "form", "warnings", "error"])
async def test_what_is_large_is_not_kept(looked_after: SQLiteStore, large: str) -> None:
    texts: dict[str, Any] = {"prompt": "?" * kept.MOST_TEXT} if large == "prompt" else {}
    forms: dict[str, Any] = {"response_format": {"type": "json_object"}} if large == "form" else {}
    task = await running(looked_after, **texts, **forms)
    if large == "warnings":
        await looked_after.complete(task.claim, replace(RESULT, warnings=("page 1",) * 300))
    elif large == "error":
        await looked_after.fail(task.claim, "!" * kept.MOST_TEXT, "processing_error")
    await current(looked_after, task)
    with read(looked_after) as statements:
        await current(looked_after, task)
    assert statements
