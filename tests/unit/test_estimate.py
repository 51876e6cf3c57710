"""The estimate: from measured rates and the work ahead, never from a constant once something was measured."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from docv2.documents import Page, PageSource
from docv2.estimate import FIRST_SECONDS_PER_PAGE, Estimator
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import Task
from tests.conformance.samples import enqueue, running

PDF, PNG = "application/pdf", "image/png"


def estimator(store: SQLiteStore, *, slots: int = 1, at_work: tuple[Task, ...] = ()) -> Estimator:
    return Estimator(store, slots=lambda: slots, running=lambda: at_work)


async def test_measured_rates_make_the_estimate(store: SQLiteStore) -> None:
    await store.measure("asking", "model-a", 10, 20)
    await store.measure("bytes", PDF, 10, 10_000)
    await enqueue(store, media_type=PDF, size=5000, model="model-a")
    await enqueue(store, media_type=PNG, size=900_000, model="model-a")
    task = await enqueue(store, media_type=PDF, size=3000, model="model-a")
    assert await estimator(store).wait_seconds(task) == pytest.approx((5 + 1) * 2)
    assert await estimator(store).seconds(task) == pytest.approx((5 + 1 + 3) * 2)
    assert await estimator(store, slots=2).wait_seconds(task) == pytest.approx(6)


async def test_an_unmeasured_model_counts_like_the_others(store: SQLiteStore) -> None:
    await store.measure("asking", "model-a", 10, 10)
    await store.measure("asking", "model-b", 10, 50)
    task = await enqueue(store, media_type=PNG, model="model-c")
    assert await estimator(store).seconds(task) == pytest.approx(3)


async def test_before_anything_was_measured_there_is_a_stated_guess(store: SQLiteStore) -> None:
    task = await enqueue(store, media_type=PNG)
    assert await estimator(store).seconds(task) == FIRST_SECONDS_PER_PAGE


async def test_small_files_count_a_page_each(store: SQLiteStore) -> None:
    await store.measure("asking", "model-a", 1, 1)
    for _ in range(10):
        await enqueue(store, media_type="text/plain", size=10)
    task = await enqueue(store, media_type="text/plain", size=10)
    assert await estimator(store).wait_seconds(task) == pytest.approx(10)


async def test_a_running_task_counts_with_what_is_left_of_it(store: SQLiteStore) -> None:
    await store.measure("asking", "model-a", 1, 10)
    at_work = replace(await running(store, media_type=PNG), claimed_at=time.time() - 4)
    task = await enqueue(store, media_type=PNG)
    assert await estimator(store, at_work=(at_work,)).wait_seconds(task) == pytest.approx(6, abs=0.2)
    overdue = replace(at_work, claimed_at=time.time() - 500)
    assert await estimator(store, at_work=(overdue,)).wait_seconds(task) == pytest.approx(1)


async def test_a_returned_task_counts_the_pages_it_has_left(store: SQLiteStore) -> None:
    await store.measure("asking", "model-a", 1, 1)
    first = await running(store, media_type=PDF, size=10**9)
    pages = [Page(number, PageSource.TEXT, "text") for number in range(1, 5)]
    await store.save_pages(first.claim, pages, progress=40, pages_total=10)
    await store.release(first.claim)
    task = await enqueue(store, media_type=PNG)
    assert await estimator(store).wait_seconds(task) == pytest.approx(6)
