"""`docv2 serve` with a watch on its event loop: how late it gets to what is due.

python -m benchmarks.probe serve       writes FILE named by LAG_FILE when it ends: [monotonic time, seconds late] …
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from docv2.cli import main

EVERY = 0.002
"""Seconds between two looks; a stall of S seconds is seen as at least S less this."""
WORTH_NOTING = 0.010


class WatchedLoop(asyncio.SelectorEventLoop):
    """Looks at the clock all the time. What it sees holds time in which the machine ran something else, too."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[tuple[float, float]] = []
        self.call_soon(self._look, self.time())

    def _look(self, due: float) -> None:
        now = self.time()
        if now - due > WORTH_NOTING:
            self.late.append((now, now - due))
        self.call_at(now + EVERY, self._look, now + EVERY)

    def close(self) -> None:
        """Write down what was late."""
        Path(os.environ["LAG_FILE"]).write_text(json.dumps(self.late))
        super().close()


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return WatchedLoop()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(_Policy())
    main()
