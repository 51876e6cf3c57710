"""A backup of a server at work is whole, says so only when it is, and is all that another machine needs to go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from docv2.store.backup import Needed, snapshot
from docv2.store.engine import DRIVER
from docv2.store.sqlite import SQLiteStore
from tests.conformance.samples import new_task
from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer, hang
from tests.programs import require


async def run(server: Server, *arguments: str | Path) -> tuple[int, str, str]:
    """One docv2 command over the server's data folder: status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        server.program,
        *map(str, arguments),
        env=server.environment(),
        cwd=server.data_dir.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def moved(server: Server, backup: Path, tmp_path: Path) -> Server:
    """A server of the same settings over a new data folder made from a backup; not started yet."""
    other = Server(tmp_path / "elsewhere")
    other.settings = server.settings
    code, _, errors = await run(other, "restore", backup)
    assert code == 0, errors
    return other


async def test_backups_under_load_are_whole_and_lose_no_accepted_task(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    endpoint.otherwise = answer(lambda call: f"read {call.text.count('word')}")
    server.settings["API_V2_ADMIN_CONFIG"] = (
        '{"rate_limits": {"per_minute": 100000, "per_hour": 100000, "per_day": 100000}}'
    )
    server.settings["API_V2_MAX_CONCURRENT"] = "4"
    await server.start()
    accepted: list[str] = []
    done = asyncio.Event()

    async def send() -> None:
        mine: list[str] = []
        while not done.is_set():
            mine.append(await server.submit(b"word " * 200))
            accepted.append(mine[-1])
            await server.finished(mine[-5:][0])  # so that tasks end all the time as well

    load = [asyncio.create_task(send()) for _ in range(4)]
    try:
        for number in range(5):
            before = set(accepted)
            code, out, errors = await run(server, "backup", tmp_path / f"backup-{number}")
            assert code == 0, errors
            assert "read back and good" in out
            with contextlib.closing(sqlite3.connect(tmp_path / f"backup-{number}/docv2.db")) as copy:
                kept = {row[0]: row[1] for row in copy.execute("SELECT task_id, status FROM tasks")}
            assert kept.keys() >= before, "accepted before it began"
            assert "running" not in kept.values(), "nobody works on them there"
            documents = {path.name for path in (tmp_path / f"backup-{number}/files/documents").iterdir()}
            assert documents == {task_id for task_id, status in kept.items() if status == "waiting"}
    finally:
        done.set()
        await asyncio.gather(*load)
    assert all([(await server.finished(task_id))["status"] == "completed" for task_id in accepted])
    assert not any((server.data_dir / "backup").iterdir())
    # The last of them goes on by itself, with the same keys.
    waiting = {task_id for task_id, status in kept.items() if status == "waiting"}
    async with await moved(server, tmp_path / "backup-4", tmp_path) as other:
        for task_id in kept:
            assert (await other.finished(task_id))["status"] == "completed"
        assert other.key == server.key
    assert waiting, "the load was none"


async def test_a_move_with_tasks_in_the_queue_loses_nothing_and_keeps_their_order(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    endpoint.otherwise = hang()
    server.settings |= {"API_V2_MAX_CONCURRENT": "1", "DOCV2_DRAIN_SECONDS": "0"}
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-not-for-others\n")
    await server.start()
    texts = [f"document {number} " for number in range(8)]
    tasks = [await server.submit(text.encode()) for text in texts]
    await endpoint.call(1)
    server.signal()
    assert await server.ended() == 0
    code, _, errors = await run(server, "backup", tmp_path / "backup")
    assert code == 0, errors
    for path in [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]:
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    assert "sk-not-for-others" in (tmp_path / "backup/env").read_text()
    other = await moved(server, tmp_path / "backup", tmp_path)
    for name in ("session.secret", "first-administrator.key"):
        assert (other.data_dir / name).read_bytes() == (server.data_dir / name).read_bytes()
    shutil.rmtree(server.data_dir)
    seen = len(endpoint.calls)
    endpoint.otherwise = answer("Here as well.")
    async with other:
        for task_id in tasks:
            body = await other.finished(task_id)
            assert (body["status"], body["result"]["content"]) == ("completed", "Here as well.")
    asked = [next(text for text in texts if text.strip() in call.text) for call in endpoint.calls[seen:]]
    assert asked == texts
    assert other.query("SELECT max(crashes) FROM tasks") == [(0,)]


@pytest.mark.parametrize("spoil", ["database", "document", "gone", "manifest"])
async def test_a_damaged_backup_is_refused_and_nothing_is_put_anywhere(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path, spoil: str
) -> None:
    endpoint.otherwise = hang()
    await server.start()
    task_id = await server.submit(b"some text")
    backup = tmp_path / "backup"
    assert (await run(server, "backup", backup))[0] == 0
    document = backup / "files/documents" / task_id
    if spoil == "gone":
        document.unlink()
    elif spoil == "manifest":
        manifest = json.loads((backup / "manifest.json").read_text())
        manifest["files"]["../../escape"] = manifest["files"]["docv2.db"]
        (backup / "manifest.json").write_text(json.dumps(manifest))
    else:
        path = backup / "docv2.db" if spoil == "database" else document
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    other = Server(tmp_path / "elsewhere")
    code, _, errors = await run(other, "restore", backup)
    assert code == 1, errors
    assert not other.data_dir.exists() or not any(other.data_dir.iterdir())


async def test_neither_command_overwrites_anything(server: Server, tmp_path: Path) -> None:
    await server.start()
    assert (await run(server, "backup", tmp_path / "backup"))[0] == 0
    code, _, errors = await run(server, "backup", tmp_path / "backup")
    assert code == 1
    assert "exists already" in errors
    code, _, errors = await run(server, "backup", tmp_path / ("long" * 100))
    assert (code, errors.count("\n")) == (1, 1), "a target that cannot even be looked for takes one line"
    code, _, errors = await run(server, "restore", tmp_path / "backup")
    assert code == 2
    assert "in use by another docv2 server" in errors
    await server.kill()
    code, _, errors = await run(server, "restore", tmp_path / "backup")
    assert code == 1
    assert "holds a database already" in errors
    assert (await run(Server(tmp_path / "nothing"), "backup", tmp_path / "other"))[0] == 1
    assert not (tmp_path / "other").exists()


async def test_the_shells_backup_of_a_quiet_database_works_as_well(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    shell = require("sqlite3")
    endpoint.otherwise = hang()
    server.settings["DOCV2_DRAIN_SECONDS"] = "0"
    await server.start()
    task_id = await server.submit(b"some text")
    server.signal()
    await server.ended()
    other = Server(tmp_path / "elsewhere")
    other.settings = server.settings
    shutil.copytree(server.data_dir / "files", other.data_dir / "files")
    backup = tmp_path / "webui.db.backup"
    subprocess.run([shell, server.data_dir / "docv2.db", f".backup '{backup}'"], check=True)
    subprocess.run([shell, other.data_dir / "docv2.db", f".restore '{backup}'"], check=True)
    endpoint.otherwise = answer("Here as well.")
    key = server.key
    async with other:
        (other.data_dir / "first-administrator.key").write_text(key)
        assert (await other.finished(task_id))["status"] == "completed"


async def test_while_documents_are_held_no_task_can_end(tmp_path: Path) -> None:
    database = tmp_path / "docv2.db"
    async with await SQLiteStore.open(database) as store:
        task = await store.enqueue(new_task())
        seen: list[Needed] = []

        def hold(needed: list[Needed]) -> None:
            seen.extend(needed)
            with (
                contextlib.closing(DRIVER.connect(database, timeout=0)) as other,
                pytest.raises(DRIVER.OperationalError, match="locked"),
            ):
                other.execute("UPDATE tasks SET status = 'failed'")

        await asyncio.to_thread(snapshot, database, tmp_path / "copy.db", hold)
        assert [one.task_id for one in seen] == [task.task_id]


async def test_check_tells_what_is_wrong_and_what_to_do(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    endpoint.otherwise = hang()
    await server.start()
    task_id = await server.submit(b"some text")
    await endpoint.call(1)
    code, out, _ = await run(server, "check")
    assert code == 0, out
    assert f"running and healthy at {server.url}" in out
    (server.data_dir / "docv2.db").chmod(0o644)
    (server.data_dir / "files/documents" / task_id).unlink()
    await endpoint.stop()
    code, out, _ = await run(server, "check")
    assert code == 1
    lines = {line.split()[1]: line for line in out.splitlines() if line.startswith(("FAIL", "warn")) and "->" in line}
    assert f"chmod 600 {server.data_dir / 'docv2.db'}" in lines["permissions"]
    assert task_id in lines["documents"]
    assert endpoint.base_url in lines["endpoints"]
    server.settings["API_V2_TIMEOUT"] = "soon"
    code, out, _ = await run(server, "check")
    assert code == 2
    assert "API_V2_TIMEOUT='soon'" in out
