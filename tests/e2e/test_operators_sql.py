"""What operators do to the database while the server is under load: the documented queries, and open transactions."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer
from tests.programs import require

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
QUERIES = re.findall(r"^### \d+\. (.*)\n(?:.|\n)*?```sql\n((?:.|\n)*?)```", OPERATIONS.read_text(), re.MULTILINE)


@asynccontextmanager
async def load(server: Server) -> AsyncIterator[list[str]]:
    """Tasks come and end all the while; their ids so far."""
    accepted: list[str] = []
    done = asyncio.Event()

    async def send() -> None:
        while not done.is_set():
            task_id = await server.submit(b"word " * 100)
            accepted.append(task_id)
            await server.finished(task_id)

    senders = [asyncio.create_task(send()) for _ in range(3)]
    try:
        yield accepted
    finally:
        done.set()
        await asyncio.gather(*senders)


@asynccontextmanager
async def shell(database: Path, *statements: str) -> AsyncIterator[None]:
    """Debian's shell with these statements run and nothing ended."""
    process = await asyncio.create_subprocess_exec(
        require("sqlite3"), database, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n".join([".timeout 10000", *statements, ".print ready", ""]).encode())
    while b"ready" not in await process.stdout.readline():
        pass
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_every_documented_query_answers_in_debians_shell_under_load(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    server.settings["API_V2_ADMIN_CONFIG"] = (
        '{"rate_limits": {"per_minute": 100000, "per_hour": 100000, "per_day": 100000}}'
    )
    endpoint.otherwise = answer("fine")
    await server.start()
    assert len(QUERIES) == 10
    await server.finished(await server.submit(b"one that was answered"))
    await server.finished(await server.submit(b"%PDF-1.7 is all there is of it", "broken.pdf"))
    async with load(server) as accepted:
        for question, query in QUERIES:
            process = await asyncio.create_subprocess_exec(
                *(require("sqlite3"), "-readonly", "-header", "-column", server.data_dir / "docv2.db", query),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, errors = await process.communicate()
            assert (process.returncode, errors) == (0, b""), (question, errors)
            lines = out.decode().splitlines()
            if "waiting" not in question and "worked on" not in question and "Which pages" not in question:
                assert len(lines) > 2, f"{question}: answers nothing"
    assert accepted
    assert all([(await server.finished(task_id))["status"] == "completed" for task_id in accepted])


async def test_an_open_read_transaction_holds_nothing_up(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = answer("fine")
    await server.start()
    async with shell(server.data_dir / "docv2.db", "BEGIN;", "SELECT count(*) FROM tasks;"):
        for number in range(10):
            assert (await server.finished(await server.submit(b"text %d" % number)))["status"] == "completed"
    assert server.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.timeout(60)
async def test_an_open_write_transaction_delays_and_loses_nothing(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = answer("fine")
    await server.start()
    before = await server.submit(b"before it")
    await server.finished(before)
    async with shell(server.data_dir / "docv2.db", "BEGIN IMMEDIATE;"):
        status, body = await server.request("GET", "/api/v2/health")
        assert status == 200, body
        assert (await server.status(before))["status"] == "completed", "what only reads goes on"
        with pytest.raises(AssertionError, match="The database is busy"):
            await server.submit(b"while it is held")
    after = await server.submit(b"after it")
    assert (await server.finished(after))["status"] == "completed"
    assert server.query("SELECT count(*) FROM tasks") == [(2,)], "what was refused is not there"
