"""Accepting documents: large ones, small ones, and what those that wait cost."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.load import FORM_TYPE, Burst, burst, call, form, raw
from benchmarks.processes import bare, memory, serving
from benchmarks.samples import scan, written

TURNS = 5
CLIENTS = 16
TURN_SECONDS = 1.0
WAITING = 8


def measure(folder: Path, scratch: Path) -> dict[str, float]:
    """Beside a bare handler: one large upload at a time, then small ones from many clients."""
    large = scan(folder, 77)
    small = form("letter.pdf", written(1))
    with bare(scratch) as yardstick, serving(scratch / "data", paused=True) as server:
        pairs = []
        for _ in range(TURNS + 1):
            theirs = seconds(yardstick, "/raw", "", large, "application/pdf")
            mine = seconds(server.url, "/api/v2/process", server.key, form("scan.pdf", large), FORM_TYPE)
            pairs.append((theirs, mine))
        pairs = pairs[1:]  # the first one of each warmed it up
        requests = (
            (yardstick, raw("POST", "/multipart", "", small, FORM_TYPE)),
            (server.url, raw("POST", "/api/v2/process", server.key, small, FORM_TYPE)),
        )
        bursts = [[many(url, request) for url, request in requests] for _ in range(TURNS)]
    return {
        "upload": statistics.median(theirs / mine for theirs, mine in pairs),
        "upload_rate": statistics.median(len(large) / 1e6 / mine for _, mine in pairs),
        "small": statistics.median(mine.rate / theirs.rate for theirs, mine in bursts),
        "small_rate": statistics.median(mine.rate for _, mine in bursts),
    }


def measure_waiting(folder: Path, scratch: Path) -> dict[str, float]:
    """What eight large documents add to the memory after one, while all of them wait."""
    large = scan(folder, 70)
    with serving(scratch / "data", paused=True) as server:
        server.submit("scan.pdf", large)
        before = memory(server.pid)
        for _ in range(WAITING):
            server.submit("scan.pdf", large)
        return {"waiting": memory(server.pid) - before}


def many(url: str, request: bytes) -> Burst:
    """One turn of uploads by all clients."""
    return burst(url, [request], CLIENTS, lambda _count, seconds: seconds >= TURN_SECONDS)


def seconds(url: str, path: str, key: str, body: bytes, content_type: str) -> float:
    """How long one upload takes."""
    began = time.perf_counter()
    call(url, "POST", path, key, body, content_type)
    return time.perf_counter() - began
