"""The routes of tasks: submit a document, look, list, see its pages, cancel."""

from __future__ import annotations

import math
from typing import Annotated, cast

from aiohttp import web
from pydantic import Field, StringConstraints

from docv2.errors import RateLimited
from docv2.intake import FIELD_BYTES, Listing, Look, PageListing
from docv2.validation import Input
from docv2.views import Accepted
from docv2.web.answers import answer, failure
from docv2.web.audit import concerns
from docv2.web.inputs import headers_of
from docv2.web.state import QUERY, REQUEST_ID, SERVICES, USER
from docv2.web.uploads import Upload


class ProcessHeaders(Input):
    """How a request that is sent again is known, and what it does not want."""

    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$")] | None = (
        Field(None, alias="Idempotency-Key", description="1 to 255 visible ASCII characters")
    )
    cache_control: str = Field(
        "", alias="Cache-Control", description="directives; with no-cache a model is asked whatever was answered before"
    )

    @property
    def fresh(self) -> bool:
        """Whether only a fresh answer will do (RFC 9111, 5.2.1.4)."""
        return "no-cache" in (directive.strip().lower() for directive in self.cache_control.split(","))


async def process(request: web.Request) -> web.Response:
    """Take a document and a question; with `dry_run`, say what they would take."""
    headers = headers_of(request, ProcessHeaders)
    upload, intake = Upload(request, FIELD_BYTES), request.app[SERVICES].intake
    try:
        made = await intake.submit(request[USER], upload, key=headers.idempotency_key, fresh=headers.fresh)
        if isinstance(made, Accepted):
            concerns(request, task_id=made.task_id)
        response = answer(made)
    except RateLimited as error:
        response = failure(error, request[REQUEST_ID])
    tightest = min(await intake.rates(request[USER]), key=lambda rate: (rate.remaining, -rate.reset))
    response.headers["RateLimit-Limit"] = str(tightest.limit)
    response.headers["RateLimit-Remaining"] = str(tightest.remaining)
    response.headers["RateLimit-Reset"] = str(math.ceil(tightest.reset))
    return response


async def status(request: web.Request) -> web.Response:
    """A task as it stands, or with `?wait=SECONDS` as soon as it changes."""
    wait = cast("Look", request[QUERY]).wait
    return answer(await request.app[SERVICES].intake.status(request[USER], request.match_info["task_id"], wait=wait))


async def listed(request: web.Request) -> web.Response:
    """One's own tasks, newest first, page by page."""
    return answer(await request.app[SERVICES].intake.tasks(request[USER], cast("Listing", request[QUERY])))


async def pages(request: web.Request) -> web.Response:
    """What became of each page of a task's document: also while it runs, and as long as the task is kept."""
    task_id, listing = request.match_info["task_id"], cast("PageListing", request[QUERY])
    return answer(await request.app[SERVICES].intake.pages(request[USER], task_id, listing))


async def cancel(request: web.Request) -> web.Response:
    """End a task."""
    return answer(await request.app[SERVICES].intake.cancel(request[USER], request.match_info["task_id"]))
