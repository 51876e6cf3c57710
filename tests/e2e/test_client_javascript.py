"""The JavaScript client's own tests, those that need a server against a real one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer_unless_told_never_to
from tests.programs import require

CLIENT = Path(__file__).parents[2] / "clients" / "javascript"


async def test_the_javascript_client(server: Server, endpoint: ScriptedEndpoint) -> None:
    node = require("node")
    endpoint.otherwise = answer_unless_told_never_to
    await server.start()
    environment = {**os.environ, "DOCV2_URL": server.url, "DOCV2_API_KEY": server.key}
    tests = await asyncio.create_subprocess_exec(
        node, "--test", cwd=CLIENT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(100):
        out, _ = await tests.communicate()
    report = out.decode()
    if tests.returncode != 0 or "# skipped 0" not in report:
        pytest.fail(report, pytrace=False)
