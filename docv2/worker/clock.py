"""How long a task may take: for each step, and in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from docv2.config import Config
from docv2.errors import OutOfTime
from docv2.tasks import Task
from docv2.telemetry import metrics


class StepClock:
    """Bounds the time since a task last finished a page or a part, and its time as a whole."""

    def __init__(self, timer: asyncio.Timeout, config: Config, step_seconds: float, worked_seconds: float) -> None:
        self._timer = timer
        self.step_seconds = step_seconds
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + config.max_task_seconds - worked_seconds

    def step(self) -> None:
        """A page or a part was finished: on to the next one."""
        metrics.STEPS.inc()
        self.start()

    def start(self, step_seconds: float | None = None) -> None:
        """The time for a step starts; from now on so many seconds each, where they are given."""
        self.step_seconds = step_seconds or self.step_seconds
        self._timer.reschedule(min(self._loop.time() + self.step_seconds, self._end))


@asynccontextmanager
async def step_clock(config: Config, task: Task) -> AsyncIterator[StepClock]:
    """End what runs in it with OutOfTime once a step, or the whole, takes too long."""
    timer = asyncio.timeout(None)
    try:
        async with timer:
            clock = StepClock(timer, config, config.step_seconds(task.model), task.worked_seconds)
            clock.start()
            yield clock
    except TimeoutError:
        if not timer.expired():
            raise
        raise OutOfTime(
            f"No page or part was finished within {clock.step_seconds:g} seconds, "
            f"or the task took more than {config.max_task_seconds:g} seconds in all"
        ) from None
