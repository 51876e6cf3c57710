"""The rows of the table: what is measured, and what it is held to."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

AT_LEAST, AT_MOST = "≥", "≤"
_HOLDS: Mapping[str, Callable[[float, float], bool]] = {AT_LEAST: operator.ge, AT_MOST: operator.le}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `key` is what the measuring functions call it; one without a bound is there for comparison."""

    key: str
    what: str
    unit: str
    direction: str = ""
    bound: float = 0.0

    def holds(self, values: Sequence[float]) -> bool:
        """Whether the median of the runs keeps the bound."""
        return not self.direction or _HOLDS[self.direction](statistics.median(values), self.bound)


ROWS = (
    Row("poll", "status poll, 32 connections, 100,000 waiting", "× bare handler", AT_LEAST, 0.35),
    Row("poll_p99", "… p99", "ms", AT_MOST, 30),
    Row("poll_rate", "… a second", "/s"),
    Row("poll_reading", "the same while two 50 MB PDFs are read", "× bare handler", AT_LEAST, 0.15),
    Row("poll_reading_p99", "… p99", "ms", AT_MOST, 50),
    Row("upload", "50 MB upload accepted", "× raw to disk", AT_LEAST, 0.6),
    Row("upload_rate", "… MB a second", "MB/s"),
    Row("small", "small files accepted, 16 clients", "× bare multipart", AT_LEAST, 0.3),
    Row("small_rate", "… a second", "/s"),
    Row("enqueue_huey", "durable acceptances in the store, 16 at once", "× huey", AT_LEAST, 1),
    Row("enqueue_bare", "… beside bare sqlite3", "× sqlite3"),
    Row("work_huey", "claim and complete, one at a time", "× huey", AT_LEAST, 1),
    Row("work_bare", "… beside bare sqlite3", "× sqlite3"),
    Row("position_100", "position and estimate, 100 waiting, p99", "ms", AT_MOST, 10),
    Row("position_100000", "position and estimate, 100,000 waiting, p99", "ms", AT_MOST, 10),
    Row("pages", "50 one-page PDFs, model at once", "/s", AT_LEAST, 12),
    Row("scan", "70 scanned pages (45 MB), model at once", "s", AT_MOST, 10),
    Row("scan_memory", "… peak memory of all processes", "MiB", AT_MOST, 250),
    Row("text", "text of 200 pages through the sandbox", "× pdfminer.six", AT_LEAST, 8),
    Row("stall", "longest stall of the event loop, two 50 MB PDFs, 20 clients", "ms", AT_MOST, 50),
    Row("waiting", "eight 45 MB files waiting: growth of memory", "MiB", AT_MOST, 1),
    Row("start", "start to first answer", "s", AT_MOST, 2),
    Row("idle", "memory when idle, all processes", "MiB", AT_MOST, 100),
    Row("installed", "installed size without extras", "MB", AT_MOST, 300),
)

HEAD = ("What", "Bound", "Min", "Median", "Max", "")


def rendered(measured: Mapping[str, Sequence[float]]) -> str:
    """The rows that were measured, as a Markdown table."""
    lines: list[tuple[str, ...]] = [HEAD]
    for row in ROWS:
        if values := measured.get(row.key):
            bound = f"{row.direction} {row.bound:g} {row.unit}" if row.direction else row.unit
            figures = (min(values), statistics.median(values), max(values))
            verdict = "" if not row.direction else "holds" if row.holds(values) else "FALLS SHORT"
            lines.append((row.what, bound, *map(_figure, figures), verdict))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def short(measured: Mapping[str, Sequence[float]]) -> list[str]:
    """The keys of the rows whose bound does not hold."""
    return [row.key for row in ROWS if row.key in measured and not row.holds(measured[row.key])]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
