"""Telling systemd how we are, where it started us: sd_notify(3)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

log = logging.getLogger(__name__)


def notify(*assignments: str) -> None:
    """Send lines such as READY=1; nothing where nobody listens."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            # A leading @ stands for the zero byte of an abstract address.
            sender.sendto("\n".join(assignments).encode(), path if path[0] != "@" else "\0" + path[1:])
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", assignments, error)


@asynccontextmanager
async def fed_watchdog(alive: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """While the context is open, say that we live as often as systemd wants to hear it, each time after `alive`.

    Where that does not return, or this event loop stands still, nothing is said and systemd starts us anew.
    """
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    if not period or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        yield
        return
    feeding = asyncio.create_task(_feed(alive, period / 2))  # half, as sd_watchdog_enabled(3) advises
    try:
        yield
    finally:
        feeding.cancel()


async def _feed(alive: Callable[[], Awaitable[object]], seconds: float) -> None:
    while True:
        await alive()
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds)
