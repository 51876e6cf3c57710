"""Which SQLite library, how its connections are opened, and what its errors mean to the rest of docv2."""

from __future__ import annotations

import importlib.util
import sqlite3
from importlib import import_module
from pathlib import Path
from types import ModuleType

from docv2.errors import DiskFull, DocV2Error, StartError, Unavailable

DRIVER: ModuleType = import_module("pysqlite3") if importlib.util.find_spec("pysqlite3") else sqlite3
"""pysqlite3 is the standard module over a current SQLite; it has wheels for some platforms only."""

STATEMENTS = 512
"""Kept compiled: more than there are. The migrations of a first start filled the hundred places that a driver has by
itself, and each claim was compiled anew, which takes three times as long as to run it."""

ERRORS: tuple[type[Exception], type[Exception]] = (sqlite3.Error, DRIVER.Error)

BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
OUTAGE = BUSY | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
}
"""Troubles of the machine rather than of one statement: the same write may succeed later."""
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_safe_beside_writer(driver: ModuleType) -> bool:
    """Whether a second connection may work beside the writer.

    Before these versions one that writes while another checkpoints can lose commits without a word
    (sqlite.org/wal.html, the WAL-reset bug).
    """
    version: tuple[int, int, int] = driver.sqlite_version_info
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


def connect_writer(path: Path, driver: ModuleType, *, checkpoints: bool) -> sqlite3.Connection:
    """The connection that writes. `checkpoints` false: a guest beside the server, which leaves those to it."""
    connection = _connect(path, driver)
    try:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StartError(f"{path}: this file system does not support SQLite's write-ahead log; use a local disk")
        for pragma in (
            # NORMAL lost acknowledged rows in 81 % of 3,000 simulated power cuts, FULL none; see writer.Kind.
            "synchronous = FULL",
            "busy_timeout = 500",  # milliseconds; the writer thread repeats as long as its callers can wait
            "foreign_keys = ON",
            "cache_size = -65536",  # KiB
            "journal_size_limit = 67108864",  # bytes
            f"wal_autocheckpoint = {1000 if checkpoints else 0}",  # pages
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, driver: ModuleType) -> sqlite3.Connection:
    """A connection that cannot write, to read beside the writer. It hardly ever waits: readers do not block on WAL."""
    connection = _connect(path, driver)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA busy_timeout = 20")
    return connection


def connect_untouching(path: Path, driver: ModuleType) -> sqlite3.Connection:
    """A connection that leaves the database and its log as they are, even when it is closed last."""
    return _connect(path, driver, "mode=ro")


def _connect(path: Path, driver: ModuleType, query: str = "mode=rwc") -> sqlite3.Connection:
    # isolation_level None: transactions begin and end where the code says so. The connection may be opened and closed
    # in another thread than the one that uses it; it is never used by two at a time.
    connection: sqlite3.Connection = driver.connect(
        f"{path.resolve().as_uri()}?{query}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
    )
    connection.row_factory = driver.Row
    connection.execute("PRAGMA mmap_size = 0")  # an I/O error on mapped memory is a signal that kills the process
    return connection


def error_code(error: Exception) -> int:
    """SQLite's primary result code, 0 where there is none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def translate(error: Exception) -> DocV2Error:
    """What the caller is told. Raise it `from error`, so that the log has the cause and the client has not."""
    code = error_code(error)
    if code == sqlite3.SQLITE_FULL:
        return DiskFull("There is no room left to keep this.", retry_after=60)
    if code in BUSY:
        return Unavailable("The database is busy.", retry_after=5)
    if code in OUTAGE | DAMAGE:
        return Unavailable("The database cannot be used at the moment.", retry_after=30)
    return DocV2Error("The database refused this.")
