"""The command line: run the server, look after users, keys, tasks and the queue."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

import docv2
from docv2 import settings as configuration
from docv2.accounts import keys as api_keys
from docv2.accounts import users as accounts
from docv2.config import RuntimeConfig, from_settings
from docv2.errors import DocV2Error, NotFound, StartError
from docv2.settings import Settings
from docv2.store.base import Store
from docv2.tasks import TaskStatus
from docv2.telemetry import audit, logs

T = TypeVar("T")

SWITCH_SECONDS = 0.001
"""For which a thread may keep the interpreter while the event loop waits for it. With Python's own 0.005 stalls are a
third longer."""

THREADS = 32
"""For what waits for the disk. asyncio's own number is 6 on two cores: as many slow writes would hold up all the rest.
With these, 16 clients had their files accepted 1.7 times as fast."""


class _Commands(click.Group):
    """Tells an expected error in one line each; exit status 2 where the configuration is at fault, else 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "process"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "process":
            from docv2.commands.process import process  # here: the server shall not hold a client

            return process
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DocV2Error as error:
            for line in error.message.splitlines():
                click.echo(f"docv2: {line}", err=True)
            ctx.exit(2 if isinstance(error, StartError) else 1)


data_dir_option = click.option(
    "--data-dir", metavar="FOLDER", help="Folder of the database and the files; else DOCV2_DATA_DIR."
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(docv2.__version__, prog_name="docv2", message="%(prog)s %(version)s")
def main() -> None:
    """Ask a question of a document; get an answer that says what it stands on.

    Settings come from the environment and from .env; docs/configuration.md lists them.
    """


@main.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on; else DOCV2_HOST.")
@click.option("--port", metavar="PORT", help="Port to listen on, 0 for a free one; else DOCV2_PORT.")
@data_dir_option
def serve(host: str | None, port: str | None, data_dir: str | None) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Then no document is accepted any more, and running tasks get DOCV2_DRAIN_SECONDS to finish; what is left waits for
    the next start. A second signal ends the wait.
    """
    settings = _settings(DOCV2_HOST=host, DOCV2_PORT=port, DOCV2_DATA_DIR=data_dir)
    with ExitStack() as stack:
        try:
            stack.enter_context(
                logs.running(
                    level=settings.own_log_level,
                    levels=settings.area_log_levels,
                    style=settings.log_format,
                    file=settings.log_file,
                )
            )
        except OSError as error:
            raise StartError(f"DOCV2_LOG_FILE={settings.log_file}: {error.strerror}") from error
        if settings.audit_log_level != audit.NONE:
            try:
                stack.enter_context(
                    audit.writing(
                        settings.audit_path,
                        rotate_at=settings.audit_rotation_size,
                        keep_seconds=settings.audit_seconds,
                    )
                )
            except OSError as error:
                raise StartError(f"AUDIT_LOGS_FILE_PATH={settings.audit_path}: {error.strerror}") from error
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from docv2 import bootstrap  # here, since it loads all there is: help and version need not wait for that
    from docv2.web import app

    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "files"))
    async with bootstrap.open_services(settings) as services:
        gc.freeze()  # A full collection took 0.1 s, most of it over what is loaded by now and never goes.
        await accounts.first_administrator(services.store, settings.data_dir, terminal=sys.stdout)
        await app.serve(services, ready=lambda url: click.echo(f"docv2 {docv2.__version__} answers on {url}"))


@main.command()
@click.argument("dest", type=click.Path(path_type=Path))
@data_dir_option
def backup(dest: Path, data_dir: str | None) -> None:
    """Back everything up into the new folder DEST and read it back. Works while the server runs.

    In it: the database, the documents still needed, generated secrets, the environment file. For its owner alone.
    """
    from docv2.commands import backup as copies

    copies.tell_backup(_settings(DOCV2_DATA_DIR=data_dir), dest)
    _with_store(data_dir, lambda store: store.save_note("backup", "last", {"ended_at": time.time()}))


@main.command()
@click.argument("src", type=click.Path(exists=True, file_okay=False, path_type=Path))
@data_dir_option
def restore(src: Path, data_dir: str | None) -> None:
    """Put the backup SRC into a data folder that is empty; what waited or was worked on then goes on at the start."""
    from docv2.commands import backup as copies

    copies.tell_restore(src, _settings(DOCV2_DATA_DIR=data_dir).data_dir)


@main.command()
@data_dir_option
def check(data_dir: str | None) -> None:
    """Look at everything a server needs and say, line by line, what to do about what is not right.

    Exit status 1 where something must be done, else 0. Works while the server runs.
    """
    from docv2.commands import check as checks

    given = {} if data_dir is None else {"DOCV2_DATA_DIR": data_dir}
    sys.exit(asyncio.run(checks.run({**os.environ, **given})))


@main.group()
def users() -> None:
    """The people who may call docv2. Works while the server runs."""


@users.command("add")
@click.argument("email")
@click.option("--role", type=click.Choice(accounts.ROLES), default=accounts.USER, show_default=True)
@click.option("--name", default="", help="Name for display; else the part of EMAIL before the @.")
@data_dir_option
def add_user(email: str, role: str, name: str, data_dir: str | None) -> None:
    """Add a user; prints the new id."""
    user = _with_store(data_dir, lambda store: accounts.add(store, email, role=role, name=name))
    click.echo(user.user_id)


@users.command("list")
@data_dir_option
def list_users(data_dir: str | None) -> None:
    """List the users in order of creation."""
    found = _with_store(data_dir, lambda store: store.users())
    rows = [
        (user.email, user.role, user.name, _time(user.created_at), "" if user.active else "inactive") for user in found
    ]
    _print_table(("EMAIL", "ROLE", "NAME", "CREATED", ""), rows)


@users.command("passwd")
@click.argument("email")
@data_dir_option
def set_password(email: str, data_dir: str | None) -> None:
    """Set the password of the user with EMAIL; sessions that are open end.

    Asks for it on a terminal, else reads one line from standard input.
    """
    if sys.stdin.isatty():
        password = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    _with_store(data_dir, lambda store: accounts.set_password(store, email, password))


@users.command("disable")
@click.argument("email")
@data_dir_option
def disable_user(email: str, data_dir: str | None) -> None:
    """Shut the user with EMAIL out. The server refuses their keys and sessions from the next request on."""
    _set_active(data_dir, email, active=False)


@users.command("enable")
@click.argument("email")
@data_dir_option
def enable_user(email: str, data_dir: str | None) -> None:
    """Let the user with EMAIL in again."""
    _set_active(data_dir, email, active=True)


def _set_active(data_dir: str | None, email: str, *, active: bool) -> None:
    async def work(store: Store) -> None:
        await accounts.set_active(store, (await accounts.by_email(store, email)).user_id, active=active)

    _with_store(data_dir, work)


@users.command("purge")
@click.argument("email")
@data_dir_option
def purge_user(email: str, data_dir: str | None) -> None:
    """Remove all tasks of the user with EMAIL for good, whatever their status, and all that is kept of them.

    The account stays. A purge that was cut short is finished by the next one. Says in numbers what was removed.
    """
    from docv2.commands import removal  # see _serve

    removal.purge(_settings(DOCV2_DATA_DIR=data_dir), email)


@users.command("remove")
@click.argument("email")
@data_dir_option
def remove_user(email: str, data_dir: str | None) -> None:
    """Remove the user with EMAIL for good: the account with keys and sessions, and all that purge removes."""
    from docv2.commands import removal

    removal.remove(_settings(DOCV2_DATA_DIR=data_dir), email)


@main.group()
def caches() -> None:
    """What need not be done twice. Works while the server runs."""


@caches.command("clear")
@data_dir_option
def clear_caches(data_dir: str | None) -> None:
    """Give no answer of before again and read every document anew. Tasks keep their answers."""
    from docv2.commands import removal

    removal.clear(_settings(DOCV2_DATA_DIR=data_dir))


@main.group()
def keys() -> None:
    """API keys. Works while the server runs."""


@keys.command("create")
@click.argument("email")
@click.option("--name", default="", help="What the key is for.")
@data_dir_option
def create_key(email: str, name: str, data_dir: str | None) -> None:
    """Make a key for the user with EMAIL and print it, and nothing else: it is shown only this once."""

    async def create(store: Store) -> str:
        _, key = await api_keys.create(store, await accounts.by_email(store, email), name=name)
        return key

    click.echo(_with_store(data_dir, create))


@keys.command("list")
@click.argument("email")
@data_dir_option
def list_keys(email: str, data_dir: str | None) -> None:
    """List the keys of the user with EMAIL, oldest first."""

    async def find(store: Store) -> list[tuple[str, ...]]:
        return [
            (
                key.key_id,
                f"{key.prefix}…",
                key.name,
                _time(key.created_at),
                _time(key.last_used_at),
                _time(key.revoked_at),
            )
            for key in await store.keys((await accounts.by_email(store, email)).user_id)
        ]

    _print_table(("KEY ID", "KEY", "NAME", "CREATED", "LAST USED", "REVOKED"), _with_store(data_dir, find))


@keys.command("revoke")
@click.argument("key_id")
@data_dir_option
def revoke_key(key_id: str, data_dir: str | None) -> None:
    """Revoke a key by its id. The server refuses it from the next request on."""

    async def revoke(store: Store) -> None:
        if not await store.revoke_key(key_id):
            raise NotFound(f"There is no key {key_id}, or it is revoked already")

    _with_store(data_dir, revoke)


@keys.command("rotate")
@click.argument("email")
@click.argument("key_id")
@data_dir_option
def rotate_key(email: str, key_id: str, data_dir: str | None) -> None:
    """Make a key in place of the one with KEY_ID, which is revoked; prints the new one and nothing else."""

    async def rotate(store: Store) -> str:
        user = await accounts.by_email(store, email)
        for key in await store.keys(user.user_id):
            if key.key_id == key_id:
                return (await api_keys.rotate(store, user, key))[1]
        raise NotFound(f"The user {email} has no key {key_id}")

    click.echo(_with_store(data_dir, rotate))


@main.group()
def tasks() -> None:
    """Everyone's tasks. Works while the server runs."""


@tasks.command("list")
@click.option("--status", type=click.Choice([status.value for status in TaskStatus]), help="Only those of this status.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@data_dir_option
def list_tasks(status: str | None, limit: int, data_dir: str | None) -> None:
    """List tasks, newest first."""

    async def find(store: Store) -> list[tuple[str, ...]]:
        rows = await store.all_tasks(
            user_id=None, before=None, limit=limit, status=TaskStatus(status) if status else None
        )
        emails = {user.user_id: user.email for user in await store.users()}
        return [
            (
                task.task_id,
                emails.get(task.user_id, "-"),
                task.status.value,
                str(position or "-"),
                task.model,
                _time(task.created_at),
                task.error or "",
            )
            for task, position in rows
        ]

    head = ("TASK ID", "USER", "STATUS", "POSITION", "MODEL", "ACCEPTED", "ERROR")
    _print_table(head, _with_store(data_dir, find))


@tasks.command("retry")
@click.argument("task_id")
@data_dir_option
def retry_task(task_id: str, data_dir: str | None) -> None:
    """Put a failed task at the tail of the queue. A running server takes it up from there."""

    async def retry(store: Store) -> None:
        if await store.retry(task_id) is None:
            raise NotFound(f"There is no failed task {task_id}")

    _with_store(data_dir, retry)


@main.group()
def models() -> None:
    """The models, and what is said of each. Works while the server runs, which takes a change up within a second."""


@models.command("list")
@data_dir_option
def list_models(data_dir: str | None) -> None:
    """List the models as the server knew them last, with who says what of them."""
    from docv2.commands import models as said

    settings = _settings(DOCV2_DATA_DIR=data_dir)
    _print_table(said.HEAD, _with_store(data_dir, lambda store: said.listed(settings, store)))


@models.command("set")
@click.argument("model_id", metavar="MODEL")
@click.option("--name", metavar="TEXT", help="For display.")
@click.option("--vision/--no-vision", default=None, help="Whether it can see.")
@click.option("--context", type=int, metavar="TOKENS", help="What it holds, request and answer together.")
@click.option("--temperature", type=float, metavar="NUMBER", help="Where a request names none.")
@click.option("--max-tokens", type=int, metavar="TOKENS", help="Of an answer, where a request names none.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Between two finished pages or parts.")
@click.option("--fallback", metavar="MODEL", help="Which model answers where this one cannot.")
@click.option("--user", "users", metavar="EMAIL", multiple=True, help="Who alone may use it; may be given repeatedly.")
@data_dir_option
def set_model(model_id: str, data_dir: str | None, users: tuple[str, ...], **facts: Any) -> None:
    """Say something of MODEL; what was said of it besides stays. One that no endpoint lists is there from then on."""
    from docv2.commands import models as said

    settings = _settings(DOCV2_DATA_DIR=data_dir)
    given = {name: value for name, value in {**facts, "users": list(users) or None}.items() if value is not None}
    _with_store(data_dir, lambda store: said.say(settings, store, model_id, given))


@models.command("remove")
@click.argument("model_id", metavar="MODEL")
@data_dir_option
def remove_model(model_id: str, data_dir: str | None) -> None:
    """Take back all that is said of MODEL. Tasks that wait for one that nobody has are answered by the default one."""
    from docv2.commands import models as said

    settings = _settings(DOCV2_DATA_DIR=data_dir)
    _with_store(data_dir, lambda store: said.take_back(settings, store, model_id))


@main.group()
def queue() -> None:
    """The queue. Works while the server runs."""


@queue.command("show")
@data_dir_option
def show_queue(data_dir: str | None) -> None:
    """Show how many tasks wait and run, and whether any may start."""

    async def look(store: Store) -> tuple[bool, int, int]:
        depth, latest = await store.depth(), await store.configurations()
        paused = bool(latest and latest[0].overrides.get("paused"))
        return paused, depth.waiting, depth.running

    paused, waiting, running = _with_store(data_dir, look)
    click.echo(f"{'paused' if paused else 'open'}: {waiting} waiting, {running} running")


@queue.command("pause")
@data_dir_option
def pause_queue(data_dir: str | None) -> None:
    """Start no task until the queue is resumed, within a second; documents are accepted. Outlives a restart."""
    _set_paused(data_dir, paused=True)


@queue.command("resume")
@data_dir_option
def resume_queue(data_dir: str | None) -> None:
    """Let tasks start again, within a second."""
    _set_paused(data_dir, paused=False)


def _set_paused(data_dir: str | None, *, paused: bool) -> None:
    base = from_settings(_settings(DOCV2_DATA_DIR=data_dir), total_memory=0)
    _with_store(data_dir, lambda store: RuntimeConfig(base, store).change({"paused": paused}, by="command line"))


def _settings(**overrides: str | None) -> Settings:
    """The settings, with what the command line says over the environment; the data folder is made where missing."""
    given = {name: value for name, value in overrides.items() if value is not None}
    settings = configuration.load({**os.environ, **given})
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"DOCV2_DATA_DIR={settings.data_dir}: {error.strerror}") from error
    return settings


def _with_store(data_dir: str | None, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something with the store, beside the server if one runs."""
    from docv2 import bootstrap  # see _serve

    settings = _settings(DOCV2_DATA_DIR=data_dir)

    async def run() -> T:
        async with bootstrap.open_store(settings) as store:
            return await work(store)

    return asyncio.run(run())


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else "-"


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
