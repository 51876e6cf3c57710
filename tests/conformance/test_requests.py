"""Lists of a user's tasks, and requests that are sent twice: what every store must do with them."""

from __future__ import annotations

import asyncio

import pytest

from docv2.errors import Conflict
from docv2.store.base import Request, Store
from docv2.tasks import TaskStatus
from tests.conformance.samples import RESULT, enqueue, new_task, running


async def ids(store: Store, user_id: str, before: int | None = None, limit: int = 100, **more: TaskStatus) -> list[str]:
    return [task.task_id for task, _ in await store.tasks_of(user_id, before=before, limit=limit, **more)]


# -- lists ------------------------------------------------------------------------------------------------------------
async def test_a_user_s_tasks_come_newest_first_and_nobody_else_s(store: Store) -> None:
    mine = [await enqueue(store, user_id="me") for _ in range(3)]
    await enqueue(store, user_id="you")
    assert await ids(store, "me") == [task.task_id for task in reversed(mine)]
    assert await ids(store, "nobody") == []


async def test_a_list_is_read_page_by_page_while_it_grows(store: Store) -> None:
    old = [await enqueue(store) for _ in range(5)]
    first = await store.tasks_of("user-1", before=None, limit=2)
    await enqueue(store)
    second = await store.tasks_of("user-1", before=first[-1][0].place, limit=2)
    third = await store.tasks_of("user-1", before=second[-1][0].place, limit=2)
    assert [task.task_id for task, _ in (*first, *second, *third)] == [task.task_id for task in reversed(old)]


async def test_a_list_holds_one_status_alone_where_asked(store: Store) -> None:
    done, failed, runs = [await running(store) for _ in range(3)]
    await store.complete(done.claim, RESULT)
    await store.fail(failed.claim, "no", "processing_error")
    waits = await enqueue(store)
    expected = {
        TaskStatus.COMPLETED: done, TaskStatus.FAILED: failed, TaskStatus.RUNNING: runs, TaskStatus.WAITING: waits,
    }  # fmt: skip
    for status, task in expected.items():
        assert await ids(store, "user-1", status=status) == [task.task_id]


async def test_a_listed_task_is_the_task_without_its_answer(store: Store) -> None:
    task = await running(store)
    await store.complete(task.claim, RESULT)
    ((listed, position),) = await store.tasks_of("user-1", before=None, limit=1)
    whole = await store.get(task.task_id)
    assert whole is not None
    assert (listed.result, position) == (None, None)
    for name in ("status", "filename", "prompt", "model", "progress", "created_at", "started_at", "ended_at", "place"):
        assert getattr(listed, name) == getattr(whole, name)


async def test_a_listed_task_that_waits_has_the_position_that_it_has(store: Store) -> None:
    runs = await running(store)
    for _ in range(3):
        await enqueue(store, user_id="before")
    tasks = [await enqueue(store) for _ in range(3)]
    listed = await store.tasks_of("user-1", before=None, limit=10)
    assert [(task.task_id, position) for task, position in listed] == [
        *[(task.task_id, await store.position(task.place)) for task in reversed(tasks)],
        (runs.task_id, None),
    ]


# -- the same request again -------------------------------------------------------------------------------------------
REQUEST = Request("key", "fingerprint")


async def test_the_same_request_becomes_one_task(store: Store) -> None:
    first = await store.enqueue(new_task(), REQUEST)
    again = await store.enqueue(new_task(), REQUEST)
    assert again == first
    assert await store.accepted("user-1", REQUEST) == first
    assert (await store.depth()).waiting == 1


async def test_without_a_key_the_same_request_becomes_two(store: Store) -> None:
    await enqueue(store)
    await enqueue(store)
    assert (await store.depth()).waiting == 2


async def test_many_at_once_become_one_task(store: Store) -> None:
    tasks = await asyncio.gather(*(store.enqueue(new_task(), REQUEST) for _ in range(50)))
    assert len({task.task_id for task in tasks}) == 1
    assert (await store.depth()).waiting == 1


async def test_another_request_under_the_key_is_a_conflict_that_adds_nothing(store: Store) -> None:
    await store.enqueue(new_task(), REQUEST)
    with pytest.raises(Conflict):
        await store.enqueue(new_task(), Request("key", "another"))
    with pytest.raises(Conflict):
        await store.accepted("user-1", Request("key", "another"))
    assert (await store.depth()).waiting == 1


async def test_a_key_is_its_user_s(store: Store) -> None:
    first = await store.enqueue(new_task(), REQUEST)
    other = await store.enqueue(new_task(user_id="user-2"), Request("key", "another"))
    assert first.task_id != other.task_id
    assert await store.accepted("user-3", REQUEST) is None


async def test_an_ended_task_is_still_what_its_request_became_until_it_is_removed(store: Store) -> None:
    task = await store.enqueue(new_task(), REQUEST)
    await store.cancel(task.task_id, error="no", error_type="cancelled")
    assert (await store.enqueue(new_task(), REQUEST)).task_id == task.task_id
    assert await store.expire(9e9) == [task.task_id]
    assert await store.accepted("user-1", REQUEST) is None
    assert (await store.enqueue(new_task(), REQUEST)).task_id != task.task_id
