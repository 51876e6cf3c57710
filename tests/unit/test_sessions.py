"""The parts of signing in: the secret, the hash, the count of attempts."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from docv2.accounts import attempts, passwords, sessions, users
from docv2.accounts.attempts import Attempts, network_of
from docv2.accounts.passwords import Passwords
from docv2.errors import InvalidValue, StartError
from docv2.store.sqlite import SQLiteStore


# -- the secret -------------------------------------------------------------------------------------------------------
async def test_a_secret_is_generated_once_for_its_owner_alone(tmp_path: Path) -> None:
    secret = await sessions.load_secret(tmp_path, "")
    assert len(secret) >= 43
    assert await sessions.load_secret(tmp_path, "") == secret
    assert stat.S_IMODE((tmp_path / sessions.FILE).stat().st_mode) == 0o600


async def test_a_configured_secret_wins_and_a_short_one_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await sessions.load_secret(tmp_path, "x" * 32) == "x" * 32
    assert caplog.messages == []
    assert await sessions.load_secret(tmp_path, "short") == "short"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "short" not in caplog.text.replace("is short", "")
    assert list(tmp_path.iterdir()) == []


async def test_a_secret_that_cannot_be_kept_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / sessions.FILE).mkdir()
    with pytest.raises(StartError, match=sessions.FILE):
        await sessions.load_secret(tmp_path, "")


async def test_a_short_secret_signs_in_all_the_same(store: SQLiteStore) -> None:
    user = await users.add(store, "ada@example.org")
    await users.set_password(store, "ada@example.org", "correct horse")
    kept = sessions.Sessions(store, "short")
    assert await kept.user((await kept.sign_in("ada@example.org", "correct horse", "")).token) == user


# -- passwords --------------------------------------------------------------------------------------------------------
async def test_a_hash_matches_its_password_alone() -> None:
    kept, again = await passwords.hashed("correct horse"), await passwords.hashed("correct horse")
    assert kept != again
    compare = Passwords()
    assert await compare.match("correct horse", kept)
    for other in ("correct horse ", "Correct horse", "", "x" * 1000):
        assert not await compare.match(other, kept)


async def test_the_same_characters_match_however_they_are_written() -> None:
    assert await Passwords().match("Gru\u0308ße aus Köln", await passwords.hashed("Gr\u00fcße aus Ko\u0308ln"))


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1001])
async def test_a_password_has_8_to_1000_characters(password: str) -> None:
    with pytest.raises(InvalidValue, match="8 to 1000 characters"):
        await passwords.hashed(password)


@pytest.mark.parametrize("kept", [None, "", "plain", "$2b$12$" + "x" * 53])
async def test_what_is_no_hash_of_ours_matches_nothing(kept: str | None) -> None:
    for password in ("", "plain", "correct horse"):
        assert not await Passwords().match(password, kept)


# -- attempts ---------------------------------------------------------------------------------------------------------
def test_a_name_may_be_tried_so_often_within_the_window() -> None:
    now = 100.0
    counted = Attempts(3, 60.0, clock=lambda: now)
    for second in range(3):
        assert counted.wait("ada") == 0
        now = 100.0 + second
        counted.add("ada")
    assert counted.wait("ada") == 58.0
    assert counted.wait("bob") == 0
    now = 160.0
    assert counted.wait("ada") == 0
    counted.add("ada")
    assert counted.wait("ada") == 1.0


def test_a_success_is_no_attempt() -> None:
    counted = Attempts(1, 60.0, clock=lambda: 0.0)
    for _ in range(5):
        assert counted.wait("ada") == 0
        counted.add("ada")
        counted.take_back("ada")


def test_memory_is_bounded_and_those_tried_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "NAMES", 3)
    counted = Attempts(1, 60.0, clock=lambda: 0.0)
    for name in ("a", "b", "a", "c", "d"):
        counted.add(name)
    assert [bool(counted.wait(name)) for name in ("a", "b", "c", "d")] == [True, False, True, True]


def test_an_ipv6_customer_is_one_sender() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("") == ""
