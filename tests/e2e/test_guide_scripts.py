"""The administrator's guide: its scripts for backup, recovery and a move, run whole. Nothing is lost by them.

Its own text where the guide lies beside the repository, the same steps in our own words in any case. Put in are paths,
host and token; the programs that reach other machines are stand-ins that do the same on this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import pages
from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer, hang
from tests.programs import require

OURS = {
    "backup_config.sh": """\
set -e
folder="/backup/openwebui/$(date +%F)"
mkdir -p "$folder"
cp /path/to/.env "$folder/env.backup"
sqlite3 /path/to/webui.db ".backup '$folder/webui.db.backup'"
curl -H "Authorization: Bearer <admin_token>" http://localhost:3000/api/v1/configs -o "$folder/api_config.json"
""",
    "backup_files.sh": """\
set -e
rsync -av /path/to/storage/ /backup/storage/
""",
    "recover_service.sh": """\
set -e
docker-compose down
cp /backup/env.backup /path/to/.env
sqlite3 /path/to/webui.db ".restore '/backup/webui.db.backup'"
rsync -av /backup/storage/ /path/to/storage/
docker-compose up -d
curl http://localhost:3000/api/v2/health
""",
    "migrate_to_new_server.sh": """\
set -e
for file in /path/to/.env /path/to/webui.db; do scp "$file" "new-server.com:$file"; done
rsync -av /path/to/storage/ new-server.com:/path/to/storage/
""",
}
TEXTS = {"ours": OURS} | ({"guide": {title: pages.script(title) for title in OURS}} if pages.GUIDE.is_file() else {})

STAND_INS = {
    "rsync": 'to=${3/#*:/$NEW_SERVER_ROOT}; mkdir -p "$to" && cp -a "$2." "$to"',
    "scp": 'to=${2/#*:/$NEW_SERVER_ROOT}; mkdir -p "$(dirname "$to")" && cp "$1" "$to"',
    "docker-compose": 'exec 3<>"/dev/tcp/127.0.0.1/$COMPOSE_PORT"; echo "$1" >&3; read -r done <&3',
    "aws": ":",  # nothing is in any cloud
    "gsutil": ":",
}
TEXT = b"some text"
SECONDS = 30.0


@asynccontextmanager
async def compose(server: Server) -> AsyncIterator[int]:
    """Stops and starts the server for whoever says `down` or `up` on this port; answers once it is done."""

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline() == b"up\n":
            await server.start()
        elif server.process is not None and server.process.returncode is None:
            server.signal()
            await server.ended()
        writer.write(b"done\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(obey, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


class Machine:
    """The server with its settings in `.env`, and a shell beside it in which the scripts run."""

    def __init__(self, server: Server, scripts: dict[str, str]) -> None:
        for program in ("bash", "curl", "sqlite3"):
            require(program)
        self.server = server
        self.scripts = scripts
        self.folder = server.data_dir.parent
        self.backup = self.folder / "backup"
        self.new_root = self.folder / "new-server.com"
        self.key = ""
        """An administrator's."""
        self.tasks: list[str] = []
        programs = self.folder / "programs"
        programs.mkdir()
        for name, text in STAND_INS.items():
            (programs / name).write_text(f"#!/bin/bash\n{text}\n")
            (programs / name).chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"

    async def run(self, title: str) -> str:
        """What the script prints; it must end well."""
        text = self.scripts[title]
        for placeholder, value in {
            "localhost:3000": f"127.0.0.1:{self.server.port}",
            "<admin_token>": self.key,
            "/path/to/webui.db": str(self.server.data_dir / "docv2.db"),
            "/path/to/storage/": f"{self.server.data_dir}/files/",
            "/path/to/": f"{self.folder}/",
            "/backup/": f"{self.backup}/",
        }.items():
            text = text.replace(placeholder, value)
        async with compose(self.server) as port:
            code, out, errors = await pages.run(
                *(require("bash"), "-c", text),
                cwd=self.folder,
                PATH=self.path,
                COMPOSE_PORT=str(port),
                NEW_SERVER_ROOT=str(self.new_root),
            )
        assert code == 0, (title, out, errors)
        return out


@pytest.fixture(params=list(TEXTS.values()), ids=list(TEXTS))
async def machine(request: pytest.FixtureRequest, server: Server, endpoint: ScriptedEndpoint) -> Machine:
    """One task was answered, one is at work, three wait; something was set at run time."""
    machine = Machine(server, request.param)
    endpoint.script(answer("Before."))
    endpoint.otherwise = hang()
    server.settings = {"DOCV2_DRAIN_SECONDS": "0"}
    (machine.folder / ".env").write_text(
        f"OPENAI_API_BASE_URLS={endpoint.base_url}\nAPI_V2_MAX_CONCURRENT=1\nWEBUI_SECRET_KEY={'s' * 32}\n"
    )
    await server.start()
    machine.key = server.key
    status, _ = await server.request("POST", "/admin/config", json={"api_v2": {"temperature": 0.1}})
    assert status == 200
    machine.tasks.append(await server.submit(TEXT))
    await server.finished(machine.tasks[0])
    machine.tasks += [await server.submit(TEXT) for _ in range(4)]
    await endpoint.call(2)
    return machine


async def nothing_is_lost(server: Server, key: str, endpoint: ScriptedEndpoint, tasks: list[str]) -> None:
    """The server goes on with the settings, the account, the answer that there was, and the tasks in their order."""
    for task_id in tasks:
        async with asyncio.timeout(SECONDS):
            body: dict[str, Any] = {"status": ""}
            while body["status"] not in ("completed", "failed"):
                _, body = await server.request("GET", f"/api/v2/status/{task_id}?wait=10", key=key)
        assert (body["status"], body["result"]["content"]) == (
            "completed",
            "Before." if task_id == tasks[0] else "After.",
        )
    assert server.query("SELECT task_id FROM tasks ORDER BY place") == [(task_id,) for task_id in tasks]
    ended = server.query("SELECT task_id FROM tasks ORDER BY ended_at")
    assert ended == [(task_id,) for task_id in tasks], "first in, first out"
    assert len(endpoint.calls) == 2 + len(tasks) - 1, "an answer that was paid for is not asked for again"
    _, config = await server.request("GET", "/admin/config", key=key)
    assert (config["overrides"], config["api_v2"]["max_concurrent"]) == ({"temperature": 0.1}, 1)


async def test_a_machine_whose_disk_is_lost_comes_back(machine: Machine, endpoint: ScriptedEndpoint) -> None:
    server = machine.server
    await machine.run("backup_config.sh")
    await machine.run("backup_files.sh")
    [today] = (machine.backup / "openwebui").iterdir()
    assert json.loads((today / "api_config.json").read_text())["api_v2"] == {"temperature": 0.1}

    endpoint.otherwise = answer("After.")
    shutil.rmtree(server.data_dir)  # under the running server
    (machine.folder / ".env").write_text("API_V2_MAX_CONCURRENT=7\n")
    server.data_dir.mkdir(0o700)
    for file in ("env.backup", "webui.db.backup"):
        (today / file).rename(machine.backup / file)
    health = json.loads((await machine.run("recover_service.sh")).splitlines()[-1])
    assert health["status"] == "healthy"
    await nothing_is_lost(server, machine.key, endpoint, machine.tasks)


async def test_a_move_to_another_machine(machine: Machine, endpoint: ScriptedEndpoint) -> None:
    server = machine.server
    server.signal()
    await server.ended()
    endpoint.otherwise = answer("After.")
    await machine.run("migrate_to_new_server.sh")
    shutil.rmtree(server.data_dir)
    async with Server(Path(f"{machine.new_root}{server.data_dir}")) as new:
        await nothing_is_lost(new, machine.key, endpoint, machine.tasks)


@pytest.mark.parametrize("provider", ["s3", "gcs", "azure"])
async def test_there_is_no_bucket_to_back_up(server: Server, provider: str) -> None:
    code, _, errors = await pages.run(
        *(server.program, "serve"), cwd=server.data_dir.parent, **server.environment(), STORAGE_PROVIDER=provider
    )
    assert code == 2
    [line] = errors.splitlines()
    assert f"STORAGE_PROVIDER='{provider}'" in line
    assert "local" in line
