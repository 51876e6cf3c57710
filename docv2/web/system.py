"""The routes about the service itself: health, configuration, version."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

import docv2
from docv2.errors import Unavailable
from docv2.store.base import QueueDepth
from docv2.views import MemoryUsage, memory_usage
from docv2.web.answers import answer
from docv2.web.state import SERVICES, USER
from docv2.worker.gate import Level

if TYPE_CHECKING:
    from docv2.bootstrap import Services


@dataclass(frozen=True, slots=True)
class VersionBody:
    """Which docv2 this is."""

    version: str


@dataclass(frozen=True, slots=True)
class HealthBody:
    """How the service is."""

    status: str
    """`healthy`; `degraded`, which works but not as it should; or `unhealthy`."""
    version: str
    timestamp: float
    services: dict[str, bool]
    memory_usage: MemoryUsage
    active_tasks: int
    queue_length: int
    reasons: tuple[str, ...]
    """Why it is not healthy, in words."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the service does."""

    vision: bool
    multimodal: bool
    background_processing: bool
    queue_management: bool
    memory_management: bool


@dataclass(frozen=True, slots=True)
class ConfigBody:
    """The configuration in force."""

    enabled: bool
    """Whether new documents are accepted."""
    max_file_size: int
    """Bytes."""
    max_concurrent: int
    """Tasks worked on at once while memory is not short."""
    timeout: float
    """Seconds that a task may take since it last finished a page or a part."""
    admin_model: str
    """The model of a request that names none; empty where no endpoint has listed a model yet."""
    supported_formats: tuple[str, ...]
    """Extensions of the files that are read."""
    features: Features


async def version(_: web.Request) -> web.Response:
    """Which docv2 this is."""
    return answer(VersionBody(docv2.__version__))


async def health(request: web.Request) -> web.Response:
    """Whether documents are taken and answered. 503 where the service should get no traffic."""
    services = request.app[SERVICES]
    depth = await _depth(services)
    stored = await _storage_works(services)
    broken = [
        why
        for why, holds in (
            ("The database cannot be read", depth is None),
            ("The file storage cannot be written", not stored),
            ("The server is shutting down", services.pool.draining),
        )
        if holds
    ]
    impaired = _impairments(services)
    body = HealthBody(
        status="unhealthy" if broken else "degraded" if impaired else "healthy",
        version=docv2.__version__,
        timestamp=time.time(),
        services={
            "database": depth is not None,
            "storage": stored,
            "models": bool(services.catalog.models()),
            "api_v2": services.config.current.enabled and not services.pool.draining,
        },
        memory_usage=memory_usage(services.gate.memory),
        active_tasks=depth.running if depth else 0,
        queue_length=depth.waiting if depth else 0,
        reasons=(*broken, *impaired),
    )
    return answer(body, status=503 if broken else 200)


async def config(request: web.Request) -> web.Response:
    """The configuration in force."""
    services = request.app[SERVICES]
    current = services.config.current
    may = partial(current.permits, request[USER])
    default = services.catalog.default(may)
    chosen = current.admin_model if may(current.admin_model) else ""
    return answer(
        ConfigBody(
            enabled=current.enabled,
            max_file_size=current.max_file_size,
            max_concurrent=current.max_concurrent,
            timeout=int(current.timeout) if current.timeout.is_integer() else current.timeout,
            admin_model=chosen or (default.id if default else ""),
            supported_formats=tuple(
                known for known in current.supported_formats if known not in current.blocked_extensions
            ),
            features=Features(
                vision=current.enable_vision,
                multimodal=current.enable_multimodal,
                background_processing=True,
                queue_management=True,
                memory_management=current.memory_management.monitor_usage,
            ),
        )
    )


def _impairments(services: Services) -> list[str]:
    """What an operator should look at though the service works."""
    config, catalog, gate = services.config.current, services.catalog, services.gate
    reasons = []
    if not config.enabled:
        reasons.append("API v2 is disabled")
    if config.paused:
        reasons.append("The queue is paused by an administrator")
    if not config.memory_management.monitor_usage:
        reasons.append("Nobody watches the memory: memory_management.monitor_usage is off")
    if gate.level >= Level.WARNING:
        reasons.append(f"Memory is short: {gate.memory.used_percent:g} % in use")
    if services.embedded:
        why = "answered at the start" if services.settings.looks_for_endpoints else "is configured"
        reasons.append(f"No model endpoint {why}: the embedded reader answers")
    elif not catalog.complete:
        reasons.append("A model endpoint has not listed its models yet")
    elif config.admin_model and not catalog.lists(config.admin_model):
        reasons.append(f"The default model {config.admin_model} is not listed by any endpoint")
    if services.health.blocked_models():
        reasons.append("A model endpoint is failing; its tasks wait")
    elif services.health.blocked_endpoints():
        reasons.append("A model endpoint is failing; the fallbacks of its models answer")
    return reasons


async def _depth(services: Services) -> QueueDepth | None:
    try:
        return await services.store.depth()
    except Unavailable:
        return None


async def _storage_works(services: Services) -> bool:
    try:
        await services.storage.check()
    except Unavailable:
        return False
    return True
