"""What was read of the store and need not be read again: from one poll to the next nearly nothing changes.

Kept is only what this process would be told of: its own writes as they are acknowledged, those of other processes by
whoever looks for them.
"""

from __future__ import annotations

import sqlite3
from typing import TypeVar

from docv2.tasks import Task

K = TypeVar("K")
V = TypeVar("V")

MOST = 4096
"""Tasks, and positions, kept at a time: a few megabytes."""
MOST_TEXT = 2000
"""Characters of question and answer in a task that is kept."""

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

    def follow(self, seen: int | None) -> None:
        """Say up to which write of other processes all was seen; None where nobody can tell."""
        if seen is None or seen != self._seen:
            self._tasks.clear()
            self._forget_queue()
        self._seen = seen

    def _forget_queue(self) -> None:
        self._positions.clear()
        self._generation += 1

    @property
    def generation(self) -> int | None:
        """Another one after each change to what stands before any task in the queue; None while nothing is kept."""
        return None if self._seen is None else self._generation

    def task(self, task_id: str) -> Task | None:
        """A task that is kept."""
        return self._tasks.get(task_id)

    def position(self, place: int) -> int | None:
        """A position that is kept."""
        return self._positions.get(place)

    def keep_task(self, task: Task) -> None:
        """Keep what was read just now."""
        text = len(task.prompt) + (len(task.result.content) if task.result else 0)
        if self._seen is not None and text <= MOST_TEXT:
            _keep(self._tasks, task.task_id, task)

    def keep_position(self, place: int, position: int) -> None:
        """Likewise."""
        if self._seen is not None:
            _keep(self._positions, place, position)


def _keep(among: dict[K, V], key: K, value: V) -> None:
    if len(among) >= MOST:
        among.clear()
    among[key] = value
