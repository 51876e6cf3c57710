"""How far the calls of one stage are."""

from __future__ import annotations

import asyncio

from docv2.tasks import Stage

HALFWAY_CHARACTERS = 2000
"""Of a streamed answer, whose length nobody knows: at this many it counts as half done."""


class Meter:
    """Counts calls that ended, and how far those under way seem to be."""

    def __init__(self, stage: Stage, start: float, share: float, *, done: int = 0, of: int) -> None:
        """`start` and `share`: percent of the whole task before this stage and in it; `of` calls, `done` before now."""
        self.stage = stage
        self.moved = asyncio.Event()
        self._start = start
        self._share = share
        self._done = done
        self._of = of
        self._under_way: dict[str, float] = {}

    @property
    def percent(self) -> float:
        """Of the whole task."""
        return self._start + self._share * (self._done + sum(self._under_way.values())) / self._of

    def streamed(self, scope: str, characters: int) -> None:
        """An answer has grown to so many characters."""
        self._under_way[scope] = characters / (characters + HALFWAY_CHARACTERS)
        self.moved.set()

    def finished(self, scope: str) -> None:
        """An answer is complete."""
        self._under_way.pop(scope, None)
        self._done += 1
