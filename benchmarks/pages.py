"""Memory and time by the number of pages: both are flat where a document of any length is read, asked and combined.

    python -m benchmarks.pages [--folder FOLDER]

For pages of text and for scanned pages, 50 and 1,000 each: the most memory that the whole process tree held, and the
milliseconds a page took from acceptance to answer. Exit status 1 where 1,000 pages take more than 1.2 times the memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import Peak, serving
from benchmarks.samples import SENTENCE
from tests.documents import page_picture, scanned_pdf, text_pdf

FEW, MANY = 50, 1_000
GOAL = 1.2

_LINES = "\n".join([SENTENCE[:90]] * 45)
_SCAN = page_picture("\n".join([SENTENCE[:70]] * 40))

DOCUMENTS: dict[str, Callable[[int], bytes]] = {
    "text": lambda pages: text_pdf([f"{number}\n{_LINES}" for number in range(pages)]),
    "scanned": lambda pages: scanned_pdf([_SCAN] * pages),
}


def measure(folder: Path, kind: str, pages: int) -> tuple[float, float]:
    """MiB at the most, and milliseconds a page, of one document by a server of its own."""
    document = DOCUMENTS[kind](pages)
    with serving(folder / f"{kind}-{pages}", API_V2_MAX_FILE_SIZE=str(2**30)) as server:
        server.completed(server.submit("first.txt", b"so that everything is loaded"))
        with Peak(server.pid) as peak:
            began = time.monotonic()
            server.completed(server.submit("document.pdf", document))
            seconds = time.monotonic() - began
    return peak.mebibytes, 1000 * seconds / pages


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    given = parser.parse_args()
    above = []
    with tempfile.TemporaryDirectory(prefix="docv2-bench-", dir=given.folder) as folder:
        for kind in DOCUMENTS:
            (few, few_each), (many, many_each) = (measure(Path(folder), kind, pages) for pages in (FEW, MANY))
            print(
                f"{kind:8} {FEW} pages: {few:.0f} MiB, {few_each:.1f} ms a page   "
                f"{MANY} pages: {many:.0f} MiB, {many_each:.1f} ms a page   memory {many / few:.2f} ×"
            )
            if many > GOAL * few:
                above.append(kind)
    if above:
        sys.exit(f"memory grows with the number of pages: {', '.join(above)}")


if __name__ == "__main__":
    main()
