"""Taking away all that one user has: what every store must do."""

from __future__ import annotations

import asyncio

import pytest

from docv2.errors import ClaimLost
from docv2.store import administration
from docv2.store.base import Removed, Request, Store, User
from docv2.tasks import Stage
from tests.conformance.samples import RESULT, enqueue, key, new_task, page, part, running, user

NOTHING = Removed((), 0, 0, 0, 0, 0)


async def busy_user(store: Store, user_id: str) -> list[str]:
    """Tasks of every status, with all that hangs on them; their ids."""
    done = await running(store, user_id=user_id)
    await store.save_pages(done.claim, [page(1), page(2)], progress=30, pages_total=2)
    await store.save_part(done.claim, part(0), stage=Stage.ASKING, progress=90)
    await store.complete(done.claim, RESULT, key=f"question of {user_id}")
    failed = await running(store, user_id=user_id)
    await store.save_pages(failed.claim, [page(1)], progress=30, pages_total=1)
    await store.fail(failed.claim, "no", "processing_error")
    runs = await running(store, user_id=user_id)
    waits = await store.enqueue(new_task(user_id=user_id), Request("key", "fingerprint"))
    return [task.task_id for task in (done, failed, runs, waits)]


async def test_all_tasks_of_a_user_go_with_what_hangs_on_them_and_nobody_else_s(store: Store) -> None:
    theirs = await busy_user(store, "other")
    await store.claim("server-2")  # the one that waits, so that what is claimed next is the user's
    mine = await busy_user(store, "user-1")
    removed = await store.remove_tasks("user-1")
    assert sorted(removed.task_ids) == sorted(mine)
    assert removed == Removed(removed.task_ids, unfinished=2, pages=3, parts=1, idempotency_keys=1, cached_answers=1)
    assert await store.remove_tasks("user-1") == NOTHING
    assert await store.known(mine) == {}
    assert await store.tasks_of("user-1", before=None, limit=10) == []
    for task_id in mine:
        assert (await store.pages(task_id), await store.parts(task_id)) == ([], [])
    assert await store.accepted("user-1", Request("key", "another fingerprint")) is None
    depth = await store.depth()
    assert (depth.waiting, depth.running) == (0, 2)
    assert set(await store.known(theirs)) == set(theirs)
    assert len(await store.pages(theirs[0])) == 2
    assert sorted(await store.leftovers()) == sorted(mine)


async def test_the_files_to_go_are_known_until_they_are_gone(store: Store) -> None:
    tasks = [await enqueue(store) for _ in range(3)]
    await store.remove_tasks("user-1")
    assert len(await store.leftovers()) == 3
    await store.forget_leftovers([tasks[0].task_id])
    assert sorted(await store.leftovers()) == sorted(task.task_id for task in tasks[1:])
    await store.forget_leftovers([task.task_id for task in tasks])
    assert await store.leftovers() == []


async def test_whoever_works_on_a_removed_task_changes_nothing(store: Store) -> None:
    task = await running(store)
    await store.remove_tasks("user-1")
    for write in (
        store.save_pages(task.claim, [page(1)], progress=1, pages_total=1),
        store.complete(task.claim, RESULT, key="question"),
        store.fail(task.claim, "no", "processing_error"),
        store.release(task.claim),
    ):
        with pytest.raises(ClaimLost):
            await write
    assert await store.get(task.task_id) is None
    later = await running(store)
    assert not await store.complete_again(later.claim, "question", since=0)


async def test_a_few_go_at_a_time_and_long_documents_by_themselves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "REMOVED_TASKS", 3)
    monkeypatch.setattr(administration, "REMOVED_PAGES", 10)
    for pages in (0, 12, 9, 4, 4, 0, 0, 0):
        task = await running(store)
        await store.save_pages(task.claim, [page(n + 1) for n in range(pages)], progress=1, pages_total=pages)
    bites = []
    while (removed := await store.remove_tasks("user-1")).task_ids:
        bites.append((len(removed.task_ids), removed.pages))
    assert bites == [(2, 12), (1, 9), (2, 8), (3, 0)]


async def test_of_two_removals_at_once_each_task_is_told_once(store: Store) -> None:
    tasks = [await enqueue(store) for _ in range(10)]
    both = await asyncio.gather(store.remove_tasks("user-1"), store.remove_tasks("user-1"))
    assert sorted(task_id for one in both for task_id in one.task_ids) == sorted(task.task_id for task in tasks)


async def test_an_account_goes_with_its_keys_once_it_is_shut_out_and_has_nothing_left(store: Store) -> None:
    boss, one = user(role="admin"), user()
    for each in (boss, one):
        await store.add_user(each)
    for number in range(2):
        await store.add_key(key(one), f"{number}" * 64)
    assert await store.remove_user(one.user_id) is None, "still active"
    await store.set_active(one.user_id, active=False)
    await enqueue(store, user_id=one.user_id)
    assert await store.remove_user(one.user_id) is None, "something is left"
    await store.remove_tasks(one.user_id)
    assert await store.remove_user(one.user_id) == 2
    assert await store.users() == [boss]
    assert await store.keys(one.user_id) == []
    assert await store.remove_user(one.user_id) is None
    await store.add_user(User("again", one.email, "A.", "user", active=True, created_at=2.0))
