"""From settings to running services: the only place that picks implementations, and opens and closes them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from docv2 import config as configuration
from docv2.accounts.sessions import Sessions, load_secret
from docv2.config import Config, RuntimeConfig
from docv2.errors import Crashed, StartError
from docv2.estimate import Estimator
from docv2.events import Changes
from docv2.intake import Intake
from docv2.llm.capabilities import found_here
from docv2.llm.catalog import Catalog, endpoints_of
from docv2.llm.client import Endpoint
from docv2.llm.forms import FormCheck
from docv2.llm.health import EndpointHealth
from docv2.llm.learned import Learned
from docv2.quote import Quotes
from docv2.removal import Removal
from docv2.sandbox import Sandbox
from docv2.settings import Settings
from docv2.storage.base import Storage
from docv2.storage.local import LocalStorage
from docv2.store.base import Store
from docv2.store.lock import instance_lock
from docv2.store.sqlite import SQLiteStore
from docv2.telemetry import metrics
from docv2.worker import maintenance
from docv2.worker.folders import WorkFolders
from docv2.worker.gate import Gate, total_memory
from docv2.worker.pagecache import PageCache
from docv2.worker.pipeline import Pipeline
from docv2.worker.pool import Pool

log = logging.getLogger(__name__)

DATABASE = "docv2.db"

EMBEDDED = "embedded reader"
"""The name of its endpoint. Its address is another at each start, and what is known of an endpoint is kept by name."""

CRASH_LIMIT = 3
"""Server deaths on one task, without a finished step in between, after which it fails."""

FIRST_LOOK_SECONDS = 1.0
"""A start waits so long for the endpoints' models; then it goes on with what it knew."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that runs, ready to use."""

    settings: Settings
    config: RuntimeConfig
    store: Store
    storage: Storage
    catalog: Catalog
    health: EndpointHealth
    gate: Gate
    pool: Pool
    changes: Changes
    estimate: Estimator
    intake: Intake
    removal: Removal
    sessions: Sessions
    embedded: bool
    """No endpoint is configured: the embedded reader answers."""


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[SQLiteStore]:
    """The database alone, beside a server that may be running: for the command line."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with await SQLiteStore.open(settings.data_dir / DATABASE, checkpoints=False) as store:
        yield store


@asynccontextmanager
async def open_removal(settings: Settings) -> AsyncIterator[tuple[Store, Removal]]:
    """What takes data away for good, likewise; with the database that it works on."""
    async with open_store(settings) as store:
        yield (
            store,
            Removal(
                store=store,
                storage=LocalStorage(settings.data_dir / "files"),
                folders=WorkFolders(settings.data_dir / "work"),
                page_cache=PageCache(settings.data_dir / "cache", RuntimeConfig(Config(), store)),
            ),
        )


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything, take up the work of the run before, and start working. StartError where something is wrong."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        stack.enter_context(instance_lock(settings.data_dir))
        store = await stack.enter_async_context(await SQLiteStore.open(settings.data_dir / DATABASE))
        storage = LocalStorage(settings.data_dir / "files")
        folders = WorkFolders(settings.data_dir / "work")
        base = configuration.from_settings(settings, total_memory=total_memory(), cores=os.cpu_count())
        runtime = RuntimeConfig(base, store)
        await runtime.load()
        page_cache = PageCache(settings.data_dir / "cache", runtime)
        urls = await _addresses(settings)
        sandbox = Sandbox(
            memory_limit=settings.parser_memory * 1024**2,
            step_seconds=runtime.current.timeout,
        )
        await sandbox.start()
        stack.push_async_callback(sandbox.close)

        learned = learned_of(runtime, store)
        embedded = not urls
        if embedded:
            from docv2.llm.embedded.server import EmbeddedReader  # only where it is used

            reader = await stack.enter_async_context(EmbeddedReader(sandbox, settings.data_dir / "reader"))
            endpoints = [Endpoint(reader.base_url, reader.key, name=EMBEDDED, learned=learned)]
            log.warning("%s: the embedded reader answers (set OPENAI_API_BASE_URLS)", _no_endpoint(settings))
        else:
            keys = [] if settings.looks_for_endpoints else [key.get_secret_value() for key in settings.openai_keys]
            endpoints = endpoints_of(urls, keys, learned)
        sessions = Sessions(store, await load_secret(settings.data_dir, settings.secret_key.get_secret_value()))
        for endpoint in endpoints:
            await stack.enter_async_context(endpoint)
        catalog = catalog_of(endpoints, runtime, store, learned)
        health = EndpointHealth(catalog)
        await catalog.load()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await catalog.refresh()

        changes = Changes()
        stack.callback(changes.close)
        memory = runtime.current.memory_management
        gate = Gate(
            warning=memory.warning_threshold, hold=memory.hold_threshold, critical=memory.emergency_stop_threshold
        )
        forms = FormCheck(sandbox)
        pipeline = Pipeline(
            store=store,
            storage=storage,
            folders=folders,
            page_cache=page_cache,
            sandbox=sandbox,
            catalog=catalog,
            health=health,
            forms=forms,
            config=runtime,
            changes=changes,
        )
        pool = Pool(
            owner=str(uuid.uuid4()),
            store=store,
            config=runtime,
            gate=gate,
            health=health,
            sandbox=sandbox,
            changes=changes,
            work=pipeline.work,
        )
        health.on_open = pool.wake
        runtime.on_change.append(partial(reconfigure, gate, sandbox, pool))
        reconfigure(gate, sandbox, pool, runtime.current)
        estimate = Estimator(store, slots=pool.slots, running=pool.running)
        intake = Intake(
            store=store,
            storage=storage,
            config=runtime,
            catalog=catalog,
            health=health,
            gate=gate,
            pool=pool,
            changes=changes,
            estimate=estimate,
            forms=forms,
            quotes=Quotes(sandbox=sandbox, folders=folders, catalog=catalog, gate=gate, estimate=estimate),
        )

        removal = Removal(store=store, storage=storage, folders=folders, page_cache=page_cache, stop=pool.stop)
        await _take_up(store)
        await maintenance.sweep(store, storage, folders, runtime)
        await page_cache.open()
        for work in (
            maintenance.refresh_catalog(catalog, pool.wake),
            maintenance.expire(store, storage, folders, page_cache, runtime),
            maintenance.follow_others(store, runtime, pool),
            maintenance.finish_removals(removal.finish),
            pool.watch_memory(),
            pool.run(),
        ):
            stack.push_async_callback(_stop, asyncio.create_task(_never_ending(work)))
        yield Services(
            settings=settings,
            config=runtime,
            store=store,
            storage=storage,
            catalog=catalog,
            health=health,
            gate=gate,
            pool=pool,
            changes=changes,
            estimate=estimate,
            intake=intake,
            removal=removal,
            sessions=sessions,
            embedded=embedded,
        )
        await pool.drain(0)


def learned_of(runtime: RuntimeConfig, store: Store) -> Learned:
    """What experience teaches of models. It is void once the administrator says otherwise what a model can do."""

    def said(model_id: str) -> list[Any]:
        entry = runtime.current.model(model_id)
        return [entry.vision, entry.context]

    return Learned(store, said=said)


def catalog_of(endpoints: Sequence[Endpoint], runtime: RuntimeConfig, store: Store, learned: Learned) -> Catalog:
    """The models of endpoints, with what the administrator says of them."""
    return Catalog(
        endpoints,
        store,
        learned,
        preferred=lambda: runtime.current.admin_model,
        said=lambda: runtime.current.model_configs,
    )


async def _addresses(settings: Settings) -> Sequence[str]:
    """Of the endpoints; none where the embedded reader answers. StartError where that is not wanted."""
    urls = settings.openai_base_urls
    if settings.looks_for_endpoints:
        urls = tuple(await found_here())
        log.info("found on this machine: %s", ", ".join(urls) or "no model endpoint")
    if not urls and not settings.allow_embedded_reader:
        raise StartError(
            f"OPENAI_API_BASE_URLS: {_no_endpoint(settings)}; set it, or DOCV2_ALLOW_EMBEDDED_READER=true to answer "
            "with the embedded reader"
        )
    return urls


def _no_endpoint(settings: Settings) -> str:
    return f"no model endpoint {'answers on this machine' if settings.looks_for_endpoints else 'is configured'}"


def reconfigure(gate: Gate, sandbox: Sandbox, pool: Pool, config: Config) -> None:
    """Hand a configuration on to those who keep a part of it."""
    memory = config.memory_management
    gate.set_thresholds(
        warning=memory.warning_threshold,
        hold=memory.hold_threshold,
        critical=memory.emergency_stop_threshold,
        watched=memory.monitor_usage,
    )
    if not memory.monitor_usage:
        log.warning("memory_management.monitor_usage is off: nothing holds tasks back when memory is short")
    sandbox.step_seconds = max(config.timeout, *(model.timeout or 0.0 for model in config.model_configs.values()), 0.0)
    pool.wake()


async def _take_up(store: Store) -> None:
    """Return what the run before was working on to its place."""
    message = f"The server stopped unexpectedly {CRASH_LIMIT} times while working on this task"
    found = await store.recover(crash_limit=CRASH_LIMIT, error=message, error_type=Crashed.error_type)
    if found.requeued:
        log.warning("%d tasks were running when the server died; they are back in their place", len(found.requeued))
    for task_id in found.given_up:
        log.error("Failed: task %s: %s", task_id, message)
        metrics.task_failed(Crashed.error_type)


async def _never_ending(work: Coroutine[Any, Any, None]) -> None:
    """Run background work; if it ends by an error of ours, say so at once rather than stand still in silence."""
    try:
        await work
    except Exception:
        log.critical("background work ended", exc_info=True)
        raise


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
