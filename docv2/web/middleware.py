"""What happens around every request: its id, its log line, who sent it, and what becomes of errors."""

from __future__ import annotations

import logging
import re
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from docv2.accounts.keys import PREFIX
from docv2.errors import DocV2Error, Forbidden, MethodNotAllowed, NotFound, RequestError, Unauthenticated, Unavailable
from docv2.intake import TASK_ID
from docv2.settings import Settings
from docv2.store.base import User
from docv2.telemetry import logs, metrics
from docv2.web import audit
from docv2.web.answers import CLIENT_GONE, complete_headers, failure, new_request_id, plain_failure
from docv2.web.state import CLIENT, CLIENT_ADDRESS, KEY_CHECK, REQUEST_ID, SERVICES, USER

log = logging.getLogger(__name__)
access = logging.getLogger("docv2.web.access")

REQUEST_ID_FORM = re.compile(r"req_[A-Za-z0-9_-]{1,64}", re.ASCII)


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost layer: whatever happens inside, one answer in our shape and one line in the log."""
    sent = request.headers.get("X-Request-ID", "")
    request_id = sent if REQUEST_ID_FORM.fullmatch(sent) else new_request_id()
    request[REQUEST_ID] = request_id
    request[CLIENT] = request.app[CLIENT_ADDRESS](request)
    logs.request_id.set(request_id)
    begin = time.perf_counter()
    status, response = CLIENT_GONE, None
    try:
        response = await _answered(request, handler)
        status = response.status
        complete_headers(response.headers, request_id)
        return response
    finally:
        seconds = time.perf_counter() - begin
        resource = request.match_info.route.resource
        metrics.request_answered(request.method, resource.canonical if resource else "", status, seconds)
        _log_access(request, status, seconds)
        audit.keep(request, status, response)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or the error that it raised as one."""
    request_id = request[REQUEST_ID]
    try:
        return await handler(request)
    except (RequestError, Unavailable) as error:
        return failure(error, request_id, task_id=_task_named(request))
    except web.HTTPNotFound:
        return failure(NotFound("There is nothing at this address"), request_id)
    except web.HTTPMethodNotAllowed as error:
        response = failure(MethodNotAllowed("This address does not take that method"), request_id)
        response.headers["Allow"] = error.headers["Allow"]
        return response
    except web.HTTPException as error:
        kind = "validation_error" if 400 <= error.status < 500 else "system_error"
        return plain_failure(error.status, error.reason, kind, request_id)
    except ConnectionError:
        raise  # the client is gone; there is nobody to answer
    except Exception:
        # Anything else is a mistake of ours. The log has all of it, the client only the id to ask about it by.
        log.exception("unexpected error")
        return failure(DocV2Error("Internal server error"), request_id, task_id=_task_named(request))


def _task_named(request: web.Request) -> str | None:
    named = request.match_info.get("task_id", "")
    return named if TASK_ID.fullmatch(named) else None


async def caller(request: web.Request) -> User | None:
    """Whose key or token a request sends, to be found under USER from then on; None where it sends none.

    Unauthenticated where it is not good, Forbidden where it may not be used here.
    """
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() != "bearer" or not credentials:
        return None
    services = request.app[SERVICES]
    if credentials.startswith(PREFIX):
        request[USER] = await request.app[KEY_CHECK].user(credentials)
        _check_key_may(services.settings, request.path)
    else:
        request[USER] = await services.sessions.user(credentials)
    return request[USER]


def for_users(handler: Handler) -> Handler:
    """Let only those in who send a key or a token that is good; the handler finds the user under USER."""

    async def checked(request: web.Request) -> web.StreamResponse:
        if await caller(request) is None:
            raise Unauthenticated("This needs credentials: Authorization: Bearer <API key or token>")
        return await handler(request)

    return checked


def for_admins(handler: Handler) -> Handler:
    """Let only administrators in; inside of `for_users`."""

    async def checked(request: web.Request) -> web.StreamResponse:
        if not request[USER].is_admin:
            raise Forbidden("This is for administrators")
        return await handler(request)

    return checked


def _check_key_may(settings: Settings, path: str) -> None:
    if not settings.enable_api_key:
        raise Forbidden("API keys are switched off on this server; sign in instead")
    entries = settings.api_key_allowed_endpoints
    if entries is not None and not any(path == entry or path.startswith(entry + "/") for entry in entries):
        raise Forbidden("API keys may not call this address; sign in instead")


def _log_access(request: web.Request, status: int, seconds: float) -> None:
    # Polls are most requests and say the least.
    level = logging.DEBUG if status == 200 and request.method in ("GET", "HEAD") else logging.INFO
    if not access.isEnabledFor(level):
        return
    resource = request.match_info.route.resource
    user = request.get(USER)
    fields = {
        "method": request.method,
        # An address that we do not have is the client's own text; cut, and escaped by the formatter.
        "route": resource.canonical if resource else request.rel_url.raw_path[:200],
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "client": request[CLIENT] or None,
        "user_id": user.user_id if user else None,
    }
    access.log(level, "request answered", extra={name: value for name, value in fields.items() if value is not None})
