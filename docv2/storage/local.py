"""Documents as files on the local disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from docv2.errors import DiskFull, DocumentError, DocV2Error, FileTooLarge, StartError, Unavailable
from docv2.storage.base import Incoming, Received

log = logging.getLogger(__name__)

PIECE = 512 * 1024
"""Bytes collected before a thread writes them: few hops a file, and twice this is what an upload holds here."""

RETRY_SECONDS = 10.0


class LocalStorage:
    """`incoming/` holds what arrives, `documents/` what was accepted. Both on one file system, so a rename moves."""

    def __init__(self, root: Path) -> None:
        """Make the folders and remove what a server that died was still receiving. One server at a time.

        StartError where the folders cannot be used.
        """
        self._incoming = root / "incoming"
        self._documents = root / "documents"
        try:
            for folder in (self._incoming, self._documents):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left_over in self._incoming.iterdir():
                left_over.unlink()
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}") from error

    @asynccontextmanager
    async def receive(self, limit: int) -> AsyncIterator[Incoming]:
        """See Storage."""
        incoming = _LocalIncoming(self._incoming / uuid.uuid4().hex, self._documents, limit)
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

    async def delete(self, task_id: str) -> None:
        """See Storage."""
        with _disk_errors():
            await asyncio.to_thread((self._documents / task_id).unlink, missing_ok=True)

    async def names(self) -> list[str]:
        """See Storage."""
        return await asyncio.to_thread(os.listdir, self._documents)

    async def check(self) -> None:
        """See Storage."""

        def probe() -> None:
            path = self._incoming / uuid.uuid4().hex
            try:
                path.write_bytes(b"docv2")
            finally:
                path.unlink(missing_ok=True)

        with _disk_errors():
            await asyncio.to_thread(probe)


class _LocalIncoming:
    """Written by a thread, one piece at a time, while the next piece is being collected."""

    def __init__(self, path: Path, documents: Path, limit: int) -> None:
        self._path = path
        self._documents = documents
        self._limit = limit
        self._size = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._pieces: list[bytes | memoryview] = []
        self._collected = 0
        self._writing: asyncio.Future[None] | None = None
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
            self._writing = self._in_thread(last=False)

    async def finish(self) -> Received:
        """See Incoming."""
        await self._settle()
        self._writing = self._in_thread(last=True)
        await self._settle()
        return Received(self._path, self._size, self._hash.hexdigest())

    async def keep(self, task_id: str) -> None:
        """See Incoming."""

        def move() -> None:
            self._path.rename(self._documents / task_id)
            folder = os.open(self._documents, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

        with _disk_errors():
            await asyncio.to_thread(move)
        self._kept = True

    async def discard(self) -> None:
        """Remove the file unless it was kept. A write under way is waited for, so that it cannot bring it back."""
        if self._kept:
            return
        with suppress(DocV2Error):
            await self._settle()

        def remove() -> None:
            if self._file is not None:
                with suppress(OSError):  # closing writes out what is buffered, which the same full disk refuses again
                    self._file.close()
            self._path.unlink(missing_ok=True)

        await asyncio.to_thread(remove)

    def _in_thread(self, *, last: bool) -> asyncio.Future[None]:
        pieces, self._pieces, self._collected = self._pieces, [], 0
        return asyncio.get_running_loop().run_in_executor(None, self._put, pieces, last)

    async def _settle(self) -> None:
        """Wait for the write under way, even if this task is cancelled meanwhile: its thread cannot be."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        with _disk_errors():
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                with suppress(OSError):
                    await writing
                raise

    def _put(self, pieces: list[bytes | memoryview], last: bool) -> None:
        """Hash and write; at the end onto the disk itself. Runs in a thread."""
        if self._file is None:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
        for piece in pieces:
            self._hash.update(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]
        if last:
            os.fsync(self._file.fileno())
            self._file.close()


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
