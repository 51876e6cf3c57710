"""How long a task will take and wait, from what earlier pages took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from docv2.documents import MediaType
from docv2.store.base import Store
from docv2.tasks import Backlog, Task, TaskStatus

FIRST_SECONDS_PER_PAGE = 3.0
"""Used until the first task of any model has ended; hosted vision models took 1 to 6 s a page in 2025."""

FIRST_BYTES_PER_PAGE: Mapping[str, float] = {
    MediaType.PDF: 60_000,
    MediaType.DOCX: 8_000,
    MediaType.TEXT: 3_000,
    MediaType.MARKDOWN: 3_000,
}
"""Used until a document of the type was read; a picture is one page whatever its size."""


class Estimator:
    """Seconds ahead of a task and of its own, from measured rates."""

    def __init__(self, store: Store, *, slots: Callable[[], int], running: Callable[[], Iterable[Task]]) -> None:
        """`slots`: how many tasks work at once; `running`: those at work, as they stood when claimed."""
        self._store = store
        self._slots = slots
        self._running = running

    async def wait_seconds(self, task: Task) -> float:
        """Seconds until a waiting task starts."""
        rates = await _Rates.load(self._store)
        ahead = sum(rates.group(group) for group in await self._store.backlog(task.place))
        left = sum(rates.left(running) for running in self._running())
        return (ahead + left) / max(1, self._slots())

    async def seconds(self, task: Task) -> float:
        """Seconds until a task ends: its wait, if it waits, and its own work."""
        rates = await _Rates.load(self._store)
        if task.status is TaskStatus.RUNNING:
            return rates.left(task)
        return await self.wait_seconds(task) + rates.task(task)


class _Rates:
    """The measured rates at one moment."""

    def __init__(self, seconds: dict[str, float], sizes: dict[str, float]) -> None:
        self._seconds = seconds
        self._sizes = sizes
        self._usual = sum(seconds.values()) / len(seconds) if seconds else FIRST_SECONDS_PER_PAGE

    @classmethod
    async def load(cls, store: Store) -> _Rates:
        return cls(await store.rates("seconds"), await store.rates("bytes"))

    def per_page(self, model: str) -> float:
        return self._seconds.get(model, self._usual)

    def pages(self, media_type: str, size: int, documents: int) -> float:
        """Pages that so many bytes of a type hold; at least one a document."""
        per_page = self._sizes.get(media_type) or FIRST_BYTES_PER_PAGE.get(media_type)
        return max(documents, size / per_page) if per_page else documents

    def group(self, group: Backlog) -> float:
        """Seconds of work in a group of waiting tasks."""
        unread = self.pages(group.media_type, group.unread_bytes, group.unread)
        return (group.pages + unread) * self.per_page(group.model)

    def task(self, task: Task) -> float:
        """Seconds of work in one task."""
        pages = task.pages_total or self.pages(task.media_type, task.size, 1)
        return pages * self.per_page(task.model)

    def left(self, task: Task) -> float:
        """Seconds of work left in a running task; one overdue is expected to need a tenth of its estimate yet."""
        whole = self.task(task)
        elapsed = task.worked_seconds + time.time() - (task.claimed_at or time.time())
        return max(whole - elapsed, whole / 10)
