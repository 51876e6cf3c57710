"""`GET /api/v2/tasks`: one's own tasks, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from docv2.tasks import Stage
from tests.web.site import Site


async def listed(site: Site, *, key: str = "", **query: Any) -> Any:
    status, body, _ = await site.call("GET", "/api/v2/tasks", params=query, key=key)
    assert status == 200, body
    return body


def ids(page: Any) -> list[str]:
    return [task["task_id"] for task in page["tasks"]]


async def test_a_list_is_empty_at_first_and_then_newest_first(site: Site) -> None:
    assert await listed(site) == {"tasks": []}
    task_ids = [await site.accepted() for _ in range(3)]
    assert ids(await listed(site)) == task_ids[::-1]


async def test_everyone_sees_their_own_an_administrator_too(site: Site) -> None:
    mine = await site.accepted()
    bob, root = await site.add_user("bob@example.org"), await site.add_user("root@example.org", role="admin")
    theirs = await site.accepted(key=bob)
    assert ids(await listed(site)) == [mine]
    assert ids(await listed(site, key=bob)) == [theirs]
    assert ids(await listed(site, key=root)) == []


async def test_a_task_is_listed_as_its_status_tells_it(site: Site) -> None:
    done, failed, runs = [await site.accepted() for _ in range(3)]
    await site.complete(await site.claim())
    claim = await site.claim()
    await site.store.fail(claim, "The document has no page", "processing_error")
    claim = await site.claim()
    await site.read_pages(claim, range(1, 4), total=7, progress=12.34)
    await site.report(claim, Stage.READING, 20)
    for _ in range(3):
        await site.accepted()
    tasks = (await listed(site))["tasks"]
    assert [task["status"] for task in tasks] == [
        "queued", "pending", "pending", "processing", "failed", "completed",
    ]  # fmt: skip
    for task in tasks:
        whole = await site.status(task["task_id"])
        assert task.pop("model") == "sees"
        assert task.pop("file_info") == {"filename": "note.txt", "size": 33, "type": "text/plain"}
        assert task == {
            name: value for name, value in whole.items() if name not in ("memory_usage", "result", "estimated_time")
        }
    assert {done, failed, runs} <= set(ids({"tasks": tasks} | {"tasks": await all_pages(site, limit=2)}))


async def all_pages(site: Site, **query: Any) -> list[Any]:
    """Follow the cursors to the end."""
    tasks: list[Any] = []
    page = await listed(site, **query)
    while True:
        tasks += page["tasks"]
        if "next_cursor" not in page:
            return tasks
        assert len(page["tasks"]) == query["limit"]
        page = await listed(site, cursor=page["next_cursor"], **query)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
async def test_pages_hold_every_task_once(site: Site, limit: int) -> None:
    task_ids = [await site.accepted() for _ in range(6)]
    assert ids({"tasks": await all_pages(site, limit=limit)}) == task_ids[::-1]


async def test_what_comes_in_meanwhile_moves_no_page(site: Site) -> None:
    task_ids = [await site.accepted() for _ in range(4)]
    first = await listed(site, limit=2)
    await site.accepted()
    assert ids(await listed(site, limit=2, cursor=first["next_cursor"])) == task_ids[1::-1]


@pytest.mark.parametrize(
    ("status", "expected"),
    [("completed", [0]), ("failed", [1]), ("processing", [2]), ("pending", [4, 3]), ("queued", [4, 3])],
)
async def test_a_list_holds_one_status_where_asked(site: Site, status: str, expected: list[int]) -> None:
    task_ids = [await site.accepted() for _ in range(5)]
    await site.complete(await site.claim())
    await site.store.fail(await site.claim(), "no", "processing_error")
    await site.claim()
    assert ids({"tasks": await all_pages(site, limit=1, status=status)}) == [task_ids[index] for index in expected]


async def test_somebody_else_s_cursor_shows_one_s_own_tasks(site: Site) -> None:
    bob = await site.add_user("bob@example.org")
    mine = await site.accepted()
    for _ in range(2):
        await site.accepted(key=bob)
    cursor = (await listed(site, key=bob, limit=1))["next_cursor"]
    assert ids(await listed(site, cursor=cursor)) == [mine]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=0", 422),
        ("limit=101", 422),
        ("limit=-1", 422),
        ("limit=two", 400),
        ("limit=1.5", 400),
        ("limit=", 400),
        ("limit=1&limit=2", 400),
        ("status=waiting", 422),
        ("status=", 422),
        ("cursor=", 422),
        ("cursor=abc", 422),
        ("cursor=" + "é" * 11, 422),
        ("cursor=AAAAAAAAAA=", 422),
        ("page=2", 400),
        ("Limit=2", 400),
        ("%00=2", 400),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_named(site: Site, query: str, expected: int) -> None:
    status, body, _ = await site.call("GET", f"/api/v2/tasks?{query}")
    assert (status, body["error_type"]) == (expected, "validation_error")


@pytest.mark.parametrize("cursor", ["_" * 11, "-" * 11, "A" * 11, "zzzzzzzzzzz"])
async def test_a_cursor_that_was_made_up_is_a_place_like_any(site: Site, cursor: str) -> None:
    await site.accepted()
    assert len(ids(await listed(site, cursor=cursor))) <= 1


@pytest.mark.parametrize(
    "path", ["/api/version", "/api/v2/health", "/api/v2/models", "/api/v2/config", "/api/v1/auths/"]
)
async def test_a_parameter_that_nobody_knows_is_refused_wherever_it_stands(site: Site, path: str) -> None:
    status, body, _ = await site.call("GET", f"{path}?wait=1")
    assert (status, body["detail"]) == (400, "Unknown name 'wait'; known are: none")
