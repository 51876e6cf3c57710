"""Pages that are kept: found whole or not at all, for their user alone, within their time and room."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docv2.config import Config, RuntimeConfig
from docv2.configparts import ProcessingCache
from docv2.documents import Detail, Page, PageSource
from docv2.tasks import Task, TaskStatus
from docv2.worker import pagecache
from docv2.worker.pagecache import Held, PageCache

PAGES = [
    Page(1, PageSource.TEXT, "has text", chars=5),
    Page(2, PageSource.BOTH, "has a chart", 6, 600, 800),
    Page(3, PageSource.PICTURE, "is a scan", 0, 600, 800),
]
FILES = {"00001.txt": b"first", "00002.txt": b"second", "00002.jpg": b"chart", "00003.jpg": b"scan"}
SIZE = sum(map(len, FILES.values()))
TASK = Task(
    "task-1", 1, "user-1", TaskStatus.RUNNING, "a.pdf", "application/pdf", 9, "0" * 64, "What?", "model-a", 0.7, 9, 1.0
)


class Bench:
    """A cache, and what tasks leave in their folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "cache"
        self.config = RuntimeConfig(Config(processing_cache=ProcessingCache(enabled=True)))
        self.cache = PageCache(self.root, self.config)

    def configure(self, **changes: Any) -> None:
        cache = self.config.current.processing_cache.model_copy(update=changes)
        self.config.current = self.config.current.model_copy(update={"processing_cache": cache})

    async def restart(self) -> None:
        self.cache = PageCache(self.root, self.config)
        await self.cache.open()

    async def keep(self, sha256: str = "0" * 64, *, pages: list[Page] = PAGES, **changes: Any) -> Task:
        """What a task does that has read a document."""
        task = replace(TASK, sha256=sha256, **changes)
        work = self.folder / "work"

        def read() -> None:
            work.mkdir()
            for name, data in FILES.items():
                (work / name).write_bytes(data)

        await asyncio.to_thread(read)
        await self.cache.keep(task, pages, work)
        await asyncio.to_thread(shutil.rmtree, work)
        return task

    async def take(self, task: Task) -> list[Page]:
        """What a task finds; that its files are what was read."""
        with_files = self.folder / "with-files"
        await asyncio.to_thread(with_files.mkdir)
        pages = await self.cache.take(task, with_files)
        if pages:
            assert {file.name: file.read_bytes() for file in with_files.iterdir()} == FILES
        await asyncio.to_thread(shutil.rmtree, with_files)
        return pages

    def entries(self) -> list[Path]:
        return [path for owner in self.root.glob("[!.]*") for path in owner.iterdir()]


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    await bench.restart()
    return bench


async def test_what_was_read_is_found_and_found_again_after_a_restart(bench: Bench) -> None:
    task = await bench.keep()
    assert await bench.take(task) == PAGES
    await bench.restart()
    assert await bench.take(replace(task, task_id="another", prompt="Why?", model="model-b")) == PAGES


@pytest.mark.parametrize(
    "other", [{"sha256": "1" * 64}, {"user_id": "user-2"}, {"detail": Detail.IMAGE}, {"media_type": "text/plain"}]
)
async def test_what_would_be_read_otherwise_and_what_is_another_users_is_not_found(
    bench: Bench, other: dict[str, Any]
) -> None:
    task = await bench.keep()
    assert await bench.take(replace(task, **other)) == []


async def test_another_version_reads_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await bench.keep()
    monkeypatch.setattr("docv2.__version__", "99.0")
    assert await bench.take(task) == []


async def test_what_a_task_was_given_stays_whatever_becomes_of_the_cache(bench: Bench, tmp_path: Path) -> None:
    task = await bench.keep()
    folder = tmp_path / "of-a-task"
    folder.mkdir()
    assert await bench.cache.take(task, folder) == PAGES
    assert await bench.cache.clear() == Held(1, SIZE)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
    assert await bench.take(task) == []


async def test_a_document_with_an_unread_page_is_not_kept(bench: Bench) -> None:
    task = await bench.keep(pages=[*PAGES, Page(4, PageSource.NONE, "damaged")])
    assert bench.entries() == []
    assert await bench.take(task) == []


async def test_nothing_is_kept_or_found_where_it_is_off(bench: Bench) -> None:
    task = await bench.keep()
    bench.configure(enabled=False)
    assert await bench.take(task) == []
    await bench.keep("1" * 64)
    assert len(bench.entries()) == 1


# -- time and room ----------------------------------------------------------------------------------------------------
async def test_pages_that_are_too_old_are_not_found_and_go(bench: Bench) -> None:
    task, other = await bench.keep(), await bench.keep("1" * 64)
    bench.configure(ttl=1e-6)
    assert await bench.take(task) == []
    assert len(bench.entries()) == 1
    await bench.cache.tidy()
    assert bench.entries() == []
    bench.configure(ttl=7200.0)
    assert await bench.take(other) == []


async def test_nothing_is_kept_longer_than_tasks_are(bench: Bench) -> None:
    task = await bench.keep()
    bench.config.current = bench.config.current.model_copy(update={"retention_hours": 1e-9})
    assert await bench.take(task) == []
    assert bench.entries() == []


async def test_what_was_not_used_for_longest_goes_first_also_after_a_restart(bench: Bench) -> None:
    tasks = [await bench.keep(str(number) * 64) for number in range(3)]
    assert await bench.take(tasks[0]) == PAGES

    def date() -> None:
        # As if seconds had passed between them, which file systems may not tell apart within a test.
        for back, entry in enumerate(sorted(bench.entries(), key=lambda e: -(e / "pages").stat().st_mtime_ns)):
            os.utime(entry / "pages", (time.time() - back, time.time() - back))

    await asyncio.to_thread(date)
    await bench.restart()
    bench.configure(max_bytes=3 * SIZE)
    tasks.append(await bench.keep("3" * 64))
    assert [bool(await bench.take(task)) for task in tasks] == [True, False, True, True]
    assert len(bench.entries()) == 3


async def test_a_smaller_limit_holds_from_the_next_tidying_on(bench: Bench) -> None:
    for number in range(4):
        await bench.keep(str(number) * 64)
    bench.configure(max_bytes=2 * SIZE)
    await bench.cache.tidy()
    assert len(bench.entries()) == 2
    await bench.keep("4" * 64)
    bench.configure(max_bytes=SIZE - 1)
    task = await bench.keep("5" * 64)
    assert await bench.take(task) == [], "what would fill it alone is not kept"


async def test_there_are_only_so_many_however_small(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagecache, "MOST_DOCUMENTS", 2)
    for number in range(5):
        await bench.keep(str(number) * 64)
    assert len(bench.entries()) == 2


async def test_one_users_pages_are_removed_and_no_other_s(bench: Bench) -> None:
    mine = [await bench.keep(str(number) * 64) for number in range(2)]
    theirs = await bench.keep(user_id="user-2")
    assert await bench.cache.clear("user-1") == Held(2, 2 * SIZE)
    assert [bool(await bench.take(task)) for task in (*mine, theirs)] == [False, False, True]
    assert await bench.cache.clear("user-1") == Held(0, 0)


async def test_what_another_process_removes_is_gone_and_what_it_left_is_known_again(bench: Bench) -> None:
    task = await bench.keep()
    beside = PageCache(bench.root, bench.config)
    assert await beside.clear() == Held(1, SIZE)
    assert await bench.take(task) == []
    other = await bench.keep("1" * 64)
    forgetful = PageCache(bench.root, bench.config)
    assert await forgetful.take(other, bench.folder) == [], "it did not look yet"
    await forgetful.tidy()
    assert len(bench.entries()) == 1
    await beside.clear()
    await bench.cache.tidy()
    assert bench.cache._bytes == 0


# -- what crashes and power cuts leave --------------------------------------------------------------------------------
def no_list(entry: Path) -> None:
    (entry / "pages").unlink()


def half_a_list(entry: Path) -> None:
    text = (entry / "pages").read_text()
    (entry / "pages").write_text(text[: len(text) * 2 // 3])


def short_list(entry: Path) -> None:
    lines = (entry / "pages").read_text().splitlines(keepends=True)
    (entry / "pages").write_text("".join(lines[:-1]))


def empty_list(entry: Path) -> None:
    (entry / "pages").write_text("")


def other_list(entry: Path) -> None:
    (entry / "pages").write_text(json.dumps(["what", "is", "this"]) + "\n")


def no_picture(entry: Path) -> None:
    (entry / "00003.jpg").unlink()


def torn_text(entry: Path) -> None:
    (entry / "00002.txt").write_bytes(b"sec\0\0\0")


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("damage", [no_list, half_a_list, short_list, empty_list, other_list, no_picture, torn_text])
async def test_what_is_not_whole_is_not_used_and_makes_room_for_what_is(
    bench: Bench, damage: Callable[[Path], None], restarts: bool
) -> None:
    task = await bench.keep()
    (entry,) = bench.entries()
    await asyncio.to_thread(damage, entry)
    if restarts:
        await bench.restart()
    assert await bench.take(task) == []
    assert bench.entries() == []
    await bench.keep()
    assert await bench.take(task) == PAGES


async def test_what_was_cut_short_is_swept_at_start(bench: Bench) -> None:
    await bench.keep()
    (entry,) = bench.entries()

    def cut_short() -> None:
        shutil.copytree(entry, bench.root / ".new-1")
        shutil.copytree(entry.parent, bench.root / ".gone-1")

    await asyncio.to_thread(cut_short)
    await bench.restart()
    assert [path.name for path in bench.root.iterdir()] == [entry.parent.name]
    assert await bench.cache.clear() == Held(1, SIZE)


async def test_a_folder_that_cannot_be_used_fails_no_task(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    bench = Bench(tmp_path)
    await bench.cache.open()
    assert await bench.take(await bench.keep()) == []


async def test_many_tasks_with_the_same_document_at_once(bench: Bench, tmp_path: Path) -> None:
    async def one(number: int) -> None:
        folder = tmp_path / f"work-{number}"

        def read() -> None:
            folder.mkdir()
            for name, data in FILES.items():
                (folder / name).write_bytes(data)

        await asyncio.to_thread(read)
        await bench.cache.keep(TASK, PAGES, folder)

    await asyncio.gather(*(one(number) for number in range(10)))
    assert await bench.take(TASK) == PAGES
    assert (len(bench.entries()), bench.cache._bytes) == (1, SIZE)
    assert not [path for path in bench.root.iterdir() if path.name.startswith(".")]
