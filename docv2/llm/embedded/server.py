"""The embedded reader behind the OpenAI interface, so that the rest of docv2 need not know it from any other endpoint.

It listens on a free port of the loopback address and answers whoever holds the token made at its start. The server
itself only receives and hands on: each request is answered in a child process, which dies with the connection.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from docv2.errors import DocumentError, OverLimit, ParserDied
from docv2.llm.embedded.answer import CONTEXT, MODEL, PICTURES_PER_CALL, REQUEST_FILE, Event, answer
from docv2.llm.embedded.tesseract import probe
from docv2.sandbox import Sandbox

MAX_BODY = 64 * 1024**2
"""Bytes of a request: eight pictures of print make some 12 MB."""

DEATHS = 3
"""Children that may die over one request; each leaves out one picture more."""

_PREFIX = "request-"

log = logging.getLogger(__name__)


class EmbeddedReader:
    """Serves from entering to leaving."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        """`folder` is made where it is missing and holds requests while they are answered."""
        self.key = secrets.token_urlsafe(32)
        self.base_url = ""
        """Known once entered."""
        self._sandbox = sandbox
        self._folder = folder
        self._slots = asyncio.Semaphore(os.cpu_count() or 1)
        """Reading takes a processor each: more at once would only take more memory."""
        self._sees: bool | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._clear)
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/v1/models", self._models)
        application.router.add_post("/v1/chat/completions", self._complete)
        # A handler is cancelled when its client goes, and with it goes the child.
        self._runner = web.AppRunner(
            application, handler_cancellation=True, auto_decompress=False, shutdown_timeout=1.0, access_log=None
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _clear(self) -> None:
        """Remove what a run before left behind."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._folder.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let in only who holds the token, and word every error as the interface does."""
        offered = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(offered, f"Bearer {self.key}".encode()):
            return _error(401, "invalid_api_key", "Incorrect API key provided.")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, "invalid_request", f"{error.reason}.")
        except ConnectionError:  # The client went while it was written to.
            raise
        except Exception:  # Whatever it was, it is a mistake of ours and for the log alone.
            log.exception("The embedded reader failed")
            return _error(500, "internal_error", "The reader failed.")

    async def _models(self, _: web.Request) -> web.Response:
        """The one model, and in OpenRouter's words what it takes."""
        if self._sees is None:
            self._sees = await self._probe()
        model = {
            "id": MODEL,
            "object": "model",
            "created": 0,
            "owned_by": "docv2",
            "name": "docv2's text reader (no language model)",
            "context_length": CONTEXT,
            "architecture": {"input_modalities": ["text", "image"] if self._sees else ["text"]},
            "pictures_per_call": PICTURES_PER_CALL,
        }
        return web.json_response({"object": "list", "data": [model]})

    async def _probe(self) -> bool:
        """Whether pictures can be read, tried in a child: it takes loading all of Tesseract to know."""
        try:
            async with aclosing(self._sandbox.run(probe, owner=MODEL)) as found:
                if [sees async for sees in found] == [True]:
                    return True
        except (DocumentError, ParserDied):  # Logged where it was noticed.
            pass
        log.warning("%s cannot read pictures: Tesseract does not work here; install docv2[reader]", MODEL)
        return False

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        """Answer a chat, as a stream where that is asked for."""
        reply = _Reply(request)
        owner = request.headers.get("X-Client-Request-Id", MODEL)[:100]
        try:
            async with self._received(request) as folder, self._slots, aclosing(self._events(folder, owner)) as events:
                async for event in events:
                    await reply.take(event)
        except OverLimit as error:
            await reply.fail(422, "too_much", error.message)
        except (DocumentError, ParserDied):  # Logged where it was noticed.
            await reply.fail(500, "internal_error", "The reader failed on this request.")
        return reply.response

    @asynccontextmanager
    async def _received(self, request: web.Request) -> AsyncIterator[str]:
        """A folder of its own that holds the request's body, until it was answered."""
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix=_PREFIX, dir=self._folder)
        try:
            file = await asyncio.to_thread((Path(folder) / REQUEST_FILE).open, "wb")
            try:
                left = MAX_BODY
                async for piece in request.content.iter_chunked(1024**2):
                    left -= len(piece)
                    if left < 0:
                        raise web.HTTPRequestEntityTooLarge(MAX_BODY, MAX_BODY - left)
                    await asyncio.to_thread(file.write, piece)
            finally:
                await asyncio.to_thread(file.close)
            yield folder
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    async def _events(self, folder: str, owner: str) -> AsyncGenerator[Event, None]:
        """What the child says; where one dies over a picture, the next leaves that picture out."""
        accepted = False
        for life in range(1, DEATHS + 1):
            try:
                async with aclosing(self._sandbox.run(answer, folder, owner=owner)) as events:
                    async for event in events:
                        if "accepted" in event:
                            if accepted:
                                continue
                            accepted = True
                        yield event
                return
            except (OverLimit, ParserDied):
                if not accepted or life == DEATHS:
                    raise


class _Reply:
    """An answer on its way: one JSON object, or server-sent events from the moment the request was accepted."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": MODEL}
        self._usage = False
        self._stream: web.StreamResponse | None = None
        self.response: web.StreamResponse = _error(500, "internal_error", "The reader gave no answer.")

    async def take(self, event: Event) -> None:
        """Pass on what the child says."""
        match event:
            case {"refused": {"status": status, "code": code, "message": message}}:
                self.response = _error(status, code, message)
            case {"accepted": {"stream": True, "usage": usage}}:
                self._usage = usage
                self.response = self._stream = web.StreamResponse(
                    headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
                )
                await self._stream.prepare(self._request)
                await self._chunk({"role": "assistant", "content": ""})
            case {"page": number} if self._stream:
                await self._stream.write(b": page %d was read\n\n" % number)  # A comment: shows that work goes on.
            case {"answer": answer} if self._stream:
                for line in answer["content"].splitlines(keepends=True):
                    await self._chunk({"content": line})
                await self._chunk({}, answer["finish_reason"])
                if self._usage:
                    await self._send({**self._head, "object": _CHUNK, "choices": [], "usage": _usage(answer)})
                await self._stream.write(b"data: [DONE]\n\n")
            case {"answer": answer}:
                message = {"role": "assistant", "content": answer["content"]}
                choice = {"index": 0, "message": message, "finish_reason": answer["finish_reason"]}
                self.response = web.json_response(
                    {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(answer)}
                )

    async def fail(self, status: int, code: str, message: str) -> None:
        """End with an error, within the stream where it has begun; there the code is all that tells the status."""
        if self._stream is None:
            self.response = _error(status, code, message)
        else:
            await self._send({"error": _problem(str(status), status, message)})

    async def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        await self._send({**self._head, "object": _CHUNK, "choices": [choice]})

    async def _send(self, data: object) -> None:
        assert self._stream is not None
        await self._stream.write(b"data: %b\n\n" % json.dumps(data).encode())


_CHUNK = "chat.completion.chunk"


def _usage(answer: dict[str, Any]) -> dict[str, int]:
    asked, said = answer["prompt_tokens"], answer["completion_tokens"]
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _problem(code: str, status: int, message: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": message, "type": kind, "param": None, "code": code}


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": _problem(code, status, message)}, status=status)
