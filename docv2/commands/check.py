"""`docv2 check`: everything a server stands on, each with what to do where it is not right.

It changes nothing, and works beside the server as well as without one.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
import click

from docv2 import settings as configuration
from docv2.commands.backup import DATABASE, DOCUMENTS, SECRETS
from docv2.commands.terminal import one_line
from docv2.config import from_settings
from docv2.errors import DocV2Error, StartError
from docv2.llm.capabilities import found_here, models_of
from docv2.llm.catalog import endpoints_of
from docv2.llm.client import Endpoint
from docv2.llm.learned import Learned
from docv2.settings import Settings
from docv2.store import backup as copies
from docv2.store.engine import DRIVER, ERRORS, connect_untouching, is_safe_beside_writer
from docv2.store.migrate import pending
from docv2.worker.gate import read_memory, total_memory

ENDPOINT_SECONDS = 10.0
ROOM = 2 * 1024**3
"""Bytes free on the disk below which an operator should look."""
LOG_LIMIT = 64 * 1024**2
"""Bytes of write-ahead log that a server keeps below on its own."""
BACKUP_SECONDS = 36 * 3600.0
"""Since the last backup: a day, and half a one for it to be late."""
DESCRIPTORS = 1024
UNSYNCHRONISED = 5
"""What adjtimex(2) answers of a clock that nothing sets right (TIME_ERROR)."""


class Level(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    """It works, but look at it."""
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    level: Level
    area: str
    what: str
    do: str = ""
    """What to do about it; empty where nothing."""

    def __str__(self) -> str:
        advice = f" -> {self.do}" if self.do else ""
        return f"{self.level:<4}  {self.area:<13}  {one_line(self.what)}{advice}"


async def run(environ: Mapping[str, str]) -> int:
    """Print all findings; the exit status."""
    try:
        settings = configuration.load(environ)
    except StartError as error:
        for line in error.message.splitlines():
            click.echo(Finding(Level.FAIL, "configuration", line, "correct it; docs/configuration.md has them all"))
        return 2
    findings = [
        Finding(Level.OK, "configuration", "every setting is understood"),
        *await asyncio.to_thread(lambda: [finding for look in LOCAL for finding in look(settings)]),
        *await _endpoints(settings),
        await _server(settings),
    ]
    for finding in findings:
        click.echo(finding)
    failed = sum(finding.level is Level.FAIL for finding in findings)
    warned = sum(finding.level is Level.WARN for finding in findings)
    click.echo(f"{failed} to mend, {warned} to look at")
    return 1 if failed else 0


# -- this machine ------------------------------------------------------------------------------------------------------
def _permissions(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    if not folder.is_dir():
        yield Finding(Level.WARN, "permissions", f"{folder} is not there", "the first start makes it, if it may")
        return
    wrong = False
    env_file = Path(os.environ.get(configuration.ENV_FILE) or ".env")
    for path in (folder, *(folder / name for name in (DATABASE, f"{DATABASE}-wal", *SECRETS)), env_file):
        if not path.exists():
            continue
        about = path.stat()
        if about.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            wrong = True
            do = f"chmod {'700' if path.is_dir() else '600'} {path}"
            yield Finding(Level.WARN, "permissions", f"{path} is open to others: it holds documents or secrets", do)
        if not os.access(path, os.R_OK | (0 if path == env_file else os.W_OK)):
            wrong = True
            do = "run this as the user of the server, or chown it to that user"
            yield Finding(Level.FAIL, "permissions", f"{path} cannot be read and written by this user", do)
    if not wrong:
        yield Finding(Level.OK, "permissions", f"{folder} is this user's alone")


def _engine(_: Settings) -> Iterator[Finding]:
    version = DRIVER.sqlite_version
    if is_safe_beside_writer(DRIVER):
        yield Finding(Level.OK, "engine", f"SQLite {version}")
    else:
        what = f"SQLite {version} can lose data with several connections; docv2 makes do with one, slowly"
        yield Finding(Level.WARN, "engine", what, "pip install pysqlite3, or SQLite 3.51.3 or later")


def _database(settings: Settings) -> Iterator[Finding]:
    path = settings.data_dir / DATABASE
    if not path.is_file():
        yield Finding(
            Level.WARN, "database", f"{path} is not there yet", "the first start makes it; else mend the path"
        )
        return
    try:
        copies.verify(path)
        with closing(connect_untouching(path, DRIVER)) as connection:
            todo = len(pending(connection, path))
            counts = dict(connection.execute("SELECT status, count(*) FROM tasks GROUP BY status").fetchall())
            newest = connection.execute("SELECT max(max(created_at), max(coalesce(ended_at, 0))) FROM tasks").fetchone()
            admins = connection.execute("SELECT count(*) FROM users WHERE role = 'admin' AND active = 1").fetchone()[0]
            last = connection.execute("SELECT updated_at FROM notes WHERE kind = 'backup' AND name = 'last'").fetchone()
    except (DocV2Error, *ERRORS) as error:
        do = "stop the server, move the folder aside, docv2 restore the last backup"
        yield Finding(Level.FAIL, "database", str(error), do)
        return
    size = path.stat().st_size / 1024**2
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "no task"
    yield Finding(Level.OK, "database", f"{path}: {size:.1f} MiB, every page read and good; {summary}")
    if todo:
        yield Finding(
            Level.WARN, "database", f"{todo} migrations are due", "take a backup; the next start applies them"
        )
    log = path.with_name(f"{DATABASE}-wal")
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        what = f"its log has grown to {log.stat().st_size / 1024**2:.0f} MiB"
        yield Finding(Level.WARN, "database", what, "end the long read that holds it: fuser -v on the database")
    if newest[0] and newest[0] > time.time() + 60:
        what = f"a task bears a time {newest[0] - time.time():.0f} s from now"
        yield Finding(Level.FAIL, "clock", what, "the clock went back: set it right, then restart")
    if not admins:
        yield Finding(Level.WARN, "accounts", "there is no active administrator", "docv2 users add EMAIL --role admin")
    if last is None or time.time() - last[0] > BACKUP_SECONDS:
        what = (
            "none was taken yet" if last is None else f"the last was taken {(time.time() - last[0]) / 3600:.0f} h ago"
        )
        yield Finding(
            Level.WARN, "backup", what, "docv2 backup DEST, every day: systemctl enable --now docv2-backup.timer"
        )
    else:
        yield Finding(Level.OK, "backup", f"the last was taken {(time.time() - last[0]) / 3600:.1f} h ago")


def _documents(settings: Settings) -> Iterator[Finding]:
    try:
        needed = [one for one in copies.needed(settings.data_dir / DATABASE) if not one.ended]
    except ERRORS:
        return  # said above
    missing = [one.task_id for one in needed if not (settings.data_dir / DOCUMENTS / one.task_id).is_file()]
    # A task that ended meanwhile needs its document no more.
    still = {one.task_id for one in copies.needed(settings.data_dir / DATABASE)} if missing else set()
    if gone := [task_id for task_id in missing if task_id in still]:
        what = f"{len(gone)} waiting tasks have no document, the first is {gone[0]}"
        yield Finding(Level.FAIL, "documents", what, f"put {DOCUMENTS} back from a backup, or cancel the tasks")
    else:
        yield Finding(Level.OK, "documents", f"every one of {len(needed)} unfinished tasks has its document")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = next(path for path in (settings.data_dir, *settings.data_dir.absolute().parents) if path.is_dir())
    usage = shutil.disk_usage(folder)
    what = f"{usage.free / 1024**3:.1f} GiB of {usage.total / 1024**3:.1f} GiB are free at {folder}"
    do = "make room or move DOCV2_DATA_DIR; at the end of it uploads are refused with 507"
    if usage.free < 4 * settings.max_file_size:
        yield Finding(Level.FAIL, "disk", what, do)
    elif usage.free < ROOM or usage.free < usage.total / 20:
        yield Finding(Level.WARN, "disk", what, do)
    else:
        yield Finding(Level.OK, "disk", what)


def _memory(settings: Settings) -> Iterator[Finding]:
    memory = read_memory()
    slots = from_settings(settings, total_memory=total_memory()).max_concurrent
    what = f"{memory.used_percent:g} % of {memory.total_mb} MiB in use; {slots} tasks at once"
    if memory.used_percent >= settings.memory_hold:
        yield Finding(Level.FAIL, "memory", what, "no task starts; end what uses it, or lower API_V2_MAX_CONCURRENT")
    elif memory.used_percent >= settings.memory_warning:
        yield Finding(Level.WARN, "memory", what, "half of the pool rests; see what uses it: ps aux --sort=-rss")
    else:
        yield Finding(Level.OK, "memory", what)
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < DESCRIPTORS:
        do = "LimitNOFILE=65536 in the unit, or limits.conf"
        yield Finding(Level.WARN, "descriptors", f"at most {descriptors} files may be open at once", do)


def _clock(_: Settings) -> Iterator[Finding]:
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))  # all zero: it is read, not set
    if state == UNSYNCHRONISED:
        yield Finding(
            Level.WARN, "clock", "nothing keeps it right", "timedatectl set-ntp true, or ask whose machine it is"
        )
    elif state >= 0:
        yield Finding(Level.OK, "clock", "kept right by the system")


LOCAL = (_permissions, _engine, _database, _documents, _disk, _memory, _clock)


# -- others ------------------------------------------------------------------------------------------------------------
async def _endpoints(settings: Settings) -> list[Finding]:
    urls = await found_here() if settings.looks_for_endpoints else settings.openai_base_urls
    if not urls:
        level = Level.WARN if settings.allow_embedded_reader else Level.FAIL
        what = "none answers on this machine" if settings.looks_for_endpoints else "none is configured"
        what += ": the embedded reader answers" if settings.allow_embedded_reader else ""
        return [Finding(level, "endpoints", what, "start one, or set OPENAI_API_BASE_URLS to its address")]
    keys = [] if settings.looks_for_endpoints else [key.get_secret_value() for key in settings.openai_keys]
    endpoints = endpoints_of(urls, keys, Learned())
    looked = await asyncio.gather(*(_endpoint(endpoint) for endpoint in endpoints))
    listed = {model: seeing for _, models in looked for model, seeing in models.items()}
    return [*(finding for finding, _ in looked), *_models(settings, listed)]


async def _endpoint(endpoint: Endpoint) -> tuple[Finding, dict[str, bool | None]]:
    """How it is, and its models with whether they are known to see."""
    began = time.monotonic()
    try:
        async with endpoint, asyncio.timeout(ENDPOINT_SECONDS):
            told = await models_of(endpoint)
    except (DocV2Error, TimeoutError) as error:
        what = f"{endpoint.name}: {error or 'no answer in time'}"
        do = f"start it, mend its key, or look at the way there: curl {endpoint.name}/models"
        return Finding(Level.FAIL, "endpoints", what, do), {}
    what = f"{endpoint.name}: {len(told)} models in {time.monotonic() - began:.2f} s"
    if not told:
        return Finding(Level.FAIL, "endpoints", what, "load a model there"), {}
    return Finding(Level.OK, "endpoints", what), {one.id: one.vision for one in told}


def _models(settings: Settings, listed: Mapping[str, bool | None]) -> Iterator[Finding]:
    if settings.admin_model and listed and settings.admin_model not in listed:
        what = f"API_V2_ADMIN_MODEL={settings.admin_model} is listed by no endpoint"
        yield Finding(Level.WARN, "models", what, f"choose one of {', '.join(list(listed)[:5])}")
    if listed and all(sees is False for sees in listed.values()):
        yield Finding(Level.WARN, "models", "none can see: scanned pages stay unread", "add a model with vision")
    elif listed:
        yield Finding(Level.OK, "models", f"{len(listed)} in all")


async def _server(settings: Settings) -> Finding:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/api/v2/health"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ENDPOINT_SECONDS)) as session,
            session.get(url) as response,
        ):
            health: dict[str, Any] = await response.json()
    except aiohttp.ClientConnectorError:
        do = "start it if it should run; is DOCV2_PORT the one that it was started with?"
        return Finding(Level.WARN, "server", f"nothing answers at {url}", do)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return Finding(Level.FAIL, "server", f"{url} does not answer as docv2 does: {error}", "look at its log")
    if health.get("status") == "healthy":
        return Finding(Level.OK, "server", f"running and healthy at {url}")
    level = Level.WARN if health.get("status") == "degraded" else Level.FAIL
    reasons = "; ".join(map(str, health.get("reasons", ()))) or "no reason given"
    return Finding(level, "server", f"{health.get('status')}: {reasons}", "docs/operations.md has a section for each")
