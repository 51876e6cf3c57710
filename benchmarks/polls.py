"""Polling: how fast, how steady while documents are read, and what may hold the event loop up."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from benchmarks.load import Burst, burst, raw
from benchmarks.processes import PROBED, Server, bare, serving
from benchmarks.samples import full_database, scan

CONNECTIONS = 32
TURNS = 4
TURN_SECONDS = 2.0


def measure(folder: Path, scratch: Path) -> dict[str, float]:
    """Polls of waiting and of ended tasks, beside a bare handler; then while two documents are read."""
    ids = full_database(folder, scratch / "data")
    with bare(scratch) as yardstick, serving(scratch / "data", API_V2_MAX_CONCURRENT="2") as server:
        ours = [raw("GET", f"/api/v2/status/{task_id}", server.key) for task_id in ids]
        theirs = [raw("GET", f"/status/{task_id}", "sk-none") for task_id in ids]
        warm_up(server.url, ours)
        # Turn and turn about, so that a busy moment of the machine meets both.
        pairs = [(polls(yardstick, theirs), polls(server.url, ours)) for _ in range(TURNS)]
        quiet = together([mine for _, mine in pairs])
        reading = while_reading(server, folder, lambda: polls(server.url, ours))
    reference = statistics.median(bare.rate for bare, _ in pairs)
    return {
        "poll": statistics.median(mine.rate / theirs.rate for theirs, mine in pairs),
        "poll_p99": quiet.percentile(99) * 1000,
        "poll_rate": quiet.rate,
        "poll_reading": reading.rate / reference,
        "poll_reading_p99": reading.percentile(99) * 1000,
    }


def measure_stalls(folder: Path, scratch: Path) -> dict[str, float]:
    """The longest time in which the loop got to nothing else, over the whole life of two documents."""
    ids = full_database(folder, scratch / "data")
    lag_file = scratch / "lag.json"
    with serving(scratch / "data", PROBED, API_V2_MAX_CONCURRENT="2", LAG_FILE=str(lag_file)) as server:
        requests = [raw("GET", f"/api/v2/status/{task_id}", server.key) for task_id in ids]
        warm_up(server.url, requests)
        began = time.monotonic()
        with ThreadPoolExecutor() as threads:
            ends = [threads.submit(live, server, scan(folder, 77)) for _ in range(2)]
            burst(server.url, requests, 20, lambda _count, _seconds: done(ends))
        ended = time.monotonic()
    late = [seconds for moment, seconds in json.loads(lag_file.read_text()) if began < moment < ended]
    return {"stall": max(late, default=0.0) * 1000}


def polls(url: str, requests: Sequence[bytes]) -> Burst:
    """One turn of polling."""
    return burst(url, requests, CONNECTIONS, lambda _count, seconds: seconds >= TURN_SECONDS)


def warm_up(url: str, requests: Sequence[bytes]) -> None:
    """Ask everything once."""
    burst(url, requests, CONNECTIONS, lambda count, _seconds: count >= len(requests))


def together(bursts: Sequence[Burst]) -> Burst:
    """Several turns as one."""
    return Burst(sum(one.seconds for one in bursts), [each for one in bursts for each in one.latencies])


def live(server: Server, document: bytes) -> None:
    """A document from its upload to its answer."""
    server.completed(server.submit("scan.pdf", document))


def done(ends: Sequence[Future[None]]) -> bool:
    """Whether all have ended; raises what one of them raised."""
    return all(end.done() and end.result() is None for end in ends)


def while_reading(server: Server, folder: Path, load: Callable[[], Burst]) -> Burst:
    """The load for as long as both of two 50 MB documents are being read."""
    task_ids = [server.submit("scan.pdf", scan(folder, 77)) for _ in range(2)]

    def reading() -> list[bool]:
        return [server.status(task_id).get("stage") == "reading" for task_id in task_ids]

    while not all(reading()):
        time.sleep(0.01)
    result = load()
    assert all(reading()), "a document was read before the polls ended; nothing was measured"
    for task_id in task_ids:
        server.completed(task_id)
    return result
