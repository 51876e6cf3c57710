"""What every test has at hand, and the watch over the event loop that every test is under."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from docv2.store.sqlite import SQLiteStore

MAY_BLOCK = (
    ("docv2/store/sqlite.py", "_read"),  # single rows are read on the loop; the module says why
    # once, before anything is served:
    ("docv2/bootstrap.py", "open_store"),
    ("docv2/bootstrap.py", "open_services"),
    ("docv2/storage/local.py", "__init__"),
    ("docv2/worker/folders.py", "__init__"),
)


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Code of docv2 that blocks the event loop fails the test."""
    with blockbuster_ctx("docv2") as watch:
        for watched in watch.functions.values():
            for file, function in MAY_BLOCK:
                watched.can_block_in(file, function)
        yield watch


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A real, empty store."""
    opened = await SQLiteStore.open(tmp_path / "docv2.db")
    yield opened
    await opened.close()
