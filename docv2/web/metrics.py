"""`/metrics`, for Prometheus."""

from __future__ import annotations

import asyncio
import hmac
import shutil
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from aiohttp import web
from pydantic import Field

import docv2
from docv2.errors import Unauthenticated, Unavailable
from docv2.telemetry import metrics
from docv2.validation import Input
from docv2.web.proxies import is_forwarded
from docv2.web.state import CLIENT, SERVICES

DATABASE = "docv2.db"


class Scrape(Input):
    """Which metrics."""

    module: Literal["api_v2"] | None = Field(None, description="api_v2, which are all there are")


async def scrape(request: web.Request) -> web.Response:
    """The metrics in Prometheus's text format, for callers on this machine and those with the token for it."""
    services = request.app[SERVICES]
    if not _may(request, services.settings.metrics_token.get_secret_value()):
        raise Unauthenticated(
            "Metrics are for this machine, and for those with the token: Authorization: Bearer <token>"
        )
    try:
        depth = await services.store.depth()
        ended, failed = await services.store.ended_since(time.time() - metrics.ERROR_WINDOW)
        backups = await services.store.notes("backup")
    except Unavailable:
        metrics.DATABASE_UP.set(0)
    else:
        metrics.DATABASE_UP.set(1)
        metrics.ACTIVE.set(depth.running)
        metrics.QUEUE.set(depth.waiting)
        metrics.ERROR_RATE.set(failed / ended if ended else 0)
        metrics.LAST_BACKUP.set(float(str(backups.get("last", {}).get("ended_at", 0))))
    metrics.INFO.labels(docv2.__version__).set(1)
    metrics.MEMORY.set(services.gate.memory.used_percent)
    metrics.GATE.set(services.gate.level)
    metrics.SLOTS.set(services.pool.slots())
    metrics.ENABLED.set(services.config.current.enabled and not services.pool.draining)
    metrics.BLOCKED_MODELS.set(len(services.health.blocked_models()))
    await asyncio.to_thread(_measure_disk, services.settings.data_dir)
    text = await asyncio.to_thread(metrics.exposition)
    return web.Response(body=text, headers={"Content-Type": metrics.CONTENT_TYPE})


def _may(request: web.Request, token: str) -> bool:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and hmac.compare_digest(credentials.strip().encode(), token.encode()):
        return True
    # Behind a proxy everybody comes from this machine.
    return not is_forwarded(request) and bool(request[CLIENT]) and ip_address(request[CLIENT]).is_loopback


def _measure_disk(data_dir: Path) -> None:
    usage = shutil.disk_usage(data_dir)
    metrics.DISK_FREE.set(usage.free)
    metrics.DISK_TOTAL.set(usage.total)
    metrics.DATABASE.set(_size(data_dir / DATABASE))
    metrics.DATABASE_LOG.set(_size(data_dir / f"{DATABASE}-wal"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
