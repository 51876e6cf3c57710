"""How long a task will take and wait, from what earlier ones took.

Three things are measured, each as fading sums over pairs (docv2.tasks.Sums): `bytes` of a document by its pages, for
each media type; seconds of `reading` by pages, for each media type; seconds of `asking` by pages, for each media type
and model. Through the seconds a line is laid by least squares: a part that every document takes, one for every page.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import count

from docv2.documents import MediaType
from docv2.store.base import BLOCKS, Store
from docv2.tasks import Backlog, Sums, Task, TaskStatus

FIRST_SECONDS_PER_PAGE = 3.0
"""Used until the first task of any model has ended; hosted vision models took 1 to 6 s a page in 2025."""

FIRST_BYTES_PER_PAGE: Mapping[str, float] = {
    MediaType.PDF: 60_000,
    MediaType.DOCX: 8_000,
    MediaType.TEXT: 3_000,
    MediaType.MARKDOWN: 3_000,
}
"""Used until a document of the type was read; a picture is one page whatever its size."""


FRESH_SECONDS = 1.0
"""What was measured is read this often at most: every poll asks for it, and no single task moves it far."""

FRESH_SHARE = 0.01
"""The work far ahead is kept for this share of the seconds that it will take: no more of it can be done meanwhile."""
FRESH_AT_MOST = 10.0
"""But not for more seconds than this: tasks may be cancelled by the thousand."""

MOST_FOUND = 4096
"""Places kept with what waits before them: a megabyte."""


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds as a part for each document and a part for each page."""

    each: float
    per_page: float

    def at(self, pages: float, documents: float = 1.0) -> float:
        """Seconds for so many pages in so many documents."""
        return self.each * documents + self.per_page * pages


def fit(sums: Sums) -> Line:
    """The line through measured pairs with the least squares; neither of its parts is below 0."""
    spread = sums.weight * sums.xx - sums.x * sums.x
    if spread <= 1e-6 * sums.weight * sums.xx:  # documents of one length say nothing of the slope
        return Line(0.0, sums.y / sums.x) if sums.x > 0 else Line(sums.y / max(sums.weight, 1.0), 0.0)
    slope = (sums.weight * sums.xy - sums.x * sums.y) / spread
    if slope < 0:
        return Line(sums.y / sums.weight, 0.0)
    each = (sums.y - slope * sums.x) / sums.weight
    return Line(each, slope) if each >= 0 else Line(0.0, sums.xy / sums.xx)


def _joint(several: Iterable[Sums]) -> Sums:
    """Sums over all of them."""
    return Sums(*map(sum, zip(*map(astuple, several), strict=True)))


def asked(model: str, media_type: str) -> str:
    """The name under which `asking` is measured."""
    return f"{media_type} {model}"


class Estimator:
    """Seconds ahead of a task and of its own, from measured rates."""

    def __init__(self, store: Store, *, slots: Callable[[], int], running: Callable[[], Iterable[Task]]) -> None:
        """`slots`: how many tasks work at once; `running`: those at work, as they stood when claimed."""
        self._store = store
        self._slots = slots
        self._running = running
        self._numbers = count()
        self._rates: tuple[float, _Rates] | None = None
        """With the time at which they were read."""
        self._found: dict[int, _Ahead] = {}
        """What waits before some places."""

    async def wait_seconds(self, task: Task) -> float:
        """Seconds until a waiting task starts."""
        return await self._wait(await self._current(), task.place)

    async def seconds(self, task: Task) -> float:
        """Seconds until a task ends: its wait, if it waits, and its own work."""
        rates = await self._current()
        if task.status is TaskStatus.RUNNING:
            return rates.left(task)
        return await self._wait(rates, task.place) + rates.task(task)

    async def at_tail(self, model: str, media_type: str, size: int, pages: int | None = None) -> tuple[float, float]:
        """Seconds that a document which is not in the queue yet would wait there, and then take."""
        rates = await self._current()
        return await self._wait(rates, await self._store.tail()), rates.kind(model, media_type).work(size, pages)

    async def _current(self) -> _Rates:
        now = time.monotonic()
        if self._rates is None or now - self._rates[0] >= FRESH_SECONDS:
            measured = [await self._store.measured(kind) for kind in ("asking", "reading", "bytes")]
            rates = self._rates[1] if self._rates else None
            if rates is None or rates.measured != measured:
                rates = _Rates(next(self._numbers), *measured)
            self._rates = now, rates
        return self._rates[1]

    async def _wait(self, rates: _Rates, place: int) -> float:
        """Seconds until all ahead has been taken up and a slot is free once more."""
        slots = max(1, self._slots())
        left = sorted(rates.left(running) for running in self._running())
        ahead = await self._ahead(rates, place, slots)
        tasks, work = ahead.tasks + len(left), ahead.seconds + sum(left)
        if tasks < slots:
            return 0.0
        # When the next slot comes free the other ones are busy yet, each with half a task on average.
        under_way = (slots - 1) / 2 * work / tasks
        return max(left[0] if len(left) >= slots else 0.0, (work - under_way) / slots)

    async def _ahead(
        self, rates: _Rates, place: int, slots: int, blocks: Sequence[int] = BLOCKS, *, lately: bool = False
    ) -> _Ahead:
        """What waits before a place: within its block, the first of `blocks`, as it is; before that as it was lately.

        Worked out anew only where something has changed; with `lately` all of it may be a moment old.
        """
        generation, now = self._store.queue_generation, time.monotonic()
        state = None if generation is None else (generation, rates.number)
        found = self._found.get(place)
        if found and (found.state == state is not None or (lately and now < found.good_until)):
            return found
        since, before = 0, _Ahead(0, 0.0, math.inf, state)
        if blocks:
            since = place // blocks[0] * blocks[0]
            before = await self._ahead(rates, since, slots, blocks[1:], lately=True)
        tasks, seconds = rates.groups(await self._store.backlog(place, since=since)) if place > since else (0, 0.0)
        tasks, seconds = before.tasks + tasks, before.seconds + seconds
        good_until = min(before.good_until, now + min(FRESH_AT_MOST, seconds / slots * FRESH_SHARE))
        found = _Ahead(tasks, seconds, good_until, state if before.state == state else None)
        if len(self._found) >= MOST_FOUND:
            self._found.clear()
        self._found[place] = found
        return found


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What waits before a place."""

    tasks: int
    seconds: float
    good_until: float
    """By the monotonic clock; about so much, whatever has changed in between."""
    state: tuple[int, int] | None
    """The generation of the queue, and the number of the rates, for which it is exact."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known of the documents of one type that one model is asked about."""

    line: Line
    """Of reading and asking together."""
    bytes_per_page: float | None
    """None where a document is one page whatever its size."""

    def pages(self, size: int, documents: int = 1) -> float:
        """Pages that so many bytes hold; at least one a document."""
        return max(documents, size / self.bytes_per_page) if self.bytes_per_page else documents

    def work(self, size: int, pages: int | None) -> float:
        """Seconds of work in one document; `pages` where they are known."""
        return self.line.at(pages or self.pages(size))


class _Rates:
    """The measured rates at one moment."""

    def __init__(
        self, number: int, asking: Mapping[str, Sums], reading: Mapping[str, Sums], sizes: Mapping[str, Sums]
    ) -> None:
        self.number = number
        self.measured = [asking, reading, sizes]
        self._asking = {name: fit(sums) for name, sums in asking.items()}
        self._reading = {name: fit(sums) for name, sums in reading.items()}
        self._sizes = {name: sums.y / sums.x for name, sums in sizes.items() if sums.x > 0}
        models: dict[str, list[Sums]] = defaultdict(list)
        for name, sums in asking.items():
            models[name.partition(" ")[2]].append(sums)
        self._models = {model: fit(_joint(found)) for model, found in models.items()}
        self._usual = fit(_joint(asking.values())) if asking else Line(0.0, FIRST_SECONDS_PER_PAGE)
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def kind(self, model: str, media_type: str) -> _Kind:
        """What to expect of documents of a type that a model is asked about."""
        kind = self._kinds.get((model, media_type))
        if kind is None:
            reading = self._reading.get(media_type, Line(0.0, 0.0))
            asking = self._asking.get(asked(model, media_type)) or self._models.get(model, self._usual)
            line = Line(reading.each + asking.each, reading.per_page + asking.per_page)
            kind = _Kind(line, self._sizes.get(media_type) or FIRST_BYTES_PER_PAGE.get(media_type))
            self._kinds[model, media_type] = kind
        return kind

    def groups(self, groups: Iterable[Backlog]) -> tuple[int, float]:
        """Waiting tasks, and the seconds of their work."""
        all_tasks, seconds = 0, 0.0
        for model, media_type, tasks, unread, unread_bytes, pages in groups:
            kind = self.kind(model, media_type)
            all_tasks += tasks
            seconds += kind.line.at(pages + (kind.pages(unread_bytes, unread) if unread else 0.0), tasks)
        return all_tasks, seconds

    def task(self, task: Task) -> float:
        """Seconds of work in one task."""
        return self.kind(task.model, task.media_type).work(task.size, task.pages_total)

    def left(self, task: Task) -> float:
        """Seconds of work left in a running task; one overdue is expected to need a tenth of its estimate yet."""
        whole = self.task(task)
        elapsed = task.worked_seconds + time.time() - (task.claimed_at or time.time())
        return max(whole - elapsed, whole / 10)
