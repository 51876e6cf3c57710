"""Limits on what one user may send: exact, whoever comes at once, and across restarts. Looking is never limited."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from docv2.configparts import QueueLimits, RateLimits, UserLimits
from docv2.errors import RateLimited
from docv2.store.sqlite import SQLiteStore
from tests.web.site import PROMPT, TEXT, Site, open_site


async def send(site: Site, key: str = "", **headers: str) -> tuple[int, Any, Any]:
    data = aiohttp.FormData({"prompt": PROMPT})
    data.add_field("file", TEXT, filename="note.txt")
    return await site.call("POST", "/api/v2/process", data=data, key=key, headers=headers)


async def test_of_many_at_once_exactly_as_many_as_allowed_are_accepted(site: Site) -> None:
    site.configure(rate_limits=RateLimits(per_minute=5))
    answers = await asyncio.gather(*(send(site) for _ in range(20)))
    assert sorted(status for status, _, _ in answers) == [200] * 5 + [429] * 15
    assert len(site.stored()) == 5
    for status, body, headers in answers:
        assert headers["RateLimit-Limit"] == "5"
        if status == 429:
            assert body["error_type"] == "rate_limit_error"
            assert body["detail"] == "At most 5 documents are taken in a minute"
            assert 50 <= int(headers["Retry-After"]) <= 60
            assert headers["RateLimit-Remaining"] == "0"


async def test_the_headers_count_down(site: Site) -> None:
    site.configure(rate_limits=RateLimits(per_minute=3))
    remaining = [(await send(site))[2]["RateLimit-Remaining"] for _ in range(3)]
    assert remaining == ["2", "1", "0"]


async def test_the_hour_and_the_day_count_too_though_their_tasks_are_gone(site: Site, store: SQLiteStore) -> None:
    site.configure(rate_limits=RateLimits(per_minute=50, per_hour=2))
    for _ in range(2):
        task_id = await site.accepted()
        await store.cancel(task_id, error="cancelled", error_type="cancelled")
    await store.expire(2e10)
    status, body, headers = await send(site)
    assert (status, body["detail"]) == (429, "At most 2 documents are taken in an hour")
    assert 3500 <= int(headers["Retry-After"]) <= 3600


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with await SQLiteStore.open(tmp_path / "docv2.db") as store, open_site(tmp_path, store) as site:
        site.configure(rate_limits=RateLimits(per_day=1))
        assert (await send(site))[0] == 200
        user_id, limits = site.user.user_id, site.services.config.current.limits(site.user.email)
    async with await SQLiteStore.open(tmp_path / "docv2.db") as store:
        with pytest.raises(RateLimited):
            await store.check_limits(user_id, limits)


async def test_each_user_has_limits_of_their_own(site: Site) -> None:
    other = await site.add_user("Mary@example.org")
    site.configure(rate_limits=RateLimits(per_minute=1), user_limits={"mary@example.org": UserLimits(per_minute=2)})
    assert [(await send(site))[0] for _ in range(2)] == [200, 429]
    assert [(await send(site, other))[0] for _ in range(3)] == [200, 200, 429]


async def test_waiting_tasks_are_limited_for_one_and_in_all(site: Site) -> None:
    other = await site.add_user("mary@example.org")
    site.configure(queue_limits=QueueLimits(per_user=1, total=2))
    assert [(await send(site))[0] for _ in range(2)] == [200, 429]
    assert (await send(site, other))[0] == 200
    third = await site.add_user("hedy@example.org")
    status, body, headers = await send(site, third)
    assert (status, body["detail"], headers["Retry-After"]) == (429, "At most 2 tasks in all may wait", "30")
    await site.claim()
    assert (await send(site))[0] == 200


async def test_what_is_refused_or_repeated_does_not_count(site: Site) -> None:
    site.configure(rate_limits=RateLimits(per_minute=1))
    assert (await site.submit(filename="note.pdf"))[0] == 415
    first = await send(site, **{"Idempotency-Key": "one"})
    again = await send(site, **{"Idempotency-Key": "one"})
    assert (first[0], again[0], again[1]["task_id"]) == (200, 200, first[1]["task_id"])
    assert (await send(site, **{"Idempotency-Key": "two"}))[0] == 429


async def test_looking_is_never_limited(site: Site) -> None:
    site.configure(rate_limits=RateLimits(per_minute=1))
    task_id = await site.accepted()
    for _ in range(60):
        assert (await site.status(task_id))["status"] == "pending"
