"""The queue: what every store must do, whatever it is built on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from docv2.documents import Detail, PageSource, PageUse
from docv2.errors import ClaimLost, Conflict
from docv2.store.base import QueueDepth, Recovery, Store
from docv2.tasks import Claim, Stage, Task, TaskStatus
from tests.conformance.conftest import Opener
from tests.conformance.samples import RESULT, current, enqueue, new_task, page, part, running

HOUR = 3600.0


async def restart(store: Store) -> Recovery:
    """What a server does first."""
    return await store.recover(crash_limit=3, error="The server died too often on this.", error_type="system_error")


# -- acceptance -------------------------------------------------------------------------------------------------------
async def test_an_accepted_task_is_kept_as_it_was_given(store: Store) -> None:
    before = time.time()
    new = new_task()
    task = await store.enqueue(new)
    for name in new.__dataclass_fields__:
        assert getattr(task, name) == getattr(new, name)
    assert task.status is TaskStatus.WAITING
    assert before <= task.created_at <= time.time()
    assert (task.attempt, task.owner, task.progress, task.result, task.pages_total) == (0, None, 0, None, None)
    assert await store.get(new.task_id) == task


async def test_what_is_wanted_of_an_answer_comes_back(store: Store) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "ü", "schema": {"type": "object", "minimum": 1.5}}}
    task = await enqueue(store, detail=Detail.IMAGE, response_format=form, estimated_wait=1.5, estimated_work=2)
    assert (task.detail, task.response_format) == (Detail.IMAGE, form)
    assert (task.estimated_wait, task.estimated_work) == (1.5, 2)
    assert await current(store, task) == task


async def test_an_unknown_task_is_none(store: Store) -> None:
    assert await store.get("no-such-task") is None


async def test_an_id_is_accepted_once(store: Store) -> None:
    task = await enqueue(store)
    with pytest.raises(Conflict):
        await store.enqueue(new_task(task_id=task.task_id, prompt="another question"))
    assert await current(store, task) == task


@pytest.mark.parametrize("text", ["", "\x00", "a\x00b", "'; DROP TABLE tasks; --", "\u202egnp.exe", "é" * 4000, "🗺"])
async def test_text_comes_back_unchanged(store: Store, text: str) -> None:
    task = await enqueue(store, filename=text, prompt=text)
    assert (task.filename, task.prompt) == (text, text)
    assert await current(store, task) == task


async def test_half_a_surrogate_pair_costs_the_character_and_not_the_task(store: Store) -> None:
    task = await running(store, prompt="a\ud83db")
    assert task.prompt == "a?b"
    await store.save_part(task.claim, part(0, content="\udc00"), stage=Stage.ASKING, progress=1)
    await store.fail(task.claim, "no \ud800", "processing_error")
    assert (await current(store, task)).error == "no ?"


# -- order ------------------------------------------------------------------------------------------------------------
async def test_tasks_are_claimed_in_the_order_of_acceptance(store: Store) -> None:
    accepted = []
    for _ in range(10):
        accepted += await asyncio.gather(*(enqueue(store) for _ in range(20)))
    # Those accepted at once have no order among themselves but the one that their places tell.
    places = [task.place for task in accepted]
    assert [max(places[i : i + 20]) < min(places[i + 20 : i + 40]) for i in range(0, 180, 20)] == [True] * 9
    claimed = [await store.claim("server-1") for _ in accepted]
    assert [task.place for task in claimed if task] == sorted(places)
    assert await store.claim("server-1") is None


async def test_racing_claimers_take_each_task_once_and_in_order(store: Store, open_store: Opener) -> None:
    stores = [store, await open_store()]
    accepted = {task.task_id for task in await asyncio.gather(*(enqueue(store) for _ in range(300)))}

    async def claim_all(number: int) -> list[Task]:
        mine = []
        while task := await stores[number % 2].claim(f"server-{number}"):
            mine.append(task)
        return mine

    takings = await asyncio.gather(*(claim_all(number) for number in range(16)))
    for number, taking in enumerate(takings):
        assert [task.place for task in taking] == sorted(task.place for task in taking)
        assert {task.owner for task in taking} <= {f"server-{number}"}
    taken = [task.task_id for taking in takings for task in taking]
    assert len(taken) == len(accepted)
    assert set(taken) == accepted


async def test_a_returned_task_is_first_again(store: Store) -> None:
    first, second = await enqueue(store), await enqueue(store)
    claimed = await store.claim("server-1")
    assert claimed is not None
    await store.release(claimed.claim)
    again = await store.claim("server-1")
    assert again is not None
    assert (again.task_id, again.place, again.attempt) == (first.task_id, first.place, 2)
    last = await store.claim("server-1")
    assert last is not None
    assert last.task_id == second.task_id


async def test_a_backed_off_task_lets_others_pass_and_keeps_its_place(store: Store) -> None:
    first, second = await enqueue(store), await enqueue(store)
    assert await store.next_retry() is None
    claimed = await store.claim("server-1")
    assert claimed is not None
    later = time.time() + HOUR
    await store.release(claimed.claim, not_before=later)
    assert await store.next_retry() == later
    assert await store.position(second.place) == 2
    passing = await store.claim("server-1")
    assert passing is not None
    assert passing.task_id == second.task_id
    assert await store.claim("server-1") is None
    await store.release(passing.claim, not_before=time.time() - 1)
    assert await store.next_retry() == later
    due = await store.claim("server-1")
    assert due is not None
    assert due.task_id == second.task_id
    assert (await current(store, first)).status is TaskStatus.WAITING


async def test_tasks_of_blocked_models_wait_and_the_others_do_not(store: Store) -> None:
    models = ["a", "b", "a", "c", "b"]
    tasks = [await enqueue(store, model=model) for model in models]

    async def next_one(*blocked: str) -> int | None:
        task = await store.claim("server-1", blocked_models=blocked)
        return None if task is None else [t.task_id for t in tasks].index(task.task_id)

    assert await next_one("a", "b", "c") is None
    assert await next_one("a", "unheard-of") == 1
    assert await next_one("a", "b") == 3
    assert await next_one("a", "b") is None
    assert await next_one() == 0
    assert await next_one("b") == 2
    assert await next_one("b") is None
    assert await next_one() == 4


# -- one attempt ------------------------------------------------------------------------------------------------------
async def test_a_claim_counts_the_attempt_and_starts_the_clock(store: Store) -> None:
    before = time.time()
    task = await running(store, "server-1")
    assert (task.status, task.attempt, task.owner) == (TaskStatus.RUNNING, 1, "server-1")
    assert task.started_at is not None
    assert task.claimed_at == task.started_at
    assert before <= task.started_at <= time.time()
    assert task.claim == Claim(task.task_id, 1, "server-1")
    assert await current(store, task) == task
    await store.release(task.claim)
    returned = await current(store, task)
    assert (returned.status, returned.attempt, returned.owner) == (TaskStatus.WAITING, 1, None)
    assert (returned.claimed_at, returned.started_at) == (None, task.started_at)
    assert 0 <= returned.worked_seconds <= time.time() - before
    again = await store.claim("server-2")
    assert again is not None
    assert (again.attempt, again.owner, again.started_at) == (2, "server-2", task.started_at)
    assert again.claimed_at is not None
    assert again.claimed_at > task.started_at
    assert again.worked_seconds == returned.worked_seconds


async def test_what_was_reported_is_never_taken_back(store: Store) -> None:
    task = await running(store)
    await store.save_pages(task.claim, [page(3), page(4)], progress=30, pages_total=10)
    await store.report(task.claim, stage=Stage.ASKING, progress=40.5)
    await store.report(task.claim, stage=Stage.READING, progress=12)
    now = await current(store, task)
    assert (now.stage, now.progress, now.pages_done, now.pages_total) == (Stage.READING, 40.5, 4, 10)
    await store.save_pages(task.claim, [page(1)], progress=1, pages_total=None)
    await store.save_part(task.claim, part(0), stage=Stage.COMBINING, progress=2)
    now = await current(store, task)
    assert (now.stage, now.progress, now.pages_done, now.pages_total) == (Stage.COMBINING, 40.5, 4, 10)
    await store.release(task.claim)
    now = await current(store, task)
    assert (now.stage, now.progress, now.pages_done, now.pages_total) == (None, 40.5, 4, 10)


async def test_steps_are_kept_in_order_and_once(store: Store) -> None:
    task = await running(store)
    unread = page(3, source=PageSource.NONE, reason="scanned, and pictures are off", chars=0)
    picture = page(2, source=PageSource.BOTH, picture_width=1654, picture_height=2339)
    await store.save_pages(task.claim, [unread, page(1)], progress=10, pages_total=3)
    await store.save_pages(task.claim, [page(2), page(1)], progress=20, pages_total=3)
    await store.save_pages(task.claim, [picture], progress=20, pages_total=3)
    assert await store.pages(task.task_id) == [page(1), picture, unread]
    combined = part(0, level=1, first_page=1, last_page=3, notes=())
    for one in (combined, part(1), part(0, content="first"), part(0)):
        await store.save_part(task.claim, one, stage=Stage.ASKING, progress=50)
    assert await store.parts(task.task_id) == [part(0), part(1), combined]
    assert (await current(store, task)).pages_total == 3


async def test_steps_outlive_the_attempt(store: Store) -> None:
    task = await running(store)
    await store.save_pages(task.claim, [page(1), page(2)], progress=10, pages_total=2)
    await store.save_part(task.claim, part(0), stage=Stage.ASKING, progress=50)
    await store.release(task.claim)
    assert await store.pages(task.task_id) == [page(1), page(2)]
    assert await store.parts(task.task_id) == [part(0)]
    assert (await store.pages("no-such-task"), await store.parts("no-such-task")) == ([], [])


async def test_the_ledger_tells_what_became_of_each_page(store: Store) -> None:
    task = await running(store)
    unread = page(4, source=PageSource.NONE, reason="damaged", chars=0)
    await store.save_pages(
        task.claim, [page(1), page(2), page(3, source=PageSource.BOTH), unread], progress=1, pages_total=4
    )
    assert [record.used for record in await store.ledger(task.task_id)] == [None] * 4
    assert await store.page_counts(task.task_id) == {"text": 2, "both": 1, "none": 1}
    await store.count_call(task.claim, [1, 2])
    for _ in range(2):
        await store.count_call(task.claim, [3])
    for uses, reason in (
        ([PageUse(1, PageSource.TEXT, 10), PageUse(2, PageSource.TEXT, 20)], "stop"),
        ([PageUse(3, PageSource.TEXT, 30), PageUse(4, PageSource.NONE, 0)], "length"),
        ([PageUse(3, PageSource.TEXT, 5)], "stop"),
    ):
        scope = f"{uses[0].number}-{uses[-1].number}"
        answered = part(uses[0].number, scope=scope, finish_reason=reason)
        await store.save_part(task.claim, answered, stage=Stage.ASKING, progress=2, uses=uses)
    ledger = await store.ledger(task.task_id)
    assert [
        (record.number, record.used, record.attempts, record.tokens, record.finish_reason) for record in ledger
    ] == [
        (1, PageSource.TEXT, 1, 10, "stop"),
        (2, PageSource.TEXT, 1, 20, "stop"),
        (3, PageSource.TEXT, 2, 35, "length"),
        (4, PageSource.NONE, 0, 0, None),
    ]
    assert [(record.source, record.reason, record.model) for record in ledger[2:]] == [
        (PageSource.BOTH, "has a text layer", "model-a"),
        (PageSource.NONE, "damaged", None),
    ]
    assert await store.page_counts(task.task_id) == {"text": 3, "none": 1}
    assert await store.ledger(task.task_id, after=1, limit=2) == ledger[1:3]
    await store.save_pages(task.claim, [page(3, source=PageSource.BOTH)], progress=1, pages_total=4)
    assert await store.ledger(task.task_id) == ledger, "a page that is read again keeps its record"
    await store.complete(task.claim, RESULT)
    assert await store.ledger(task.task_id) == ledger, "and so does one of a task that ended"
    assert (await store.ledger("no-such-task"), await store.page_counts("no-such-task")) == ([], {})


async def test_endpoint_failures_count_until_an_answer(store: Store) -> None:
    task = await running(store)
    for failures in (1, 2):
        await store.release(task.claim, upstream_failed=True)
        claimed = await store.claim("server-1")
        assert claimed is not None
        assert claimed.upstream_failures == failures
        task = claimed
    await store.save_pages(task.claim, [page(1)], progress=1, pages_total=1)
    assert (await current(store, task)).upstream_failures == 2
    await store.save_part(task.claim, part(0), stage=Stage.ASKING, progress=50)
    assert (await current(store, task)).upstream_failures == 0


async def test_completion_keeps_the_result_whole(store: Store) -> None:
    task = await running(store)
    await store.complete(task.claim, RESULT)
    ended = await current(store, task)
    assert (ended.status, ended.result, ended.progress) == (TaskStatus.COMPLETED, RESULT, 100)
    assert ended.ended
    assert ended.ended_at is not None
    assert ended.claimed_at is None
    assert await store.claim("server-1") is None


async def test_failure_keeps_the_error(store: Store) -> None:
    task = await running(store)
    await store.report(task.claim, stage=Stage.READING, progress=12)
    await store.fail(task.claim, "The file is encrypted.", "processing_error")
    ended = await current(store, task)
    assert (ended.status, ended.error, ended.error_type) == (
        TaskStatus.FAILED, "The file is encrypted.", "processing_error",
    )  # fmt: skip
    assert (ended.progress, ended.result) == (12, None)
    assert ended.ended


# -- the fence --------------------------------------------------------------------------------------------------------
USES = [PageUse(1, PageSource.TEXT, 40)]

WRITES: dict[str, Callable[[Store, Claim], Awaitable[None]]] = {
    "release": lambda store, claim: store.release(claim, not_before=1, upstream_failed=True),
    "report": lambda store, claim: store.report(claim, stage=Stage.ASKING, progress=99),
    "save_pages": lambda store, claim: store.save_pages(claim, [page(9)], progress=99, pages_total=9),
    "count_call": lambda store, claim: store.count_call(claim, [1, 9]),
    "save_part": lambda store, claim: store.save_part(claim, part(9), stage=Stage.ASKING, progress=99, uses=USES),
    "complete": lambda store, claim: store.complete(claim, RESULT),
    "fail": lambda store, claim: store.fail(claim, "late", "processing_error"),
}


async def returned(store: Store, task: Task) -> None:
    await store.release(task.claim)


async def claimed_again(store: Store, task: Task) -> None:
    await store.release(task.claim)
    assert await store.claim("server-1")


async def recovered_by_another_server(store: Store, task: Task) -> None:
    await restart(store)
    assert await store.claim("server-2")


async def cancelled(store: Store, task: Task) -> None:
    await store.cancel(task.task_id, error="cancelled", error_type="cancelled")


async def completed(store: Store, task: Task) -> None:
    await store.complete(task.claim, RESULT)


async def expired(store: Store, task: Task) -> None:
    await store.complete(task.claim, RESULT)
    assert await store.expire(time.time() + HOUR)


async def everything(store: Store, task: Task) -> tuple[object, ...]:
    return (
        await store.get(task.task_id),
        await store.pages(task.task_id),
        await store.ledger(task.task_id),
        await store.parts(task.task_id),
    )


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("loss", [returned, claimed_again, recovered_by_another_server, cancelled, completed, expired])
async def test_an_attempt_that_lost_its_claim_changes_nothing(
    store: Store, loss: Callable[[Store, Task], Awaitable[None]], write: str
) -> None:
    task = await running(store)
    await store.save_pages(task.claim, [page(1)], progress=5, pages_total=2)
    await loss(store, task)
    before = await everything(store, task)
    with pytest.raises(ClaimLost):
        await WRITES[write](store, task.claim)
    assert await everything(store, task) == before


@pytest.mark.parametrize("write", WRITES)
async def test_every_part_of_a_claim_counts(store: Store, write: str) -> None:
    task = await running(store)
    await store.save_pages(task.claim, [page(1)], progress=5, pages_total=2)
    before = await everything(store, task)
    other = await running(store)
    mine = task.claim
    for false in (
        Claim(mine.task_id, 2, mine.owner),
        Claim(mine.task_id, 0, mine.owner),
        Claim(mine.task_id, 1, "server-2"),
        Claim("no-such-task", 1, mine.owner),
    ):
        with pytest.raises(ClaimLost):
            await WRITES[write](store, false)
    assert await everything(store, task) == before
    await WRITES[write](store, mine)
    assert await everything(store, task) != before
    assert await current(store, other) == other


async def test_a_lost_claim_does_not_harm_those_beside_it(store: Store) -> None:
    mine = [await running(store) for _ in range(20)]
    for task in mine[::2]:
        await store.cancel(task.task_id, error="cancelled", error_type="cancelled")
    answers = await asyncio.gather(*(store.complete(task.claim, RESULT) for task in mine), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ClaimLost, type(None)] * 10
    assert [(await current(store, task)).status for task in mine] == [TaskStatus.FAILED, TaskStatus.COMPLETED] * 10


# -- cancel -----------------------------------------------------------------------------------------------------------
async def test_a_cancelled_waiting_task_never_runs(store: Store) -> None:
    task = await enqueue(store)
    assert await store.cancel(task.task_id, error="Cancelled.", error_type="cancelled") == task
    ended = await current(store, task)
    assert (ended.status, ended.error, ended.error_type) == (TaskStatus.FAILED, "Cancelled.", "cancelled")
    assert ended.ended_at is not None
    assert await store.claim("server-1") is None
    assert await store.depth() == QueueDepth(0, 0)


async def test_a_running_task_is_cancelled_whoever_owns_it(store: Store) -> None:
    task = await running(store)
    assert await store.cancel(task.task_id, error="Cancelled.", error_type="cancelled") == task
    ended = await current(store, task)
    assert (ended.status, ended.owner) == (TaskStatus.FAILED, None)


async def test_an_ended_task_stays_as_it_ended(store: Store) -> None:
    task = await running(store)
    await store.complete(task.claim, RESULT)
    ended = await current(store, task)
    assert await store.cancel(task.task_id, error="Cancelled.", error_type="cancelled") == ended
    assert await current(store, task) == ended
    assert await store.cancel("no-such-task", error="Cancelled.", error_type="cancelled") is None


async def test_of_cancel_and_completion_at_once_one_wins(store: Store) -> None:
    for _ in range(20):
        task = await running(store)
        before, completed_or_lost = await asyncio.gather(
            store.cancel(task.task_id, error="Cancelled.", error_type="cancelled"),
            store.complete(task.claim, RESULT),
            return_exceptions=True,
        )
        assert isinstance(before, Task)
        ended = await current(store, task)
        if before.ended:
            assert (ended.status, completed_or_lost) == (TaskStatus.COMPLETED, None)
        else:
            assert (ended.status, type(completed_or_lost)) == (TaskStatus.FAILED, ClaimLost)


async def test_a_cancelled_claimer_leaves_no_task_behind(store: Store) -> None:
    accepted = [await enqueue(store) for _ in range(10)]
    claimers = [asyncio.create_task(store.claim("server-1")) for _ in accepted]
    await asyncio.sleep(0)  # they have asked, and cannot have been answered
    for claimer in claimers:
        claimer.cancel()
    await asyncio.gather(*claimers, return_exceptions=True)
    assert all(claimer.cancelled() for claimer in claimers)
    # Not before the claims were made is anything handed back; another write is committed after them.
    await enqueue(store)
    async with asyncio.timeout(10):
        while (await store.depth()).running:
            await asyncio.sleep(0)
    again = await store.claim("server-1")
    assert again is not None
    assert again.task_id == accepted[0].task_id


# -- recovery ---------------------------------------------------------------------------------------------------------
async def test_recovery_returns_running_tasks_to_their_places(store: Store) -> None:
    tasks = [await enqueue(store) for _ in range(4)]
    for _ in range(3):
        await store.claim("server-1")
    await store.cancel(tasks[1].task_id, error="Cancelled.", error_type="cancelled")
    assert await restart(store) == Recovery(requeued=(tasks[0].task_id, tasks[2].task_id), given_up=())
    assert await restart(store) == Recovery((), ())
    order = [await store.claim("server-2") for _ in range(3)]
    assert [task.task_id for task in order if task] == [tasks[i].task_id for i in (0, 2, 3)]
    assert [(task.crashes, task.attempt) for task in order if task] == [(1, 2), (1, 2), (0, 1)]


async def crash(store: Store) -> Recovery:
    """The server dies while it runs the first task, and starts again."""
    assert await store.claim("server-1")
    return await restart(store)


async def test_three_crashes_without_a_step_end_a_task(store: Store) -> None:
    task = await enqueue(store)
    later = await enqueue(store)
    for crashes in (1, 2):
        assert await crash(store) == Recovery((task.task_id,), ())
        assert (await current(store, task)).crashes == crashes
    assert await crash(store) == Recovery((), (task.task_id,))
    ended = await current(store, task)
    assert (ended.status, ended.error_type) == (TaskStatus.FAILED, "system_error")
    assert ended.error == "The server died too often on this."
    survivor = await store.claim("server-1")
    assert survivor is not None
    assert survivor.task_id == later.task_id


@pytest.mark.parametrize("step", ["save_pages", "save_part"])
async def test_a_finished_step_forgives_the_crashes_before_it(store: Store, step: str) -> None:
    task = await enqueue(store)
    for _ in range(2):
        await crash(store)
        await crash(store)
        claimed = await store.claim("server-1")
        assert claimed is not None
        assert claimed.crashes == 2
        await WRITES[step](store, claimed.claim)
        await store.release(claimed.claim)
        assert (await current(store, task)).crashes == 0


async def test_a_report_or_an_orderly_return_forgives_nothing_and_counts_nothing(store: Store) -> None:
    task = await enqueue(store)
    await crash(store)
    for _ in range(5):
        claimed = await store.claim("server-1")
        assert claimed is not None
        await store.report(claimed.claim, stage=Stage.READING, progress=1)
        await store.release(claimed.claim)
    assert (await current(store, task)).crashes == 1


# -- counts and removal -----------------------------------------------------------------------------------------------
async def test_depth_counts_those_that_wait_and_those_that_run(store: Store) -> None:
    assert await store.depth() == QueueDepth(0, 0)
    await running(store)
    await running(store, model="model-b")
    for _ in range(3):
        await enqueue(store)
    assert await store.depth() == QueueDepth(waiting=3, running=2)


async def test_only_tasks_that_ended_before_the_time_are_removed(store: Store) -> None:
    ended = [await running(store) for _ in range(3)]
    for task in ended[:2]:
        await store.save_pages(task.claim, [page(1)], progress=1, pages_total=1)
        await store.save_part(task.claim, part(0), stage=Stage.ASKING, progress=2)
        await store.complete(task.claim, RESULT)
    await store.fail(ended[2].claim, "no", "processing_error")
    still_running = await running(store)
    waiting = await enqueue(store)
    middle = (await current(store, ended[1])).ended_at
    assert middle is not None
    assert await store.expire(0) == []
    assert await store.expire(middle) == [ended[0].task_id]
    assert set(await store.expire(time.time() + HOUR)) == {ended[1].task_id, ended[2].task_id}
    for task in ended:
        assert await store.get(task.task_id) is None
        assert (await store.pages(task.task_id), await store.parts(task.task_id)) == ([], [])
    assert await store.known([still_running.task_id, waiting.task_id, ended[0].task_id]) == {
        still_running.task_id: still_running,
        waiting.task_id: waiting,
    }


async def test_those_that_ended_since_a_time_are_counted_and_those_that_failed(store: Store) -> None:
    began = time.time()
    assert await store.ended_since(began) == (0, 0)
    completed, failed, tried_again = [await running(store) for _ in range(3)]
    await store.complete(completed.claim, RESULT)
    for task in (failed, tried_again):
        await store.fail(task.claim, "no", "processing_error")
    await store.cancel((await enqueue(store)).task_id, error="cancelled", error_type="cancelled")
    await enqueue(store)
    assert await store.ended_since(began) == (4, 2)
    await store.retry(tried_again.task_id)
    assert await store.ended_since(began) == (3, 1)
    assert await store.ended_since(time.time() + HOUR) == (0, 0)


async def test_a_place_is_never_given_twice(store: Store) -> None:
    task = await running(store)
    await store.complete(task.claim, RESULT)
    await store.expire(time.time() + HOUR)
    assert (await enqueue(store)).place > task.place


async def test_known_takes_any_number_of_ids(store: Store) -> None:
    tasks = [await enqueue(store) for _ in range(3)]
    asked = [task.task_id for task in tasks] + [f"unknown-{number}" for number in range(40_000)]
    assert await store.known(asked) == {task.task_id: task for task in tasks}
    assert await store.known([]) == {}


async def test_what_others_write_is_noticed_and_ones_own_writes_are_not(store: Store, open_store: Opener) -> None:
    before = await store.writes_of_others()
    await enqueue(store)
    await store.users()
    assert await store.writes_of_others() == before
    other = await open_store()
    assert await store.writes_of_others() == before
    await enqueue(other)
    after = await store.writes_of_others()
    assert after != before
    assert await store.writes_of_others() == after
