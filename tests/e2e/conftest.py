"""A model endpoint and a server over a data folder of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint


@pytest.fixture
async def server(tmp_path: Path, endpoint: ScriptedEndpoint) -> AsyncIterator[Server]:
    """Not started yet, so that a test may add settings."""
    server = Server(tmp_path / "data", OPENAI_API_BASE_URLS=endpoint.base_url)
    try:
        yield server
    finally:
        await server.close()
