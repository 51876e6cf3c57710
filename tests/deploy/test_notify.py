"""`docv2 serve` as systemd starts it: what it says on the notify socket from its start to its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from docv2.web.app import CLOSING_SECONDS
from tests.e2e.server import DEADLINE, Server
from tests.endpoint import ScriptedEndpoint, hang


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


@pytest.fixture
async def server(tmp_path: Path, manager: socket.socket) -> AsyncIterator[Server]:
    async with ScriptedEndpoint() as endpoint:
        endpoint.otherwise = hang()
        server = Server(
            tmp_path / "data",
            OPENAI_API_BASE_URLS=endpoint.base_url,
            DOCV2_DRAIN_SECONDS="90",
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="400000",
        )
        try:
            yield server
        finally:
            await server.close()


async def heard(manager: socket.socket, seconds: float = DEADLINE) -> list[str]:
    async with asyncio.timeout(seconds):
        return (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode().splitlines()


async def silence(manager: socket.socket, seconds: float = 2.0) -> None:
    """Comes, once what was said before is heard."""
    while True:
        try:
            await heard(manager, seconds)
        except TimeoutError:
            return


async def test_ready_alive_and_stopping_are_told(server: Server, manager: socket.socket) -> None:
    await server.start()
    lines: list[str] = []
    while "READY=1" not in lines:
        assert lines in ([], ["WATCHDOG=1"])
        lines = await heard(manager)
    assert lines == ["READY=1", f"STATUS=answers on {server.url}"]
    assert (await server.request("GET", "/api/version"))[0] == 200
    for _ in range(5):
        assert await heard(manager) == ["WATCHDOG=1"]
    server.signal(signal.SIGSTOP)
    await silence(manager)
    server.signal(signal.SIGCONT)
    assert await heard(manager) == ["WATCHDOG=1"]
    await server.submit(b"a task that does not end")
    server.signal(signal.SIGTERM)
    while lines == ["WATCHDOG=1"] or "READY=1" in lines:
        lines = await heard(manager)
    assert lines == ["STOPPING=1", f"EXTEND_TIMEOUT_USEC={int((90 + CLOSING_SECONDS) * 1e6)}"]
    assert await heard(manager) == ["WATCHDOG=1"], "it lives while it drains"
