"""The embedded reader over HTTP, with its children, as the rest of docv2 meets it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from docv2.errors import ContextExceeded, ModelError, UpstreamUnavailable
from docv2.llm.capabilities import models_of
from docv2.llm.client import Endpoint
from docv2.llm.embedded import server
from docv2.llm.embedded.answer import CONTEXT, MODEL, PICTURES_PER_CALL
from docv2.llm.embedded.server import EmbeddedReader
from docv2.llm.embedded.wording import NOTICE
from docv2.sandbox import Sandbox
from tests.unit.embedded_samples import REPORT, encoded, messages, picture, scanned
from tests.waiting import until

QUESTION = messages("Who are the auditors?", list(REPORT.pages))
PAGE = encoded(picture(REPORT.pages[1]))
SLOW = messages("Who are the auditors?", [encoded(scanned(picture(REPORT.pages[0])))] * 8)
"""Several seconds of work."""


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    opened = Sandbox()
    await opened.start()
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def reader(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[EmbeddedReader]:
    async with EmbeddedReader(sandbox, tmp_path / "reader") as opened:
        yield opened


@pytest_asyncio.fixture
async def client(reader: EmbeddedReader) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {reader.key}"}
    async with aiohttp.ClientSession(f"{reader.base_url}/", headers=headers) as session:
        yield session


def body(asked: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": asked, **more}


def kill_child(sandbox: Sandbox) -> None:
    [child] = sandbox.children()
    os.kill(child.pid, signal.SIGKILL)


# -- the interface ----------------------------------------------------------------------------------------------------
async def test_docv2s_own_client_gets_an_answer(reader: EmbeddedReader) -> None:
    async with Endpoint(reader.base_url, reader.key) as endpoint:
        seen: list[int] = []
        reply = await endpoint.ask(MODEL, QUESTION, temperature=0.7, max_tokens=8000, on_progress=seen.append)
    assert reply.content.startswith(NOTICE)
    assert "Brandt and Lowe" in reply.content
    assert reply.finish_reason == "stop"
    assert reply.prompt_tokens >= len("".join(REPORT.pages)) / 3
    assert reply.completion_tokens > 0
    assert not reply.notes
    assert seen[-1] == len(reply.content)


async def test_the_catalogue_learns_what_it_can_do(reader: EmbeddedReader) -> None:
    async with Endpoint(reader.base_url, reader.key) as endpoint:
        [told] = await models_of(endpoint)
    assert (told.id, told.vision, told.context, told.pictures) == (MODEL, True, CONTEXT, PICTURES_PER_CALL)


async def test_without_tesseract_it_does_not_see_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))  # Tesseract without any language.
    sandbox = Sandbox()
    async with EmbeddedReader(sandbox, tmp_path / "reader") as one, Endpoint(one.base_url, one.key) as endpoint:
        [told] = await models_of(endpoint)
        assert told.vision is False
        assert "Brandt" in (await endpoint.ask(MODEL, QUESTION, temperature=0, max_tokens=800)).content
        with pytest.raises(ModelError, match=r"install docv2\[reader\]"):
            await endpoint.ask(MODEL, messages("What?", [PAGE]), temperature=0, max_tokens=800)
    await sandbox.close()


async def test_a_stream_in_its_parts(client: aiohttp.ClientSession) -> None:
    asked = body(messages("Who are the auditors?", [PAGE]), stream=True, stream_options={"include_usage": True})
    async with client.post("chat/completions", json=asked) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        lines = (await response.text()).split("\n\n")
    assert ": page 1 was read" in lines
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2] if line.startswith("data: ")]
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {("chat.completion.chunk", MODEL)}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    content = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert content.startswith(NOTICE)
    assert "Brandt and Lowe" in content
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    usage = chunks[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


async def test_usage_is_streamed_only_where_asked_for(client: aiohttp.ClientSession) -> None:
    async with client.post("chat/completions", json=body(QUESTION, stream=True)) as response:
        assert '"usage"' not in await response.text()


async def test_an_answer_in_one(client: aiohttp.ClientSession) -> None:
    async with client.post("chat/completions", json=body(QUESTION)) as response:
        answer = await response.json()
    assert answer["object"] == "chat.completion"
    assert "Brandt and Lowe" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] > 0


# -- who may ask, and what is refused ---------------------------------------------------------------------------------
@pytest.mark.parametrize("offered", [None, "", "Bearer ", "Bearer x", "Basic eDp5", "Bearer \udcff"])
async def test_nobody_gets_in_without_the_token(reader: EmbeddedReader, offered: str | None) -> None:
    headers = {} if offered is None else {"Authorization": offered}
    async with aiohttp.ClientSession(f"{reader.base_url}/") as session:
        for method, path in (("GET", "models"), ("POST", "chat/completions"), ("GET", "nothing")):
            async with session.request(method, path, headers=headers) as response:
                assert response.status == 401
                assert (await response.json())["error"]["code"] == "invalid_api_key"


async def test_each_start_has_a_token_of_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    assert len({EmbeddedReader(sandbox, tmp_path).key for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("GET", "nothing", b"", 404, "invalid_request"),
        ("GET", "chat/completions", b"", 405, "invalid_request"),
        ("POST", "chat/completions", b"{", 400, "invalid_request"),
        ("POST", "chat/completions", b'{"model": "gpt-4o"}', 404, "model_not_found"),
    ],
)
async def test_errors_have_the_shape_of_the_interface(
    client: aiohttp.ClientSession, method: str, path: str, sent: bytes, status: int, code: str
) -> None:
    async with client.request(method, path, data=sent) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["type"] == "invalid_request_error"


async def test_too_much_text_is_told_so_that_docv2_splits(reader: EmbeddedReader) -> None:
    async with Endpoint(reader.base_url, reader.key) as endpoint:
        with pytest.raises(ContextExceeded):
            await endpoint.ask(MODEL, messages("What?", ["x" * 3 * CONTEXT]), temperature=0, max_tokens=10)


async def test_a_body_is_refused_while_it_arrives(
    client: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_BODY", 3 * 1024**2)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024**2
            yield bytes(1024**2)

    with suppress(aiohttp.ClientError):  # The connection is closed, whether or not the answer was read before.
        async with client.post("chat/completions", data=endless()) as response:
            assert response.status == 413
    assert sent < 64 * 1024**2
    await until(lambda: not list((tmp_path / "reader").iterdir()))


# -- children ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_takes_the_child_along(
    client: aiohttp.ClientSession, sandbox: Sandbox, tmp_path: Path, stream: bool
) -> None:
    headers = {"X-Client-Request-Id": "task-7"}
    sent = io.BytesIO(json.dumps(body(SLOW, stream=stream)).encode())
    asking = asyncio.ensure_future(client.post("chat/completions", data=sent, headers=headers))
    await until(lambda: list((tmp_path / "reader").glob("*/1.txt")))
    assert [child.owner for child in sandbox.children()] == ["task-7"]
    if asking.done():
        asking.result().close()
    asking.cancel()
    await until(lambda: not sandbox.children(), seconds=1.0)
    await until(lambda: not list((tmp_path / "reader").iterdir()), seconds=1.0)


async def test_leaving_ends_what_is_under_way(sandbox: Sandbox, tmp_path: Path) -> None:
    async with (
        EmbeddedReader(sandbox, tmp_path / "reader") as reader,
        Endpoint(reader.base_url, reader.key) as endpoint,
    ):
        asking = asyncio.create_task(endpoint.ask(MODEL, SLOW, temperature=0, max_tokens=800))
        await until(lambda: list((tmp_path / "reader").glob("*/0.txt")))
        async with asyncio.timeout(4):
            await reader.__aexit__()
        with pytest.raises(UpstreamUnavailable):
            await asking
    await until(lambda: not sandbox.children() and not list((tmp_path / "reader").iterdir()), seconds=1.0)


async def test_no_more_children_than_processors(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    most = 0
    async with EmbeddedReader(sandbox, tmp_path / "reader") as one, Endpoint(one.base_url, one.key) as endpoint:
        asked = messages("Who are the auditors?", [PAGE])
        asking = [asyncio.create_task(endpoint.ask(MODEL, asked, temperature=0, max_tokens=800)) for _ in range(3)]

        def answered() -> bool:
            nonlocal most
            most = max(most, len(sandbox.children()))
            return all(task.done() for task in asking)

        await until(answered, seconds=30)
        assert all("Brandt" in task.result().content for task in asking)
    assert most == 1


async def test_a_picture_that_kills_its_child_is_named_and_the_others_are_read(
    reader: EmbeddedReader, sandbox: Sandbox, tmp_path: Path
) -> None:
    async with Endpoint(reader.base_url, reader.key) as endpoint:
        pages: list[str | bytes] = [encoded(scanned(picture(REPORT.pages[0]))), PAGE]
        asking = asyncio.create_task(
            endpoint.ask(MODEL, messages("Who are the auditors?", pages), temperature=0, max_tokens=800)
        )
        await until(lambda: list((tmp_path / "reader").glob("*/0.txt")))
        kill_child(sandbox)
        content = (await asking).content
    assert "No readable text found on page 1: looking at it failed." in content
    assert "1. Page 2" in content


async def test_children_that_keep_dying_end_as_an_error(
    reader: EmbeddedReader, sandbox: Sandbox, tmp_path: Path
) -> None:
    async with Endpoint(reader.base_url, reader.key) as endpoint:
        asking = asyncio.create_task(endpoint.ask(MODEL, SLOW, temperature=0, max_tokens=800))
        for death in range(server.DEATHS):
            await until(lambda at=death: list((tmp_path / "reader").glob(f"*/{at}.txt")))  # type: ignore[misc]
            kill_child(sandbox)
        with pytest.raises(UpstreamUnavailable, match="failed on this request"):
            await asking
    await until(lambda: not list((tmp_path / "reader").iterdir()))


async def test_requests_of_a_run_before_are_removed(sandbox: Sandbox, tmp_path: Path) -> None:
    left, other = tmp_path / "reader" / "request-abc", tmp_path / "reader" / "mine"
    left.mkdir(parents=True)
    (left / "request.json").touch()
    other.touch()
    async with EmbeddedReader(sandbox, tmp_path / "reader"):
        assert not left.exists()
        assert other.exists()
