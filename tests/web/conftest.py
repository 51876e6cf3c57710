"""One server a test: the real one, or for clients one that does as it is told."""

from __future__ import annotations

import asyncio
import pty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docv2.store.sqlite import SQLiteStore
from tests.client_command import Terminal
from tests.scripted_api import ScriptedAPI
from tests.web.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path, store: SQLiteStore) -> AsyncIterator[Site]:
    async with open_site(tmp_path, store) as site:
        yield site


@pytest.fixture
async def api() -> AsyncIterator[ScriptedAPI]:
    async with ScriptedAPI() as api:
        yield api


@pytest.fixture
def documents(tmp_path: Path) -> list[str]:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    return [str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt")]


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    terminal = Terminal(*pty.openpty())
    loop = asyncio.get_running_loop()
    loop.add_reader(terminal.master, terminal.read)
    yield terminal
    terminal.close()
