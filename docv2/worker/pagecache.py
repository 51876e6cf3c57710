"""Pages that were read, kept for the user who sends the same document again.

    cache/USER/DOCUMENT/00001.txt …    the pages as their reader left them
    cache/USER/DOCUMENT/pages          a line of figures, then a line for each page
    cache/.new-…, cache/.gone-…        on the way in and on the way out

Nothing but these files says what is kept, so no crash can make two accounts of it disagree. A folder gets its name when
it is whole and loses it before anything of it goes: whoever finds one by its name finds all of it, or is told by
`is_whole` that a power cut took something. The files are hard links to those in the work folders. They cost no copy,
and what a task was given stays whatever becomes of the cache; nobody ever writes into such a file, a reader gives the
name to a new one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import docv2
from docv2.config import RuntimeConfig
from docv2.documents import Page, PageSource
from docv2.errors import Unavailable
from docv2.extract.base import is_whole
from docv2.tasks import Task
from docv2.telemetry import metrics

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LIST = "pages"
NEW, GONE = ".new-", ".gone-"
MOST_DOCUMENTS = 10_000
"""However small they are: each is a folder of files, and their figures are in memory."""


@dataclass(frozen=True, slots=True)
class Held:
    """How much there is, or was."""

    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Figures:
    bytes: int
    read_at: float
    """Unix seconds."""


class PageCache:
    """Keeps pages by user and document, those that were used last for longest."""

    def __init__(self, root: Path, config: RuntimeConfig) -> None:
        self._root = root
        self._config = config
        self._known: OrderedDict[str, _Figures] = OrderedDict()
        """By the path below the root; the one that was not used for longest is first."""
        self._bytes = 0

    # -- what tasks do with it ----------------------------------------------------------------------------------------
    async def take(self, task: Task, folder: Path) -> list[Page]:
        """The pages of a task's document, their files put into its folder; none where they are not kept."""
        if not self._config.current.processing_cache.enabled:
            return []
        name, pages = _name(task), list[Page]()
        if name in self._known and not self._is_old(name):
            try:
                pages = await _to_the_end(_take, self._root / name, folder)
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.warning("pages that were kept cannot be used: %s", error)
        if name in self._known:  # still
            if pages:
                self._known.move_to_end(name)
            else:
                await self._drop(name)
        metrics.cache_asked(metrics.PROCESSING_CACHE, found=bool(pages))
        return pages

    async def keep(self, task: Task, pages: Sequence[Page], folder: Path) -> None:
        """Keep the pages of a task's document.

        Not of one of which a page could not be read: the reason may have been a moment's. Nor of one that would fill
        the cache alone.
        """
        config, name = self._config.current.processing_cache, _name(task)
        if not config.enabled or name in self._known or any(page.source is PageSource.NONE for page in pages):
            return
        try:
            size = await asyncio.to_thread(_size, pages, folder)
            if size > config.max_bytes:
                return
            figures = _Figures(size, time.time())
            await _to_the_end(_keep, self._root, name, pages, folder, figures)
        except OSError as error:  # the task can do without
            log.warning("the pages of task %s are not kept: %s", task.task_id, error)
            return
        self._know(name, figures)
        await self._make_room()

    async def drop(self, task: Task) -> None:
        """Let go of the pages of a task's document."""
        if (name := _name(task)) in self._known:
            await self._drop(name)

    # -- housekeeping -------------------------------------------------------------------------------------------------
    async def open(self) -> None:
        """At start: take up what earlier runs kept, and sweep what they were cut short at."""
        with suppress(OSError):  # which tidying meets as well
            await asyncio.to_thread(_sweep, self._root, (NEW, GONE))
        await self.tidy()

    async def tidy(self) -> None:
        """Let go of what is too old or too much, and take note of what another process removed."""
        known = frozenset(self._known)
        try:
            found = await asyncio.to_thread(_look, self._root, known)
        except OSError as error:
            log.warning("cannot look at the pages that are kept: %s", error)
            return
        for name in known - found.keys():
            self._forget(name)
        for name, figures in found.items():
            if figures is not None:
                self._know(name, figures)
        for name in [name for name in self._known if self._is_old(name)]:
            await self._drop(name)
        await self._make_room()

    async def clear(self, user_id: str | None = None) -> Held:
        """Remove the pages of all users, or of one; tells how much that was. Unavailable where that cannot be.

        Also for another process than the server: nothing needs to be known for it.
        """
        owner = None if user_id is None else _owner(user_id)
        try:
            removed = await asyncio.to_thread(_clear, self._root, owner)
        except OSError as error:
            log.error("the page cache cannot be cleared: %s", error)
            raise Unavailable("The page cache cannot be cleared now") from error
        for name in [name for name in self._known if owner is None or name.startswith(f"{owner}/")]:
            self._forget(name)
        return removed

    def _is_old(self, name: str) -> bool:
        # Never longer than the task that it was read for may be kept.
        config = self._config.current
        seconds = min(config.processing_cache.ttl, config.retention_hours * 3600)
        return time.time() - self._known[name].read_at >= seconds

    async def _make_room(self) -> None:
        most = self._config.current.processing_cache.max_bytes
        while self._known and (self._bytes > most or len(self._known) > MOST_DOCUMENTS):
            await self._drop(next(iter(self._known)))

    async def _drop(self, name: str) -> None:
        self._forget(name)
        try:
            await asyncio.to_thread(_remove, self._root, name)
        except OSError as error:  # seen again when tidying
            log.warning("pages that were kept cannot be removed: %s", error)

    def _know(self, name: str, figures: _Figures) -> None:
        if name not in self._known:
            self._known[name] = figures
            self._count(figures.bytes)

    def _forget(self, name: str) -> None:
        if figures := self._known.pop(name, None):
            self._count(-figures.bytes)

    def _count(self, more: int) -> None:
        self._bytes += more
        metrics.CACHE_BYTES.labels(metrics.PROCESSING_CACHE).set(self._bytes)


async def _to_the_end(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do something in a thread that is over when this is, cancelled or not: whoever cancelled may remove the files."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def _owner(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()[:32]


def _name(task: Task) -> str:
    """The same for what is read the same: the user's own bytes, by the same readers, as text, picture or both."""
    read_as = json.dumps([docv2.__version__, task.sha256, task.media_type, task.detail])
    return f"{_owner(task.user_id)}/{hashlib.sha256(read_as.encode()).hexdigest()}"


# -- files: in threads ------------------------------------------------------------------------------------------------
def _files(page: Page, folder: Path) -> Iterator[Path]:
    if page.has_text:
        yield page.text_path(folder)
    if page.has_picture:
        yield page.picture_path(folder)


def _size(pages: Sequence[Page], folder: Path) -> int:
    return sum(file.stat().st_size for page in pages for file in _files(page, folder))


def _keep(root: Path, name: str, pages: Sequence[Page], folder: Path, figures: _Figures) -> None:
    new = root / f"{NEW}{uuid.uuid4()}"
    new.mkdir(mode=0o700)
    try:
        for page in pages:
            for file in _files(page, folder):
                (new / file.name).hardlink_to(file)
        lines = [{**asdict(figures), "pages": len(pages)}, *map(asdict, pages)]
        (new / LIST).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (root / name).parent.mkdir(mode=0o700, exist_ok=True)
        _remove(root, name)  # what nobody knows of
        new.rename(root / name)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _take(kept: Path, folder: Path) -> list[Page]:
    """Put the files of the pages into a folder. ValueError and its like where not all of them are whole."""
    head, *lines = (kept / LIST).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    pages = [Page(**{**record, "source": PageSource(record["source"])}) for record in records]
    if json.loads(head)["pages"] != len(pages):
        raise ValueError("the list of pages is not whole")
    for page in pages:
        for file in _files(page, kept):
            (folder / file.name).unlink(missing_ok=True)
            (folder / file.name).hardlink_to(file)
        if not is_whole(page, folder):
            raise ValueError(f"page {page.number} is not whole")
    os.utime(kept / LIST)  # when it was used last, for the next start
    return pages


def _look(root: Path, known: frozenset[str]) -> dict[str, _Figures | None]:
    """What is kept; the figures of those that are not `known`, by when they were used last."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(root, (GONE,))
    names = set(_names(root))
    found: dict[str, _Figures | None] = dict.fromkeys(known & names)
    new: list[tuple[float, str, _Figures]] = []
    for name in names - known:
        try:
            with (root / name / LIST).open(encoding="utf-8") as file:
                figures = json.loads(file.readline())
                used_at = os.fstat(file.fileno()).st_mtime
            new.append((used_at, name, _Figures(int(figures["bytes"]), float(figures["read_at"]))))
        except (OSError, ValueError, TypeError, KeyError):
            _remove(root, name)
    return found | {name: figures for _, name, figures in sorted(new, key=lambda each: each[0])}


def _clear(root: Path, owner: str | None) -> Held:
    found = {
        name: figures for name, figures in _look(root, frozenset()).items() if owner in (None, name.partition("/")[0])
    }
    for each in {name.partition("/")[0] for name in found}:
        _remove(root, each)
    return Held(len(found), sum(figures.bytes for figures in found.values() if figures))


def _names(root: Path) -> Iterator[str]:
    for owner in root.iterdir():
        if owner.name.startswith("."):
            continue
        with suppress(FileNotFoundError, NotADirectoryError):  # cleared at this moment, or somebody else's file
            kept = [path.name for path in owner.iterdir()]
            yield from (f"{owner.name}/{name}" for name in kept)
            if not kept:
                with suppress(OSError):
                    owner.rmdir()


def _remove(root: Path, name: str) -> None:
    """Take a folder's name away first: nobody is to find half of it."""
    gone = root / f"{GONE}{uuid.uuid4()}"
    with suppress(FileNotFoundError):
        (root / name).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sweep(root: Path, beginnings: tuple[str, ...]) -> None:
    if root.is_dir():
        for path in root.iterdir():
            if path.name.startswith(beginnings):
                shutil.rmtree(path, ignore_errors=True)
