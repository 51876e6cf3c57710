"""The Python client and `docv2 process` against a real server: restarts, refusals, Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from docv2.client import AsyncClient, AuthError, Client, RateLimited, RejectedFile, Task, TaskFailed
from docv2.commands.process import Job, Question, Run
from tests.e2e.server import PROGRAM, Server
from tests.endpoint import ScriptedEndpoint, answer, hang
from tests.waiting import until

MEBIBYTE = 1024**2


@pytest.fixture
async def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("The monthly rent is 1200 EUR.")
    return path


def large(folder: Path) -> Path:
    """A file that is refused long before it has been sent."""
    path = folder / "large.pdf"
    with path.open("wb") as file:
        file.write(b"%PDF-1.7\n")
        file.truncate(50 * MEBIBYTE)
    return path


async def test_the_answer_comes_through_kill_and_restart(
    server: Server, endpoint: ScriptedEndpoint, note: Path
) -> None:
    endpoint.script(hang())
    endpoint.otherwise = answer("1200 EUR")
    await server.start()
    async with AsyncClient(server.url, server.key) as client:
        task = await client.process(note, "What is the rent?")
        seen: list[str] = []
        waiting = asyncio.create_task(
            client.wait(task.task_id, timeout=60, on_change=lambda task: seen.append(task.status))
        )
        await endpoint.call(1)
        await server.restart()
        result = await waiting
    assert result.content == "1200 EUR"
    assert result.file_info["filename"] == "note.txt"
    assert seen[-1] == "completed"


async def send_sync(url: str, key: str, document: Path) -> Task:
    with Client(url, key, patience=0) as client:
        return await asyncio.to_thread(client.process, document, "What is it?")


async def send_async(url: str, key: str, document: Path) -> Task:
    async with AsyncClient(url, key, patience=0) as client:
        return await client.process(document, "What is it?")


@pytest.mark.parametrize("send", [send_sync, send_async])
async def test_a_refusal_of_a_large_document_reaches_its_sender(
    server: Server, tmp_path: Path, send: Callable[[str, str, Path], Awaitable[Task]]
) -> None:
    """Although the sender is still busy sending it."""
    server.settings["API_V2_MAX_FILE_SIZE"] = str(MEBIBYTE)
    await server.start()
    document = large(tmp_path)
    with pytest.raises(RejectedFile, match=r"^File too large\. Maximum size: 1\.0MB$"):
        await send(server.url, server.key, document)
    with pytest.raises(AuthError):
        await send(server.url, "sk-of-nobody", document)


async def test_cancel_is_seen_by_whoever_waits(server: Server, endpoint: ScriptedEndpoint, note: Path) -> None:
    endpoint.otherwise = hang()
    await server.start()
    async with AsyncClient(server.url, server.key) as client:
        task = await client.process(note, "What is the rent?")
        waiting = asyncio.create_task(client.wait(task.task_id))
        await endpoint.call(1)
        ended = await client.cancel(task.task_id)
        with pytest.raises(TaskFailed) as caught:
            await waiting
    assert (ended.status, caught.value.error_type) == ("failed", "cancelled")


async def test_models_health_and_status(server: Server, note: Path) -> None:
    await server.start()
    async with AsyncClient(server.url, server.key) as client:
        models = await client.models()
        assert models.default_model in {model.id for model in models.models if model.vision_capable}
        health = await client.health()
        assert (health.status in ("healthy", "degraded"), health.services["database"]) == (True, True)
        task = await client.process(note, "What is the rent?", max_tokens=100)
        assert task.config_applied["max_tokens"] == 100
        await client.wait(task.task_id)
        assert (await client.status(task.task_id)).ended


async def test_ones_own_tasks_page_by_page(server: Server, endpoint: ScriptedEndpoint, note: Path) -> None:
    await server.start()
    async with AsyncClient(server.url, server.key) as client:
        sent = [(await client.process(note, f"What is the rent, {number}?")).task_id for number in range(5)]
        for task_id in sent:
            await client.wait(task_id)
        found: list[Task] = []
        cursor = None
        while cursor is not None or not found:
            page = await client.tasks(limit=2, cursor=cursor)
            assert len(page.tasks) <= 2
            found += page.tasks
            cursor = page.next_cursor
        assert [task.task_id for task in found] == sent[::-1]
        assert (found[0].status, found[0].file_info["filename"]) == ("completed", "note.txt")
        assert (await client.tasks("failed")).tasks == []


async def asking(server: Server, folder: Path, names: list[str], *options: str) -> Process:
    """`docv2 process` on files of these names, each of which holds its own."""
    for name in names:
        (folder / name).write_text(name)
    return await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "process", *names, "What is it?", *options),
        cwd=folder,
        env=os.environ | {"DOCV2_URL": server.url, "DOCV2_API_KEY": server.key},
        stdout=PIPE,
        stderr=PIPE,
    )


async def test_ctrl_c_leaves_nothing_running(server: Server, endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    endpoint.otherwise = hang()
    await server.start()
    names = [f"{number}.txt" for number in range(5)]
    process = await asking(server, tmp_path, names)
    call = await endpoint.call(1)
    await until(lambda: len(server.query("SELECT 1 FROM tasks")) == len(names))
    async with asyncio.timeout(30):
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        await call.gone.wait()
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == "interrupted; cancelled on the server: 5\n"
    assert server.query("SELECT DISTINCT status, error_type FROM tasks") == [("failed", "cancelled")]


class SlowToHear(AsyncClient):
    """Hears of a limit only when none of the run's tasks is left, each of which made room."""

    run: Run

    async def process(self, *arguments: Any, **options: Any) -> Task:
        try:
            return await super().process(*arguments, **options)
        except RateLimited:
            await until(lambda: not self.run._followed)
            raise


@pytest.mark.parametrize("kind", [AsyncClient, SlowToHear])
async def test_a_queue_that_is_full_of_ones_own_tasks_ends_nothing(
    server: Server, endpoint: ScriptedEndpoint, note: Path, kind: type[AsyncClient]
) -> None:
    endpoint.otherwise = answer("1200 EUR")
    server.settings |= {
        "API_V2_MAX_CONCURRENT": "1",
        "API_V2_ADMIN_CONFIG": json.dumps({"queue_limits": {"per_user": 1}}),
    }
    await server.start()
    jobs = [Job(note) for _ in range(6)]
    async with kind(server.url, server.key, patience=0) as client:
        run = Run(client, jobs, Question("What is the rent?"))
        if isinstance(client, SlowToHear):
            client.run = run
        answers = [job.result.content async for job in run.answered() if job.result]
    assert answers == ["1200 EUR"] * 6
    assert run.stopped is None


async def test_an_hourly_limit_ends_the_sending_and_no_task(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    endpoint.otherwise = answer("1200 EUR")
    server.settings["API_V2_ADMIN_CONFIG"] = json.dumps({"rate_limits": {"per_hour": 20}})
    await server.start()
    names = [f"{number:02}.txt" for number in range(60)]
    process = await asking(server, tmp_path, names, "--json")
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    told = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 3
    assert [(each["file"], each["status"]) for each in told] == [
        (name, "completed" if number < 20 else "unsent") for number, name in enumerate(names)
    ]
    *unsent, why = err.decode().splitlines()
    assert unsent == [f"{name}: not sent" for name in names[20:]]
    assert why.startswith("docv2: At most 20 documents are taken in an hour; try again in 60 min (request ")
