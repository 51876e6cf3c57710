"""One server a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docv2.store.sqlite import SQLiteStore
from tests.web.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path, store: SQLiteStore) -> AsyncIterator[Site]:
    async with open_site(tmp_path, store) as site:
        yield site
