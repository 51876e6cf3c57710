"""Measure docv2's speed and memory and print the table.

python -m benchmarks [--runs 3] [--folder FOLDER] [NAME…]      names as in MEASUREMENTS; all of them without
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import footprint, polls, reading, store, table, uploads

MEASUREMENTS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "polls": polls.measure,
    "stalls": polls.measure_stalls,
    "uploads": uploads.measure,
    "waiting": uploads.measure_waiting,
    "store": store.measure,
    "position": store.measure_position,
    "reading": reading.measure,
    "text": reading.measure_text,
    "footprint": footprint.measure,
}
"""Each is given the folder of the samples and a scratch folder of its own, and answers figures by key of table.ROWS."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure docv2 and print the table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--folder", help="where to work; its disk is what is measured (default: a temporary folder)")
    given = parser.parse_args()
    if unknown := set(given.names) - MEASUREMENTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    measured: dict[str, list[float]] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="docv2-bench-", dir=given.folder) as samples:
        for run in range(given.runs):
            for name in given.names or MEASUREMENTS:
                print(f"run {run + 1} of {given.runs}: {name}", file=sys.stderr)
                with tempfile.TemporaryDirectory(dir=samples) as scratch:
                    for key, value in MEASUREMENTS[name](Path(samples), Path(scratch)).items():
                        measured.setdefault(key, []).append(value)
    print(table.rendered(measured))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if short := table.short(measured):
        sys.exit(f"falls short: {', '.join(short)}")


if __name__ == "__main__":
    main()
