"""Passwords, sessions and the key that a user looks after: what every store must do with them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from docv2.store.base import Store, User
from tests.conformance.samples import key, user


@pytest.fixture
async def person(store: Store) -> User:
    made = user()
    await store.add_user(made)
    return made


async def test_a_user_has_no_password_until_one_is_set(store: Store, person: User) -> None:
    credentials = await store.credentials(person.user_id)
    assert credentials is not None
    assert (credentials.user, credentials.password) == (person, None)
    assert await store.credentials("nobody") is None


async def test_each_new_password_changes_the_stamp(store: Store, person: User) -> None:
    stamps = set()
    for password in ("one", "two", "one"):
        await store.set_password(person.user_id, password)
        credentials = await store.credentials(person.user_id)
        assert credentials is not None
        assert credentials.password == password
        stamps.add(credentials.session_stamp)
    assert len(stamps) == 3
    assert all(len(stamp) == 32 for stamp in stamps)


async def test_an_inactive_user_has_no_credentials(store: Store) -> None:
    person = user(active=False)
    await store.add_user(person)
    assert await store.credentials(person.user_id) is None


async def test_an_own_key_replaces_the_one_before_and_no_other(store: Store, person: User) -> None:
    given, first, second = key(person, created_at=1.0), key(person, created_at=2.0), key(person, created_at=3.0)
    assert await store.own_key(person.user_id) is None
    await store.add_key(given, "digest-0")
    assert await store.own_key(person.user_id) is None
    await store.replace_own_key(first, "digest-1")
    await store.replace_own_key(second, "digest-2")
    assert await store.own_key(person.user_id) == second
    assert [bool(await store.user_by_key(f"digest-{number}")) for number in range(3)] == [True, False, True]


async def test_a_revoked_own_key_is_gone_once(store: Store, person: User) -> None:
    await store.replace_own_key(key(person), "digest-1")
    answers = await asyncio.gather(*(store.revoke_own_key(person.user_id) for _ in range(5)))
    (revoked,) = [answer for answer in answers if answer]
    assert revoked.revoked_at is not None
    assert await store.own_key(person.user_id) is None
    assert await store.user_by_key("digest-1") is None


async def test_however_many_replace_it_one_own_key_is_left(store: Store, person: User) -> None:
    made = [key(person) for _ in range(10)]
    await asyncio.gather(*(store.replace_own_key(each, each.key_id) for each in made))
    valid = [each.key_id for each in await store.keys(person.user_id) if each.revoked_at is None]
    own = await store.own_key(person.user_id)
    assert own is not None
    assert valid == [own.key_id]
    assert replace(own, revoked_at=None) in made
