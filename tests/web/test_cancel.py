"""`DELETE /api/v2/tasks/{id}`: a task ends for good, in whatever state it is."""

from __future__ import annotations

import asyncio

import pytest

from docv2.errors import ClaimLost
from tests.web.site import Site


async def cancel(site: Site, task_id: str) -> tuple[int, dict[str, object]]:
    status, body, _ = await site.call("DELETE", f"/api/v2/tasks/{task_id}")
    return status, body


async def test_a_waiting_task_never_runs(site: Site) -> None:
    task_id = await site.accepted()
    assert await cancel(site, task_id) == (
        200,
        {"task_id": task_id, "status": "failed", "error_type": "cancelled", "message": "Cancelled on request"},
    )
    assert await site.store.claim("pool") is None
    body = await site.status(task_id)
    assert (body["status"], body["error_type"], body["error"]) == ("failed", "cancelled", "Cancelled on request")


async def test_a_running_task_is_ended_in_the_store_first_and_then_stopped(site: Site) -> None:
    task_id = await site.accepted()
    claim = await site.claim()
    assert (await cancel(site, task_id))[0] == 200
    assert site.stopped == [task_id]
    with pytest.raises(ClaimLost):
        await site.complete(claim)
    assert (await site.status(task_id))["error_type"] == "cancelled"


async def test_a_cancel_wakes_who_waits_for_the_task(site: Site) -> None:
    task_id = await site.accepted()
    looking = asyncio.create_task(site.status(task_id, wait=60))
    assert (await cancel(site, task_id))[0] == 200
    assert (await asyncio.wait_for(looking, 10))["status"] == "failed"


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
async def test_an_ended_task_cannot_be_cancelled(site: Site, end: str) -> None:
    task_id = await site.accepted()
    if end == "complete":
        await site.complete(await site.claim())
    elif end == "fail":
        await site.store.fail(await site.claim(), "broken", "processing_error")
    else:
        await cancel(site, task_id)
    before = await site.task(task_id)
    status, body = await cancel(site, task_id)
    assert (status, body["error_type"], body["task_id"]) == (409, "validation_error", task_id)
    assert await site.task(task_id) == before


async def test_of_many_cancels_at_once_one_ends_the_task(site: Site) -> None:
    task_id = await site.accepted()
    found = await asyncio.gather(*(cancel(site, task_id) for _ in range(10)))
    assert sorted(status for status, _ in found) == [200] + [409] * 9
