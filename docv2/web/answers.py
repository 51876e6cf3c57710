"""What leaves: JSON bodies, the one shape of every error, and the headers that every answer has."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import hdrs, web
from multidict import CIMultiDict, istr
from pydantic import Field, TypeAdapter

from docv2.errors import DocV2Error, RateLimited, Unauthenticated, Unavailable

JSON = "application/json"
X_REQUEST_ID = istr("X-Request-ID")

ERROR_TYPES = (
    "validation_error",
    "auth_error",
    "rate_limit_error",
    "processing_error",
    "timeout_error",
    "system_error",
)
"""Every kind of error that an answer can be; a task that failed may also be `cancelled`."""

HEADERS = {
    istr("X-Content-Type-Options"): "nosniff",
    istr("Content-Security-Policy"): "default-src 'none'; frame-ancestors 'none'",
    istr("Referrer-Policy"): "no-referrer",
    istr("Cache-Control"): "no-store",
}
"""On every answer unless its handler says otherwise. Names that need not be brought to one case each time."""

CLIENT_GONE = 499
"""Logged where the client closed the connection before its answer, as nginx does. Nobody receives it."""

RETRY_SECONDS = 5.0
"""What Retry-After says where nobody knows better."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of every answer that is not a success."""

    detail: str
    """What is wrong, for people."""
    error_type: Annotated[str, Field(json_schema_extra={"enum": list(ERROR_TYPES)})]
    """What kind of thing is wrong, for programs."""
    timestamp: float
    """Unix seconds."""
    request_id: str
    """What the request is called in the server's log."""
    task_id: str | None = None
    """The task that it is about."""


_adapters: dict[type, TypeAdapter[Any]] = {}
"""Made once for each kind of body: making one takes a hundred times as long as using it."""


def answer(body: object, *, status: int = 200) -> web.Response:
    """A dataclass as JSON, without the fields that are None."""
    kind = type(body)
    adapter = _adapters.get(kind) or _adapters.setdefault(kind, TypeAdapter(kind))
    return web.Response(body=adapter.dump_json(body, exclude_none=True), status=status, content_type=JSON)


def failure(error: DocV2Error, request_id: str, *, task_id: str | None = None) -> web.Response:
    """An error whose message is meant for clients."""
    response = plain_failure(error.status, error.message, error.error_type, request_id, task_id=task_id)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="docv2"'
    retry_after = error.retry_after
    if retry_after is None and isinstance(error, Unavailable | RateLimited):
        retry_after = RETRY_SECONDS
    if retry_after is not None:
        # Rounded up: whoever comes back on time is not to be refused again.
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return response


def plain_failure(
    status: int, detail: str, error_type: str, request_id: str, *, task_id: str | None = None
) -> web.Response:
    """An error of which only the status and the words are known."""
    return answer(ErrorBody(detail, error_type, time.time(), request_id, task_id), status=status)


def new_request_id() -> str:
    """An id to find the request in the log by."""
    return f"req_{random.getrandbits(64):016x}"


def complete_headers(headers: CIMultiDict[str], request_id: str) -> None:
    """Add what every answer carries and this one does not say yet."""
    headers[hdrs.SERVER] = "docv2"  # aiohttp names itself, Python and the versions of both
    headers.setdefault(X_REQUEST_ID, request_id)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
