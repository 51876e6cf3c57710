"""The same question to the same document: answered once, for the user who asked it, as long as it would be the same."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.documents import damaged_pages_pdf, page_picture, scanned_pdf, text_pdf
from tests.e2e.server import Server
from tests.endpoint import TEXT_MODEL, VISION_MODEL, ScriptedEndpoint, answer, rejects_parameter, status

DOCUMENT = text_pdf(["The rent is 700 euros.", "It is due on the first."])


@dataclass
class Asker:
    """Sends a document, waits for its answer."""

    server: Server
    endpoint: ScriptedEndpoint

    async def __call__(self, content: bytes = DOCUMENT, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        """The ended task."""
        return (await self.sent(content, key=key, **fields))[1]

    async def sent(
        self, content: bytes = DOCUMENT, *, key: str | None = None, headers: dict[str, str] | None = None, **fields: Any
    ) -> tuple[str, dict[str, Any]]:
        """Its id, and it once it ended."""
        form = aiohttp.FormData({"prompt": "What is the rent?", **fields})
        form.add_field("file", io.BytesIO(content), filename="lease.pdf")
        code, body = await self.server.request("POST", "/api/v2/process", data=form, key=key, headers=headers or {})
        assert code == 200, body
        task_id = str(body["task_id"])
        return task_id, await self.server.finished(task_id)

    async def configure(self, **settings: Any) -> None:
        code, body = await self.server.request("POST", "/admin/config", json={"api_v2": settings})
        assert code == 200, body

    @property
    def calls(self) -> int:
        return len(self.endpoint.calls)


@pytest.fixture
async def ask(server: Server, endpoint: ScriptedEndpoint) -> Asker:
    """Each call of the model is answered in other words."""
    endpoint.otherwise = answer(lambda call: f"answer {endpoint.calls.index(call) + 1}")
    server.settings["ENABLE_MODEL_CACHE"] = "true"
    await server.start()
    return Asker(server, endpoint)


async def test_the_same_question_is_answered_once(ask: Asker) -> None:
    first = await ask()
    assert (first["result"]["content"], first["result"]["cached"]) == ("answer 1", False)
    task_id, again = await ask.sent()
    result = again["result"]
    assert (result["content"], result["cached"], result["usage"]["total_tokens"]) == ("answer 1", True, 0)
    assert {**result, "cached": False, "usage": first["result"]["usage"]} == first["result"]
    assert (again["pages_done"], again["pages_total"], ask.calls) == (2, 2, 1)
    _, ledger = await ask.server.request("GET", f"/api/v2/tasks/{task_id}/pages")
    assert [(page["page"], page["used_as"], page["attempts"]) for page in ledger["pages"]] == [
        (1, "text", 0),
        (2, "text", 0),
    ]
    # What took no work says nothing of how long work takes.
    assert ask.server.query("SELECT weight FROM measurements WHERE kind = 'asking'") == [(1,)]
    assert ask.server.query("SELECT count(*) FROM estimates") == [(1,)]
    await ask.server.restart()
    assert (await ask())["result"]["cached"] is True, "a restart forgets nothing"
    assert ask.calls == 1


@pytest.mark.parametrize(
    "difference",
    [
        {"prompt": "What is the rent in euros?"},
        {"temperature": "0.1"},
        {"max_tokens": "77"},
        {"detail": "text"},
        {"model": TEXT_MODEL},
        {"response_format": '{"type": "json_object"}'},
        {"content": text_pdf(["The rent is 800 euros."])},
    ],
    ids=lambda difference: next(iter(difference)),
)
async def test_another_question_is_asked(ask: Asker, difference: dict[str, Any]) -> None:
    await ask(model=VISION_MODEL)
    ask.endpoint.otherwise = answer('{"rent": 1}')
    assert (await ask(**{"model": VISION_MODEL, **difference}))["result"]["cached"] is False
    assert ask.calls == 2


async def test_nobody_is_given_the_answer_of_another(ask: Asker) -> None:
    await ask()
    for name in ("users add", "keys create"):
        process = await asyncio.create_subprocess_exec(
            ask.server.program, *name.split(), "ada@example.org",
            env=ask.server.environment(), cwd=ask.server.data_dir.parent, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
    assert (await ask(key=out.decode().strip()))["result"]["cached"] is False
    assert ask.calls == 2


@pytest.mark.parametrize(
    "setting",
    [
        {"default_prompt_template": "Be brief. {prompt}"},
        {"enable_vision": False},
        {"enable_multimodal": False},
        {"temperature": 0.3},
        {"model_cache": {"enabled": False}},
        {"admin_model": TEXT_MODEL},
    ],
    ids=lambda setting: next(iter(setting)),
)
async def test_what_is_configured_otherwise_is_asked_anew(ask: Asker, setting: dict[str, Any]) -> None:
    await ask()
    await ask.configure(**setting)
    assert (await ask())["result"]["cached"] is False
    assert ask.calls == 2
    await ask.configure(**dict.fromkeys(setting))
    assert (await ask())["result"]["cached"] is True


async def test_an_answer_is_given_again_for_as_long_as_is_configured(ask: Asker) -> None:
    await ask()
    await ask.configure(model_cache={"ttl": 0.001})
    assert (await ask())["result"]["content"] == "answer 2"
    await ask.configure(model_cache={"ttl": None})
    assert (await ask())["result"]["content"] == "answer 2", "the newest"


@pytest.mark.parametrize("header", ["no-cache", "max-age=0, No-Cache"])
async def test_whoever_wants_a_fresh_answer_gets_one_and_so_does_the_next(ask: Asker, header: str) -> None:
    await ask()
    _, fresh = await ask.sent(headers={"Cache-Control": header})
    assert (fresh["result"]["content"], fresh["result"]["cached"]) == ("answer 2", False)
    assert (await ask())["result"]["content"] == "answer 2"
    assert ask.calls == 2


def unread_page(_: ScriptedEndpoint) -> dict[str, Any]:
    return {"content": damaged_pages_pdf(["First.", None, "Third."])}


def cut_short(endpoint: ScriptedEndpoint) -> dict[str, Any]:
    endpoint.otherwise = answer("The rent is", finish="length")
    return {}


def counted_too_few(endpoint: ScriptedEndpoint) -> dict[str, Any]:
    endpoint.otherwise = answer("The rent is low.", usage=(20, 7))
    return {"content": text_pdf(["A line of forty characters, give or take.\n" * 50 for _ in range(20)])}


def not_seen(_: ScriptedEndpoint) -> dict[str, Any]:
    return {"content": scanned_pdf([page_picture("a scan")]), "detail": "text"}


@pytest.mark.parametrize("lack", [unread_page, cut_short, counted_too_few, not_seen])
async def test_an_answer_that_lacks_something_is_not_given_again(
    ask: Asker, lack: Callable[[ScriptedEndpoint], dict[str, Any]]
) -> None:
    sent = lack(ask.endpoint)
    first, second = await ask(**sent), await ask(**sent)
    assert first["status"] == second["status"] == ("failed" if lack is not_seen else "completed")
    assert first["status"] == "failed" or (first["result"]["warnings"] and second["result"]["cached"] is False)
    assert ask.server.query("SELECT * FROM answers") == []


async def test_a_parameter_that_the_model_does_not_take_is_no_lack(ask: Asker) -> None:
    refusal = rejects_parameter("temperature", "Unsupported value: 'temperature' does not support 0.7 with this model.")
    ask.endpoint.script(refusal)
    first = await ask()
    assert "takes no temperature" in first["result"]["warnings"][0]
    again = await ask()
    assert (again["result"]["cached"], again["result"]["warnings"]) == (True, first["result"]["warnings"])


async def test_the_answer_of_a_fallback_is_not_given_again(ask: Asker) -> None:
    await ask.configure(model_configs={VISION_MODEL: {"fallback": TEXT_MODEL}})
    ask.endpoint.script(status(400), answer("the fallback's"))
    first = await ask(model=VISION_MODEL)
    assert (first["result"]["content"], first["result"]["model_used"]) == ("the fallback's", TEXT_MODEL)
    second = await ask(model=VISION_MODEL)
    assert (second["result"]["cached"], second["result"]["model_used"]) == (False, VISION_MODEL)
    assert (await ask(model=VISION_MODEL))["result"]["cached"] is True


async def test_off_unless_it_is_switched_on(server: Server, endpoint: ScriptedEndpoint) -> None:
    await server.start()
    ask = Asker(server, endpoint)
    assert [(await ask())["result"]["cached"] for _ in range(2)] == [False, False]
    await ask.configure(model_cache={"enabled": True})
    assert [(await ask())["result"]["cached"] for _ in range(2)] == [False, True]
    assert ask.calls == 3
