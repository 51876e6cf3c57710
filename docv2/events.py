"""Waking those who wait for a task to change, within this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Changes:
    """Tells waiters that a task changed. Holds nothing for tasks that nobody waits for."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False
        """Nothing will be announced any more; whoever waits should stop."""

    def close(self) -> None:
        """Wake everyone: the process is about to end."""
        self.closed = True
        for task_id in self._waiting:
            self.announce(task_id)

    def announce(self, task_id: str) -> None:
        """Wake everyone who watches this task."""
        for event in self._waiting.get(task_id, ()):
            event.set()

    @contextmanager
    def watch(self, task_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the task changes.

        Enter before reading the task's state, so that a change between the read and the wait is not missed.
        """
        event = asyncio.Event()
        watchers = self._waiting.setdefault(task_id, set())
        watchers.add(event)
        try:
            yield event
        finally:
            watchers.discard(event)
            if not watchers:
                self._waiting.pop(task_id, None)
