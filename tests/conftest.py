"""What every test has at hand, and the watch over the event loop that every test is under."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

from docv2.store.sqlite import SQLiteStore
from tests.endpoint import ScriptedEndpoint

MAY_BLOCK = (
    ("docv2/store/sqlite.py", "_read"),  # single rows are read on the loop; the module says why
    # once, before anything is served:
    ("docv2/bootstrap.py", "open_store"),
    ("docv2/bootstrap.py", "open_services"),
    ("docv2/storage/local.py", "__init__"),
    ("docv2/worker/folders.py", "__init__"),
)

TOGETHER = ("tests/deploy/test_machine.py",)
"""Modules whose tests share something costly, and so a process. xdist 3.8's own mark says nothing to pytest 9.2."""


class Scheduling(LoadGroupScheduling):
    """Spreads tests over the processes, each module of TOGETHER as one."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Called by xdist where tests run in several processes."""
    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Code of docv2 that blocks the event loop fails the test."""
    with blockbuster_ctx("docv2") as watch:
        for watched in watch.functions.values():
            for file, function in MAY_BLOCK:
                watched.can_block_in(file, function)
        yield watch


@pytest.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    """A model endpoint that says what it is told to."""
    async with ScriptedEndpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A real, empty store."""
    opened = await SQLiteStore.open(tmp_path / "docv2.db")
    yield opened
    await opened.close()
