"""The routes of tasks: submit a document, look, cancel."""

from __future__ import annotations

import math

from aiohttp import web

from docv2.errors import InvalidValue
from docv2.intake import FIELD_BYTES, MAX_WAIT
from docv2.web.answers import answer
from docv2.web.state import SERVICES, USER
from docv2.web.uploads import Upload


async def process(request: web.Request) -> web.Response:
    """Take a document and a question."""
    upload = Upload(request, FIELD_BYTES)
    return answer(await request.app[SERVICES].intake.submit(request[USER], upload))


async def status(request: web.Request) -> web.Response:
    """A task as it stands, or with `?wait=SECONDS` as soon as it changes."""
    task_id, wait = request.match_info["task_id"], _wait(request.query.get("wait", "0"))
    return answer(await request.app[SERVICES].intake.status(request[USER], task_id, wait=wait))


async def cancel(request: web.Request) -> web.Response:
    """End a task."""
    return answer(await request.app[SERVICES].intake.cancel(request[USER], request.match_info["task_id"]))


def _wait(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT:  # true of NaN as well
        raise InvalidValue(f"wait must be a number of seconds from 0 to {MAX_WAIT:g}")
    return seconds
