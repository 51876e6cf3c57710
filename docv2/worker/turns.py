"""Turns at an endpoint: how many calls a task may have under way there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TOGETHER = 4
"""Calls under way at one endpoint that tasks share among them, and so the most that one task has. Each task has one in
any case: how many tasks there are is what bounds the rest."""


class Turns:
    """Shares the calls at each endpoint evenly among the tasks that ask it.

    A task alone asks about several parts at once. As soon as others come, it starts no further call until it is down to
    its share; they start at once. So a long document is fast, and nobody waits behind its parts.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, dict[str, int]] = {}
        """By endpoint and task."""
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def asking(self, endpoint: str, task_id: str) -> AsyncIterator[None]:
        """A task asks this endpoint while the context is open."""
        tasks = self._under_way.setdefault(endpoint, {})
        tasks[task_id] = 0
        try:
            yield
        finally:
            del tasks[task_id]
            self._changed.set()

    @asynccontextmanager
    async def call(self, endpoint: str, task_id: str) -> AsyncIterator[None]:
        """One call of a task that is asking; entered when it is its turn."""
        tasks = self._under_way[endpoint]
        while tasks[task_id] >= max(1, TOGETHER // len(tasks)):
            self._changed.clear()
            await self._changed.wait()
        tasks[task_id] += 1
        try:
            yield
        finally:
            tasks[task_id] -= 1
            self._changed.set()
