"""Answers that are given again: what every store must do with them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from docv2.documents import PageSource, PageUse
from docv2.errors import ClaimLost
from docv2.store import administration
from docv2.store.base import Store
from docv2.tasks import Stage, Task, TaskStatus
from tests.conformance.samples import RESULT, current, page, part, running


async def answered(store: Store, key: str = "question") -> Task:
    """A task that was answered, with two pages in its ledger."""
    task = await running(store, estimated_wait=1.0, estimated_work=2.0)
    await store.save_pages(task.claim, [page(1), page(2)], progress=30, pages_total=2)
    await store.count_call(task.claim, [1, 2])
    uses = [PageUse(number, PageSource.TEXT, 7) for number in (1, 2)]
    await store.save_part(task.claim, part(0), stage=Stage.ASKING, progress=90, uses=uses)
    await store.complete(task.claim, RESULT, key=key)
    return task


async def test_an_answer_is_given_again_with_what_it_stands_on(store: Store) -> None:
    before = await answered(store)
    task = await running(store, estimated_wait=1.0, estimated_work=2.0)
    assert await store.complete_again(task.claim, "question", since=0)
    after = await current(store, task)
    assert (after.status, after.progress, after.pages_done, after.pages_total) == (TaskStatus.COMPLETED, 100, 2, 2)
    assert after.result == replace(RESULT, cached=True, prompt_tokens=0, completion_tokens=0)
    ledger = await store.ledger(task.task_id)
    assert [(record.number, record.used, record.model) for record in ledger] == [
        (1, "text", "model-a"),
        (2, "text", "model-a"),
    ]
    assert all((record.attempts, record.tokens) == (0, 0) for record in ledger), "no call was made"
    assert [record.attempts for record in await store.ledger(before.task_id)] == [1, 1]
    assert len(await store.estimate_errors(10)) == 1, "what took no work says nothing of estimates"


async def test_pages_that_were_read_already_are_told_as_used(store: Store) -> None:
    await answered(store)
    task = await running(store)
    await store.save_pages(task.claim, [page(1)], progress=10, pages_total=2)
    assert await store.complete_again(task.claim, "question", since=0)
    assert [record.used for record in await store.ledger(task.task_id)] == [PageSource.TEXT, PageSource.TEXT]


async def test_without_an_answer_that_is_new_enough_nothing_happens(store: Store) -> None:
    await answered(store)
    task = await running(store)
    assert not await store.complete_again(task.claim, "another question", since=0)
    assert not await store.complete_again(task.claim, "question", since=time.time() + 1)
    assert await current(store, task) == task


async def test_the_newest_answer_is_given_and_its_age_counts_from_when_a_model_gave_it(store: Store) -> None:
    first = await answered(store)
    again = await running(store)
    assert await store.complete_again(again.claim, "question", since=0)
    ended = (await current(store, first)).ended_at
    assert ended is not None
    later = await running(store)
    assert not await store.complete_again(later.claim, "question", since=ended), "giving it again made it no newer"
    await store.complete(later.claim, replace(RESULT, content="Another."), key="question")
    last = await running(store)
    assert await store.complete_again(last.claim, "question", since=ended)
    given = (await current(store, last)).result
    assert given is not None
    assert given.content == "Another."


async def test_only_whoever_holds_the_claim_ends_the_task(store: Store) -> None:
    await answered(store)
    task = await running(store)
    await store.cancel(task.task_id, error="no", error_type="cancelled")
    with pytest.raises(ClaimLost):
        await store.complete_again(task.claim, "question", since=0)
    assert (await current(store, task)).status is TaskStatus.FAILED


async def test_an_answer_goes_with_its_task(store: Store) -> None:
    await answered(store)
    await store.expire(time.time() + 1)
    task = await running(store)
    assert not await store.complete_again(task.claim, "question", since=0)


async def test_cleared_answers_are_given_no_more_and_their_tasks_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "CLEAR_BITE", 2)
    tasks = [await answered(store, f"question {number}") for number in range(5)]
    assert await store.clear_answers() == 5
    assert await store.clear_answers() == 0
    task = await running(store)
    assert not await store.complete_again(task.claim, "question 1", since=0)
    assert len(await store.known([task.task_id for task in tasks])) == 5


async def test_many_at_once_are_all_given_the_answer(store: Store) -> None:
    await answered(store)
    tasks = [await running(store) for _ in range(20)]
    given = await asyncio.gather(*(store.complete_again(task.claim, "question", since=0) for task in tasks))
    assert all(given)


async def test_what_only_takes_a_fresh_answer_says_so(store: Store) -> None:
    task = await running(store, fresh=True)
    assert (task.fresh, (await running(store)).fresh) == (True, False)
    ((listed, _),) = await store.tasks_of("user-1", before=task.place + 1, limit=1)
    assert listed.fresh is True
