"""Documents on the local disk: whole and on disk, or not there."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from docv2.errors import DiskFull, DocumentError, FileTooLarge, Unavailable, UnsupportedType
from docv2.storage.base import Received
from docv2.storage.local import PIECE, LocalStorage
from tests.waiting import until

MIB = 1024**2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root)


def content_of(file: IO[bytes]) -> bytes:
    return file.read()


async def receive(
    storage: LocalStorage, limit: int, *pieces: bytes, look: Callable[[IO[bytes]], object] = content_of
) -> Received:
    """Send a file and do not keep it."""
    async with storage.receive("task-1", limit) as file:
        for piece in pieces:
            await file.write(piece)
        return (await file.finish(look))[0]


def files_in(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
async def test_what_was_written_is_kept_whole(storage: LocalStorage, size: int) -> None:
    content = os.urandom(size)
    async with storage.receive("task-1", 10 * MIB) as file:
        for start in range(0, size, 100_000):
            await file.write(memoryview(content)[start : start + 100_000])
        received, looked = await file.finish(content_of)
        assert looked == content
        assert (received.size, received.sha256) == (size, hashlib.sha256(content).hexdigest())
        file.keep()
    async with storage.document("task-1") as path:
        assert await asyncio.to_thread(path.read_bytes) == content
    assert await storage.names() == ["task-1"]


async def test_only_the_owner_can_read(storage: LocalStorage, root: Path) -> None:
    async with storage.receive("task-1", MIB) as file:
        await file.write(b"private")
        await file.finish(content_of)
        file.keep()
    assert {stat.S_IMODE(path.stat().st_mode) for path in files_in(root)} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()} == {0o700}


async def test_a_file_that_is_not_kept_leaves_nothing(storage: LocalStorage, root: Path) -> None:
    async with storage.receive("task-1", 10 * MIB) as file:
        await file.write(bytes(3 * PIECE))
        await file.finish(content_of)
        assert files_in(root)
    assert files_in(root) == []


async def test_a_cancelled_upload_leaves_nothing(storage: LocalStorage, root: Path) -> None:
    writing = asyncio.Event()

    async def upload() -> None:
        async with storage.receive("task-1", 100 * MIB) as file:
            while True:
                await file.write(bytes(PIECE))
                writing.set()

    task = asyncio.create_task(upload())
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(root) == []


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_however_often_it_is_cancelled_a_write_ends_before_its_file_is_closed(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Else what it writes may get into the next file, which has the same descriptor."""
    loop, writing, go_on, events = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), list[str]()

    def write(_: int, data: memoryview) -> int:
        loop.call_soon_threadsafe(writing.set)
        assert go_on.wait(10)
        events.append("written")
        return len(data)

    def close(descriptor: int) -> None:
        events.append("closed")
        os.close(descriptor)

    monkeypatch.setattr("docv2.storage.local.os", SimpleNamespace(**{**vars(os), "write": write, "close": close}))
    task = asyncio.create_task(receive(storage, MIB, bytes(PIECE)))
    await writing.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: "closed" in events and not files_in(root))
    assert events == ["written", "closed"]


async def test_a_file_over_the_limit_is_refused_with_the_byte_that_passes_it(storage: LocalStorage, root: Path) -> None:
    with pytest.raises(FileTooLarge, match=r"^File too large\. Maximum size: 1\.0MB$"):
        await receive(storage, MIB, bytes(MIB), b"x")
    assert files_in(root) == []


async def test_a_file_of_exactly_the_limit_is_taken(storage: LocalStorage) -> None:
    assert (await receive(storage, MIB, bytes(MIB))).size == MIB


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, Unavailable)]
)
@pytest.mark.parametrize("call", ["open", "fsync"])
async def test_a_failing_disk_is_told_without_its_words(
    storage: LocalStorage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
    number: int,
    expected: type[Exception],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/secret/place")

    with monkeypatch.context() as patch:
        patch.setattr(f"docv2.storage.local.os.{call}", fail)
        with pytest.raises(expected) as caught:
            await receive(storage, 10 * MIB, bytes(3 * PIECE))
    assert type(caught.value) is expected
    assert "secret" not in str(caught.value)
    assert caplog.text.count("the file storage failed") == 1
    assert files_in(root) == []


async def test_a_full_disk_is_noticed_by_the_check(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(root)
    await storage.check()
    assert files_in(root) == []

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(DiskFull):
        await storage.check()


async def test_a_missing_document_fails_its_task_and_not_the_server(storage: LocalStorage) -> None:
    with pytest.raises(DocumentError, match="no longer stored"):
        async with storage.document("task-1"):
            pass


async def test_deleting_is_repeatable(storage: LocalStorage) -> None:
    async with storage.receive("task-1", MIB) as file:
        await file.finish(content_of)
        file.keep()
    await storage.delete("task-1")
    await storage.delete("task-1")
    assert await storage.names() == []


async def test_what_is_found_wrong_with_a_file_is_raised_and_leaves_nothing(storage: LocalStorage, root: Path) -> None:
    def look(file: IO[bytes]) -> None:
        raise UnsupportedType(f"{len(file.read())} bytes of nothing")

    with pytest.raises(UnsupportedType, match="3 bytes of nothing"):
        await receive(storage, MIB, b"abc", look=look)
    assert files_in(root) == []


async def test_what_was_still_arriving_when_the_server_died_is_told_among_the_names(root: Path) -> None:
    LocalStorage(root)
    (root / "documents" / "task-1").write_bytes(b"half a file")
    assert await LocalStorage(root).names() == ["task-1"]
