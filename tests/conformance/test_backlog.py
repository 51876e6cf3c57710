"""Position and work ahead, against a plain count over everything that ever happened."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import defaultdict

import pytest

from docv2.errors import RateLimited
from docv2.store.base import BLOCKS, Limits, Store
from docv2.tasks import Backlog, Task, TaskStatus
from tests.conformance.samples import RESULT, current, enqueue, page

MODELS = ["model-a", "model-b", "model-c"]
MEDIA_TYPES = ["application/pdf", "text/plain"]


USERS = ["user-1", "user-2"]


def count_plainly(tasks: list[Task], before: int | None, since: int = 0) -> list[Backlog]:
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for task in tasks:
        if task.status is TaskStatus.WAITING and since <= task.place < (before or sys.maxsize):
            group = sums[task.model, task.media_type]
            group[0] += 1
            if task.pages_total is None:
                group[1] += 1
                group[2] += task.size
            else:
                group[3] += int(task.pages_total * (100 - task.progress) / 100 + 0.5)
    return [Backlog(*kind, *amounts) for kind, amounts in sorted(sums.items())]


def in_order(groups: list[Backlog]) -> list[Backlog]:
    return sorted(groups, key=lambda group: (group.model, group.media_type))


async def assert_counts_are_right(store: Store, tasks: list[Task], places: list[int]) -> None:
    waiting = sorted(task.place for task in tasks if task.status is TaskStatus.WAITING)
    for place in places:
        assert await store.position(place) == 1 + sum(1 for other in waiting if other < place)
    for before in (*places, None):
        assert in_order(await store.backlog(before)) == count_plainly(tasks, before)
        for since in (before // block * block for block in BLOCKS if before):
            assert in_order(await store.backlog(before, since=since)) == count_plainly(tasks, before, since)
    assert (await store.depth()).waiting == len(waiting)
    for user_id in USERS:
        theirs = sum(task.user_id == user_id for task in tasks if task.status is TaskStatus.WAITING)
        await store.check_limits(user_id, Limits((), theirs + 1, len(waiting) + 1))
        with pytest.raises(RateLimited):
            await store.check_limits(user_id, Limits((), theirs, len(waiting) + 1))


async def test_an_empty_queue_has_no_backlog(store: Store) -> None:
    assert await store.backlog() == []
    assert await store.position(1) == 1


async def test_the_tail_is_the_place_of_the_next_task(store: Store) -> None:
    assert await store.tail() == 1
    for _ in range(3):
        expected = await store.tail()
        last = await enqueue(store)
        assert last.place == expected
    await store.cancel(last.task_id, error="no", error_type="cancelled")
    retried = await store.retry(last.task_id)
    assert retried is not None
    assert retried.place == expected + 1
    assert await store.tail() == expected + 2
    await store.cancel(last.task_id, error="no", error_type="cancelled")
    assert await store.expire(time.time() + 1) == [last.task_id]
    assert await store.tail() == expected + 2, "a place is never handed out twice"


async def test_an_opened_task_counts_the_pages_left_and_no_bytes(store: Store) -> None:
    await enqueue(store, size=300)
    await enqueue(store, size=500)
    task = await store.claim("server-1")
    assert task is not None
    await store.save_pages(task.claim, [page(number) for number in range(1, 11)], progress=30, pages_total=10)
    assert await store.backlog() == [Backlog("model-a", "application/pdf", 1, 1, 500, 0)]
    await store.release(task.claim)
    assert await store.backlog() == [Backlog("model-a", "application/pdf", 2, 1, 500, 7)]


@pytest.mark.parametrize(("seed", "count"), [(0, 8500), (1, 2500), (2, 200)])
async def test_counts_are_right_whatever_happens(store: Store, seed: int, count: int) -> None:
    chance = random.Random(seed)
    # Enough tasks that places spread over several blocks of whatever sums a store keeps.
    ids = [
        task.task_id
        for task in await asyncio.gather(
            *(
                enqueue(
                    store,
                    user_id=chance.choice(USERS),
                    model=chance.choice(MODELS),
                    media_type=chance.choice(MEDIA_TYPES),
                    size=chance.randrange(1000),
                )
                for _ in range(count)
            )
        )
    ]
    running: list[Task] = []
    for step in range(240):
        action = chance.random()
        if action < 0.3 or not running:
            task = await store.claim("server-1", blocked_models=chance.sample(MODELS, chance.randrange(2)))
            if task is not None:
                running.append(task)
        elif action < 0.4:
            ids.append((await enqueue(store, model=chance.choice(MODELS), size=chance.randrange(1000))).task_id)
        elif action < 0.5:
            await store.cancel(chance.choice(ids), error="Cancelled.", error_type="cancelled")
        elif action < 0.53:
            await store.recover(crash_limit=2, error="dead", error_type="system_error")
            running.clear()
        elif action < 0.55:
            await store.expire(time.time())
        else:
            task = running.pop(chance.randrange(len(running)))
            if (await current(store, task)).status is not TaskStatus.RUNNING:
                continue  # cancelled above
            total = chance.randrange(1, 50)
            await store.save_pages(task.claim, [page(1)], progress=chance.random() * 100, pages_total=total)
            if action < 0.7:
                await store.release(task.claim, not_before=chance.choice([0, time.time() + 3600]))
            elif action < 0.8:
                await store.save_pages(task.claim, [page(1)], progress=50, pages_total=total)
                await store.fail(task.claim, "no", "processing_error")
            elif action < 0.9:
                await store.complete(task.claim, RESULT)
            else:
                running.append(task)
        if step % 12 == 0:
            tasks = list((await store.known(ids)).values())
            running = [task for task in tasks if task.status is TaskStatus.RUNNING]
            ids = [task.task_id for task in tasks]
            edges = [1, *(edge + off for edge in (*BLOCKS, 8 * BLOCKS[-1]) for off in (-1, 0, 1))]
            places = [chance.choice(tasks).place for _ in range(3)] + [*edges, max(task.place for task in tasks)]
            await assert_counts_are_right(store, tasks, places)
