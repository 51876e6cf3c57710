"""The estimate: from measured rates and the work ahead, never from a constant once something was measured."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docv2.documents import Page, PageSource
from docv2.estimate import FIRST_SECONDS_PER_PAGE, FRESH_AT_MOST, Estimator, asked, fit
from docv2.store.base import BLOCKS
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import Sums, Task
from tests.conformance.samples import enqueue, running

PDF, PNG = "application/pdf", "image/png"


def estimator(store: SQLiteStore, *, slots: int = 1, at_work: tuple[Task, ...] = ()) -> Estimator:
    return Estimator(store, slots=lambda: slots, running=lambda: at_work)


async def test_what_was_measured_makes_the_estimate(store: SQLiteStore) -> None:
    for media_type in (PDF, PNG):
        await store.measure("asking", asked("model-a", media_type), 10, 20)
    await store.measure("bytes", PDF, 10, 10_000)
    await store.measure("reading", PDF, 10, 5)
    await enqueue(store, media_type=PDF, size=5000, model="model-a")
    await enqueue(store, media_type=PNG, size=900_000, model="model-a")
    task = await enqueue(store, media_type=PDF, size=3000, model="model-a")
    assert await estimator(store).wait_seconds(task) == pytest.approx(5 * 2.5 + 1 * 2)
    assert await estimator(store).seconds(task) == pytest.approx(5 * 2.5 + 1 * 2 + 3 * 2.5)
    assert await estimator(store).at_tail("model-a", PDF, 3000) == pytest.approx((22, 7.5))
    assert await estimator(store).at_tail("model-a", PDF, 3000, pages=100) == pytest.approx((22, 250))


async def test_a_document_takes_a_part_whatever_its_length(store: SQLiteStore) -> None:
    for pages in (1, 5, 20, 3):
        await store.measure("asking", asked("model-a", PDF), pages, 4 + 0.5 * pages)
    _, work = await estimator(store).at_tail("model-a", PDF, 0, pages=100)
    assert work == pytest.approx(54)
    for _ in range(3):
        await enqueue(store, media_type=PNG, model="model-a")
    task = await enqueue(store, media_type=PNG, model="model-a")
    assert await estimator(store).wait_seconds(task) == pytest.approx(3 * 4.5), "a type not seen yet, like the others"


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000)), min_size=1, max_size=30))
def test_no_measurement_makes_an_estimate_negative(pairs: list[tuple[float, float]]) -> None:
    sums = Sums(
        len(pairs), sum(x for x, _ in pairs), sum(y for _, y in pairs), sum(x * x for x, _ in pairs),
        sum(x * y for x, y in pairs),
    )  # fmt: skip
    line = fit(sums)
    assert line.each >= 0
    assert line.per_page >= 0


async def test_an_unmeasured_model_counts_like_the_others(store: SQLiteStore) -> None:
    await store.measure("asking", asked("model-a", PNG), 10, 10)
    await store.measure("asking", asked("model-b", PNG), 10, 50)
    task = await enqueue(store, media_type=PNG, model="model-c")
    assert await estimator(store).seconds(task) == pytest.approx(3)


async def test_while_slots_are_free_nobody_waits(store: SQLiteStore) -> None:
    await store.measure("asking", asked("model-a", PNG), 1, 10)
    at_work = await running(store, media_type=PNG)
    await enqueue(store, media_type=PNG)
    task = await enqueue(store, media_type=PNG)
    assert await estimator(store, slots=3, at_work=(at_work,)).wait_seconds(task) == 0


async def test_the_next_slot_is_that_of_the_task_that_ends_first(store: SQLiteStore) -> None:
    """Of many tasks of ten seconds on four slots, one ends every 2.5 seconds."""
    await store.measure("asking", asked("model-a", PNG), 1, 10)
    started = [replace(await running(store, media_type=PNG), claimed_at=time.time() - 2.5 * n) for n in range(4)]
    for ahead in range(8):
        task = await enqueue(store, media_type=PNG)
        expected = 2.5 * (ahead + 1)
        found = await estimator(store, slots=4, at_work=tuple(started)).wait_seconds(task)
        assert found == pytest.approx(expected, abs=1.5), ahead


async def test_before_anything_was_measured_there_is_a_stated_guess(store: SQLiteStore) -> None:
    task = await enqueue(store, media_type=PNG)
    assert await estimator(store).seconds(task) == FIRST_SECONDS_PER_PAGE


async def test_small_files_count_a_page_each(store: SQLiteStore) -> None:
    await store.measure("asking", asked("model-a", "text/plain"), 1, 1)
    for _ in range(10):
        await enqueue(store, media_type="text/plain", size=10)
    task = await enqueue(store, media_type="text/plain", size=10)
    assert await estimator(store).wait_seconds(task) == pytest.approx(10)


async def test_a_running_task_counts_with_what_is_left_of_it(store: SQLiteStore) -> None:
    await store.measure("asking", asked("model-a", PNG), 1, 10)
    at_work = replace(await running(store, media_type=PNG), claimed_at=time.time() - 4)
    task = await enqueue(store, media_type=PNG)
    assert await estimator(store, at_work=(at_work,)).wait_seconds(task) == pytest.approx(6, abs=0.2)
    overdue = replace(at_work, claimed_at=time.time() - 500)
    assert await estimator(store, at_work=(overdue,)).wait_seconds(task) == pytest.approx(1)


async def test_a_returned_task_counts_the_pages_it_has_left(store: SQLiteStore) -> None:
    await store.measure("asking", asked("model-a", PNG), 1, 1)
    first = await running(store, media_type=PDF, size=10**9)
    pages = [Page(number, PageSource.TEXT, "text") for number in range(1, 5)]
    await store.save_pages(first.claim, pages, progress=40, pages_total=10)
    await store.release(first.claim)
    task = await enqueue(store, media_type=PNG)
    assert await estimator(store).wait_seconds(task) == pytest.approx(6)


async def test_the_work_far_ahead_is_kept_for_a_moment_and_never_longer(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, wide = BLOCKS
    await store.measure("asking", asked("model-a", PNG), 1, 10)
    tasks = await asyncio.gather(*(enqueue(store, media_type=PNG) for _ in range(wide + narrow + 2)))
    last = max(tasks, key=lambda task: task.place)
    clock = [time.monotonic()]
    monkeypatch.setattr("docv2.estimate.time.monotonic", lambda: clock[0])
    told = estimator(store)
    for place, ahead in ((last.place, wide + narrow + 1), (wide + narrow, wide + narrow - 1), (wide, wide - 1)):
        assert await told.wait_seconds(replace(last, place=place)) == pytest.approx(10 * ahead)
    for task in tasks:
        if task is not last:
            await store.cancel(task.task_id, error="no", error_type="cancelled")
    assert await told.wait_seconds(last) == pytest.approx(10 * (wide + narrow - 1)), "those of its own block are gone"
    clock[0] += FRESH_AT_MOST - 0.1
    assert await told.wait_seconds(last) == pytest.approx(10 * (wide + narrow - 1))
    clock[0] += 0.2
    assert await told.wait_seconds(last) == 0
