"""Every way in which an endpoint can fail ends in a state that status reports truthfully."""

from __future__ import annotations

import pytest
from aiohttp import web

from tests.documents import encoded, page_picture
from tests.e2e.server import Server
from tests.endpoint import (
    TEXT_MODEL,
    VISION_MODEL,
    Behaviour,
    Call,
    ScriptedEndpoint,
    answer,
    endless_body,
    endless_line,
    events,
    hang,
    html,
    json_answer,
    raw,
    rejects_parameter,
    reset,
    stalls_after,
    status,
)

PASSING: dict[str, Behaviour] = {
    "429": status(429),
    "429 with Retry-After": status(429, Retry_After="1"),
    "500": status(500),
    "502": status(502),
    "503": status(503, "<html>busy</html>"),
    "504": status(504),
    "reset": reset(),
    "reset within the answer": reset("half an ans"),
    "a web page": html(),
    "cut JSON": raw('{"choices": [{"mess'),
    "no choices": raw('{"choices": []}'),
    "nothing": answer(""),
    "endless body": endless_body(),
    "endless line": endless_line(),
    "stream without an end": events({"choices": [{"delta": {"content": "half"}}]}),
}


async def test_every_passing_failure_is_waited_out(server: Server, endpoint: ScriptedEndpoint) -> None:
    failed: set[str] = set()

    async def fail_once(call: Call) -> web.StreamResponse:
        name = next(name for name in PASSING if f"[{name}]" in call.text)
        if name in failed:
            return await answer(f"the true answer to {name}")(call)
        failed.add(name)
        return await PASSING[name](call)

    endpoint.otherwise = fail_once
    server.settings["API_V2_MAX_CONCURRENT"] = "20"
    await server.start()
    tasks = {name: await server.submit(f"[{name}]".encode()) for name in PASSING}
    for name, task_id in tasks.items():
        body = await server.finished(task_id)
        assert body["status"] == "completed", (name, body)
        assert body["result"]["content"] == f"the true answer to {name}"
    assert failed == set(PASSING)
    assert len(endpoint.calls) == 2 * len(PASSING), "one failed call and one good one each"


async def test_while_the_endpoint_fails_the_task_waits_and_says_why(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = status(503)
    await server.start()
    task_id = await server.submit(b"some text")
    body = await server.until(task_id, ("queued",))
    await endpoint.call(1)
    while body.get("waiting_reason") != "upstream":
        body = await server.status(task_id, wait=5)
        assert body["status"] in ("processing", "queued", "pending")
    assert "result" not in body
    endpoint.otherwise = answer("late, but true")
    assert (await server.finished(task_id))["result"]["content"] == "late, but true"


async def test_an_endpoint_that_refuses_connections_is_waited_for(server: Server, endpoint: ScriptedEndpoint) -> None:
    await server.start()
    await endpoint.stop()
    task_id = await server.submit(b"some text")
    body = await server.status(task_id)
    while body.get("waiting_reason") != "upstream":
        body = await server.status(task_id, wait=5)
    await endpoint.start()
    assert (await server.finished(task_id))["status"] == "completed"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (status(401), "credentials"),
        (status(404, {"error": {"message": "model 'x' not found"}}), "not found"),
        (status(400, {"error": {"message": "the prompt is not to our taste"}}), "not to our taste"),
        (json_answer(None, refusal="I cannot help with that"), "I cannot help with that"),
    ],
)
async def test_a_final_refusal_fails_the_task(
    server: Server, endpoint: ScriptedEndpoint, failure: Behaviour, said: str
) -> None:
    endpoint.otherwise = failure
    await server.start()
    body = await server.finished(await server.submit(b"some text"))
    assert (body["status"], body["error_type"]) == ("failed", "processing_error")
    assert said in body["error"]
    assert "result" not in body
    assert len(endpoint.calls) == 1


@pytest.mark.parametrize("silence", [hang(), stalls_after("half")], ids=["hang", "stall"])
async def test_silence_ends_as_out_of_time(server: Server, endpoint: ScriptedEndpoint, silence: Behaviour) -> None:
    endpoint.otherwise = silence
    server.settings["API_V2_TIMEOUT"] = "1"
    await server.start()
    body = await server.finished(await server.submit(b"some text"))
    assert (body["status"], body["error_type"]) == ("failed", "timeout_error")


async def test_an_answer_cut_short_says_so(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = answer("The first half of", finish="length")
    await server.start()
    result = (await server.finished(await server.submit(b"some text")))["result"]
    assert result["content"] == "The first half of"
    assert result["finish_reason"] == "length"
    assert any("cut" in warning for warning in result["warnings"])


async def test_a_refused_parameter_is_left_out_and_that_is_said(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(rejects_parameter("temperature", "Unsupported value: 'temperature' does not support 0.7"))
    endpoint.otherwise = answer("fine")
    await server.start()
    result = (await server.finished(await server.submit(b"some text")))["result"]
    assert result["content"] == "fine"
    assert any("temperature" in warning for warning in result["warnings"])
    await server.finished(await server.submit(b"more text"))
    assert "temperature" not in endpoint.calls[-1].json, "remembered for the model"


async def test_a_model_that_cannot_see_hands_over_to_one_that_can(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(status(400, {"error": {"message": f"{TEXT_MODEL} does not support image input"}}))
    endpoint.otherwise = answer("a grey square")
    await server.start()
    body = await server.finished(await server.submit(encoded(page_picture("grey")), "grey.png", model=TEXT_MODEL))
    assert body["result"]["model_used"] == VISION_MODEL
    assert endpoint.calls[-1].pictures
