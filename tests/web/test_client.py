"""Both clients over real connections, against an API that misbehaves where a test wants it to."""

from __future__ import annotations

import asyncio
import inspect
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from docv2.client import (
    AsyncClient,
    AuthError,
    Client,
    Health,
    NotFound,
    RejectedFile,
    Task,
    TaskFailed,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from tests.scripted_api import (
    KEY,
    REQUEST_ID,
    ScriptedAPI,
    completed,
    failed,
    lose_answer,
    page,
    processing,
    queued,
    refuse,
)


class Threaded:
    """The ordinary client, called from threads as from other programs, so that a test can drive both alike."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.client = Client(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return partial(asyncio.to_thread, getattr(self.client, name))

    async def aclose(self) -> None:
        self.client.close()


@pytest.fixture(params=[AsyncClient, Threaded], ids=["async", "sync"])
async def client(request: pytest.FixtureRequest, api: ScriptedAPI) -> AsyncIterator[Any]:
    client = request.param(api.url, KEY, patience=5.0)
    yield client
    await client.aclose()


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, str]:
        named = {name: member for name, member in vars(kind).items() if not name.startswith("_")}
        return {name: str(inspect.signature(member)) for name, member in named.items()}

    plain, of_asyncio = methods(Client), methods(AsyncClient)
    assert plain.pop("close") == of_asyncio.pop("aclose")
    assert plain == of_asyncio


# -- submission -------------------------------------------------------------------------------------------------------
async def test_a_document_is_answered(api: ScriptedAPI, client: Any, tmp_path: Path) -> None:
    document = tmp_path / "läse.txt"
    document.write_bytes(b"rent: 1200")
    api.states = [queued(2), processing(10), processing(60), completed("1200", ("page 3 is blank",))]
    sent: list[int] = []
    seen: list[str] = []
    task = await client.process(
        document,
        "What is the rent?",
        model="m",
        temperature=0.5,
        max_tokens=50,
        on_upload=lambda done, total: sent.append(done),
    )
    assert (task.status, task.config_applied["model"]) == ("processing", "scripted")
    result = await client.wait(task.task_id, on_change=lambda task: seen.append(f"{task.status} {task.progress:.0f}"))
    assert (result.content, result.warnings) == ("1200", ["page 3 is blank"])
    assert result.file_info["size"] == 8
    assert seen == ["queued 0", "processing 10", "processing 60", "completed 100"]
    [call] = api.routes("POST /process")
    assert call.fields == {"prompt": "What is the rent?", "model": "m", "temperature": "0.5", "max_tokens": "50"}
    assert (call.filename, call.sample) == ("läse.txt", b"rent: 1200")
    assert sent[-1] == int(call.headers["Content-Length"])


@pytest.mark.parametrize("kind", ["bytes", "open file", "pipe", "empty"])
async def test_what_a_document_may_be(api: ScriptedAPI, client: Any, kind: str) -> None:
    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

    content = b"" if kind == "empty" else bytes(range(256)) * 1000
    source = {"bytes": content, "empty": content, "open file": BytesIO(content), "pipe": Pipe(content)}[kind]
    await client.process(source, "What is it?", filename="a.txt")
    [call] = api.routes("POST /process")
    assert (call.size, call.sample) == (len(content), content[:1000])
    assert ("Content-Length" in call.headers) == (kind != "pipe")


async def test_a_large_document_is_never_in_memory(api: ScriptedAPI, client: Any, tmp_path: Path) -> None:
    document = tmp_path / "large.pdf"
    with document.open("wb") as file:
        file.truncate(50 * 1024**2)
    tracemalloc.start()
    try:
        await client.process(document, "What is it?")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert api.calls[0].size == 50 * 1024**2
    assert peak < 8 * 1024**2, "this process holds the server of the test as well"


async def test_a_submission_whose_answer_was_lost_is_no_second_task(api: ScriptedAPI, client: Any) -> None:
    api.script("POST /process", lose_answer(api))
    task = await client.process(b"text", "What is it?", filename="a.txt")
    assert task.task_id == "task-1"
    assert len(api.routes("POST /process")) == 2
    assert list(api.tasks) == ["task-1"]


async def test_a_busy_server_is_asked_again_when_it_said(api: ScriptedAPI, client: Any) -> None:
    api.script("POST /process", refuse(503, Retry_After="0"), refuse(429, Retry_After="0.1"))
    await client.process(b"text", "What is it?", filename="a.txt")
    assert len(api.routes("POST /process")) == 3


async def test_a_refused_document_says_why(api: ScriptedAPI, client: Any, tmp_path: Path) -> None:
    document = tmp_path / "large.pdf"
    with document.open("wb") as file:
        file.truncate(20 * 1024**2)
    detail = "File too large. Maximum size: 1.0MB"
    api.script("POST /process", refuse(413, detail, "validation_error", Connection="close"))
    with pytest.raises(RejectedFile) as caught:
        await client.process(document, "What is it?")
    assert (str(caught.value), caught.value.request_id) == (detail, REQUEST_ID)


async def test_no_answer_at_all(api: ScriptedAPI, client: Any) -> None:
    await api.stop()
    for call in (client.health(), client.status("task-1"), client.cancel("task-1")):
        with pytest.raises(Unreachable, match=api.url):
            await call


async def test_something_else_at_the_address(api: ScriptedAPI, client: Any) -> None:
    api.script("POST /process", page())
    with pytest.raises(UnexpectedAnswer):
        await client.process(b"text", "What is it?", filename="a.txt")
    api.script("GET /status", page(301, Location="https://docs.example.org/"))
    with pytest.raises(UnexpectedAnswer, match="redirects"):
        await client.status("task-1")
    assert len(api.calls) == 2


async def test_a_key_that_is_not_known(api: ScriptedAPI) -> None:
    async with AsyncClient(api.url, "sk-other") as stranger:
        with pytest.raises(AuthError) as caught:
            await stranger.process(b"text", "What is it?", filename="a.txt")
    assert caught.value.error_type == "auth_error"


# -- waiting ----------------------------------------------------------------------------------------------------------
async def test_a_restart_of_the_server_is_sat_out(api: ScriptedAPI, client: Any) -> None:
    api.states = [processing(10), completed("still here")]
    api.hold.clear()
    task = await client.process(b"text", "What is it?", filename="a.txt")
    waiting = asyncio.create_task(client.wait(task.task_id, timeout=30))
    await api.until(lambda: len(api.routes("GET /status")) == 2)
    await api.stop()
    api.hold.set()
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done, "the port is closed, and it goes on all the same"
    await api.start()
    assert (await waiting).content == "still here"


async def test_a_proxy_that_has_lost_its_server(api: ScriptedAPI, client: Any) -> None:
    api.script("GET /status", page(502), page(504), refuse(503, Retry_After="0"))
    task = await client.process(b"text", "What is it?", filename="a.txt")
    assert (await client.wait(task.task_id)).content == "The answer."


async def test_a_task_that_does_not_end_in_time(api: ScriptedAPI, client: Any) -> None:
    api.states = [processing(10), completed("too late")]
    api.hold.clear()
    task = await client.process(b"text", "What is it?", filename="a.txt")
    with pytest.raises(WaitTimeout) as caught:
        await client.wait(task.task_id, timeout=0.5)
    assert caught.value.task is not None
    assert caught.value.task.progress == 10


async def test_a_failed_task(api: ScriptedAPI, client: Any) -> None:
    api.states = [failed("The file is encrypted")]
    task = await client.process(b"text", "What is it?", filename="a.txt")
    with pytest.raises(TaskFailed, match="encrypted"):
        await client.wait(task.task_id)


async def test_cancelling(api: ScriptedAPI, client: Any) -> None:
    api.states = [processing(10)]
    task = await client.process(b"text", "What is it?", filename="a.txt")
    ended = await client.cancel(task.task_id)
    assert (ended.status, ended.error_type) == ("failed", "cancelled")
    with pytest.raises(TaskFailed) as caught:
        await client.wait(task.task_id)
    assert caught.value.error_type == "cancelled"
    with pytest.raises(NotFound):
        await client.status("no-such-task")


async def test_many_at_once_wait_for_none_of_the_others(api: ScriptedAPI) -> None:
    api.hold.clear()
    async with AsyncClient(api.url, KEY) as client:
        tasks = [await client.process(b"text", "What is it?", filename="a.txt") for _ in range(150)]
        waiting = [asyncio.create_task(client.wait(task.task_id)) for task in tasks]
        await api.until(lambda: len(api.routes("GET /status")) == 150)
        api.hold.set()
        assert {result.content for result in await asyncio.gather(*waiting)} == {"The answer."}


# -- the rest ---------------------------------------------------------------------------------------------------------
async def test_models_health_and_configuration(api: ScriptedAPI, client: Any) -> None:
    models = await client.models()
    assert [(model.id, model.vision_capable) for model in models.models] == [("scripted", True)]
    assert models.default_model == "scripted"
    config = await client.config()
    assert (config.max_file_size, config.raw["later"]) == (52428800, "field")
    health = await client.health()
    assert (health.status, health.services, health.queue_length) == ("healthy", {"database": True}, 1)


async def test_an_unhealthy_server_still_says_how_it_is(api: ScriptedAPI, client: Any) -> None:
    async def unhealthy(request: Any) -> Any:
        from aiohttp import web

        return web.json_response({"status": "unhealthy", "services": {"database": False}}, status=503)

    api.script("GET /health", unhealthy)
    health = await client.health()
    assert isinstance(health, Health)
    assert (health.status, health.services) == ("unhealthy", {"database": False})


async def test_a_cancelled_upload_lets_go_of_its_file(api: ScriptedAPI) -> None:
    taken = asyncio.Event()

    async def never(request: Any) -> Any:
        taken.set()
        await asyncio.Event().wait()

    api.script("POST /process", never)
    source = BytesIO(bytes(50 * 1024**2))
    async with AsyncClient(api.url, KEY) as client:
        sending: asyncio.Task[Task] = asyncio.create_task(client.process(source, "What is it?", filename="a.txt"))
        await taken.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert not source.closed, "it is the caller's"
