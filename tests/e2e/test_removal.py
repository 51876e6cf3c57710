"""All that a user has is taken away from a server at work, and kill -9 in the middle leaves nothing that stays."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from docv2.store.base import User
from docv2.store.sqlite import SQLiteStore
from tests.conformance.samples import new_task
from tests.documents import text_pdf
from tests.e2e.server import PROGRAM, Server
from tests.endpoint import ScriptedEndpoint, answer, hang
from tests.waiting import until

EMAIL = "ada@example.org"
TABLES = ("tasks", "pages", "parts", "idempotency_keys", "answers", "leftovers", "waiting", "backlog")
FOLDERS = ("files/documents", "work", "cache")


async def command(server: Server, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(str(server.program), *arguments),
        env=server.environment(), cwd=server.data_dir.parent,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    return out.decode()


def left(server: Server) -> dict[str, int]:
    """What is left, where something is."""
    counts = {table: server.query(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    counts |= {name: len(list((server.data_dir / name).glob("[!.]*"))) for name in FOLDERS}
    return {name: count for name, count in counts.items() if count}


def audited(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (server.data_dir / "audit.log").read_text().splitlines()]


@pytest.mark.parametrize("way", ["http", "command line"])
async def test_a_user_is_purged_in_the_middle_of_everything(
    server: Server, endpoint: ScriptedEndpoint, way: str
) -> None:
    server.settings.update(ENABLE_MODEL_CACHE="true", ENABLE_PROCESSING_CACHE="true", API_V2_MAX_CONCURRENT="2")
    endpoint.script(answer("done"))
    endpoint.otherwise = hang()
    await server.start()
    document = text_pdf([f"page {number}" for number in range(1, 6)])
    await server.finished(await server.submit(document, "a.pdf"))
    sent = [await server.submit(document + b"%" * number, "a.pdf") for number in range(1, 5)]
    running = [await endpoint.call(number) for number in (2, 3)]
    assert {"answers": 1, "tasks": 5, "waiting": 1}.items() <= left(server).items()
    _, me = await server.request("GET", "/api/v1/auths/")
    waiting = asyncio.create_task(server.request("GET", f"/api/v2/status/{sent[3]}", params={"wait": "30"}))
    if way == "http":
        status, told = await server.request("DELETE", f"/admin/users/{me['id']}/data")
        assert status == 200
    else:
        lines = (await command(server, "users", "purge", me["email"])).splitlines()
        told = {
            name: value if name == "user_id" else json.loads(value.lower())
            for name, value in (line.split(": ") for line in lines)
        }
    assert told == {
        "user_id": me["id"], "tasks": 5, "cancelled": 4, "documents": 4, "pages": 15, "parts": 1,
        "idempotency_keys": 0, "cached_answers": 1, "cached_documents": 3, "keys": 0, "account": False,
    }  # fmt: skip
    async with asyncio.timeout(3):
        for call in running:
            await call.gone.wait()
    for task_id in sent:
        assert (await server.request("GET", f"/api/v2/status/{task_id}"))[0] == 404
    if way == "http":
        assert (await waiting)[0] == 404
    waiting.cancel()
    await until(lambda: left(server) == {})
    record = next(entry for entry in reversed(audited(server)) if entry["verb"] == "DELETE")
    assert record["request_uri"].endswith(f"/admin/users/{me['id']}/data")
    assert record["user"]["email"] == (me["email"] if way == "http" else "command line")
    # The slots are free, and the same document is asked about anew.
    endpoint.otherwise = answer("again")
    body = await server.finished(await server.submit(document, "a.pdf"))
    assert (body["result"]["content"], body["result"]["cached"]) == ("again", False)
    _, found = await server.request("GET", "/admin/audit", params={"verb": "DELETE"})
    assert len(found["records"]) == 1


async def test_an_account_is_removed_and_the_caches_cleared_on_the_command_line(server: Server) -> None:
    await server.start()
    await command(server, "users", "add", EMAIL)
    key = (await command(server, "keys", "create", EMAIL)).strip()
    assert (await server.request("GET", "/api/v1/auths/", key=key))[0] == 200
    told = await command(server, "users", "remove", EMAIL)
    assert "keys: 1\naccount: True\n" in told
    assert (await server.request("GET", "/api/v1/auths/", key=key))[0] == 401
    assert EMAIL not in await command(server, "users", "list")
    assert await command(server, "caches", "clear") == "answers: 0\ndocuments: 0\nbytes: 0\n"
    assert [entry["request_uri"].rpartition("/")[2] for entry in audited(server)[-2:]][-1] == "caches"


@pytest.mark.parametrize("finish", ["again", "server"])
async def test_a_purge_that_is_killed_is_finished_by_the_next_or_by_the_server(
    server: Server, finish: str, tmp_path: Path
) -> None:
    await fill(server.data_dir, 1200)
    chance = random.Random(3)
    kills = 0
    while server.query("SELECT count(*) FROM tasks WHERE user_id = 'ada'") != [(0,)]:
        before = server.query("SELECT count(*) FROM tasks")
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "users", "purge", EMAIL), env=server.environment(), cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await until(lambda: server.query("SELECT count(*) FROM tasks") != before)  # noqa: B023 - awaited in its round
        await asyncio.sleep(chance.random() * 0.02)
        process.kill()
        await process.wait()
        kills += 1
    found = left(server)
    assert found["leftovers"] > 0, "it was killed before the files were gone"
    assert found["files/documents"] > 1
    assert kills >= 3
    if finish == "again":
        told = await command(server, "users", "purge", EMAIL)
        assert "tasks: 0\n" in told
        assert "\ndocuments: 0\n" not in told
    else:
        server.settings["API_V2_ADMIN_CONFIG"] = '{"paused": true}'
        await server.start()
    await until(lambda: not {"leftovers", "work"} & left(server).keys())
    assert left(server).items() >= {"tasks": 1, "files/documents": 1, "waiting": 1}.items()
    assert server.query("PRAGMA integrity_check") == [("ok",)]


async def fill(data_dir: Path, tasks: int) -> None:
    """Waiting tasks of one user, and one of another, as a server leaves them."""
    data_dir.mkdir()
    documents = data_dir / "files" / "documents"
    async with await SQLiteStore.open(data_dir / "docv2.db") as store:
        await store.add_user(User("ada", EMAIL, "Ada", "user", active=True, created_at=1.0))
        new = [new_task(user_id="ada") for _ in range(tasks)] + [new_task(user_id="mary")]
        await asyncio.gather(*(store.enqueue(task) for task in new))

        def leave() -> None:
            documents.mkdir(parents=True)
            for task in new:
                (documents / task.task_id).write_bytes(b"a document")

        await asyncio.to_thread(leave)
