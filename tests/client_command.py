"""`docv2 process` as a program, and a terminal to run it in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.scripted_api import KEY, ScriptedAPI

PROGRAM = [sys.executable, "-c", "from docv2.commands.process import process; process()"]
"""The command alone: `docv2` itself takes a second to import the server."""


def environment(api: ScriptedAPI) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {"DOCV2_URL": api.url, "DOCV2_API_KEY": KEY, "LANG": "C.UTF-8"}


async def start(
    api: ScriptedAPI,
    *arguments: str,
    stdout: int = PIPE,
    stderr: int = PIPE,
    term: str = "",
    before: Sequence[str] = (),
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *before, *PROGRAM, *arguments, env=environment(api) | {"TERM": term}, stdout=stdout, stderr=stderr
    )


async def run(api: ScriptedAPI, *arguments: str, term: str = "") -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    process = await start(api, *arguments, term=term)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@dataclass
class Terminal:
    """The other side of a pseudo terminal: what a person would see."""

    master: int
    slave: int
    received: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.open = [self.master, self.slave]

    def read(self) -> None:
        with contextlib.suppress(OSError):
            self.received += os.read(self.master, 65536)

    def close(self) -> None:
        """As when its window is closed; a second time does nothing."""
        if self.open:
            asyncio.get_running_loop().remove_reader(self.master)
        while self.open:
            os.close(self.open.pop())

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.received.decode(errors="replace"):
                await asyncio.sleep(0.02)

    @property
    def text(self) -> str:
        """With our own way of drawing taken out."""
        return re.sub(r"\x1b\[(\d*[FJKm])", "", self.received.decode(errors="replace").replace("\r\n", "\n"))
