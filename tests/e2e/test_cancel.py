"""Cancel, in every state a task can be in; and the model's connection is seen to close."""

from __future__ import annotations

import asyncio

from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer, hang, stalls_after


async def test_a_waiting_task_never_runs(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(hang())
    server.settings["API_V2_MAX_CONCURRENT"] = "1"
    await server.start()
    running = await server.submit(b"the one at work")
    await endpoint.call(1)
    waiting, behind = await server.submit(b"the one that waits"), await server.submit(b"the one behind")
    assert (await server.status(behind))["position"] == 2
    code, body = await server.cancel(waiting)
    assert code == 200
    assert (body["task_id"], body["status"], body["error_type"]) == (waiting, "failed", "cancelled")
    assert (await server.status(behind))["position"] == 1
    await server.cancel(running)
    assert (await server.finished(behind))["status"] == "completed"
    assert all("the one that waits" not in call.text for call in endpoint.calls)


async def test_a_running_tasks_model_call_is_closed_within_a_second(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(stalls_after("half an ans"))
    await server.start()
    task_id = await server.submit(b"some text")
    call = await endpoint.call(1)
    waiting = asyncio.create_task(server.status(task_id, wait=30))
    code, _ = await server.cancel(task_id)
    assert code == 200
    async with asyncio.timeout(1):
        await call.gone.wait()
    body = await server.finished(task_id)
    assert (body["status"], body["error_type"]) == ("failed", "cancelled")
    assert "result" not in body
    await waiting
    assert (await server.finished(await server.submit(b"next")))["status"] == "completed"


async def test_an_ended_task_cannot_be_cancelled(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = answer("done")
    await server.start()
    task_id = await server.submit(b"some text")
    await server.finished(task_id)
    code, body = await server.cancel(task_id)
    assert (code, body["error_type"]) == (409, "validation_error")
    assert (await server.status(task_id))["status"] == "completed"
    code, body = await server.cancel("00000000-0000-0000-0000-000000000000")
    assert (code, body["detail"]) == (404, "Task not found")
