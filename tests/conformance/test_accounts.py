"""Users, keys, measurements and notes: what every store must do with them."""

from __future__ import annotations

import asyncio

import pytest

from docv2.errors import Conflict
from docv2.store.base import Store
from docv2.tasks import Sums
from tests.conformance.samples import RESULT, enqueue, key, running, user


async def test_a_user_is_found_by_e_mail_without_case(store: Store) -> None:
    person = user(email="Ann.Example@Example.org", role="admin")
    await store.add_user(person)
    for spelling in ("Ann.Example@Example.org", "ann.example@example.ORG"):
        assert await store.user_by_email(spelling) == person
    assert await store.user_by_email("ann@example.org") is None


async def test_an_e_mail_is_one_account(store: Store) -> None:
    await store.add_user(user(email="ann@example.org"))
    with pytest.raises(Conflict):
        await store.add_user(user(email="ANN@example.org"))
    answers = await asyncio.gather(
        *(store.add_user(user(email="bob@example.org")) for _ in range(10)), return_exceptions=True
    )
    assert sum(answer is None for answer in answers) == 1
    assert len(await store.users()) == 2


async def test_users_are_listed_in_order_of_creation(store: Store) -> None:
    people = [user(created_at=when) for when in (3.5, 1.0, 2.0)]
    for person in people:
        await store.add_user(person)
    assert await store.users() == [people[1], people[2], people[0]]


async def test_a_key_leads_to_its_user(store: Store) -> None:
    person = user()
    await store.add_user(person)
    first, second = key(person, created_at=1.0), key(person, created_at=2.0)
    await store.add_key(second, "digest-2")
    await store.add_key(first, "digest-1")
    assert await store.user_by_key("digest-1") == (person, first, "digest-1")
    assert await store.user_by_key("digest-3") is None
    assert await store.keys(person.user_id) == [first, second]
    assert await store.keys("no-such-user") == []
    with pytest.raises(Conflict):
        await store.add_key(key(person), "digest-1")


async def test_a_revoked_key_leads_nowhere(store: Store) -> None:
    person = user()
    await store.add_user(person)
    revoked, kept = key(person, created_at=1.0), key(person, created_at=2.0)
    await store.add_key(revoked, "digest-1")
    await store.add_key(kept, "digest-2")
    assert await store.revoke_key(revoked.key_id)
    assert not await store.revoke_key(revoked.key_id)
    assert not await store.revoke_key("no-such-key")
    assert await store.user_by_key("digest-1") is None
    assert await store.user_by_key("digest-2") == (person, kept, "digest-2")
    assert [each.revoked_at is not None for each in await store.keys(person.user_id)] == [True, False]


async def test_a_key_of_an_inactive_user_leads_nowhere(store: Store) -> None:
    person = user(active=False)
    await store.add_user(person)
    await store.add_key(key(person), "digest-1")
    assert await store.user_by_key("digest-1") is None
    assert await store.users() == [person]


async def test_the_last_use_of_a_key_is_kept(store: Store) -> None:
    person = user()
    await store.add_user(person)
    mine = key(person)
    await store.add_key(mine, "digest-1")
    for when, latest in ((100.5, 100.5), (90.0, 100.5), (200.0, 200.0)):
        await store.key_used(mine.key_id, when)
        assert (await store.keys(person.user_id))[0].last_used_at == latest


async def test_a_key_needs_its_user(store: Store) -> None:
    with pytest.raises(Exception, match="refused"):
        await store.add_key(key(user()), "digest-1")
    assert await store.user_by_key("digest-1") is None


async def test_measurements_are_summed_by_name_and_kind(store: Store) -> None:
    assert await store.measured("asking") == {}
    await store.measure("asking", "model-a", 4, 10)
    assert await store.measured("asking") == {"model-a": Sums(1, 4, 10, 16, 40)}
    await store.measure("bytes", "model-a", 1, 7000)
    await store.measure("asking", "model-b", 0, 0)
    assert await store.measured("asking") == {"model-a": Sums(1, 4, 10, 16, 40), "model-b": Sums(1, 0, 0, 0, 0)}
    assert await store.measured("bytes") == {"model-a": Sums(1, 1, 7000, 1, 7000)}


async def test_sums_follow_what_is_measured_now(store: Store) -> None:
    async def mean() -> float:
        sums = (await store.measured("asking"))["model-a"]
        return sums.y / sums.x

    for _ in range(30):
        await store.measure("asking", "model-a", 10, 10)
    for _ in range(25):
        await store.measure("asking", "model-a", 10, 50)
    before = await mean()
    assert 4.5 < before < 5
    await store.measure("asking", "model-a", 10, 10)
    assert 4 < await mean() < before


async def test_the_errors_of_estimates_are_told_newest_first(store: Store) -> None:
    for wait, work in ((0.0, 1e6), (None, None), (1e6, 1e6), (0.0, 0.0)):
        task = await running(store, estimated_wait=wait, estimated_work=work)
        await store.complete(task.claim, RESULT)
    failed = await running(store, estimated_wait=1.0, estimated_work=1.0)
    await store.fail(failed.claim, "no", "processing_error")
    await enqueue(store, estimated_wait=1.0, estimated_work=1.0)
    assert await store.estimate_errors(10) == pytest.approx([-1, -1], abs=0.001)
    assert len(await store.estimate_errors(1)) == 1


async def test_the_last_note_counts(store: Store) -> None:
    assert await store.notes("catalog") == {}
    await store.save_note("catalog", "http://one", {"models": ["a", "ü"], "depth": {"x": None}})
    await store.save_note("catalog", "http://two", {})
    await store.save_note("model", "http://one", {"sees": False})
    await store.save_note("catalog", "http://one", {"models": ["b"]})
    assert await store.notes("catalog") == {"http://one": {"models": ["b"]}, "http://two": {}}
    assert await store.notes("model") == {"http://one": {"sees": False}}
