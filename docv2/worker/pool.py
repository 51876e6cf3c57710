"""The pool: claims waiting tasks in order, as many at once as slots, gate and endpoints allow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docv2.config import RuntimeConfig
from docv2.errors import ClaimLost, Unavailable
from docv2.events import Changes
from docv2.llm.health import EndpointHealth
from docv2.sandbox import Sandbox
from docv2.store.base import Store
from docv2.tasks import Task
from docv2.telemetry import logs, metrics
from docv2.worker.gate import SAMPLE_SECONDS, Gate, Level

log = logging.getLogger(__name__)

SHED_SECONDS = 1.0
"""While memory is critical, one task gives its memory back every so often."""

STORE_RETRY_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class _Running:
    task: Task
    job: asyncio.Task[None]
    returning: bool = False
    """Cancelled by the server for reasons of its own: the task goes back to its place."""


class Pool:
    """Works on tasks until it is drained."""

    def __init__(
        self,
        *,
        owner: str,
        store: Store,
        config: RuntimeConfig,
        gate: Gate,
        health: EndpointHealth,
        sandbox: Sandbox,
        changes: Changes,
        work: Callable[[Task], Coroutine[Any, Any, None]],
    ) -> None:
        """`owner` names this server process in every claim; `work` brings one claimed task to an end."""
        self._owner = owner
        self._store = store
        self._config = config
        self._gate = gate
        self._health = health
        self._sandbox = sandbox
        self._changes = changes
        self._work = work
        self._running: dict[str, _Running] = {}
        self._wake = asyncio.Event()
        self._looked = asyncio.Event()
        self._sampled = asyncio.Event()
        self.draining = False

    # -- what others ask ----------------------------------------------------------------------------------------------
    def slots(self) -> int:
        """Tasks that may work at once now."""
        return self._gate.allowed(self._config.current.max_concurrent)

    def free_slots(self) -> int:
        """Tasks that would be started now if they were there."""
        return 0 if self.draining or self._config.current.paused else max(0, self.slots() - len(self._running))

    def running(self) -> list[Task]:
        """The tasks at work, as they stood when claimed."""
        return [entry.task for entry in self._running.values()]

    def wake(self) -> None:
        """Look for work: a task was accepted, a slot, memory or an endpoint came free."""
        self._wake.set()

    def cancel(self, task_id: str) -> None:
        """Stop working on a task that has ended in the store: its parser is killed and its model call closed."""
        if entry := self._running.get(task_id):
            entry.job.cancel()

    async def stop(self, task_ids: Collection[str]) -> None:
        """Stop working on tasks that were removed, and tell whoever waits for them; nobody works on them afterwards."""
        jobs = [entry.job for task_id in task_ids if (entry := self._running.get(task_id))]
        for task_id in task_ids:
            self.cancel(task_id)
            self._changes.announce(task_id)
        if jobs:
            await asyncio.wait(jobs)

    async def stop_removed(self) -> None:
        """Stop working on tasks that are not there any more: another process has removed them."""
        for task_id in list(self._running):
            if await self._store.get(task_id) is None:
                self.cancel(task_id)

    # -- the work -----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Claim and start tasks until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._fill()
                pause = await self._seconds_to_next()
            except Unavailable as error:
                log.warning("cannot claim now: %s", error)
                pause = STORE_RETRY_SECONDS
            self._looked.set()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _fill(self) -> None:
        while self.free_slots():
            task = await self._store.claim(self._owner, blocked_models=self._health.blocked_models())
            if task is None:
                return
            self._start(task)

    def _start(self, task: Task) -> None:
        # Here, not where the job first runs: the next claim must already know.
        self._health.started(task)
        metrics.task_started(created_at=task.created_at, started_at=task.started_at, attempt=task.attempt)
        job = asyncio.create_task(self._run(task), name=f"task {task.task_id}")
        self._running[task.task_id] = _Running(task, job)
        self._changes.announce(task.task_id)

    async def _run(self, task: Task) -> None:
        entry = self._running[task.task_id]
        logs.task_id.set(task.task_id)
        try:
            await self._work(task)
        except asyncio.CancelledError:
            if entry.returning:
                with suppress(ClaimLost):
                    await self._store.release(task.claim)
        finally:
            self._health.finished(task)
            del self._running[task.task_id]
            self._changes.announce(task.task_id)
            self.wake()

    async def _seconds_to_next(self) -> float | None:
        """Until a backed-off task or a blocked endpoint is due; None while nothing is, or could start then."""
        if not self.free_slots():
            return None  # whatever frees one wakes the pool
        moments = (await self._store.next_retry(), self._health.next_opening())
        due = min((moment for moment in moments if moment is not None), default=None)
        return None if due is None else max(0.0, due - time.time())

    # -- memory -------------------------------------------------------------------------------------------------------
    async def watch_memory(self) -> None:
        """Sample the gate; wake the pool when it opens, give memory back while it is critical. Until cancelled."""
        last_shed = 0.0
        while True:
            allowed = self.slots()
            await self._gate.sample()
            self._sampled.set()
            if self.slots() > allowed:
                self.wake()
            if self._gate.level is Level.CRITICAL and time.monotonic() - last_shed >= SHED_SECONDS:
                last_shed = time.monotonic()
                self._shed_youngest()
            await asyncio.sleep(SAMPLE_SECONDS)

    def _shed_youngest(self) -> None:
        """Return the youngest task that holds memory in a child process to its place."""
        holding = {child.owner for child in self._sandbox.children()}
        candidates = [
            entry for entry in self._running.values() if entry.task.task_id in holding and not entry.returning
        ]
        if not candidates:
            return
        youngest = max(candidates, key=lambda entry: entry.task.place)
        log.warning("memory critical: task %s goes back to its place", youngest.task.task_id)
        youngest.returning = True
        youngest.job.cancel()

    async def go_round(self) -> None:
        """Returns once both loops, the one that claims and the one that watches memory, have gone round: they live."""
        for went_round in (self._looked, self._sampled):
            went_round.clear()
        self.wake()
        for went_round in (self._looked, self._sampled):
            await went_round.wait()

    # -- the end ------------------------------------------------------------------------------------------------------
    async def drain(self, seconds: float) -> None:
        """Start nothing more, give running tasks so long to end, return the rest to their place."""
        self.draining = True
        jobs = [entry.job for entry in self._running.values()]
        if jobs:
            log.info("draining: %d running tasks have %.0f s", len(jobs), seconds)
            await asyncio.wait(jobs, timeout=seconds)
        left = list(self._running.values())
        for entry in left:
            log.info("task %s goes back to its place", entry.task.task_id)
            entry.returning = True
            entry.job.cancel()
        if left:
            await asyncio.wait([entry.job for entry in left])
