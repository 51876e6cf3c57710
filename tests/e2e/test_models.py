"""Models that fail, go, or are not for everyone: who answers then, and that it is said."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from docv2.llm.health import FAILURES_TO_GIVE_UP
from tests.documents import encoded, page_picture
from tests.e2e.server import Server
from tests.endpoint import Call, ScriptedEndpoint, answer, hang, json_answer, status


@pytest.fixture
async def other() -> AsyncIterator[ScriptedEndpoint]:
    """A second endpoint, with the models to fall back to."""
    async with ScriptedEndpoint(["spare", "spare-text"]) as other:
        other.otherwise = answer("spare answer")
        yield other


@pytest.fixture
async def server(tmp_path: Path, endpoint: ScriptedEndpoint, other: ScriptedEndpoint) -> AsyncIterator[Server]:
    """One whose model `main` has `spare` of the other endpoint as its fallback."""
    endpoint.models = ["main", "second"]
    endpoint.otherwise = answer("main answer")
    urls = f"{endpoint.base_url};{other.base_url}"
    server = Server(tmp_path / "data", OPENAI_API_BASE_URLS=urls, API_V2_MAX_CONCURRENT="4")
    await server.start()
    await say(server, "main", fallback="spare")
    try:
        yield server
    finally:
        await server.close()


async def say(server: Server, model: str, **facts: Any) -> None:
    code, body = await server.request("POST", "/admin/models", json={"id": model, **facts})
    assert code in (200, 201), body


async def key_of(server: Server, email: str) -> str:
    """A key of a user who is no administrator."""
    _, user = await server.request("POST", "/admin/users", json={"email": email})
    _, made = await server.request("POST", f"/admin/users/{user['id']}/keys", json={})
    return str(made["api_key"])


async def answered(server: Server, task_id: str) -> tuple[str, list[str]]:
    """Which model answered, and the warnings."""
    body = await server.finished(task_id)
    assert body["status"] == "completed", body
    return body["result"]["model_used"], list(body["result"]["warnings"])


FELL_BACK = ("spare", ["main did not answer; its fallback spare did."])


async def test_where_the_endpoint_is_down_the_fallback_answers_at_once_and_that_is_said(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    endpoint.otherwise = status(503, Retry_After="3600")
    assert await answered(server, await server.submit(b"some text", model="main")) == FELL_BACK
    assert len(endpoint.calls) == 1
    # Later ones do not ask it again while it asks to wait; those without a fallback wait.
    assert await answered(server, await server.submit(b"more text", model="main")) == FELL_BACK
    waits = await server.submit(b"text for another model", model="second")
    assert await answered(server, await server.submit(b"yet more", model="main")) == FELL_BACK
    assert (await server.status(waits))["waiting_reason"] == "upstream"
    assert (len(endpoint.calls), len(other.calls)) == (1, 3)
    assert server.query("SELECT sum(attempt) FROM tasks WHERE status = 'completed'") == [(3,)], "one attempt each"
    _, health = await server.request("GET", "/api/v2/health")
    assert "A model endpoint is failing; its tasks wait" in health["reasons"]


async def test_where_both_are_down_the_task_waits_for_either(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    endpoint.otherwise = status(503, Retry_After="3600")
    await other.stop()
    task_id = await server.submit(b"some text", model="main")
    body = await server.status(task_id)
    while body.get("waiting_reason") != "upstream":
        body = await server.status(task_id, wait=5)
    await other.start()
    assert await answered(server, task_id) == FELL_BACK


@pytest.mark.parametrize(
    "failure",
    [status(404, {"error": {"message": "model 'main' not found"}}), json_answer(None, refusal="I cannot")],
    ids=["no such model", "refusal"],
)
async def test_where_the_model_fails_for_good_the_fallback_answers(
    server: Server, endpoint: ScriptedEndpoint, failure: Any
) -> None:
    endpoint.otherwise = failure
    assert await answered(server, await server.submit(b"some text", model="main")) == FELL_BACK
    # Its endpoint is not to blame: other models of it are asked as before.
    endpoint.otherwise = answer("second answer")
    assert await answered(server, await server.submit(b"some text", model="second")) == ("second", [])


async def test_where_no_fallback_does_better_the_model_asked_for_is_named(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    endpoint.otherwise = status(400, {"error": {"message": "not to our taste"}})
    other.otherwise = status(400, {"error": {"message": "nor to ours"}})
    body = await server.finished(await server.submit(b"some text", model="main"))
    assert (body["status"], body["error_type"]) == ("failed", "processing_error")
    assert "not to our taste" in body["error"]
    assert (len(endpoint.calls), len(other.calls)) == (1, 1)


async def test_a_fallback_that_does_not_see_gets_no_pictures(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    await say(server, "main", fallback="spare-text")
    await say(server, "spare-text", vision=False, fallback="spare")
    endpoint.otherwise = status(404, {"error": {"message": "gone"}})
    scan = await server.submit(encoded(page_picture("a scan")), "scan.png", model="main")
    assert await answered(server, scan) == FELL_BACK
    text = await server.submit(b"some text", model="main")
    assert (await answered(server, text))[0] == "spare-text"
    assert [bool(call.pictures) for call in other.calls] == [True, False]


async def test_a_fallback_that_its_owner_may_not_use_is_not_asked(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    await say(server, "spare", users=["mary@example.org"])
    endpoint.otherwise = status(404, {"error": {"message": "gone"}})
    for email, outcome in (("mary@example.org", "completed"), ("ada@example.org", "failed")):
        key = await key_of(server, email)
        body = await submitted_by(server, key, model="main")
        assert body["status"] == outcome
    assert len(other.calls) == 1


async def submitted_by(server: Server, key: str, **fields: str) -> dict[str, Any]:
    """The end of a document that somebody sent."""
    form = aiohttp.FormData({"prompt": "What is it?", **fields})
    form.add_field("file", b"some text", filename="note.txt")
    code, body = await server.request("POST", "/api/v2/process", key=key, data=form)
    assert code == 200, body
    return await server.finished(body["task_id"])


async def test_what_waits_for_a_model_that_goes_is_answered_by_its_owners_default(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    await server.request("POST", "/admin/queue/pause")
    await say(server, "extra")
    tasks = [await server.submit(f"text {number}".encode(), model="extra") for number in range(2)]
    _, removed = await server.request("DELETE", "/admin/models/extra")
    assert (removed["exists"], removed["waiting_tasks"]) == (False, 2)
    assert "main" in removed["message"]
    await server.request("POST", "/admin/queue/resume")
    for task_id in tasks:
        model, warnings = await answered(server, task_id)
        assert model == "main"
        assert warnings == ["The model asked for, extra, is no longer available; another one answered."]
    assert (await server.send(b"text", model="extra"))[0] == 422


async def test_what_is_named_but_its_endpoint_does_not_have_is_answered_by_the_default_too(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    await say(server, "extra", timeout=60)

    async def has_no_extra(call: Call) -> web.StreamResponse:
        missing = call.json["model"] == "extra"
        return await (status(404, {"error": {"message": "no such model"}}) if missing else answer("main answer"))(call)

    endpoint.otherwise = has_no_extra
    task_id = await server.submit(b"some text", model="extra")
    note = "The model asked for, extra, is no longer available; another one answered."
    assert await answered(server, task_id) == ("main", [note])
    await say(server, "extra", fallback="spare")
    task_id = await server.submit(b"some text", model="extra")
    assert await answered(server, task_id) == ("spare", ["extra did not answer; its fallback spare did."])


async def test_a_model_that_fails_on_the_task_again_and_again_is_given_up_for_its_fallback(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    await server.request("POST", "/admin/queue/pause")
    task_id = await server.submit(b"some text", model="main")
    with contextlib.closing(sqlite3.connect(server.data_dir / "docv2.db", isolation_level=None)) as database:
        database.execute("UPDATE tasks SET upstream_failures = ?", [FAILURES_TO_GIVE_UP - 1])  # spares a minute's wait
    endpoint.otherwise = status(500)
    other.script(status(500))
    await server.request("POST", "/admin/queue/resume")
    await other.call(1)
    body = await server.status(task_id)
    while body["status"] == "processing":
        body = await server.status(task_id, wait=5)
    assert body["waiting_reason"] == "upstream", "the fallback has tries of its own"
    await server.request("DELETE", f"/api/v2/tasks/{task_id}")
    assert (len(endpoint.calls), len(other.calls)) == (1, 1)


async def test_a_task_that_fell_back_is_put_to_its_own_model_again_after_a_restart(
    server: Server, endpoint: ScriptedEndpoint, other: ScriptedEndpoint
) -> None:
    release = asyncio.Event()
    endpoint.otherwise = status(503, Retry_After="3600")
    other.otherwise = hang(release)
    task_id = await server.submit(b"some text", model="main")
    await other.call(1)
    await server.kill()
    endpoint.otherwise = answer("main answer")
    await server.start()
    assert await answered(server, task_id) == ("main", [])


async def test_a_models_own_time_limit_is_kept_and_holds_for_no_other(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    await say(server, "second", timeout=0.5)
    release = asyncio.Event()
    endpoint.otherwise = hang(release)
    patient = await server.submit(b"some text", model="main")
    await endpoint.call(1)
    body = await server.finished(await server.submit(b"some text", model="second"))
    assert (body["status"], body["error_type"]) == ("failed", "timeout_error")
    assert "0.5 seconds" in body["error"]
    assert (await server.status(patient))["status"] == "processing"
