"""`docv2 serve` as a process of its own, to be killed, stopped and started again over one data folder."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import aiohttp

PROGRAM = Path(sys.executable).with_name("docv2")
"""The installed command of the environment that runs the tests."""

DEADLINE = 30.0
"""Seconds that anything here may take before the test fails."""


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """Starts the installed command with an environment that holds nothing but what the test names."""

    def __init__(self, data_dir: Path, *, program: Path | None = None, **settings: str) -> None:
        self.program = program or PROGRAM
        self.data_dir = data_dir
        self.settings = settings
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self.log = data_dir.parent / f"{data_dir.name}.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "DOCV2_DATA_DIR": str(self.data_dir), "DOCV2_PORT": str(self.port), **self.settings}

    # -- its life -----------------------------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.kill()
        if self._session:
            await self._session.close()
            self._session = None

    async def start(self) -> None:
        """Start and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.program, "serve", env=self.environment(), cwd=self.data_dir.parent, stdout=log, stderr=log
            )
        async with asyncio.timeout(DEADLINE):
            while True:
                assert self.process.returncode is None, self.log.read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def kill(self) -> None:
        """SIGKILL: what a crash or the kernel does."""
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, waited for."""
        assert self.process is not None
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    # -- talking to it ------------------------------------------------------------------------------------------------
    @property
    def key(self) -> str:
        """The first administrator's."""
        return (self.data_dir / "first-administrator.key").read_text().strip()

    async def request(self, method: str, path: str, *, key: str | None = None, **options: Any) -> tuple[int, Any]:
        """Status and decoded JSON of one call."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2 * DEADLINE))
        headers = {"Authorization": f"Bearer {key or self.key}", **options.pop("headers", {})}
        async with self._session.request(method, self.url + path, headers=headers, **options) as response:
            return response.status, await response.json()

    async def submit(
        self,
        content: bytes,
        filename: str = "note.txt",
        prompt: str = "What is it?",
        *,
        key: str | None = None,
        **fields: str,
    ) -> str:
        """Send a document; the id of its task."""
        status, body = await self.send(content, filename, prompt, key=key, **fields)
        assert status == 200, body
        return str(body["task_id"])

    async def send(
        self,
        content: bytes,
        filename: str = "note.txt",
        prompt: str = "What is it?",
        *,
        key: str | None = None,
        **fields: str,
    ) -> tuple[int, Any]:
        """Send a document; whatever the answer is."""
        form = aiohttp.FormData({"prompt": prompt, **fields})
        form.add_field("file", io.BytesIO(content), filename=filename)
        return await self.request("POST", "/api/v2/process", key=key, data=form)

    async def status(self, task_id: str, wait: float | None = None) -> dict[str, Any]:
        status, body = await self.request(
            "GET", f"/api/v2/status/{task_id}", params={} if wait is None else {"wait": str(wait)}
        )
        assert status == 200, body
        return dict(body)

    async def finished(self, task_id: str) -> dict[str, Any]:
        """The task's status once it ended."""
        return await self.until(task_id, ("completed", "failed"))

    async def until(self, task_id: str, words: Iterable[str]) -> dict[str, Any]:
        """The task's status once its word is one of these."""
        async with asyncio.timeout(DEADLINE):
            body = await self.status(task_id)
            while body["status"] not in words:
                body = await self.status(task_id, wait=10)
            return body

    async def cancel(self, task_id: str) -> tuple[int, Any]:
        return await self.request("DELETE", f"/api/v2/tasks/{task_id}")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What an operator's read-only look at the database shows."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data_dir / 'docv2.db'}?mode=ro", uri=True)) as database:
            return database.execute(sql).fetchall()
