"""Real documents in bulk: every file of a folder through the sandbox. `python -m tests.corpus FOLDER`

Each has to end as pages or as an error that says why. One that crashes its reader, hangs or exceeds a limit is named,
and the exit status is 1.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from docv2.documents import MediaType, Page, PageSource
from docv2.errors import DocumentError, OverLimit, ParserDied, UnsupportedType
from docv2.extract import base, sniff
from docv2.sandbox import Sandbox

MEMORY = 1024**3
"""Bytes that reading one document may take: half of what the server allows by itself."""

SECONDS = 30
"""For one page."""

AT_ONCE = 2


@dataclass
class Tally:
    """What became of the files of a folder."""

    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Files that ended in an error, by its words."""
    failed: list[str] = field(default_factory=list)
    """Files that crashed their reader, hung, exceeded a limit or left other files than their pages name."""
    pages: Counter[PageSource] = field(default_factory=Counter)

    def report(self) -> str:
        """The counts, the commonest errors first, then what failed."""
        sources = ", ".join(f"{count} {source}" for source, count in sorted(self.pages.items()))
        lines = [
            f"{self.read} read, {self.refused.total()} clean errors, {len(self.failed)} failed",
            f"{self.pages.total()} pages: {sources}",
        ]
        lines += [f"  {count:4} {words}" for words, count in self.refused.most_common()]
        return "\n".join(lines + [f"FAILED {failure}" for failure in self.failed])


async def read_folder(folder: Path) -> Tally:
    """Read every file below a folder."""
    tally, turns = Tally(), asyncio.Semaphore(AT_ONCE)
    sandbox = Sandbox(memory_limit=MEMORY, cpu_seconds=SECONDS, step_seconds=2 * SECONDS)

    async def take(path: Path) -> None:
        async with turns:
            with tempfile.TemporaryDirectory() as work:
                await _read(sandbox, path, Path(work), tally)

    try:
        async with asyncio.TaskGroup() as group:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                group.create_task(take(path))
    finally:
        await sandbox.close()
    return tally


def _kind(path: Path) -> MediaType:
    with path.open("rb") as file:
        return sniff.check(file, path.name)


async def _read(sandbox: Sandbox, path: Path, work: Path, tally: Tally) -> None:
    pages: list[Page] = []
    try:
        kind = await asyncio.to_thread(_kind, path)
        async with aclosing(base.read(sandbox, path, kind, work, owner=path.name)) as found:
            pages = [page async for page, _ in found]
    except (OverLimit, ParserDied) as error:
        tally.failed.append(f"{path}: {error}")
        return
    except (DocumentError, UnsupportedType) as error:
        tally.refused[str(error)] += 1
        return
    tally.pages.update(page.source for page in pages)
    lost = [page for page in pages if page.source is PageSource.NONE and page.reason.endswith("than allowed.")]
    if lost:
        tally.failed.append(f"{path}: page {lost[0].number}: {lost[0].reason}")
    elif not pages or not await asyncio.to_thread(_are_all_there, pages, work):
        tally.failed.append(f"{path}: its pages are not those that were left")
    else:
        tally.read += 1


def _are_all_there(pages: list[Page], work: Path) -> bool:
    wanted = {page.text_path(work) for page in pages if page.has_text}
    wanted |= {page.picture_path(work) for page in pages if page.has_picture}
    return wanted == set(work.iterdir()) and all(base.is_whole(page, work) for page in pages)


def main() -> int:
    """Print the counts; 1 where a file failed or there is none."""
    tally = asyncio.run(read_folder(Path(sys.argv[1])))
    print(tally.report())
    return int(bool(tally.failed) or not tally.read)


if __name__ == "__main__":
    sys.exit(main())
