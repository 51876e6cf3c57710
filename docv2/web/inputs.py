"""What a request says beside its path: parameters, headers and JSON, as the models that the routes name have them."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import MultiMapping

from docv2.errors import BadRequest, FileTooLarge
from docv2.validation import Input, checked
from docv2.web.state import FIELDS, QUERY

M = TypeVar("M", bound=Input)

JSON_BYTES = 16 * 1024
"""More than any JSON that is sent to us."""
JSON_SECONDS = 10.0
"""In which it must have arrived."""


class NoQuery(Input):
    """Of the routes that take no parameters."""


def with_query(model: type[Input], handler: Handler) -> Handler:
    """Check the parameters before anything else is done; the handler finds them under QUERY."""

    async def parsed(request: web.Request) -> web.StreamResponse:
        request[QUERY] = _said(model, request.query) if request.query_string else _nothing_said(model)
        return await handler(request)

    return parsed


def _said(model: type[Input], query: MultiMapping[str]) -> Input:
    for name in query:
        if len(query.getall(name)) > 1:
            raise BadRequest(f"{name[:40]!r} is given twice")
    return checked(model, query)


@cache
def _nothing_said(model: type[Input]) -> Input:
    """What nearly every poll says; checked once."""
    return checked(model, {})


def headers_of(request: web.Request, model: type[M]) -> M:
    """The headers that a model names, checked."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    for name in names:
        if len(request.headers.getall(name, [])) > 1:
            raise BadRequest(f"The header {name} is given twice")
    return checked(model, {name: request.headers[name] for name in names if name in request.headers})


def _number(text: str) -> int | float:
    """JSON has one kind of number: what counts may be sent as 3.0."""
    value = float(text)
    return int(value) if value.is_integer() else value


async def json_of(request: web.Request, model: type[M], *, most: int = JSON_BYTES) -> M:
    """The body, which is to be one JSON object of at most so many bytes."""
    if request.content_type != "application/json":
        raise BadRequest("The request must be application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(JSON_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise FileTooLarge(f"The body is larger than {most} bytes")
    except TimeoutError:
        raise BadRequest("The body came too slowly") from None
    except web.RequestPayloadError:
        raise BadRequest("The body of the request is malformed or ends early") from None
    try:
        values: Any = json.loads(body, parse_float=_number)
    except (ValueError, RecursionError):
        raise BadRequest("The body is no JSON") from None
    if not isinstance(values, dict):
        raise BadRequest("The body must be a JSON object")
    known = {field.alias or name for name, field in model.model_fields.items()}
    request[FIELDS] = {name: len(str(value)) for name, value in values.items() if name in known}
    return checked(model, values)
