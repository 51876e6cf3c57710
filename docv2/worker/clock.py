"""How long a task may take: for each step, and in all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from docv2.config import Config
from docv2.errors import OutOfTime
from docv2.tasks import Task
from docv2.telemetry import metrics

log = logging.getLogger(__name__)

SLOW_SHARE = 0.5
"""Of the time that a step may take: one that takes more is logged, for the next like it may not end in time."""


class StepClock:
    """Bounds the time since a task last finished a page or a part, and its time as a whole."""

    def __init__(self, timer: asyncio.Timeout, config: Config, task: Task) -> None:
        self._timer = timer
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + config.max_task_seconds - task.worked_seconds
        self.put_to(task.model)

    def put_to(self, model_id: str) -> None:
        """Another model has the task: a step starts, and takes as long as that one may from now on."""
        self.step_seconds = self._config.step_seconds(model_id)
        self._start()

    def step(self) -> None:
        """A page or a part was finished: on to the next one."""
        metrics.STEPS.inc()
        took = self._loop.time() - self._began
        if took > SLOW_SHARE * self.step_seconds:
            log.warning("slow: a page or a part took %.0f of the %g seconds it may take", took, self.step_seconds)
        self._start()

    def _start(self) -> None:
        self._began = self._loop.time()
        self._timer.reschedule(min(self._began + self.step_seconds, self._end))


@asynccontextmanager
async def step_clock(config: Config, task: Task) -> AsyncIterator[StepClock]:
    """End what runs in it with OutOfTime once a step, or the whole, takes too long."""
    timer = asyncio.timeout(None)
    try:
        async with timer:
            clock = StepClock(timer, config, task)
            yield clock
    except TimeoutError:
        if not timer.expired():
            raise
        raise OutOfTime(
            f"No page or part was finished within {clock.step_seconds:g} seconds, "
            f"or the task took more than {config.max_task_seconds:g} seconds in all"
        ) from None
