"""Every way in which a model endpoint can answer or fail, over HTTP and through the real SDK."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import docv2
from docv2.errors import CannotSee, ContextExceeded, DocV2Error, ModelError, UpstreamUnavailable
from docv2.llm import client
from docv2.llm.client import Endpoint
from docv2.llm.learned import Facts
from docv2.llm.reply import Reply
from tests import endpoint as scripted
from tests import programs
from tests.endpoint import KEY, VISION_MODEL, Behaviour, ScriptedEndpoint

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedEndpoint]:
    async with ScriptedEndpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def endpoint(server: ScriptedEndpoint) -> AsyncIterator[Endpoint]:
    async with Endpoint(server.base_url, KEY) as opened:
        yield opened


async def ask(endpoint: Endpoint, *, pictures: int = 0, prompt: str = "What is it?", **given: Any) -> Reply:
    content: object = [{"type": "text", "text": prompt}] + [PICTURE] * pictures if pictures else prompt
    arguments: dict[str, Any] = {"temperature": 0.5, "max_tokens": 100, "task_id": "task-1"} | given
    return await endpoint.ask(VISION_MODEL, [{"role": "user", "content": content}], **arguments)


async def failure(endpoint: Endpoint, **given: Any) -> DocV2Error:
    with pytest.raises(DocV2Error) as caught:
        await ask(endpoint, **given)
    return caught.value


# -- answers ----------------------------------------------------------------------------------------------------------
async def test_streams_an_answer(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.script(scripted.answer("Forty-two, on page 3.", pieces=3))
    progress: list[int] = []
    reply = await ask(endpoint, on_progress=progress.append)
    assert reply == Reply("Forty-two, on page 3.", "stop", prompt_tokens=11, completion_tokens=7)
    assert progress == [7, 14, 21]


async def test_sends_what_was_asked_and_who_asks(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    await ask(endpoint, pictures=1)
    call = server.calls[0]
    assert call.json["model"] == VISION_MODEL
    assert (call.json["temperature"], call.json["max_tokens"], call.json["stream"]) == (0.5, 100, True)
    assert call.json["stream_options"] == {"include_usage": True}
    assert (call.text, call.pictures) == ("What is it?", ["data:image/jpeg;base64,AAAA"])
    assert call.headers["X-Client-Request-Id"] == "task-1"
    assert call.headers["User-Agent"] == f"docv2/{docv2.__version__}"
    assert call.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("url", "key", "authorization"),
    [
        ("http://{host}/v1", "", None),
        ("http://{host}/v1/", KEY, f"Bearer {KEY}"),
        ("http://user:pa%20ss@{host}/v1", "", "Basic dXNlcjpwYSBzcw=="),
    ],
)
async def test_credentials_are_the_configured_ones_alone(
    server: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, url: str, key: str, authorization: str | None
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "from-the-environment")
    host = server.base_url.removeprefix("http://").removesuffix("/v1")
    async with Endpoint(url.format(host=host), key) as endpoint:
        await ask(endpoint)
        assert endpoint.name == f"http://{host}/v1"
    sent = server.calls[0].headers
    assert sent.get("Authorization") == authorization
    assert "from-the-environment" not in sent.values()


async def test_json_instead_of_a_stream(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.script(scripted.json_answer("Plain."), scripted.json_answer("No reason given.", finish=None))
    assert await ask(endpoint) == Reply("Plain.", "stop", prompt_tokens=11, completion_tokens=7)
    assert (await ask(endpoint)).finish_reason == "stop"


async def test_an_answer_cut_at_max_tokens_is_an_answer(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.script(scripted.answer("Half of it", finish="length"))
    assert (await ask(endpoint)).finish_reason == "length"


async def test_an_answer_may_come_as_parts_and_without_usage(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    parts = [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "Yes"}]
    server.script(
        scripted.events(
            {"choices": None},
            {"choices": [{"delta": {"content": parts}}, {"index": 1, "delta": {"content": "another"}}]},
            {"choices": [{"delta": {"content": "\ud800\0!"}, "finish_reason": "stop"}]},
            {"usage": {"prompt_tokens": -1, "completion_tokens": 10**30}, "choices": []},
        )
    )
    assert await ask(endpoint) == Reply("Yes?!", "stop", prompt_tokens=0, completion_tokens=0)


async def test_comments_and_other_events_are_passed_over(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    chunk = {"choices": [{"delta": {"content": "Yes"}, "finish_reason": "stop"}]}
    stream = f": still working\n\nevent: ping\ndata: {{}}\n\ndata: {json.dumps(chunk)}\n\n"
    server.script(scripted.raw(stream, "text/event-stream"))
    assert (await ask(endpoint)).content == "Yes"


async def test_says_when_the_endpoint_cannot_have_read_everything(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.otherwise = scripted.answer("Hm.", usage=(2050, 5))
    (note,) = (await ask(endpoint, prompt="long " * 10_000)).notes
    assert "read 2050 tokens of about 12500" in note
    assert (await ask(endpoint, prompt="long " * 1_000)).notes == ()


# -- parameters that a model does not take ----------------------------------------------------------------------------
REJECTS_MAX_TOKENS = scripted.rejects_parameter(
    "max_tokens",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
)
REJECTS_TEMPERATURE = scripted.rejects_parameter(
    "temperature",
    "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.",
)
REJECTS_USAGE = scripted.status(
    422,
    {
        "object": "error",
        "message": {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
    },
)
REJECTS_SO_MANY = scripted.rejects_parameter(
    "max_tokens", "max_tokens is too large: 100. This model supports at most 64 completion tokens."
)


async def test_adapts_to_what_the_model_takes_and_remembers(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.script(REJECTS_USAGE, REJECTS_MAX_TOKENS, REJECTS_TEMPERATURE, REJECTS_SO_MANY)
    reply = await ask(endpoint)
    assert reply.notes == (
        "The model takes no temperature; its own was used.",
        "The model writes at most 64 tokens; 100 were asked for.",
    )
    assert len(server.calls) == 5
    assert (await ask(endpoint)).notes == reply.notes
    assert len(server.calls) == 6
    for call in server.calls[-2:]:
        assert call.json.keys() == {"model", "messages", "stream", "max_completion_tokens"}
        assert call.json["max_completion_tokens"] == 64


async def test_goes_back_to_the_old_name(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    await endpoint.learned.keep(VISION_MODEL, Facts(max_completion_tokens=True))
    server.script(
        scripted.rejects_parameter("max_completion_tokens", "Unrecognized request argument: max_completion_tokens")
    )
    await ask(endpoint)
    assert [set(call.json) & {"max_tokens", "max_completion_tokens"} for call in server.calls] == [
        {"max_completion_tokens"},
        {"max_tokens"},
    ]


async def test_does_not_adapt_for_ever_nor_remember_what_did_not_help(
    server: ScriptedEndpoint, endpoint: Endpoint
) -> None:
    server.otherwise = REJECTS_MAX_TOKENS
    assert type(await failure(endpoint)) is ModelError
    assert len(server.calls) == client.LESSONS + 1
    assert endpoint.learned.of(VISION_MODEL) == Facts()


async def test_a_value_out_of_range_is_the_callers_to_mend(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.script(scripted.rejects_parameter("temperature", "temperature must be less than or equal to 1"))
    assert "temperature must be less" in (await failure(endpoint)).message
    assert len(server.calls) == 1


# -- the endpoint, not the task ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("behaviour", "down", "retry_after", "told"),
    [
        (scripted.status(429), True, 1.0, "unavailable (HTTP 429): status 429"),
        (scripted.status(429, Retry_After="7"), True, 7.0, "unavailable (HTTP 429)"),
        (scripted.status(429, retry_after_ms="1500"), True, 1.5, "unavailable"),
        (scripted.status(503, Retry_After="99999"), True, 3600.0, "unavailable (HTTP 503)"),
        (scripted.status(502, "<html><h1>Bad gateway</h1>"), True, None, "unavailable (HTTP 502)."),
        (scripted.status(529), True, 1.0, "unavailable (HTTP 529)"),
        (scripted.status(400, {"detail": "429: slow down"}), True, 1.0, "unavailable (HTTP 429): slow down"),
        (scripted.status(500), False, None, "failed (HTTP 500): status 500"),
        (scripted.status(504), False, None, "failed (HTTP 504)"),
        (scripted.status(408), False, None, "failed (HTTP 408)"),
        (scripted.reset(), False, None, "broke off"),
        (scripted.reset(after="Forty"), False, None, "broke off"),
        (scripted.answer("Forty", finish=None), False, None, "broke off in the middle"),
        (scripted.events("{"), False, None, "no answer"),
        (scripted.events("[" * 100_000), False, None, "no answer"),
        (scripted.events([1, 2]), False, None, "no answer"),
        (scripted.events({"choices": "none"}), False, None, "no answer"),
        (scripted.raw(b"data: \xff\xfe\n\n", "text/event-stream"), False, None, "no answer"),
        (scripted.html(), False, None, "no answer"),
        (scripted.raw('{"choices": [{"message": {"con'), False, None, "no answer"),
        (scripted.raw("[]"), False, None, "no answer"),
        (scripted.raw("{}"), False, None, "without a choice"),
        (scripted.raw('{"choices": []}'), False, None, "without a choice"),
        (scripted.raw("", "text/event-stream"), False, None, "without a choice"),
        (scripted.events({"choices": []}), False, None, "without a choice"),
        (scripted.answer(""), False, None, "with nothing"),
        (scripted.answer(" \n"), False, None, "with nothing"),
        (scripted.json_answer(None), False, None, "with nothing"),
        (scripted.answer("Forty", finish="error"), False, None, "broke the answer off"),
        (scripted.events({"error": {"message": "Provider disconnected", "code": 502}}), True, None, "(HTTP 502)"),
        (scripted.events({"error": "out of luck"}), False, None, "reported an error: out of luck"),
        (scripted.raw('{"error": {"message": "no luck", "code": 429}}'), True, 1.0, "(HTTP 429): no luck"),
    ],
)
async def test_failures_that_may_pass(
    server: ScriptedEndpoint,
    endpoint: Endpoint,
    behaviour: Behaviour,
    down: bool,
    retry_after: float | None,
    told: str,
) -> None:
    server.script(behaviour)
    error = await failure(endpoint)
    assert isinstance(error, UpstreamUnavailable)
    assert (error.endpoint_down, error.retry_after) == (down, retry_after)
    assert told in error.message
    assert (await ask(endpoint)).content == "The answer."  # and nothing is left behind that hurts the next call


@pytest.mark.parametrize(
    "behaviour",
    [
        scripted.endless_body(),
        scripted.endless_line(),
        scripted.endless(b" " * 65_536, "application/json"),
        scripted.endless(b"error " * 10_000, "text/plain", code=500),
    ],
)
async def test_endless_answers_end(server: ScriptedEndpoint, endpoint: Endpoint, behaviour: Behaviour) -> None:
    server.script(behaviour)
    error = await failure(endpoint)
    assert "too long" in error.message
    await asyncio.wait_for(server.calls[0].gone.wait(), scripted.DEADLINE)


async def test_a_compressed_answer_is_not_unpacked(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.script(scripted.status(200, "x", Content_Encoding="gzip"))
    assert "no answer" in (await failure(endpoint)).message
    assert server.calls[0].headers["Accept-Encoding"] == "identity"


async def test_refused_connection(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    await server.stop()
    error = await failure(endpoint)
    assert isinstance(error, UpstreamUnavailable)
    assert error.endpoint_down
    await server.start()
    assert (await ask(endpoint)).content == "The answer."


async def test_unknown_host() -> None:
    async with Endpoint("http://no-such-host.invalid/v1") as endpoint:
        error = await failure(endpoint)
    assert isinstance(error, UpstreamUnavailable)
    assert error.endpoint_down
    assert "no-such-host" not in error.message


@pytest.mark.parametrize("behaviour", [scripted.hang(), scripted.stalls_after("Forty")])
async def test_silence_ends_the_call(server: ScriptedEndpoint, behaviour: Behaviour) -> None:
    server.script(behaviour)
    async with Endpoint(server.base_url, silent_seconds=0.2) as endpoint:
        error = await failure(endpoint)
    assert isinstance(error, UpstreamUnavailable)
    assert not error.endpoint_down
    assert "stopped sending" in error.message


# -- cancelling -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("behaviour", [scripted.hang(), scripted.stalls_after("Forty"), scripted.endless_body()])
async def test_cancelling_closes_the_connection(
    server: ScriptedEndpoint, endpoint: Endpoint, behaviour: Behaviour
) -> None:
    server.script(behaviour)
    question = asyncio.create_task(ask(endpoint))
    call = await server.call(1)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    await asyncio.wait_for(call.gone.wait(), 1.0)
    await server.until(lambda: server.connections == 0)


async def test_a_deadline_ends_a_drip(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    gate = asyncio.Semaphore(0)
    server.script(scripted.answer("x" * 100_000, pieces=100_000, gate=gate))

    def drip(_: int) -> None:
        gate.release()  # the next byte only comes once this one was read: for ever moving, never done

    gate.release()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ask(endpoint, on_progress=drip)
    call = await server.call(1)
    await asyncio.wait_for(call.gone.wait(), 1.0)


# -- the request, not the endpoint ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (scripted.status(400, {"error": {"message": "bad \x1b[31m\nrequest"}}), "(HTTP 400): bad [31m request"),
        (scripted.status(404, {"error": "model 'x' not found"}), "(HTTP 404): model 'x' not found"),
        (scripted.status(401), "refused the credentials"),
        (scripted.status(403, {"detail": "country not supported"}), "access with the server's credentials"),
        (scripted.status(307, "", Location="http://127.0.0.1:9/elsewhere"), "has moved"),
        (scripted.status(422, {"detail": [{"loc": ["body"], "msg": "no", "input": "secret text"}]}), "(HTTP 422): no"),
        (scripted.answer("No", finish="content_filter"), "content filter"),
        (scripted.json_answer(None, refusal="I will not."), "refused to answer: I will not."),
        (scripted.events({"choices": [{"delta": {"refusal": "No."}, "finish_reason": "stop"}]}), "to answer: No."),
        (scripted.answer("", finish="length"), "used up max_tokens"),
    ],
)
async def test_failures_for_good(server: ScriptedEndpoint, endpoint: Endpoint, behaviour: Behaviour, told: str) -> None:
    server.script(behaviour)
    error = await failure(endpoint)
    assert type(error) is ModelError
    assert told in error.message
    assert "secret text" not in error.message


async def test_an_endpoints_words_are_bounded(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.script(scripted.status(400, {"error": {"message": "word " * 10_000}}))
    assert len((await failure(endpoint)).message) < 400


@pytest.mark.parametrize("words", [f"Incorrect API key provided: {KEY}.", "sk-abcd****wxyz", "http://a:b@host/v1"])
async def test_no_credentials_in_errors_or_logs(
    server: ScriptedEndpoint, caplog: pytest.LogCaptureFixture, words: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.otherwise = scripted.in_turn(
        scripted.status(401, words), scripted.status(403, words), scripted.status(500, words)
    )
    host = server.base_url.removeprefix("http://")
    shown = []
    for url, key in ((server.base_url, KEY), (f"http://user:{KEY}@{host}", "")):
        async with Endpoint(url, key) as endpoint:
            shown += [(await failure(endpoint)).message for _ in range(3)]
            await server.stop()
            shown.append((await failure(endpoint)).message)
            await server.start()
    for text in (*shown, caplog.text):
        assert not any(secret in text for secret in (KEY, "sk-abcd", "a:b@"))


# -- what a refusal teaches -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "body"),
    [
        (400, {"error": {"message": "Invalid content type. image_url is only supported by certain models."}}),
        (400, {"object": "error", "message": "facebook/opt-125m is not a multimodal model", "code": 400}),
        (500, {"error": {"message": "image input is not supported - hint: you may need to provide the mmproj"}}),
        (404, {"error": {"message": "No endpoints found that support image input", "code": 404}}),
        (400, {"error": "Model does not support images. Please use a model that does."}),
        (400, {"error": {"message": "this model does not support image input (ref: b8bd)"}}),
        (400, {"error": "Only 'text' content type is supported."}),
        (422, {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "Input should be a valid string"}]}),
        (415, {"error": {"message": "multimodal input is not supported"}}),
        (400, {"error": {"message": "Provider returned error", "metadata": {"raw": "unknown variant `image_url`"}}}),
    ],
)
async def test_a_model_that_cannot_see(
    server: ScriptedEndpoint, endpoint: Endpoint, code: int, body: dict[str, Any]
) -> None:
    server.otherwise = scripted.status(code, body)
    assert not isinstance(await failure(endpoint), CannotSee)  # nothing was there to be seen
    assert isinstance(await failure(endpoint, pictures=1), CannotSee)
    assert endpoint.learned.of(VISION_MODEL).cannot_see


@pytest.mark.parametrize(
    "words", ["unsupported image format", "The provided image format is not supported", "image exceeds 5 MB maximum"]
)
async def test_a_picture_it_cannot_use_does_not_make_a_model_blind(
    server: ScriptedEndpoint, endpoint: Endpoint, words: str
) -> None:
    server.script(scripted.status(400, {"error": {"message": words}}))
    assert type(await failure(endpoint, pictures=1)) is ModelError
    assert not endpoint.learned.of(VISION_MODEL).cannot_see


@pytest.mark.parametrize(
    ("behaviour", "context"),
    [
        (
            scripted.status(
                400,
                {
                    "error": {
                        "message": "This model's maximum context length is 8192 tokens. However, your messages "
                        "resulted in 11000 tokens.",
                        "code": "context_length_exceeded",
                    }
                },
            ),
            8192,
        ),
        (
            scripted.status(
                400,
                {"error": {"message": "the request exceeds the available context size", "n_ctx": 4096, "code": 400}},
            ),
            4096,
        ),
        (scripted.events({"error": "loaded with context length of only 4096 tokens, context the overflows"}), 4096),
        (scripted.status(400, {"error": "prompt is too long: 11000 tokens"}), 7575),
        (scripted.status(413, "<html>Request Entity Too Large"), 7575),
    ],
)
async def test_a_request_that_is_too_large(
    server: ScriptedEndpoint, endpoint: Endpoint, behaviour: Behaviour, context: int
) -> None:
    server.script(behaviour)
    error = await failure(endpoint, prompt="x" * 30_000)
    assert isinstance(error, ContextExceeded)
    assert endpoint.learned.of(VISION_MODEL).context == context


@pytest.mark.parametrize(
    ("behaviour", "pictures"),
    [
        (scripted.status(400, {"object": "error", "message": "At most 1 image(s) may be provided in one request."}), 1),
        (scripted.status(400, {"error": "At most 9999 image(s) may be provided in one request."}), 7),
        (scripted.status(400, {"error": f"At most {'9' * 7000} image(s) may be provided in one request."}), 4),
        (scripted.status(413), 4),
    ],
)
async def test_more_pictures_than_it_takes(
    server: ScriptedEndpoint, endpoint: Endpoint, behaviour: Behaviour, pictures: int
) -> None:
    server.script(behaviour)
    assert isinstance(await failure(endpoint, pictures=8), ContextExceeded)
    assert endpoint.learned.of(VISION_MODEL).pictures == pictures


@pytest.mark.parametrize("status", [400, 413])
async def test_one_picture_that_is_too_large_says_nothing_of_other_requests(
    server: ScriptedEndpoint, endpoint: Endpoint, status: int
) -> None:
    server.script(scripted.status(status, {"error": "prompt is too long"}))
    assert isinstance(await failure(endpoint, pictures=1), ContextExceeded)
    assert endpoint.learned.of(VISION_MODEL) == Facts()


async def test_beside_one_picture_it_may_be_the_text_that_is_too_large(
    server: ScriptedEndpoint, endpoint: Endpoint
) -> None:
    server.script(scripted.status(413))
    await failure(endpoint, pictures=1, prompt="x" * 30_000)
    context = endpoint.learned.of(VISION_MODEL).context
    assert context is not None
    assert context < 11_000


# -- other things it is asked -----------------------------------------------------------------------------------------
async def test_get(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.pages["/props"] = {"n_ctx": 1}
    server.pages["/api/show"] = lambda body: {"model": body["model"]}
    listed = await endpoint.get("/models")
    assert isinstance(listed, dict)
    assert listed["object"] == "list"
    root = server.base_url.removesuffix("/v1")
    assert await endpoint.get(f"{root}/props") == {"n_ctx": 1}
    assert await endpoint.get(f"{root}/api/show", {"model": "m"}) == {"model": "m"}
    with pytest.raises(ModelError):
        await endpoint.get(f"{root}/nothing")
    server.models_behaviour = scripted.raw("{")
    with pytest.raises(UpstreamUnavailable):
        await endpoint.get("/models")


async def test_calls_share_nothing_but_the_connection_pool(server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.otherwise = scripted.answer(lambda call: f"You said {call.text}.")
    replies = await asyncio.gather(*(ask(endpoint, prompt=f"word {n}") for n in range(20)))
    assert [reply.content for reply in replies] == [f"You said word {n}." for n in range(20)]


# -- the way there ----------------------------------------------------------------------------------------------------
async def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedEndpoint() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url.removesuffix("/v1"))
        monkeypatch.setenv("NO_PROXY", "")
        async with Endpoint("http://far-away.invalid/v1") as endpoint:
            assert (await ask(endpoint)).content == "The answer."
        assert proxy.calls[0].headers["Host"] == "far-away.invalid"


async def test_a_certificate_authority_from_the_environment_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    openssl = programs.require("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = await asyncio.create_subprocess_exec(
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"),
        *("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with ScriptedEndpoint(tls=tls) as server:
        async with Endpoint(server.base_url) as endpoint:
            error = await failure(endpoint)
            assert isinstance(error, UpstreamUnavailable)
            assert error.endpoint_down
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with Endpoint(server.base_url) as endpoint:
            assert (await ask(endpoint)).content == "The answer."
