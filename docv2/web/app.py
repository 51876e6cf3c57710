"""The application: its routes, and its life from the first request to the last."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from docv2.accounts.keys import KeyCheck
from docv2.errors import (
    Conflict,
    DiskFull,
    FileTooLarge,
    Forbidden,
    InvalidValue,
    NotFound,
    RateLimited,
    StartError,
    Unauthenticated,
    Unreadable,
    UnsupportedType,
)
from docv2.intake import Listing, Look, PageListing, Question
from docv2.quote import Quoted
from docv2.telemetry.notify import fed_watchdog, notify
from docv2.views import Accepted, CancelledTask, PageList, TaskList, TaskView
from docv2.web import accounts, administration, metrics, middleware, models, openapi, system, tasks
from docv2.web.inputs import NoQuery, with_query
from docv2.web.proxies import ClientAddress
from docv2.web.route import Route
from docv2.web.server import Runner
from docv2.web.state import CLIENT_ADDRESS, DESCRIPTION, KEY_CHECK, ROUTE_TABLE, SERVICES

if TYPE_CHECKING:
    from docv2.bootstrap import Services

log = logging.getLogger(__name__)

CLOSING_SECONDS = 30.0
"""More than closing connections, children and the database takes once the tasks are drained."""


ROUTES = (
    Route(
        "POST",
        "/api/v2/process",
        tasks.process,
        answers=Accepted | Quoted,
        headers=tasks.ProcessHeaders,
        form=Question,
        gives={"task_id": "/task_id"},
        refuses=(InvalidValue, Unreadable, FileTooLarge, UnsupportedType, Conflict, RateLimited, DiskFull),
    ),
    Route(
        "GET",
        "/api/v2/status/{task_id}",
        tasks.status,
        answers=TaskView,
        query=Look,
        refuses=(NotFound, InvalidValue),
    ),
    Route("GET", "/api/v2/tasks", tasks.listed, answers=TaskList, query=Listing, refuses=(InvalidValue,)),
    Route(
        "GET",
        "/api/v2/tasks/{task_id}/pages",
        tasks.pages,
        answers=PageList,
        query=PageListing,
        refuses=(NotFound, InvalidValue),
    ),
    Route("DELETE", "/api/v2/tasks/{task_id}", tasks.cancel, answers=CancelledTask, refuses=(NotFound, Conflict)),
    Route(
        "GET",
        "/api/v2/models",
        models.models,
        public=True,
        answers=models.ModelsBody,
        refuses=(Unauthenticated, Forbidden),
    ),
    Route("GET", "/api/v1/models", models.openai_models, answers=models.OpenAIModels),
    Route("GET", "/ollama/api/tags", models.ollama_models, public=True, answers=models.OllamaModels),
    Route("GET", "/api/v2/health", system.health, public=True, answers=system.HealthBody),
    Route("GET", "/api/v2/config", system.config, answers=system.ConfigBody),
    Route(
        "POST",
        "/api/v1/auths/signin",
        accounts.sign_in,
        public=True,
        answers=accounts.SignedIn,
        json=accounts.SignIn,
        refuses=(InvalidValue, Unauthenticated, FileTooLarge, RateLimited),
    ),
    Route("GET", "/api/v1/auths/", accounts.who_am_i, answers=accounts.Account),
    Route("POST", "/api/v1/auths/api_key", accounts.make_key, answers=accounts.NewKey),
    Route("GET", "/api/v1/auths/api_key", accounts.show_key, answers=accounts.OwnKey, refuses=(NotFound,)),
    Route("DELETE", "/api/v1/auths/api_key", accounts.revoke_key, answers=accounts.OwnKey, refuses=(NotFound,)),
    *administration.ROUTES,
    Route("GET", "/api/version", system.version, public=True, answers=system.VersionBody),
    Route(
        "GET",
        "/metrics",
        metrics.scrape,
        public=True,
        answers="text/plain",
        query=metrics.Scrape,
        refuses=(InvalidValue, Unauthenticated),
    ),
    Route("GET", "/openapi.json", openapi.document, public=True, answers=dict[str, Any]),
    Route("GET", "/docs", openapi.page, public=True, answers="text/html"),
)


def create_app(services: Services) -> web.Application:
    """The application over running services."""
    app = web.Application(middlewares=[middleware.around])
    app[SERVICES] = services
    app[KEY_CHECK] = KeyCheck(services.store)
    app[CLIENT_ADDRESS] = ClientAddress(services.settings.trusted_proxies)
    app[ROUTE_TABLE] = ROUTES
    app[DESCRIPTION] = []
    app.on_cleanup.append(_finish)
    for route in ROUTES:
        handler = with_query(route.query or NoQuery, route.handler)
        if route.admin:
            handler = middleware.for_admins(handler)
        if not route.public:
            handler = middleware.for_users(handler)
        path = route.path.replace("{model_id}", "{model_id:.+}")  # ids of models hold slashes
        app.router.add_route(route.method, path, handler)
        if route.method == "GET":
            app.router.add_route("HEAD", path, handler)
    app.router.add_get("/docs/static/{name}", openapi.part_of_page)
    return app


async def _finish(app: web.Application) -> None:
    await app[KEY_CHECK].close()


@asynccontextmanager
async def listening(services: Services, host: str, port: int) -> AsyncIterator[str]:
    """Answer requests while the context is open; yields the URL. StartError where the address cannot be had."""
    runner = Runner(create_app(services))
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            # asyncio puts a sentence of its own around the system's words, except where the name is unknown.
            reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise StartError(f"cannot listen on {host}:{port}: {reason}") from error
        yield site.name
    finally:
        services.changes.close()
        await runner.cleanup()


async def serve(services: Services, *, ready: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or SIGINT, then drain; a second signal ends the drain at once.

    While tasks finish, everything but `process` goes on answering. `ready` is told the URL once requests are answered.
    """
    settings = services.settings
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with listening(services, settings.host, settings.port) as url, fed_watchdog(services.pool.go_round):
        log.info("ready", extra={"url": url})
        ready(url)
        notify("READY=1", f"STATUS=answers on {url}")
        await stop.wait()
        notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int((settings.drain_seconds + CLOSING_SECONDS) * 1e6)}")
        log.info("stopping: no further documents are accepted")
        drained = asyncio.create_task(services.pool.drain(settings.drain_seconds))
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait([drained, hurried], return_when=asyncio.FIRST_COMPLETED)
        if hurry.is_set():
            await services.pool.drain(0)
        hurried.cancel()
        await drained
    log.info("stopped")
