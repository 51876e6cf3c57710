"""A quote before paying: the document is read as a task's would be, and nothing of it is kept.

Quotes run beside the queue, so they have bounds of their own: few at a time, each for half a minute at most, none while
memory is short, and of each page only its measures, never more than one page's files at a time.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from docv2.config import Config
from docv2.documents import MediaType, Page
from docv2.errors import ParserDied, TaskError, Unavailable, Unreadable, UpstreamUnavailable
from docv2.estimate import Estimator
from docv2.extract.base import read
from docv2.llm import plan
from docv2.llm.catalog import Catalog, May, Model, candidates
from docv2.llm.forms import schema_text
from docv2.sandbox import Sandbox
from docv2.tasks import NewTask
from docv2.views import AppliedConfig, FileInfo, PageCounts
from docv2.worker.folders import WorkFolders
from docv2.worker.gate import Gate, Level
from docv2.worker.usable import usable

AT_ONCE = 2
"""Quotes that are made together; whoever comes beyond is asked to come back."""
READING_SECONDS = 30.0
"""After so long the rest of the document is taken to be like what was read."""
RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class QuotedTokens:
    """Tokens over all calls, estimated."""

    prompt: int
    completion_at_most: int


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a document would take if it were processed now."""

    dry_run: bool
    """Always true: nothing was accepted."""
    config_applied: AppliedConfig
    file_info: FileInfo
    model_used: str
    """The model that would answer: the one asked for, unless it cannot see what must be seen."""
    pages: PageCounts
    pages_read: int
    """Fewer than there are where reading took too long; the rest is then taken to be like them."""
    parts: int
    """Calls that ask about pages."""
    calls: int
    """All calls, those that combine answers included: so many where every answer is as long as it may be."""
    estimated_tokens: QuotedTokens
    estimated_wait: int
    """Seconds until work on it would start."""
    estimated_time: int
    """Seconds until the answer."""


class Quotes:
    """Makes quotes."""

    def __init__(
        self, *, sandbox: Sandbox, folders: WorkFolders, catalog: Catalog, gate: Gate, estimate: Estimator
    ) -> None:
        self._sandbox = sandbox
        self._folders = folders
        self._catalog = catalog
        self._gate = gate
        self._estimate = estimate
        self._running: set[str] = set()
        """Whose quotes are being made: one a user, so that nobody takes all the room."""

    async def quote(self, new: NewTask, document: Path, config: Config, may: May) -> Quoted:
        """What a task would take, were it accepted now; `may` says which models its owner may use.

        Unavailable where there is no room for another quote; Unreadable where the task would fail.
        """
        with self._slot(new.user_id):
            try:
                async with self._folder() as folder:
                    pages, sizes, total = await self._read(new, document, folder)
                pages = usable(pages, config)
                chosen = candidates(self._catalog, new.model, pages, may)[0]
                return await self._figures(
                    replace(new, prompt=config.asked(new.prompt)), chosen.model, pages, sizes, total
                )
            except TaskError as error:
                raise Unreadable(error.message) from error
            except ParserDied as error:
                raise Unreadable("The program that reads the document died on it") from error
            except UpstreamUnavailable as error:
                raise Unavailable(error.message, retry_after=error.retry_after or RETRY_SECONDS) from error

    @contextmanager
    def _slot(self, user_id: str) -> Iterator[None]:
        if user_id in self._running:
            raise Unavailable("Another quote of yours is being made; try again in a moment", retry_after=RETRY_SECONDS)
        if len(self._running) >= AT_ONCE:
            raise Unavailable("Other quotes are being made; try again in a moment", retry_after=RETRY_SECONDS)
        if self._gate.level >= Level.HOLD:
            raise Unavailable("The server is short of memory", retry_after=30)
        self._running.add(user_id)
        try:
            yield
        finally:
            self._running.remove(user_id)

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        """A folder that no task has; what a server that dies leaves of it is swept at the next start."""
        name = f"quote-{uuid.uuid4()}"
        try:
            yield await self._folders.make(name)
        finally:
            await self._folders.remove(name)

    async def _read(self, new: NewTask, document: Path, folder: Path) -> tuple[list[Page], dict[int, int], int]:
        """Pages, the bytes of their texts by number, and how many pages there are."""
        pages: list[Page] = []
        sizes: dict[int, int] = {}
        total: int | None = None
        reading = read(self._sandbox, document, MediaType(new.media_type), folder, owner="a quote", detail=new.detail)
        try:
            async with asyncio.timeout(READING_SECONDS), aclosing(reading):
                async for page, known in reading:
                    total = known
                    pages.append(page)
                    if size := await asyncio.to_thread(_measure, page, folder):
                        sizes[page.number] = size
        except TimeoutError:
            if not pages or total is None:
                raise Unavailable(
                    "Reading the document takes too long for a quote", retry_after=READING_SECONDS
                ) from None
        return pages, sizes, max(total or 0, len(pages))

    async def _figures(
        self, new: NewTask, model: Model, pages: Sequence[Page], sizes: dict[int, int], total: int
    ) -> Quoted:
        request = plan.Request(new.prompt, new.max_tokens, schema_text(new.response_format))
        expected = plan.expect(pages, sizes, model, request, times=total / len(pages))
        wait, work = await self._estimate.at_tail(model.id, new.media_type, new.size, total)
        return Quoted(
            dry_run=True,
            config_applied=AppliedConfig(new.model, new.temperature, new.max_tokens),
            file_info=FileInfo(new.filename, new.size, new.media_type),
            model_used=model.id,
            pages=_counts([plan.used_of(page, model) for page in pages], total),
            pages_read=len(pages),
            parts=expected.parts,
            calls=expected.calls,
            estimated_tokens=QuotedTokens(expected.prompt_tokens, expected.completion_tokens),
            estimated_wait=math.ceil(wait),
            estimated_time=math.ceil(wait + work),
        )


def _counts(used: Sequence[str], total: int) -> PageCounts:
    """Pages by their use, of `total` that are like these."""
    counts = {source: count * total // len(used) for source, count in Counter(used).items()}
    usual = max(counts, key=lambda source: counts[source])
    return PageCounts.read({**counts, usual: counts[usual] + total - sum(counts.values())})


def _measure(page: Page, folder: Path) -> int:
    """The bytes of a page's text. Its files go: their measures are all that is wanted."""
    size = page.text_path(folder).stat().st_size if page.has_text else 0
    page.text_path(folder).unlink(missing_ok=True)
    page.picture_path(folder).unlink(missing_ok=True)
    return size
