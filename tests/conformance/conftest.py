"""Every store there is, each under the same tests."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from docv2.store.base import Store
from docv2.store.engine import DRIVER
from docv2.store.sqlite import SQLiteStore

Opener = Callable[[], Awaitable[Store]]

SQLITE_DRIVERS = {driver.__name__: driver for driver in (DRIVER, sqlite3)}


@pytest.fixture(params=SQLITE_DRIVERS)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens a store on this test's database; every call is one more connection to the same one."""
    async with AsyncExitStack() as opened:

        async def another(open_one: Callable[[], Awaitable[SQLiteStore]]) -> Store:
            return await opened.enter_async_context(await open_one())

        path = tmp_path / "docv2.db"
        yield partial(another, partial(SQLiteStore.open, path, driver=SQLITE_DRIVERS[request.param]))


@pytest.fixture
async def store(open_store: Opener) -> Store:
    """A new store, looked after as a server does, so that it keeps what it may."""
    opened = await open_store()
    await opened.writes_of_others()
    return opened
