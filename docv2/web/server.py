"""The HTTP server under the application: its limits, and our shape for what it refuses before any route is found."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from docv2.web.answers import complete_headers, new_request_id, plain_failure

log = logging.getLogger(__name__)

LIMITS: dict[str, Any] = {
    "access_log": None,  # the middleware writes it
    "auto_decompress": False,  # nothing we take is compressed, and a bomb would be
    "keepalive_timeout": 75.0,  # seconds; above nginx's 60, so that a close never races a request
    "lingering_time": 10.0,  # seconds that a refused upload is read on, so that its sender sees the refusal
    "shutdown_timeout": 5.0,  # seconds for requests under way when the server stops
}


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
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)


class _Connection(web.RequestHandler):
    """Answers what aiohttp refuses by itself as JSON and without a traceback in the log for every stray byte."""

    __slots__ = ()

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
        if isinstance(resp, web.HTTPException):
            resp = _refusal(resp.status, resp.reason, "validation_error" if resp.status < 500 else "system_error")
        return await super().finish_response(request, resp, start_time)


def _refusal(status: int, detail: str, error_type: str) -> web.Response:
    request_id = new_request_id()
    response = plain_failure(status, detail, error_type, request_id)
    complete_headers(response.headers, request_id)
    return response
