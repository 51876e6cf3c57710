"""`Idempotency-Key`: a request that is sent again becomes no second task."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.web.site import PROMPT, TEXT, Site


async def send(site: Site, idempotency_key: str = "k-1", *, key: str = "", **changes: Any) -> tuple[int, Any]:
    given = {"prompt": PROMPT, "content": TEXT, "filename": "note.txt", **changes}
    form = aiohttp.FormData()
    form.add_field("file", given.pop("content"), filename=given.pop("filename"))
    for name, value in given.items():
        form.add_field(name, value)
    status, body, _ = await site.call(
        "POST", "/api/v2/process", data=form, key=key, headers={"Idempotency-Key": idempotency_key}
    )
    return status, body


async def test_the_same_request_gets_the_same_task(site: Site) -> None:
    first = await send(site)
    assert first[0] == 200
    assert await send(site) == first
    assert (await site.store.depth()).waiting == 1
    assert site.stored() == [site.document(first[1]["task_id"])]


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "What is the date?"},
        {"content": TEXT + b"."},
        {"filename": "other.txt"},
        {"model": "reads"},
        {"temperature": "0.1"},
        {"max_tokens": "10"},
    ],
)
async def test_another_request_under_its_key_is_refused(site: Site, changes: dict[str, Any]) -> None:
    await send(site)
    status, body = await send(site, **changes)
    assert (status, body["error_type"]) == (409, "validation_error")
    assert (await site.store.depth()).waiting == 1
    assert len(site.stored()) == 1


async def test_the_same_said_differently_is_the_same(site: Site) -> None:
    first = await send(site, prompt=f" {PROMPT} ", temperature="0.50", model="")
    assert await send(site, temperature=".5") == first


async def test_a_default_that_changed_meanwhile_makes_no_other_request(site: Site) -> None:
    first = await send(site)
    site.configure(temperature=0.1, max_tokens=5, admin_model="reads")
    assert await send(site) == first


async def test_a_key_is_its_user_s(site: Site) -> None:
    bob = await site.add_user("bob@example.org")
    mine, theirs = await send(site), await send(site, key=bob)
    assert mine[1]["task_id"] != theirs[1]["task_id"]
    assert (await send(site, prompt="What else is there?", key=bob))[0] == 409


async def test_many_at_once_become_one_task(site: Site) -> None:
    answers = await asyncio.gather(*(send(site) for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    (task_id,) = {body["task_id"] for _, body in answers}
    assert (await site.store.depth()).waiting == 1
    assert site.stored() == [site.document(task_id)]


async def test_many_at_once_without_looking_first_become_one_task(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them get past the look at what was accepted before: it is the write that decides."""
    arrived = asyncio.Barrier(8)

    async def blind(*_: object) -> None:
        await arrived.wait()

    monkeypatch.setattr(site.store, "accepted", blind)
    answers = await asyncio.gather(*(send(site) for _ in range(8)))
    assert len({body["task_id"] for _, body in answers}) == 1
    assert len(site.stored()) == 1


async def test_two_different_ones_at_once_are_one_task_and_one_refusal(site: Site) -> None:
    answers = await asyncio.gather(*(send(site, prompt=f"Question {number}?") for number in range(6)))
    assert sorted(status for status, _ in answers) == [200] + [409] * 5
    assert len(site.stored()) == 1


async def test_a_task_that_runs_or_ended_is_still_the_answer(site: Site) -> None:
    _, first = await send(site)
    claim = await site.claim()
    status, running = await send(site)
    assert (status, running["task_id"], running["status"]) == (200, first["task_id"], "processing")
    await site.complete(claim)
    status, done = await send(site)
    assert (status, done["task_id"], done["status"]) == (200, first["task_id"], "processing")
    assert done["created_at"] == first["created_at"]
    assert {"position", "estimated_time"}.isdisjoint(done)


async def test_a_refused_request_does_not_use_its_key_up(site: Site) -> None:
    assert (await send(site, prompt="no"))[0] == 422
    assert (await send(site, content=b"\x00"))[0] == 415
    assert (await send(site))[0] == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(site: Site, key: str) -> None:
    status, body = await send(site, key)
    assert status in (400, 422)
    assert body["detail"] == "Idempotency-Key must be 1 to 255 visible ASCII characters"
    assert site.stored() == []


@pytest.mark.parametrize("key", ["x", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "x" * 255, "~!"])
async def test_any_visible_text_is_a_key(site: Site, key: str) -> None:
    assert (await send(site, key))[0] == 200


async def test_without_a_key_every_request_is_a_task(site: Site) -> None:
    assert len({await site.accepted() for _ in range(3)}) == 3
