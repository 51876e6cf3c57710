"""The pool over a real store: order, slots, memory, and what becomes of running tasks when it must let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from docv2.config import Config, RuntimeConfig
from docv2.events import Changes
from docv2.llm.catalog import Catalog
from docv2.llm.health import EndpointHealth
from docv2.llm.learned import Learned
from docv2.sandbox import Sandbox
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import Task, TaskStatus
from docv2.worker.gate import Gate, Level, Memory
from docv2.worker.pool import Pool
from tests import jobs
from tests.conformance.samples import RESULT, current, enqueue
from tests.waiting import until


class Bench:
    """A pool whose work is to wait for the test, and whose memory is what the test says."""

    def __init__(self, store: SQLiteStore, slots: int) -> None:
        self.store = store
        self.percent = 10.0
        self.begun: list[Task] = []
        self.release: dict[str, asyncio.Event] = {}
        self.sandbox = Sandbox()
        self.with_child: Callable[[Task], bool] = lambda _: False
        self.gate = Gate(warning=85, hold=90, critical=95, read=lambda: Memory(int(self.percent * 100), 10_000))
        config = Config(
            enabled=True, max_file_size=1, max_concurrent=slots, timeout=60, max_task_seconds=60, admin_model=""
        )
        self.pool = Pool(
            owner="this-server",
            store=store,
            config=RuntimeConfig(config),
            gate=self.gate,
            health=EndpointHealth(Catalog([], store, Learned(store))),
            sandbox=self.sandbox,
            changes=Changes(),
            work=self.work,
        )

    async def work(self, task: Task) -> None:
        self.begun.append(task)
        event = self.release.setdefault(task.task_id, asyncio.Event())
        if self.with_child(task):
            async for _ in self.sandbox.run(jobs.hang, owner=task.task_id):
                pass
        await event.wait()
        await self.store.complete(task.claim, RESULT)

    def finish(self, task: Task) -> None:
        self.release.setdefault(task.task_id, asyncio.Event()).set()

    def places(self) -> list[int]:
        return [task.place for task in self.begun]


@asynccontextmanager
async def at_work(bench: Bench) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for loop in (bench.pool.run(), bench.pool.watch_memory()):
            running = asyncio.create_task(loop)
            stack.push_async_callback(_end, running)
        stack.push_async_callback(bench.sandbox.close)
        yield
        await bench.pool.drain(0)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def bench(store: SQLiteStore, tmp_path: Path) -> Bench:
    return Bench(store, slots=4)


async def test_tasks_start_in_order_and_no_more_than_there_are_slots(bench: Bench) -> None:
    tasks = [await enqueue(bench.store) for _ in range(7)]
    async with at_work(bench):
        await until(lambda: len(bench.begun) == 4)
        assert bench.pool.free_slots() == 0
        bench.finish(tasks[2])
        await until(lambda: len(bench.begun) == 5)
        assert bench.places() == [task.place for task in tasks[:5]]
        assert [task.place for task in bench.pool.running()] == [tasks[n].place for n in (0, 1, 3, 4)]


async def test_a_waking_pool_takes_a_new_task_at_once(bench: Bench) -> None:
    async with at_work(bench):
        await until(lambda: bench.pool.free_slots() == 4)
        task = await enqueue(bench.store)
        bench.pool.wake()
        await until(lambda: bench.places() == [task.place])


async def test_under_warning_half_of_the_pool_works(bench: Bench) -> None:
    bench.percent = 86
    await bench.gate.sample()
    for _ in range(4):
        await enqueue(bench.store)
    async with at_work(bench):
        await until(lambda: len(bench.begun) == 2)
        assert bench.pool.free_slots() == 0
        bench.percent = 10
        await until(lambda: len(bench.begun) == 4)


async def test_above_the_hold_nothing_starts_and_running_tasks_go_on(bench: Bench) -> None:
    first = await enqueue(bench.store)
    async with at_work(bench):
        await until(lambda: len(bench.begun) == 1)
        bench.percent = 91
        await until(lambda: bench.gate.level is Level.HOLD)
        second = await enqueue(bench.store)
        bench.pool.wake()
        bench.finish(first)
        await until(lambda: not bench.pool.running())
        assert (await current(bench.store, first)).status is TaskStatus.COMPLETED
        assert (await current(bench.store, second)).status is TaskStatus.WAITING
        bench.percent = 84
        await until(lambda: len(bench.begun) == 2)


async def test_while_critical_the_youngest_task_with_a_child_returns_first(bench: Bench) -> None:
    tasks = [await enqueue(bench.store) for _ in range(4)]
    bench.with_child = lambda task: task.place in (tasks[0].place, tasks[2].place)
    async with at_work(bench):
        await until(lambda: len(bench.sandbox.children()) == 2)
        bench.percent = 96
        await until(lambda: len(bench.pool.running()) == 3)
        assert [task.place for task in bench.pool.running()] == [tasks[n].place for n in (0, 1, 3)]
        returned = await current(bench.store, tasks[2])
        assert (returned.status, returned.place, returned.crashes) == (TaskStatus.WAITING, tasks[2].place, 0)
        await until(lambda: len(bench.pool.running()) == 2)
        assert not bench.sandbox.children(), "its child is gone, and the next one a second later"
        assert [task.place for task in bench.pool.running()] == [tasks[1].place, tasks[3].place]


async def test_a_drain_waits_then_returns_what_is_left(bench: Bench) -> None:
    tasks = [await enqueue(bench.store) for _ in range(3)]
    async with at_work(bench):
        await until(lambda: len(bench.begun) == 3)
        bench.finish(tasks[0])
        await bench.pool.drain(0.05)
        assert (await current(bench.store, tasks[0])).status is TaskStatus.COMPLETED
        for task in tasks[1:]:
            left = await current(bench.store, task)
            assert (left.status, left.crashes) == (TaskStatus.WAITING, 0)
        await enqueue(bench.store)
        bench.pool.wake()
        assert bench.pool.free_slots() == 0
        assert len(bench.begun) == 3


async def test_an_idle_pool_goes_round_when_asked(bench: Bench) -> None:
    async with at_work(bench):
        for _ in range(3):
            await asyncio.wait_for(bench.pool.go_round(), 5)


@pytest.mark.parametrize("stuck", ["claim", "sample"])
async def test_a_pool_of_which_one_loop_stands_still_does_not(
    bench: Bench, stuck: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async def thrice(go_round: Callable[[], Awaitable[None]]) -> None:
        for _ in range(3):  # the first may still end a good round
            await go_round()

    monkeypatch.setattr("docv2.worker.pool.SAMPLE_SECONDS", 0.01)
    async with at_work(bench):
        await bench.pool.go_round()
        monkeypatch.setattr(*{"claim": (bench.store, "claim"), "sample": (bench.gate, "sample")}[stuck], never)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(thrice(bench.pool.go_round), 0.5)


async def test_a_cancelled_task_leaves_its_slot(bench: Bench) -> None:
    task = await enqueue(bench.store)
    async with at_work(bench):
        await until(lambda: len(bench.begun) == 1)
        await bench.store.cancel(task.task_id, error="on request", error_type="cancelled")
        bench.pool.cancel(task.task_id)
        await until(lambda: not bench.pool.running())
        assert (await current(bench.store, task)).error_type == "cancelled"
