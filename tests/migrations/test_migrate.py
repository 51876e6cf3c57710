"""The schema comes up to date whole or not at all, and a database that is not ours to touch is left as it is."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from docv2.errors import StartError
from docv2.store import migrate as module
from docv2.store.engine import DRIVER, connect_writer
from docv2.store.migrate import Migration, migrate, shipped
from docv2.store.sqlite import SQLiteStore
from tests.conformance.samples import enqueue

SHIPPED = shipped()


def connect(path: Path) -> sqlite3.Connection:
    connection: sqlite3.Connection = DRIVER.connect(path, isolation_level=None)
    return connection


def schema_of(path: Path) -> list[tuple[str, ...]]:
    with closing(connect(path)) as connection:
        return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def versions(path: Path) -> list[tuple[int, str, str]]:
    with closing(connect(path)) as connection:
        return connection.execute("SELECT version, name, sha256 FROM schema_migrations ORDER BY version").fetchall()


def apply(path: Path) -> None:
    with closing(connect_writer(path, DRIVER, checkpoints=True)) as connection:
        migrate(connection, path)


@pytest.fixture
def with_next(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Migration]:
    """Ships one more migration."""
    have = list(SHIPPED)

    def ship(sql: str) -> Migration:
        more = Migration(have[-1].version + 1, "next", sql)
        monkeypatch.setattr(module, "shipped", lambda: [*have, more])
        return more

    return ship


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in SHIPPED] == list(range(1, len(SHIPPED) + 1))


@pytest.mark.parametrize("known", range(len(SHIPPED) + 1))
def test_every_earlier_version_comes_up_to_date(tmp_path: Path, known: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fresh = tmp_path / "docv2.db", tmp_path / "fresh.db"
    monkeypatch.setattr(module, "shipped", lambda: SHIPPED[:known])
    if known:
        apply(path)
    monkeypatch.undo()
    apply(path)
    apply(fresh)
    assert schema_of(path) == schema_of(fresh)
    assert versions(path) == [(each.version, each.name, each.sha256) for each in SHIPPED]


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "docv2.db"
    apply(path)
    before = path.read_bytes()
    apply(path)
    assert path.read_bytes() == before


def test_a_database_in_use_is_brought_up_to_date_with_its_rows(
    tmp_path: Path, with_next: Callable[[str], Migration]
) -> None:
    path = tmp_path / "docv2.db"
    apply(path)
    more = with_next("-- A comment; with a semicolon.\nALTER TABLE tasks ADD COLUMN colour TEXT;\nDROP VIEW queue;\n")
    apply(path)
    assert versions(path)[-1] == (more.version, more.name, more.sha256)
    assert "colour" in str(schema_of(path))


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, with_next: Callable[[str], Migration]) -> None:
    path = tmp_path / "docv2.db"
    apply(path)
    before = schema_of(path), versions(path)
    with_next("CREATE TABLE more (x TEXT) STRICT;\nCREATE TABLE tasks (x TEXT);\n")
    with pytest.raises(DRIVER.OperationalError):
        apply(path)
    assert (schema_of(path), versions(path)) == before


async def test_a_migration_that_fails_is_told_as_a_failed_start(
    tmp_path: Path, with_next: Callable[[str], Migration]
) -> None:
    path = tmp_path / "docv2.db"
    with_next("CREATE TABLE tasks (x TEXT);\n")
    with pytest.raises(StartError, match="cannot be brought up to date"):
        await SQLiteStore.open(path)
    assert await asyncio.to_thread(schema_of, path) == []


async def test_several_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    path = tmp_path / "docv2.db"
    stores = await asyncio.gather(*(SQLiteStore.open(path, checkpoints=False) for _ in range(6)))
    for store in stores:
        await enqueue(store)
        await store.close()
    assert len(await asyncio.to_thread(versions, path)) == len(SHIPPED)


# -- refusals ---------------------------------------------------------------------------------------------------------
async def used_database(path: Path) -> None:
    async with await SQLiteStore.open(path) as store:
        await asyncio.gather(*(enqueue(store, prompt="x" * 2000) for _ in range(200)))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset if offset >= 0 else path.stat().st_size + offset)
        file.write(data)


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "not a database": lambda path: path.write_bytes(b"Dear diary, " * 1000),
    "a header of zeros": lambda path: overwrite(path, 0, bytes(100)),
    "a schema of noise": lambda path: overwrite(path, 100, b"\xa5" * 2000),
    "cut short": truncate,
    "a page of zeros": lambda path: overwrite(path, -30 * 4096, bytes(4096)),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_database_is_refused_untouched(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "docv2.db"
    await used_database(path)
    DAMAGES[damage](path)
    before = path.read_bytes()
    with pytest.raises(StartError) as refusal:
        await SQLiteStore.open(path)
    assert "damaged" in refusal.value.message
    assert "backup" in refusal.value.message
    assert "\n" not in refusal.value.message
    assert path.read_bytes() == before


async def refusal_of(folder: Path, change: str) -> str:
    """Open what a server that died right after such a change left behind; nothing of it may be touched."""
    path, log = folder / "docv2.db", folder / "docv2.db-wal"
    await used_database(folder / "alive.db")

    def change_and_die() -> None:
        with closing(connect(folder / "alive.db")) as connection:
            connection.execute(change)
            shutil.copy(folder / "alive.db", path)
            shutil.copy(folder / "alive.db-wal", log)

    await asyncio.to_thread(change_and_die)
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(StartError) as refusal:
        await SQLiteStore.open(path)
    assert (path.read_bytes(), log.read_bytes()) == before
    assert "Nothing was changed" in refusal.value.message
    return refusal.value.message


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    newer = "INSERT INTO schema_migrations VALUES (99, 'from_the_future', '0', 1.0)"
    message = await refusal_of(tmp_path, newer)
    assert "schema 99" in message
    assert f"up to {SHIPPED[-1].version}" in message
    assert "backup" in message


async def test_another_text_of_a_migration_is_refused(tmp_path: Path) -> None:
    message = await refusal_of(tmp_path, "UPDATE schema_migrations SET sha256 = '0' WHERE version = 1")
    assert "0001_initial" in message


async def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    message = await refusal_of(tmp_path, "PRAGMA application_id = 42")
    assert "another program" in message


async def test_a_path_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be opened"):
        await SQLiteStore.open(tmp_path / "missing" / "docv2.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StartError, match=r"cannot be (read|opened)"):
        await SQLiteStore.open(tmp_path / "folder.db")


async def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "docv2.db"
    path.touch()
    async with await SQLiteStore.open(path) as store:
        await enqueue(store)
