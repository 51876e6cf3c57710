"""`docv2 backup` and `docv2 restore`: all that a server needs to go on elsewhere, in one folder.

The folder looks like a data folder: `docv2.db`, `files/documents/`, the generated secrets. Beside them lie `env`, a
copy of the environment file, and `manifest.json`, which has the size and SHA-256 of each file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import docv2
from docv2.accounts import sessions
from docv2.accounts import users as accounts
from docv2.errors import DocV2Error
from docv2.settings import ENV_FILE, Settings
from docv2.store import backup as copies
from docv2.store.lock import instance_lock

DATABASE = "docv2.db"
DOCUMENTS = Path("files/documents")
SECRETS = (sessions.FILE, accounts.FIRST_KEY_FILE)
"""Of the data folder; those that are there go along."""
ENVIRONMENT = "env"
MANIFEST = "manifest.json"
HELD = "backup"
"""Folder within the data folder in which documents are kept from going away while they are copied."""
PIECE = 1024**2


def backup(settings: Settings, target: Path, environ: Mapping[str, str]) -> list[str]:
    """Write a backup into a new folder `target` and read it back; what is worth a warning.

    The folder is there under its name only once all of it was found good. DocV2Error where that cannot be.
    """
    database = settings.data_dir / DATABASE
    partial = target.with_name(f"{target.name}.partial")
    with _disk_errors():
        if not database.is_file():
            raise DocV2Error(f"{database}: there is no database to back up; is DOCV2_DATA_DIR right?")
        if target.exists():
            raise DocV2Error(f"{target} exists already; a backup goes into a new folder")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / DOCUMENTS).mkdir(parents=True)
        for folder in (partial, partial / DOCUMENTS.parent, partial / DOCUMENTS):
            folder.chmod(0o700)
        try:
            missing = _fill(partial, settings.data_dir, Path(environ.get(ENV_FILE) or ".env"))
            verify(partial)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync(target.parent)
    return [f"task {task_id} waits, but its document is not there: it will fail" for task_id in missing]


def _fill(folder: Path, data_dir: Path, env_file: Path) -> list[str]:
    """Put everything into the folder; ids of the unfinished tasks whose document was not there to be put."""
    missing: list[str] = []
    with _holding(data_dir) as held:

        def hold(needed: list[copies.Needed]) -> None:
            # A second name keeps the document when its task ends; thousands of them take some milliseconds.
            for one in needed:
                try:
                    (held / one.task_id).hardlink_to(data_dir / DOCUMENTS / one.task_id)
                except FileNotFoundError:
                    if not one.ended:
                        missing.append(one.task_id)

        copies.snapshot(data_dir / DATABASE, folder / DATABASE, hold)
        (folder / DATABASE).chmod(0o600)
        for document in sorted(held.iterdir()):
            _copy(document, folder / DOCUMENTS / document.name)
    for name in SECRETS:
        if (data_dir / name).is_file():
            _copy(data_dir / name, folder / name)
    if env_file.is_file():
        _copy(env_file, folder / ENVIRONMENT)
    _write_manifest(folder, missing)
    return missing


def restore(source: Path, data_dir: Path) -> None:
    """Put a backup into a data folder that has no database yet. DocV2Error where it is not good or not possible."""
    verify(source)
    with _disk_errors():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with instance_lock(data_dir):
            if any((data_dir / name).exists() for name in (DATABASE, f"{DATABASE}-wal")):
                raise DocV2Error(
                    f"{data_dir} holds a database already. Stop the server and move that folder aside, then restore"
                )
            names = [name for name in _manifest(source)["files"] if name not in (ENVIRONMENT, DATABASE)]
            for name in names:
                (data_dir / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _copy(source / name, data_dir / name)
            # Last and under its name only when whole: a restore that was cut short is no server's data.
            _copy(source / DATABASE, data_dir / f"{DATABASE}.partial")
            (data_dir / f"{DATABASE}.partial").rename(data_dir / DATABASE)
            _sync(data_dir)
            _check_files(data_dir, {name: _manifest(source)["files"][name] for name in (*names, DATABASE)})
        if os.geteuid() == 0:  # the server is to own what the administrator put there
            owner = data_dir.stat()
            for path in data_dir.rglob("*"):
                os.chown(path, owner.st_uid, owner.st_gid)


def verify(folder: Path) -> None:
    """Read a backup back: every byte of every file, and that the database and the documents belong together."""
    manifest = _manifest(folder)
    with _disk_errors():
        _check_files(folder, manifest["files"])
        copies.verify(folder / DATABASE)
        for one in copies.needed(folder / DATABASE):
            kept = manifest["files"].get(str(DOCUMENTS / one.task_id))
            if kept is None and not one.ended and one.task_id not in manifest["missing"]:
                raise DocV2Error(f"{folder}: the document of task {one.task_id} is not in it")
            if kept is not None and (kept["size"], kept["sha256"]) != (one.size, one.sha256):
                raise DocV2Error(f"{folder}: the document of task {one.task_id} is not the one that was sent")


# -- files -------------------------------------------------------------------------------------------------------------
@contextmanager
def _holding(data_dir: Path) -> Iterator[Path]:
    """An empty folder on the file system of the documents; DocV2Error where another backup uses it."""
    folder = data_dir / HELD
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DocV2Error(f"Another backup of {data_dir} is being taken") from None
        for left_over in folder.iterdir():
            left_over.unlink()
        try:
            yield folder
        finally:
            for done in folder.iterdir():
                done.unlink()
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    """A file of the owner's alone, on the disk when this returns."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with source.open("rb") as read, os.fdopen(descriptor, "wb") as written:
        os.fchmod(descriptor, 0o600)
        shutil.copyfileobj(read, written, PIECE)
        written.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _figures(path: Path) -> dict[str, Any]:
    """Size and digest, read from the disk rather than from what the kernel remembers of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _write_manifest(folder: Path, missing: list[str]) -> None:
    files = {str(path.relative_to(folder)): _figures(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {"docv2": docv2.__version__, "created_at": time.time(), "missing": missing, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    (folder / MANIFEST).chmod(0o600)
    for inner in (folder, folder / DOCUMENTS.parent, folder / DOCUMENTS):
        _sync(inner)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        names = [Path(name) for name in manifest["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DocV2Error(f"{folder} is no backup of docv2: {MANIFEST} is missing or unreadable") from error
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise DocV2Error(f"{folder} is no backup of docv2: {MANIFEST} names files outside of it")
    return manifest


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    for name, figures in files.items():
        if not (folder / name).is_file():
            raise DocV2Error(f"{folder / name} is missing")
        if _figures(folder / name) != figures:
            raise DocV2Error(f"{folder / name} is damaged: it is not what was written")


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DocV2Error(f"{error.filename or 'disk'}: {error.strerror}") from error


# -- commands ----------------------------------------------------------------------------------------------------------
def tell_backup(settings: Settings, target: Path) -> None:
    """Take one and say what came of it."""
    began = time.monotonic()
    for warning in backup(settings, target, os.environ):
        click.echo(f"docv2: {warning}", err=True)
    files = _manifest(target)["files"]
    size = sum(figures["size"] for figures in files.values()) / 1024**2
    click.echo(f"{target}: {len(files)} files, {size:.1f} MiB, read back and good; {time.monotonic() - began:.1f} s")


def tell_restore(source: Path, data_dir: Path) -> None:
    """Put it back and say what remains to be done."""
    restore(source, data_dir)
    click.echo(f"{data_dir}: restored from {source}, and read back. Now: docv2 check; docv2 serve")
    if (source / ENVIRONMENT).is_file():
        click.echo(f"The settings that it ran with are in {source / ENVIRONMENT}; put them where the server reads them")
