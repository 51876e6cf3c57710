"""Schema migrations: plain SQL files, forward only, each applied once and never changed afterwards."""

from __future__ import annotations

import hashlib
import importlib.util
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import ModuleType

from docv2.errors import StartError
from docv2.store.engine import DAMAGE, ERRORS, connect_untouching, error_code

APPLICATION_ID = 0x646F6376
"""`docv` in ASCII; the first migration writes it into the header."""

RESTORE = (
    "Nothing was changed. With the server stopped, move the database aside together with its -wal and -shm files, "
    "put a backup in its place and start again"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of migrations/sqlite."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Of its text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped() -> list[Migration]:
    """The migrations of this version of docv2, oldest first."""
    found = []
    for file in _folder().iterdir():
        version, _, name = file.name.removesuffix(".sql").partition("_")
        if file.name.endswith(".sql"):
            found.append(Migration(int(version), name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def _folder() -> Traversable:
    """Installed, the files are the package docv2_migrations; in the source tree they lie beside docv2."""
    if importlib.util.find_spec("docv2_migrations"):
        return files("docv2_migrations") / "sqlite"
    return Path(__file__).parents[2] / "migrations" / "sqlite"


def inspect(path: Path, driver: ModuleType, *, quick_check: bool) -> None:
    """Refuse a database that is damaged, not docv2's or newer than this docv2 with StartError, and leave it as it is.

    `quick_check` also reads it through: some 0.3 s per 100 MB.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        connection = connect_untouching(path, driver)
        try:
            if _is_empty(connection):
                return
            _refuse_foreign(connection, path)
            pending(connection, path)
            if quick_check:
                answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if answer != "ok":
                    raise StartError(f"{path} is damaged ({' '.join(answer.split())}). {RESTORE}")
        finally:
            connection.close()
    except ERRORS as error:
        if error_code(error) in DAMAGE:
            raise StartError(f"{path} is damaged or not a database ({error}). {RESTORE}") from error
        raise StartError(f"{path} cannot be read: {error}") from error


def _is_empty(connection: sqlite3.Connection) -> bool:
    count: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return count == 0


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StartError(
            f"{path} is the database of another program. Nothing was changed; choose another data directory"
        )


def pending(connection: sqlite3.Connection, path: Path) -> list[Migration]:
    """The migrations still to be applied; StartError where the database does not fit this docv2."""
    ours = {migration.version: migration for migration in shipped()}
    applied: dict[int, sqlite3.Row] = {}
    if not _is_empty(connection):
        rows = connection.execute("SELECT version, name, sha256 FROM schema_migrations").fetchall()
        applied = {row["version"]: row for row in rows}
    newest = max(applied, default=0)
    if newest > max(ours):
        raise StartError(
            f"{path} has schema {newest}, this docv2 knows up to {max(ours)}: it was used by a newer one. "
            "Nothing was changed; install that version again, or restore a backup from before the upgrade"
        )
    for version, row in applied.items():
        if version not in ours or ours[version].sha256 != row["sha256"]:
            raise StartError(
                f"{path} was made with another text of migration {version:04d}_{row['name']} than this docv2 has. "
                "Nothing was changed; install an unmodified docv2"
            )
    return [migration for version, migration in ours.items() if version not in applied]


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date: all of it or nothing.

    The write lock is taken only where there is something to do, and what there is to do is read again under it: a
    command line tool may be doing the same.
    """
    if not pending(connection, path):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in pending(connection, path):
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_migrations (version, name, sha256, applied_at) VALUES (?, ?, ?, ?)",
                (migration.version, migration.name, migration.sha256, time.time()),
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(sql: str) -> Iterator[str]:
    """Cut a script at the line ends that end a statement. The driver's own script runner would commit first."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
