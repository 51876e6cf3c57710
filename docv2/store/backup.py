"""A copy of the database that is whole, taken beside a server that goes on working."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from docv2.errors import DocV2Error
from docv2.store.engine import DRIVER, ERRORS, connect_reader, connect_untouching, connect_writer
from docv2.store.migrate import inspect

PATIENCE = 30_000
"""Milliseconds to wait for the write lock of a database that is written all the time."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A document that the tasks of a snapshot need."""

    task_id: str
    size: int
    sha256: str
    ended: bool
    """A task that failed needs it only to be tried again."""


def snapshot(database: Path, target: Path, hold: Callable[[list[Needed]], None]) -> None:
    """Copy the database as it is at one moment; `hold` gets the documents needed then, and must make sure of them.

    While `hold` runs nothing can be accepted or ended, so it has to be quick. The copy itself reads what was the state
    at that moment while the server writes on.
    """
    try:
        with (
            closing(connect_writer(database, DRIVER, checkpoints=False)) as lock,
            closing(connect_reader(database, DRIVER)) as reader,
        ):
            lock.execute(f"PRAGMA busy_timeout = {PATIENCE}")
            lock.execute("BEGIN IMMEDIATE")
            try:
                reader.execute("BEGIN")
                hold(_needed(reader))
            finally:
                lock.execute("ROLLBACK")
            with closing(DRIVER.connect(target)) as copy:
                reader.backup(copy)  # in one step: one that pauses starts anew at each write of others
                _put_at_rest(copy)
    except ERRORS as error:
        raise DocV2Error(f"{database} cannot be copied: {error}") from error


def needed(database: Path) -> list[Needed]:
    """The documents that the tasks of a database at rest need."""
    with closing(connect_untouching(database, DRIVER)) as connection:
        return _needed(connection)


def verify(database: Path) -> None:
    """Read all of a database at rest; DocV2Error where it is damaged, StartError where this docv2 cannot use it."""
    inspect(database, DRIVER, quick_check=False)
    try:
        with closing(connect_untouching(database, DRIVER)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise DocV2Error(f"{database} is damaged: {' '.join(found.split())}")
            if connection.execute("PRAGMA foreign_key_check").fetchone():
                raise DocV2Error(f"{database} is damaged: rows refer to others that are not there")
    except ERRORS as error:
        raise DocV2Error(f"{database} cannot be read: {error}") from error


def _needed(connection: sqlite3.Connection) -> list[Needed]:
    rows = connection.execute(
        "SELECT task_id, size, sha256, ended_at IS NOT NULL FROM tasks WHERE status <> 'completed'"
    ).fetchall()
    return [Needed(task_id, size, sha256, bool(ended)) for task_id, size, sha256, ended in rows]


def _put_at_rest(copy: sqlite3.Connection) -> None:
    """Nobody works on the copy: its tasks are in their places, with no crash to count, and it is one file."""
    copy.execute("PRAGMA synchronous = FULL")
    copy.execute(
        "UPDATE tasks SET status = 'waiting', owner = NULL, claimed_at = NULL, stage = NULL WHERE status = 'running'"
    )
    copy.commit()
    copy.execute("PRAGMA journal_mode = DELETE")
