"""Limits, retries, versions of the configuration, and accounts as administrators change them."""

from __future__ import annotations

import asyncio
import time

import pytest

from docv2.errors import Conflict, RateLimited
from docv2.store.base import Configuration, Limits, Store, User
from docv2.tasks import TaskStatus
from tests.conformance.samples import new_task, page, running

FIVE = Limits(windows=((60.0, 5),), waiting_of_user=100, waiting=100)


async def test_looking_first_and_accepting_then_lets_too_many_in(store: Store) -> None:
    """The race that the next test's guard is for."""

    async def send() -> None:
        await store.check_limits("ada", FIVE)
        await store.enqueue(new_task(user_id="ada"))

    await asyncio.gather(*(send() for _ in range(20)))
    assert (await store.depth()).waiting == 20


async def test_of_many_at_once_no_more_than_allowed_are_accepted(store: Store) -> None:
    sent = [store.enqueue(new_task(user_id="ada"), limits=FIVE) for _ in range(20)]
    results = await asyncio.gather(*sent, return_exceptions=True)
    refused = [result for result in results if isinstance(result, RateLimited)]
    assert len(refused) == 15
    assert all(50 < (error.retry_after or 0) <= 60 for error in refused)
    assert (await store.depth()).waiting == 5
    assert [count for count, _ in await store.submitted("ada", FIVE)] == [5]
    await store.enqueue(new_task(user_id="mary"), limits=FIVE)


async def test_a_window_slides(store: Store) -> None:
    short = Limits(windows=((0.2, 1),), waiting_of_user=100, waiting=100)
    await store.enqueue(new_task(user_id="ada"), limits=short)
    with pytest.raises(RateLimited) as refused:
        await store.enqueue(new_task(user_id="ada"), limits=short)
    deadline = time.time() + 5
    while time.time() < deadline:
        try:
            await store.enqueue(new_task(user_id="ada"), limits=short)
            break
        except RateLimited:
            await asyncio.sleep(refused.value.retry_after or 0)
    assert (await store.depth()).waiting == 2


async def test_a_retried_task_keeps_its_pages_and_gets_a_place_that_nobody_had(store: Store) -> None:
    task = await running(store)
    await store.save_pages(task.claim, [page(1)], progress=10, pages_total=1)
    await store.fail(task.claim, "It broke.", "processing_error")
    gone = await store.enqueue(new_task())
    await store.cancel(gone.task_id, error="e", error_type="cancelled")
    again = await store.retry(task.task_id)
    assert again is not None
    assert (again.status, again.error, again.progress, again.started_at) == (TaskStatus.WAITING, None, 0, None)
    assert again.place > gone.place
    assert len(await store.pages(task.task_id)) == 1
    assert await store.position(again.place) == 1
    assert await store.retry(task.task_id) is None
    assert (await store.enqueue(new_task())).place > again.place
    claimed = await store.claim("pool")
    assert claimed is not None
    assert claimed.task_id == task.task_id
    assert claimed.attempt > task.attempt


async def test_a_version_is_given_once(store: Store) -> None:
    first = Configuration(1, 5.0, "ada", {"a": None}, {"b": [1]})
    await store.add_configuration(first)
    with pytest.raises(Conflict):
        await store.add_configuration(first)
    await store.add_configuration(Configuration(2, 6.0, "bob", {}, {}))
    assert [one.version for one in await store.configurations(limit=5)] == [2, 1]
    assert await store.configurations(up_to=1) == [first]


async def test_the_last_administrator_stays_even_where_two_are_shut_out_at_once(store: Store) -> None:
    for name in ("ada", "bob"):
        await store.add_user(User(name, f"{name}@example.org", name, "admin", active=True, created_at=1.0))
    done = await asyncio.gather(*(store.set_active(name, active=False) for name in ("ada", "bob")))
    assert sorted(done) == [False, True]
    assert sum(user.active for user in await store.users()) == 1
