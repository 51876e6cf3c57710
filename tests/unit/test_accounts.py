"""Users and keys: who gets in, and what is kept of a key."""

from __future__ import annotations

import asyncio
import io
import stat
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from docv2.accounts import keys, users
from docv2.accounts.keys import KeyCheck
from docv2.errors import Conflict, InvalidValue, NotFound, Unauthenticated, Unavailable
from docv2.store.base import ApiKey, User
from docv2.store.sqlite import SQLiteStore
from docv2.store.writer import Kind


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_key_lets_its_user_in(store: SQLiteStore) -> None:
    user = await users.add(store, " Ada@Example.org ", name="Ada")
    _, key = await keys.create(store, user, name="laptop")
    check = KeyCheck(store)
    assert await check.user(key) == user
    assert user.email == "Ada@Example.org"
    await check.close()


def test_keys_are_256_random_bits_after_the_documented_prefix() -> None:
    made = {keys.generate() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("sk-") and len(key) == 3 + 43 for key in made)


async def test_the_key_itself_is_nowhere_in_the_database(store: SQLiteStore, tmp_path: Path) -> None:
    user = await users.add(store, "ada@example.org")
    listed, key = await keys.create(store, user)
    assert key.startswith(listed.prefix)
    assert len(listed.prefix) < 12
    await store.close()
    for file in tmp_path.iterdir():
        assert key.encode() not in file.read_bytes()


@pytest.mark.parametrize("key", ["", "sk-", "sk-" + "x" * 43, "sk-\udcff", "sk-" + "ä" * 5000])
async def test_any_other_key_does_not(store: SQLiteStore, key: str) -> None:
    await keys.create(store, await users.add(store, "ada@example.org"))
    with pytest.raises(Unauthenticated):
        await KeyCheck(store).user(key)


async def test_a_revocation_by_another_process_is_seen_within_a_second(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, key = await keys.create(store, await users.add(store, "ada@example.org"))
    check = KeyCheck(store)
    await check.user(key)
    async with await SQLiteStore.open(tmp_path / "docv2.db", checkpoints=False) as beside:
        assert await beside.revoke_key(listed.key_id)
    later = time.monotonic() + 1
    monkeypatch.setattr("docv2.accounts.keys.time.monotonic", lambda: later)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await check.user(key)
    await check.close()


async def _revoked(store: SQLiteStore, user: User, key: ApiKey) -> None:
    assert await store.revoke_key(key.key_id)


async def _rotated(store: SQLiteStore, user: User, key: ApiKey) -> None:
    await keys.rotate(store, user, key)


async def _shut_out(store: SQLiteStore, user: User, key: ApiKey) -> None:
    await users.add(store, "root@example.org", role="admin")
    await users.set_active(store, user.user_id, active=False)


async def _removed(store: SQLiteStore, user: User, key: ApiKey) -> None:
    await _shut_out(store, user, key)
    assert await store.remove_user(user.user_id) is not None


@pytest.mark.parametrize("end", [_revoked, _rotated, _shut_out, _removed])
async def test_what_this_process_takes_away_is_gone_at_once(
    store: SQLiteStore, end: Callable[[SQLiteStore, User, ApiKey], Awaitable[None]]
) -> None:
    user = await users.add(store, "ada@example.org")
    key, text = await keys.create(store, user)
    check = KeyCheck(store)
    await check.user(text)
    await end(store, user, key)
    with pytest.raises(Unauthenticated):
        await check.user(text)
    await check.close()


async def test_a_revocation_whose_caller_left_is_not_overlooked(store: SQLiteStore) -> None:
    user = await users.add(store, "ada@example.org")
    key, text = await keys.create(store, user)
    check, held = KeyCheck(store), threading.Event()
    holding = store._writer.submit(Kind.READ, lambda _: held.wait(10))
    revoking = asyncio.create_task(store.revoke_key(key.key_id))
    await asyncio.sleep(0)
    revoking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await revoking
    assert await check.user(text) == user, "not revoked yet"
    held.set()
    await holding
    await store.save_note("any", "later", {})  # what was handed in before is done then
    with pytest.raises(Unauthenticated):
        await check.user(text)
    await check.close()


@pytest.mark.parametrize("end", ["replace", "revoke"])
async def test_so_is_the_key_that_its_user_made(store: SQLiteStore, end: str) -> None:
    user = await users.add(store, "ada@example.org")
    _, text = await keys.replace_own(store, user)
    check = KeyCheck(store)
    await check.user(text)
    await (keys.replace_own(store, user) if end == "replace" else store.revoke_own_key(user.user_id))
    with pytest.raises(Unauthenticated):
        await check.user(text)
    await check.close()


async def test_the_use_of_a_key_is_written_once_a_minute(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await users.add(store, "ada@example.org")
    _, key = await keys.create(store, user)
    written: list[float] = []
    write = store.key_used

    async def count(key_id: str, when: float) -> None:
        written.append(when)
        await write(key_id, when)

    monkeypatch.setattr(store, "key_used", count)
    now = time.time()
    check = KeyCheck(store)
    for offset in (0, 1, 59, 60, 61, 121):
        monkeypatch.setattr("docv2.accounts.keys.time.time", lambda at=now + offset: at)
        await check.user(key)
        await check.close()
    assert written == [now, now + 60, now + 121]
    assert [listed.last_used_at for listed in await store.keys(user.user_id)] == [now + 121]


async def test_a_database_that_cannot_note_the_use_keeps_nobody_out(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await users.add(store, "ada@example.org")
    _, key = await keys.create(store, user)

    async def refuse(key_id: str, when: float) -> None:
        raise Unavailable("The database is busy")

    monkeypatch.setattr(store, "key_used", refuse)
    check = KeyCheck(store)
    assert await check.user(key) == user
    await check.close()


@pytest.mark.parametrize(
    ("email", "name", "role"),
    [
        ("ada", "", "user"),
        ("@example.org", "", "user"),
        ("ada@", "", "user"),
        ("ada @example.org", "", "user"),
        ("ada\n@example.org", "", "user"),
        ("a" * 250 + "@example.org", "", "user"),
        ("ada@example.org", "A\x1b[2J", "user"),
        ("ada@example.org", "A" * 201, "user"),
        ("ada@example.org", "", "root"),
    ],
)
async def test_a_user_that_makes_no_sense_is_not_added(store: SQLiteStore, email: str, name: str, role: str) -> None:
    with pytest.raises(InvalidValue):
        await users.add(store, email, name=name, role=role)
    assert await store.users() == []


async def test_an_address_is_taken_whatever_its_case(store: SQLiteStore) -> None:
    await users.add(store, "ada@example.org")
    with pytest.raises(Conflict):
        await users.add(store, "ADA@example.org")
    assert (await users.by_email(store, "Ada@Example.Org")).email == "ada@example.org"
    with pytest.raises(NotFound):
        await users.by_email(store, "bob@example.org")


async def test_the_first_start_leaves_the_key_in_a_file_of_the_owner(
    store: SQLiteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / users.FIRST_KEY_FILE
    path.write_text("left by a crash")
    path.chmod(0o644)
    await users.first_administrator(store, tmp_path, terminal=io.StringIO())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    check = KeyCheck(store)
    administrator = await check.user(path.read_text().strip())
    await check.close()
    assert (administrator.role, administrator.email) == ("admin", "admin@localhost")
    assert str(path) in caplog.text
    assert path.read_text().strip() not in caplog.text


async def test_on_a_terminal_the_key_is_shown_and_kept_nowhere(store: SQLiteStore, tmp_path: Path) -> None:
    terminal = Terminal()
    await users.first_administrator(store, tmp_path, terminal=terminal)
    check = KeyCheck(store)
    assert (await check.user(terminal.getvalue().split()[-1])).role == "admin"
    await check.close()
    assert not (tmp_path / users.FIRST_KEY_FILE).exists()


async def test_later_starts_make_nobody(store: SQLiteStore, tmp_path: Path) -> None:
    await users.add(store, "ada@example.org")
    await users.first_administrator(store, tmp_path)
    assert [user.email for user in await store.users()] == ["ada@example.org"]
    assert not (tmp_path / users.FIRST_KEY_FILE).exists()
