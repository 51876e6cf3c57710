"""The audit of requests: what is kept of each, and the search of an administrator."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from docv2.store.base import User
from docv2.telemetry import audit
from docv2.validation import PLAIN_NUMBER, Input
from docv2.web.answers import CLIENT_GONE, answer
from docv2.web.state import CLIENT, CONCERNS, FIELDS, QUERY, REQUEST_ID, SERVICES, SIGNS_IN, USER

LONGEST = 200
"""Characters kept of what a client writes into its headers."""


class AuditSearch(Input):
    """Which records to find."""

    user: str | None = Field(None, max_length=254, description="a user's id or e-mail")
    verb: str | None = Field(None, pattern=r"^[A-Z]{3,7}$", description="a method, such as POST")
    path: str | None = Field(None, max_length=200, description="a part of the address")
    since: Annotated[float, Field(ge=0), PLAIN_NUMBER] = Field(0.0, description="Unix seconds")
    until: Annotated[float, Field(ge=0), PLAIN_NUMBER] = Field(1e12, description="Unix seconds")
    limit: Annotated[int, Field(ge=1, le=1000), PLAIN_NUMBER] = Field(100, description="a whole number from 1 to 1000")


@dataclass(frozen=True, slots=True)
class AuditRecords:
    """What was found, newest first, each as it stands in the audit file."""

    records: tuple[dict[str, Any], ...]


async def search_audit(request: web.Request) -> web.Response:
    """Search the audit: who called what, newest first."""
    settings, wanted = request.app[SERVICES].settings, request[QUERY].model_dump()
    if settings.audit_seconds is not None:  # what is older is on its way out
        wanted["since"] = max(wanted["since"], time.time() - settings.audit_seconds)
    found = await asyncio.to_thread(partial(audit.search, settings.audit_path, **wanted))
    return answer(AuditRecords(tuple(found)))


def concerns(request: web.Request, **ids: object) -> None:
    """Say for the audit what a request made or changed, where its address does not."""
    request[CONCERNS] = ids


def keep(request: web.Request, status: int, response: web.StreamResponse | None) -> None:
    """Record a request of somebody who said who he is, unless its address is not to be recorded."""
    settings = request.app[SERVICES].settings
    said = USER in request or SIGNS_IN in request or "Authorization" in request.headers
    resource = request.match_info.route.resource
    if settings.audit_log_level == audit.NONE or not said or resource is None:
        return
    if request.path.startswith(settings.audit_excluded_paths):
        return
    user = request.get(USER) or request.get(SIGNS_IN)
    entry = partial(_record, request, user, status, response)
    if request.method in ("GET", "HEAD") or HTTPStatus.BAD_REQUEST <= status < CLIENT_GONE:
        # Of those whom nobody knows, whatever addresses they think up.
        who, where = (user.user_id, request.path) if user else (None, resource.canonical)
        audit.record_look((who, request[CLIENT], request.method, where, status), entry)
    else:
        audit.record(entry())


def _record(
    request: web.Request, user: User | None, status: int, response: web.StreamResponse | None
) -> dict[str, Any]:
    level = request.app[SERVICES].settings.audit_log_level
    return {
        "id": request[REQUEST_ID],
        "timestamp": int(time.time()),
        "user": {"id": user.user_id, "email": user.email, "role": user.role, "name": user.name} if user else {},
        "audit_level": level,
        "verb": request.method,
        # Without its query, in which a client may put what it likes.
        "request_uri": f"{request.scheme}://{request.host[:LONGEST]}{request.path[:LONGEST]}",
        "response_status_code": status,
        "source_ip": request[CLIENT],
        "user_agent": request.headers.get("User-Agent", "")[:LONGEST],
        **_objects(request, response, level),
        "extra": request.get(CONCERNS, {}),
    }


def _objects(request: web.Request, response: web.StreamResponse | None, level: str) -> dict[str, str]:
    objects: dict[str, str] = {}
    if level in (audit.REQUEST, audit.REQUEST_RESPONSE):
        sent = {"bytes": request.content_length or 0, "fields": request.get(FIELDS, {})}
        objects["request_object"] = json.dumps(sent)
    if level == audit.REQUEST_RESPONSE and response is not None:
        objects["response_object"] = json.dumps({"bytes": response.content_length or 0})
    return objects
