"""What was read of the store and need not be read again: from one poll to the next nearly nothing changes.

Kept is only what this process would be told of: its own writes as they are acknowledged, those of other processes by
whoever looks for them.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TypeVar

from docv2.tasks import Task

K = TypeVar("K")
V = TypeVar("V")

MOST = 4096
"""Tasks, and positions, kept at a time."""
MOST_TEXT = 2000
"""Characters in all texts of a task that is kept. Such tasks take 1 to 8 kB each, by their length and script."""
GOOD_SECONDS = 2.0
"""For which what is kept is good after the last look for what other processes write."""

Touched = frozenset[tuple[str, bool]]
"""Tasks that a transaction wrote to, each with whether it waited before or waits since."""

# Triggers, so that no statement can be forgotten. A task that is added stands behind all that was read.
_WATCH = """
CREATE TEMP TRIGGER task_updated AFTER UPDATE ON main.tasks
BEGIN SELECT touched(OLD.task_id, OLD.status = 'waiting' OR NEW.status = 'waiting'); END;
CREATE TEMP TRIGGER task_deleted AFTER DELETE ON main.tasks
BEGIN SELECT touched(OLD.task_id, OLD.status = 'waiting'); END;
"""


class Kept:
    """Tasks and positions as they were read last."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._positions: dict[int, int] = {}
        self._generation = 0
        self._seen: int | None = None
        self._good_until = 0.0
        self._touched: set[tuple[str, bool]] = set()

    # -- in the thread that writes ------------------------------------------------------------------------------------
    def watch(self, connection: sqlite3.Connection) -> None:
        """Note what is written through a connection."""
        connection.create_function("touched", 2, lambda task_id, waits: self._touched.add((task_id, bool(waits))))
        connection.executescript(_WATCH)

    def touched(self) -> Touched:
        """What was written since it was asked last; that some of it may have been rolled back does no harm."""
        touched = frozenset(self._touched)
        self._touched.clear()
        return touched

    # -- on the event loop --------------------------------------------------------------------------------------------
    def forget(self, touched: Touched) -> None:
        """Keep nothing that a committed transaction has changed."""
        for task_id, _ in touched:
            self._tasks.pop(task_id, None)
        if any(waits for _, waits in touched):
            self._forget_queue()

    def follow(self, seen: int) -> None:
        """Say that somebody looked for what other processes write; the number is another one where they did."""
        self._good_until = time.monotonic() + GOOD_SECONDS
        if seen != self._seen:
            self._seen = seen
            self._tasks.clear()
            self._forget_queue()

    def _forget_queue(self) -> None:
        self._positions.clear()
        self._generation += 1

    @property
    def generation(self) -> int | None:
        """Another one after each change to what stands before any task in the queue; None while nothing is kept."""
        return self._generation if self._is_good() else None

    def task(self, task_id: str) -> Task | None:
        """A task that is kept."""
        return self._tasks.get(task_id) if self._is_good() else None

    def position(self, place: int) -> int | None:
        """A position that is kept."""
        return self._positions.get(place) if self._is_good() else None

    def keep_task(self, task: Task, row: sqlite3.Row) -> None:
        """Keep what was read just now, unless it is large; JSON may be so once it is parsed."""
        if not self._is_good() or task.response_format is not None:
            return
        if sum(len(value) for value in row if isinstance(value, str)) <= MOST_TEXT:
            _keep(self._tasks, task.task_id, task)

    def keep_position(self, place: int, position: int) -> None:
        """Likewise."""
        if self._is_good():
            _keep(self._positions, place, position)

    def _is_good(self) -> bool:
        return time.monotonic() < self._good_until


def _keep(among: dict[K, V], key: K, value: V) -> None:
    if len(among) >= MOST:
        among.clear()
    among[key] = value
