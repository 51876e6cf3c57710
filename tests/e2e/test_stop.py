"""SIGTERM: nothing new is accepted, running tasks may end, the rest return to their place; exit status 0."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping

import aiohttp

from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer, hang


async def test_running_tasks_end_and_uploads_are_refused(server: Server, endpoint: ScriptedEndpoint) -> None:
    release = asyncio.Semaphore(0)
    endpoint.script(answer("finished in time", pieces=1, gate=release))
    await server.start()
    task_id = await server.submit(b"some text")
    await endpoint.call(1)
    server.signal(signal.SIGTERM)
    form = {"prompt": "What is it?", "file": b"text"}
    async with asyncio.timeout(10):
        while True:
            code, body = await server.request("POST", "/api/v2/process", data=_form(form))
            if code == 503:
                break
    assert body["error_type"] == "system_error"
    health, _ = await server.request("GET", "/api/v2/health")
    assert health == 503, "a draining server is unhealthy, and says so"
    assert (await server.status(task_id))["status"] == "processing", "every other route keeps answering"
    release.release()
    assert await server.ended() == 0
    await server.start()
    assert (await server.status(task_id))["result"]["content"] == "finished in time"


async def test_what_does_not_end_in_time_returns_without_a_spent_attempt(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    endpoint.script(hang(), hang(), hang(), hang(), hang())
    server.settings["DOCV2_DRAIN_SECONDS"] = "0.2"
    await server.start()
    task_id = await server.submit(b"some text")
    for stop in range(1, 6):
        await endpoint.call(stop)
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert server.query("SELECT status, crashes FROM tasks") == [("waiting", 0)]
        await server.start()
    assert (await server.finished(task_id))["status"] == "completed", "five stops are no crash"


async def test_a_second_signal_ends_at_once_and_loses_nothing(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(hang())
    server.settings["DOCV2_DRAIN_SECONDS"] = "60"
    await server.start()
    task_id = await server.submit(b"some text")
    await endpoint.call(1)
    server.signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        while (await server.request("GET", "/api/v2/health"))[0] != 503:
            pass
    server.signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        await server.ended()
    await server.start()
    assert (await server.finished(task_id))["status"] == "completed"


async def test_a_second_server_is_kept_off_the_data_folder(server: Server) -> None:
    await server.start()
    other = Server(server.data_dir)
    process = await asyncio.create_subprocess_exec(
        other.program, "serve", env=other.environment(), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert len(err.decode().strip().splitlines()) == 1
    assert (await server.request("GET", "/api/version"))[0] == 200


def _form(fields: Mapping[str, object]) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value, filename="note.txt" if isinstance(value, bytes) else None)
    return form
