"""From the document to the answer, with a model that answers at once; and reading by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

from pdfminer.high_level import extract_text

from benchmarks.processes import Peak, serving
from benchmarks.samples import scan, written
from docv2.documents import MediaType
from docv2.extract.base import READERS, read
from docv2.sandbox import Sandbox

DOCUMENTS = 50
PAGES = 200


def measure(folder: Path, scratch: Path) -> dict[str, float]:
    """Many small documents, then one large scan with the memory watched."""
    small, large = written(1), scan(folder, 70)
    with serving(scratch / "data") as server:
        server.completed(server.submit("letter.pdf", small))
        began = time.perf_counter()
        for task_id in [server.submit("letter.pdf", small) for _ in range(DOCUMENTS)]:
            server.completed(task_id)
        many = time.perf_counter() - began
    with serving(scratch / "scan") as server, Peak(server.pid) as peak:
        began = time.perf_counter()
        server.completed(server.submit("scan.pdf", large))
        one = time.perf_counter() - began
    return {"pages": DOCUMENTS / many, "scan": one, "scan_memory": peak.mebibytes}


def measure_text(_folder: Path, scratch: Path) -> dict[str, float]:
    """The text of a long document through the sandbox, every page on disk, beside pdfminer.six alone."""
    path = scratch / "long.pdf"
    path.write_bytes(written(PAGES))
    ours = asyncio.run(read_all(path, scratch))
    began = time.perf_counter()
    assert extract_text(path).count("\f") == PAGES
    return {"text": (time.perf_counter() - began) / ours}


def tell() -> Iterator[None]:
    """A job that does nothing."""
    yield None


async def read_all(path: Path, scratch: Path) -> float:
    """Seconds from the fork of the child to the last page."""
    sandbox = Sandbox()
    async for _ in sandbox.run(tell, owner="bench", needs=[READERS[MediaType.PDF]]):
        pass  # a server has the reader loaded from the first document on
    (scratch / "pages").mkdir()
    began = time.perf_counter()
    async with aclosing(read(sandbox, path, MediaType.PDF, scratch / "pages", owner="bench")) as pages:
        count = len([page async for page, _ in pages if page.has_text])
    taken = time.perf_counter() - began
    await sandbox.close()
    assert count == PAGES
    return taken
