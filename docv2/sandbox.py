"""Running a parser in a child process of its own, with limits, so that no document can hurt the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

Job = Callable[..., Iterator[Any]]
"""A module-level generator function. Each thing it yields is sent to the server; it runs on once that was taken."""


class Sandbox:
    """Starts children and keeps count of those alive."""

    def run(self, job: Job, /, *args: Any, owner: str) -> AsyncIterator[Any]:
        """Yield what `job(*args)` yields in a child process."""
        raise NotImplementedError
