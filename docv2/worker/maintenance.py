"""The housekeeping beside the pool: what has ended leaves, what belongs to nobody goes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from docv2.config import RuntimeConfig
from docv2.errors import DocV2Error, Unavailable
from docv2.llm.catalog import Catalog
from docv2.storage.base import Storage
from docv2.store.base import Store
from docv2.telemetry import audit
from docv2.worker.folders import WorkFolders
from docv2.worker.pagecache import PageCache
from docv2.worker.pool import Pool

log = logging.getLogger(__name__)

EXPIRE_SECONDS = 60.0
CATALOG_SECONDS = 60.0
CATALOG_SECONDS_UNKNOWN = 5.0
"""Between looks at the endpoints' models; sooner while one has never answered."""

LOOK_SECONDS = 0.5
"""What another process writes is seen within so long."""


async def follow_others(store: Store, config: RuntimeConfig, pool: Pool) -> None:
    """Take up what other processes write, such as the command line, until cancelled.

    That may be another configuration, a failed task that waits again, or one less to work on.
    """
    seen = None
    while True:
        try:
            latest = await store.writes_of_others()
            if latest != seen:
                seen = latest
                pool.wake()
                await config.take_up()
                await pool.stop_removed()
        except DocV2Error as error:
            log.warning("cannot take up what another process wrote: %s", error)
            seen = None if isinstance(error, Unavailable) else seen
        await asyncio.sleep(LOOK_SECONDS)


async def expire(
    store: Store, storage: Storage, folders: WorkFolders, page_cache: PageCache, config: RuntimeConfig
) -> None:
    """Remove what was kept for long enough: tasks with their files, pages, audit records. Once a minute."""
    while True:
        try:
            for task_id in await store.expire(time.time() - config.current.retention_hours * 3600):
                await storage.delete(task_id)
                await folders.remove(task_id)
        except DocV2Error as error:
            log.warning("cannot remove ended tasks now: %s", error)
        await page_cache.tidy()
        audit.tidy()
        await asyncio.sleep(EXPIRE_SECONDS)


async def finish_removals(finish: Callable[[], Awaitable[int]]) -> None:
    """Finish removals that were cut short, at start and once a minute until cancelled."""
    while True:
        try:
            await finish()
        except DocV2Error as error:
            log.warning("cannot remove the files of removed tasks now: %s", error)
        await asyncio.sleep(EXPIRE_SECONDS)


async def sweep(store: Store, storage: Storage, folders: WorkFolders, config: RuntimeConfig) -> None:
    """At start: remove files whose task does not exist or no longer needs them."""
    names = {*await storage.names(), *await folders.names()}
    known = await store.known(names)
    cleanup = config.current.memory_management.cleanup_after_processing
    needed = {task_id for task_id, task in known.items() if not cleanup or task.error is not None or not task.ended}
    for name in names - needed:
        await storage.delete(name)
        await folders.remove(name)
    if names - needed:
        log.info("removed the files of %d tasks that no longer need them", len(names - needed))


async def refresh_catalog(catalog: Catalog, wake: Callable[[], None]) -> None:
    """Look again and again at what the endpoints offer, until cancelled."""
    while True:
        await catalog.refresh()
        wake()
        await asyncio.sleep(CATALOG_SECONDS if catalog.complete else CATALOG_SECONDS_UNKNOWN)
