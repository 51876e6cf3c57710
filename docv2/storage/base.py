"""What docv2 needs of a place for documents. A document is named by its task's id and by nothing that a client sent."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Received:
    """A file that arrived whole."""

    path: Path
    """On the local disk, as long as the context of its upload is open and it was not kept."""
    size: int
    """Bytes."""
    sha256: str


class Incoming(Protocol):
    """A file on its way in. Nothing of it stays unless `keep` returned."""

    async def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes. FileTooLarge as soon as they pass the limit, DiskFull or Unavailable where they fail.

        The bytes are kept in memory only until the next piece is full; they must not change until then.
        """
        ...

    async def finish(self) -> Received:
        """The whole file, on disk (fsync)."""
        ...

    async def keep(self, task_id: str) -> None:
        """Make it the document of a task, for good (fsync of its folder too)."""
        ...


class Storage(Protocol):
    """Holds the documents."""

    def receive(self, limit: int) -> AbstractAsyncContextManager[Incoming]:
        """A file of at most `limit` bytes; what was not kept when the context closes is gone."""
        ...

    def document(self, task_id: str) -> AbstractAsyncContextManager[Path]:
        """A task's document as a local file while the context is open; DocumentError where there is none."""
        ...

    async def delete(self, task_id: str) -> None:
        """Remove a task's document; nothing happens where there is none."""
        ...

    async def names(self) -> list[str]:
        """Ids of all tasks that have a document."""
        ...

    async def check(self) -> None:
        """Unavailable or DiskFull where a document could not be kept now."""
        ...
