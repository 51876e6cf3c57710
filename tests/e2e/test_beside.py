"""The command line beside a running server that has nothing to do: what it does counts there within a moment."""

from __future__ import annotations

import asyncio

from tests import pages
from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer, status

MOMENT = 10.0
"""Seconds: many times what it takes, for slow machines, and a fraction of the minute after which all is looked at."""


async def docv2(server: Server, *arguments: str) -> None:
    code, _, errors = await pages.run(server.program, *arguments, cwd=server.data_dir.parent, **server.environment())
    assert code == 0, errors


async def test_a_task_that_is_tried_again_starts(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(status(400, {"error": {"message": "not today"}}))
    endpoint.otherwise = answer("Today.")
    await server.start()
    task_id = await server.submit(b"some text")
    assert (await server.finished(task_id))["status"] == "failed"
    await docv2(server, "tasks", "retry", task_id)
    async with asyncio.timeout(MOMENT):
        assert (await server.finished(task_id))["result"]["content"] == "Today."


async def test_the_queue_stands_still_and_goes_on(server: Server, endpoint: ScriptedEndpoint) -> None:
    await server.start()
    await docv2(server, "queue", "pause")
    async with asyncio.timeout(MOMENT):
        while not (await server.request("GET", "/admin/queue"))[1]["paused"]:
            await asyncio.sleep(0.02)
    task_id = await server.submit(b"some text")
    assert (await server.status(task_id))["waiting_reason"] == "paused"
    await docv2(server, "queue", "resume")
    async with asyncio.timeout(MOMENT):
        assert (await server.finished(task_id))["status"] == "completed"
