"""What docv2 needs of a place for documents. A document is named by its task's id and by nothing that a client sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Received:
    """A file that arrived whole."""

    path: Path
    """On the local disk, as long as the context of its upload is open."""
    size: int
    """Bytes."""
    sha256: str


class Incoming(Protocol):
    """A task's document on its way in. Nothing of it stays unless `keep` was called."""

    async def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes. FileTooLarge as soon as they pass the limit, DiskFull or Unavailable where they fail.

        The bytes are kept in memory only until the next piece is full; they must not change until then.
        """
        ...

    async def finish(self, look: Callable[[IO[bytes]], T]) -> tuple[Received, T]:
        """The whole file, on disk for good (fsync, also of its folder), and what `look` says of it.

        `look` gets it opened to be read, and may block, as it runs in the thread that writes; what it raises is raised
        here.
        """
        ...

    def keep(self) -> None:
        """Let it stay: its task was accepted."""
        ...


class Storage(Protocol):
    """Holds the documents."""

    def receive(self, task_id: str, limit: int) -> AbstractAsyncContextManager[Incoming]:
        """The document of a task to be, of at most `limit` bytes; what was not kept when the context closes is gone."""
        ...

    def document(self, task_id: str) -> AbstractAsyncContextManager[Path]:
        """A task's document as a local file while the context is open; DocumentError where there is none."""
        ...

    async def delete(self, task_id: str) -> bool:
        """Remove a task's document; whether there was one."""
        ...

    async def names(self) -> list[str]:
        """Ids of all tasks that have a document, those that are on their way in included."""
        ...

    async def check(self) -> None:
        """Unavailable or DiskFull where a document could not be kept now."""
        ...
