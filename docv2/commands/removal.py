"""`docv2 users purge`, `users remove`, `caches clear`: taking away for good, beside a server that may run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import click

from docv2 import bootstrap
from docv2.accounts import users
from docv2.removal import Cleared, Purged, Removal
from docv2.settings import Settings
from docv2.store.base import Store
from docv2.telemetry import audit


def purge(settings: Settings, email: str) -> None:
    """Remove all that a user has; the account stays."""

    async def work(store: Store, removal: Removal) -> tuple[str, Purged]:
        user = await users.by_email(store, email)
        return f"/admin/users/{user.user_id}/data", await removal.purge(user.user_id)

    _tell(settings, work)


def remove(settings: Settings, email: str) -> None:
    """Remove a user, and all that it has."""

    async def work(store: Store, removal: Removal) -> tuple[str, Purged]:
        user = await users.by_email(store, email)
        return f"/admin/users/{user.user_id}", await removal.remove_account(user.user_id)

    _tell(settings, work)


def clear(settings: Settings) -> None:
    """Remove what the caches hold."""

    async def work(_: Store, removal: Removal) -> tuple[str, Cleared]:
        return "/admin/caches", await removal.clear_caches()

    _tell(settings, work)


def _tell(settings: Settings, work: Callable[[Store, Removal], Awaitable[tuple[str, Purged | Cleared]]]) -> None:
    """Do it, record who did it as a request to the same address is recorded, and say in numbers what it was."""

    async def run() -> tuple[str, Purged | Cleared]:
        async with bootstrap.open_removal(settings) as (store, removal):
            return await work(store, removal)

    path, removed = asyncio.run(run())
    if settings.audit_log_level != audit.NONE:
        audit.record_command(settings.audit_path, level=settings.audit_log_level, verb="DELETE", path=path)
    for name, value in asdict(removed).items():
        click.echo(f"{name}: {value}")
