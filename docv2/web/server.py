"""The HTTP server under the application: its limits, and our shape for what it refuses before any route is found."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from typing import Any

from aiohttp import web

from docv2.web.answers import RETRY_SECONDS, complete_headers, new_request_id, plain_failure

log = logging.getLogger(__name__)

LIMITS: dict[str, Any] = {
    "access_log": None,  # the middleware writes it
    "auto_decompress": False,  # nothing we take is compressed, and a bomb would be
    "keepalive_timeout": 75.0,  # seconds; above nginx's 60, so that a close never races a request
    "lingering_time": 10.0,  # seconds that a refused upload is read on, so that its sender sees the refusal
    "shutdown_timeout": 5.0,  # seconds for requests under way when the server stops
}


HEAD_SECONDS = 10.0
"""In which the head of a request must arrive, counted from its first byte, on a new connection from its opening."""

SEND_SECONDS = 60.0
"""For which a client may take nothing of its answer."""

MOST_CONNECTIONS = 4096
"""At most, and not more than half of the files that the process may open: uploads and the database need theirs."""


class Runner(web.AppRunner):
    """aiohttp's runner with our connections."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, **LIMITS)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            # A client that goes away ends its handler: a long poll must not outlive whoever asked.
            handler_cancellation=True,
            **self._kwargs,
        )


class _Server(web.Server):
    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
            log.warning("too many connections: one was refused", extra={"connections": len(self._connections) - 1})
            transport.write(_full())
            handler.force_close()
            transport.close()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)


class _Connection(web.RequestHandler):
    """Lets no client keep a connection for nothing, and answers what aiohttp refuses by itself in our shape.

    aiohttp would wait 75 seconds for the rest of a head and for ever for someone to read an answer, and would log a
    traceback for every stray byte.
    """

    __slots__ = ("_head_due",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        loop = asyncio.get_running_loop()
        self._head_due: asyncio.TimerHandle | None = loop.call_later(HEAD_SECONDS, self._head_is_late)
        # The system ends it then, wherever the rest of the answer is held.
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_SECONDS * 1000)
        )
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self._head_arrived()
        elif self._head_due is None and self._waits_for_head():
            self._head_due = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._head_is_late)

    def _head_arrived(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _head_is_late(self) -> None:
        self._head_due = None
        if self._waits_for_head():
            log.info("a connection brought no request in time", extra={"client": (self.peername or [None])[0]})
            self.force_close()

    def _waits_for_head(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("error outside of the application", exc_info=exc)
        else:
            log.info("malformed request", extra={"client": request.remote, "error": (message or "").strip()[:200]})
        if request.writer.output_size > 0:
            raise ConnectionError("part of the answer has left already")
        if status >= 500:
            response = _refusal(status, "Internal server error", "system_error")
        else:
            response = _refusal(status, "The request is not valid HTTP", "validation_error")
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, Exception):  # an HTTPException, which as an abstract class takes longer to ask for
            resp = _refusal(resp.status, resp.reason, "validation_error" if resp.status < 500 else "system_error")
        return await super().finish_response(request, resp, start_time)


def _full() -> bytes:
    """An answer as bytes, for a connection that nobody looks after."""
    response = _refusal(503, "The server has too many connections", "system_error")
    body = response.body
    assert isinstance(body, bytes)
    response.headers.update(
        {"Content-Length": str(len(body)), "Connection": "close", "Retry-After": str(round(RETRY_SECONDS))}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode() + body


def _refusal(status: int, detail: str, error_type: str) -> web.Response:
    request_id = new_request_id()
    response = plain_failure(status, detail, error_type, request_id)
    complete_headers(response.headers, request_id)
    return response
