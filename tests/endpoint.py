"""A model endpoint that does as it is told: a real HTTP server on loopback, the tests' only fake.

    async with ScriptedEndpoint() as endpoint:
        endpoint.script(status(503), answer("Forty-two."))     # one behaviour a call, in order
        endpoint.otherwise = answer("anything else")           # for every call beyond the script
        ...                                                    # talk to endpoint.base_url
        assert endpoint.calls[0].json["model"] == "test-vision"

A behaviour that waits does so on something the test releases, never on the clock.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

KEY = "sk-test-endpoint-0123456789abcdef"
"""What the endpoint asks for when it is made with `key=KEY`."""
VISION_MODEL = "test-vision"
TEXT_MODEL = "test-text"
DEADLINE = 10.0
"""Seconds that a wait for the endpoint may last before the test fails."""


@dataclass
class Call:
    """One chat request as it arrived, and what became of its sender."""

    json: dict[str, Any]
    headers: Mapping[str, str]
    request: web.Request
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client went away before the answer was complete."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the behaviour ran to its end."""

    @property
    def text(self) -> str:
        """Every text of the messages, in order."""
        return "\n".join(part["text"] for part in self._parts() if part["type"] == "text")

    @property
    def pictures(self) -> list[str]:
        """The data URLs of the messages, in order."""
        return [part["image_url"]["url"] for part in self._parts() if part["type"] == "image_url"]

    def _parts(self) -> Iterable[dict[str, Any]]:
        for message in self.json["messages"]:
            content = message["content"]
            yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


Behaviour = Callable[[Call], Awaitable[web.StreamResponse]]


class ScriptedEndpoint:
    """`/v1/models` and `/v1/chat/completions`, and whatever else `pages` holds.

    Each of `models` is an id or a whole entry of the list.
    """

    def __init__(
        self,
        models: Sequence[str | dict[str, Any]] = (VISION_MODEL, TEXT_MODEL),
        *,
        key: str = "",
        pages: Mapping[str, object] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.models = list(models)
        self.key = key
        self.tls = tls
        self.pages = dict(pages or {})
        """JSON answers by path, for what servers tell beside the OpenAI interface."""
        self.calls: list[Call] = []
        self.asked: list[str] = []
        """Method and path of every request that was not a chat."""
        self.otherwise: Behaviour = answer("The answer.")
        self.models_behaviour: Behaviour | None = None
        """Stands in for the list of models while it is set."""
        self._script: deque[Behaviour] = deque()
        self._changed = asyncio.Event()
        self._port = 0
        self._runner: web.AppRunner | None = None

    # -- its life -----------------------------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a stop, on the same port as before."""
        application = web.Application(client_max_size=256 * 1024**2)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_get("/v1/models", self._list)
        application.router.add_route("*", "/{path:.*}", self._page)
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True, ssl_context=self.tls)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and every connection: from now on connections are refused."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def base_url(self) -> str:
        """As OPENAI_API_BASE_URLS wants it."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}/v1"

    # -- what it does -------------------------------------------------------------------------------------------------
    def script(self, *behaviours: Behaviour) -> None:
        """Append one behaviour for each of the next calls."""
        self._script.extend(behaviours)

    async def call(self, number: int) -> Call:
        """The given call (from 1), waited for."""
        await self.until(lambda: len(self.calls) >= number)
        return self.calls[number - 1]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that a call changes is so."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def connections(self) -> int:
        """Connections open now, idle ones included."""
        server = self._runner.server if self._runner else None
        return len(server.connections) if server else 0

    # -- routes -------------------------------------------------------------------------------------------------------
    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._unauthorized(request):
            return refusal
        call = Call(await request.json(), request.headers, request)
        self.calls.append(call)
        behaviour = self._script.popleft() if self._script else self.otherwise
        self._changed.set()
        try:
            response = await behaviour(call)
            call.answered.set()
        except (asyncio.CancelledError, ConnectionResetError):
            call.gone.set()
            raise
        finally:
            self._changed.set()
        return response

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("GET /v1/models")
        self._changed.set()
        if refusal := self._unauthorized(request):
            return refusal
        if self.models_behaviour is not None:
            return await self.models_behaviour(Call({"messages": []}, request.headers, request))
        entries = [{"id": m, "object": "model", "owned_by": "test"} if isinstance(m, str) else m for m in self.models]
        return web.json_response({"object": "list", "data": entries})

    async def _page(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        page = self.pages.get(request.path)
        if callable(page):
            page = page(await request.json())
        return web.json_response({"error": "not found"}, status=404) if page is None else web.json_response(page)

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        if not self.key or request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return web.json_response({"error": {"message": f"Incorrect API key provided: {shown}."}}, status=401)


# -- behaviours that answer -------------------------------------------------------------------------------------------
def answer(
    text: str | Callable[[Call], str],
    *,
    pieces: int = 3,
    finish: str | None = "stop",
    usage: tuple[int, int] | None = (11, 7),
    gate: asyncio.Semaphore | None = None,
) -> Behaviour:
    """Stream a text, or what a function makes of the call, in so many pieces; each waits for one release of `gate`."""

    async def behave(call: Call) -> web.StreamResponse:
        content = text(call) if callable(text) else text
        response = await _events(call)
        step = max(1, -(-len(content) // pieces))
        for start in range(0, len(content), step):
            if gate is not None:
                await gate.acquire()
            await _send(response, _chunk({"content": content[start : start + step]}))
        if finish is not None:
            await _send(response, _chunk({}, finish))
        if usage is not None and (call.json.get("stream_options") or {}).get("include_usage"):
            await _send(response, {"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
        await response.write(b"data: [DONE]\n\n")
        return response

    return behave


def json_answer(text: str | None, *, finish: str | None = "stop", refusal: str | None = None) -> Behaviour:
    """Plain JSON, although a stream was asked for."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return raw(
        json.dumps(
            {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7},
            }
        )
    )


def status(code: int, body: object = None, **headers: str) -> Behaviour:
    """An error status; header names are given with underscores. The default body is OpenAI's form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def behave(call: Call) -> web.StreamResponse:
        shown = {"error": {"message": f"status {code}", "type": "test"}} if body is None else body
        if isinstance(shown, str):
            return web.Response(status=code, text=shown, headers=named)
        return web.json_response(shown, status=code, headers=named)

    return behave


def raw(body: str | bytes, content_type: str = "application/json", code: int = 200) -> Behaviour:
    """Exactly these bytes under this type: HTML, cut or empty JSON, a broken stream."""

    async def behave(call: Call) -> web.StreamResponse:
        data = body.encode() if isinstance(body, str) else body
        return web.Response(body=data, content_type=content_type, status=code)

    return behave


def events(*chunks: object) -> Behaviour:
    """A stream of exactly these events (JSON, or text as it is), without an end mark."""

    async def behave(call: Call) -> web.StreamResponse:
        response = await _events(call)
        for chunk in chunks:
            await (response.write(f"data: {chunk}\n\n".encode()) if isinstance(chunk, str) else _send(response, chunk))
        return response

    return behave


def html() -> Behaviour:
    """A web page with status 200, as a misconfigured proxy sends."""
    return raw("<!doctype html><title>Welcome</title>", "text/html")


def rejects_parameter(name: str, message: str) -> Behaviour:
    """A 400 that names a parameter, in OpenAI's form."""
    return status(400, {"error": {"message": message, "type": "invalid_request_error", "param": name, "code": None}})


# -- behaviours that do not ------------------------------------------------------------------------------------------
def hang(until: asyncio.Event | None = None) -> Behaviour:
    """Take the request and say nothing, for ever or until released."""

    async def behave(call: Call) -> web.StreamResponse:
        await (until or asyncio.Event()).wait()
        return web.Response(status=500)

    return behave


async def answer_unless_told_never_to(call: Call) -> web.StreamResponse:
    """Tell the rent, or hang where the question says `never end`."""
    behave = hang() if "never end" in call.text else answer("1200 EUR a month.")
    return await behave(call)


def reset(after: str = "") -> Behaviour:
    """Break the connection with RST, at once or in the middle of a streamed text."""

    async def behave(call: Call) -> web.StreamResponse:
        response: web.StreamResponse = web.Response()
        if after:
            response = await _events(call)
            await _send(response, _chunk({"content": after}))
        transport = call.request.transport
        assert transport is not None
        linger = struct.pack("ii", 1, 0)  # on, 0 s: close sends RST
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        return response

    return behave


def stalls_after(text: str) -> Behaviour:
    """Stream some text and then nothing, without closing."""

    async def behave(call: Call) -> web.StreamResponse:
        response = await _events(call)
        await _send(response, _chunk({"content": text}))
        await asyncio.Event().wait()
        return response

    return behave


def endless(piece: bytes, content_type: str = "text/event-stream", code: int = 200) -> Behaviour:
    """Send a piece again and again until the client hangs up."""

    async def behave(call: Call) -> web.StreamResponse:
        response = web.StreamResponse(status=code, headers={"Content-Type": content_type})
        await response.prepare(call.request)
        while True:
            await response.write(piece)

    return behave


def endless_body() -> Behaviour:
    """A stream of well-formed pieces that never ends."""
    return endless(f"data: {json.dumps(_chunk({'content': 'x' * 10_000}))}\n\n".encode())


def endless_line() -> Behaviour:
    """One event whose line never ends."""
    return endless(b"x" * 65_536)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The behaviours one after the other, then the last for ever; for `otherwise`."""
    turns = iter(behaviours)
    last = behaviours[-1]

    async def behave(call: Call) -> web.StreamResponse:
        return await next(turns, last)(call)

    return behave


# -- the wire ---------------------------------------------------------------------------------------------------------
async def _events(call: Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(call.request)
    return response


async def _send(response: web.StreamResponse, event: object) -> None:
    await response.write(f"data: {json.dumps(event)}\n\n".encode())


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-test", "object": "chat.completion.chunk", "choices": [choice]}
