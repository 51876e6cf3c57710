"""Administrators see everyone's tasks, try failed ones again, hold the queue, and see how the server is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.site import Site


@pytest.fixture
async def admin(site: Site) -> str:
    return await site.add_user("grace@example.org", role="admin")


async def get(site: Site, admin: str, path: str, **query: Any) -> Any:
    status, body, _ = await site.call("GET", path, key=admin, params=query)
    assert status == 200, body
    return body


async def test_tasks_of_all_users_are_listed_page_by_page(site: Site, admin: str) -> None:
    other = await site.add_user("mary@example.org")
    mine = [await site.accepted() for _ in range(2)]
    theirs = await site.accepted(key=other)
    claim = await site.claim()
    await site.store.fail(claim, "It broke.", "processing_error")
    page = await get(site, admin, "/admin/tasks", limit=2)
    assert [task["task_id"] for task in page["tasks"]] == [theirs, mine[1]]
    rest = await get(site, admin, "/admin/tasks", limit=2, cursor=page["next_cursor"])
    assert [task["task_id"] for task in rest["tasks"]] == [mine[0]]
    assert rest["tasks"][0]["user_id"] == site.user.user_id
    of_one = await get(site, admin, "/admin/tasks", user_id=site.user.user_id, status="queued")
    assert [task["task_id"] for task in of_one["tasks"]] == [mine[1]]
    failed = await get(site, admin, "/admin/tasks", status="failed")
    assert [(task["task_id"], task["error"]) for task in failed["tasks"]] == [(mine[0], "It broke.")]
    _, own, _ = await site.call("GET", "/api/v2/tasks")
    assert all("user_id" not in task for task in own["tasks"])


async def test_a_failed_task_gets_a_place_at_the_tail_and_keeps_what_was_read(site: Site, admin: str) -> None:
    first, second = await site.accepted(), await site.accepted()
    claim = await site.claim()
    await site.read_pages(claim, range(1, 3), total=2, progress=30)
    await site.store.fail(claim, "It broke.", "processing_error")
    status, body, _ = await site.call("POST", f"/admin/tasks/{first}/retry", key=admin)
    assert (status, body["status"], body["position"]) == (200, "pending", 2)
    task = await site.task(first)
    assert (task.error, task.progress, task.pages_total) == (None, 0, 2)
    assert len(await site.store.pages(first)) == 2
    assert site.document(first).exists()
    third = await site.accepted()
    assert [(await site.claim()).task_id for _ in range(3)] == [second, first, third]

    assert (await site.call("POST", f"/admin/tasks/{first}/retry", key=admin))[0] == 409
    assert (await site.call("POST", f"/admin/tasks/{first[:-1]}0/retry", key=admin))[0] in (404, 409)


async def test_a_paused_queue_accepts_and_starts_nothing(site: Site, admin: str) -> None:
    status, body, _ = await site.call("POST", "/admin/queue/pause", key=admin)
    assert (status, body["paused"], body["slots"]) == (200, True, 0)
    task_id = await site.accepted()
    seen = await site.status(task_id)
    assert (seen["status"], seen["waiting_reason"]) == ("queued", "paused")
    assert site.services.pool.free_slots() == 0
    queue = await get(site, admin, "/admin/queue")
    assert (queue["waiting"], queue["waiting_by_model"]) == (1, [{"model": "sees", "type": "text/plain", "tasks": 1}])
    await site.call("POST", "/admin/queue/resume", key=admin)
    assert (await site.status(task_id))["status"] == "pending"
    versions = await get(site, admin, "/admin/config/versions")
    assert [one["changes"] for one in versions["versions"]] == [{"paused": False}, {"paused": True}]


async def test_the_state_of_the_server_is_told(site: Site, admin: str) -> None:
    await site.use_memory(96)
    body = await get(site, admin, "/admin/status")
    assert (body["memory_level"], body["memory_usage"]["used_percent"]) == ("critical", 96)
    assert [model["id"] for model in body["models"]] == ["sees", "reads"]
    assert (body["configuration_version"], body["queue"]["running"], body["enabled"]) == (0, 0, True)


@pytest.mark.parametrize("path", ["/admin/users", "/admin/tasks", "/admin/queue", "/admin/status"])
async def test_only_administrators_are_let_in(site: Site, path: str) -> None:
    status, body, _ = await site.call("GET", path)
    assert (status, body["error_type"]) == (403, "auth_error")
