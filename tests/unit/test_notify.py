"""What systemd hears, on a socket as it makes them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from docv2.telemetry.notify import fed_watchdog, notify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end at which the manager reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = str(tmp_path / "notify") if request.param == "path" else f"@docv2-test-{os.getpid()}"
        listener.bind(name.replace("@", "\0"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


async def heard(manager: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(manager, 4096)


async def test_lines_are_one_message(manager: socket.socket) -> None:
    notify("READY=1", "STATUS=answers")
    assert await heard(manager) == b"READY=1\nSTATUS=answers"


async def test_the_watchdog_is_fed_each_time_that_the_work_has_gone_round(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    rounds = asyncio.Semaphore(2)
    async with fed_watchdog(rounds.acquire):
        assert [await heard(manager) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().sock_recv(manager, 4096)
        rounds.release()
        assert await heard(manager) == b"WATCHDOG=1"


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}], ids=["none", "another's"])
async def test_without_a_watchdog_of_ours_nothing_is_said(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    asked = asyncio.Event()

    async def alive() -> None:
        asked.set()

    async with fed_watchdog(alive):
        await asyncio.sleep(0)
    assert not asked.is_set()


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_a_manager_that_is_gone_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    assert "systemd cannot be told" in caplog.text
