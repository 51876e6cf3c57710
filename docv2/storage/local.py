"""Documents as files on the local disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from docv2.errors import DiskFull, DocumentError, DocV2Error, FileTooLarge, StartError, Unavailable
from docv2.storage.base import Incoming, Received

log = logging.getLogger(__name__)

T = TypeVar("T")

PIECE = 512 * 1024
"""Bytes collected before a thread writes them: few hops a file, and twice this is what an upload holds here."""

RETRY_SECONDS = 10.0


class LocalStorage:
    """One file a document in `documents/`, named by its task's id and written where it stays.

    A server that dies leaves what was still arriving; the next start sweeps files that no task knows.
    """

    def __init__(self, root: Path) -> None:
        """Make the folder; StartError where it cannot be used. One server at a time."""
        self._documents = root / "documents"
        try:
            for folder in (root, self._documents):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}") from error

    @asynccontextmanager
    async def receive(self, task_id: str, limit: int) -> AsyncIterator[Incoming]:
        """See Storage."""
        incoming = _LocalIncoming(self._documents / task_id, limit)
        try:
            yield incoming
        finally:
            await incoming.discard()

    @asynccontextmanager
    async def document(self, task_id: str) -> AsyncIterator[Path]:
        """See Storage."""
        path = self._documents / task_id
        if not await asyncio.to_thread(path.is_file):
            raise DocumentError("The uploaded file is no longer stored")
        yield path

    async def delete(self, task_id: str) -> bool:
        """See Storage."""
        with _disk_errors():
            try:
                await asyncio.to_thread((self._documents / task_id).unlink)
            except FileNotFoundError:
                return False
        return True

    async def names(self) -> list[str]:
        """See Storage."""
        return await asyncio.to_thread(os.listdir, self._documents)

    async def check(self) -> None:
        """See Storage."""

        def probe() -> None:
            path = self._documents.parent / f"probe-{uuid.uuid4().hex}"
            try:
                path.write_bytes(b"docv2")
            finally:
                path.unlink(missing_ok=True)

        with _disk_errors():
            await asyncio.to_thread(probe)


class _LocalIncoming:
    """Written by a thread, one piece at a time, while the next piece is being collected."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._size = 0
        self._hash = hashlib.sha256()
        self._file: int | None = None
        """Its descriptor."""
        self._pieces: list[bytes | memoryview] = []
        self._collected = 0
        self._writing: asyncio.Future[Any] | None = None
        self._kept = False

    async def write(self, data: bytes | memoryview) -> None:
        """See Incoming."""
        length = len(data)
        self._size += length
        if self._size > self._limit:
            raise FileTooLarge(f"File too large. Maximum size: {self._limit / 1024**2:.1f}MB")
        self._pieces.append(data)
        self._collected += length
        if self._collected >= PIECE:
            await self._settle()
            self._writing = asyncio.get_running_loop().run_in_executor(None, self._put, self._take())

    async def finish(self, look: Callable[[IO[bytes]], T]) -> tuple[Received, T]:
        """See Incoming. All of it in one hop to a thread, since each costs what receiving a small file does."""

        def finish() -> T:
            # Each call of the system is a turn at Python's lock, so what is all here yet is not read from the disk.
            small = io.BytesIO(b"".join(pieces)) if self._file is None else None
            self._put(pieces)
            with small or self._path.open("rb") as file:
                looked = look(file)
            self._close()
            return looked

        await self._settle()
        pieces = self._take()
        self._writing = finishing = asyncio.get_running_loop().run_in_executor(None, finish)
        await self._settle()
        return Received(self._path, self._size, self._hash.hexdigest()), finishing.result()

    def keep(self) -> None:
        """See Incoming."""
        self._kept = True

    async def discard(self) -> None:
        """Remove the file unless it was kept, to the end even if the caller is cancelled once more."""
        if not self._kept:
            await asyncio.shield(self._remove())

    async def _remove(self) -> None:
        def remove() -> None:
            if self._file is not None:
                with suppress(OSError):  # a full disk may refuse once more what goes anyway
                    os.close(self._file)
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                log.error("a file that was not kept stays until the next start: %s", error)

        try:
            with suppress(DocV2Error):  # told already
                # Else a write under way would bring the file back, or meet another one's descriptor.
                await self._settle()
        finally:
            await asyncio.to_thread(remove)

    def _take(self) -> list[bytes | memoryview]:
        pieces, self._pieces, self._collected = self._pieces, [], 0
        return pieces

    async def _settle(self) -> None:
        """Wait for the write under way. Its thread goes on even if this is cancelled, and can be waited for again."""
        if (writing := self._writing) is None:
            return
        try:
            with _disk_errors():
                await asyncio.shield(writing)
        finally:
            if writing.done():
                self._writing = None

    def _put(self, pieces: list[bytes | memoryview]) -> None:
        """Hash and write. Runs in a thread."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        for piece in pieces:
            self._hash.update(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def _close(self) -> None:
        """Put the file and its name onto the disk itself. Runs in a thread."""
        assert self._file is not None
        os.fsync(self._file)
        file, self._file = self._file, None
        os.close(file)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Tell clients what the disk's error means for them; the log has the error itself."""
    try:
        yield
    except OSError as error:
        log.error("the file storage failed: %s", error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("Not enough disk space to keep the file") from error
        raise Unavailable("The file storage is not available now", retry_after=RETRY_SECONDS) from error
