"""The ledger of pages over HTTP: for the owner alone, while a task runs and after it, cheap for long documents."""

from __future__ import annotations

import time

from docv2.documents import Page, PageSource, PageUse
from docv2.tasks import Claim, Part, Stage
from tests.web.site import Site


async def answered(site: Site, claim: Claim, first: int, last: int, *, finish_reason: str = "stop") -> None:
    """An answer to some pages, each of which was given as text and counted for ten tokens."""
    part = Part(0, f"{first}-{last}", first, last, "sees", "An answer.", finish_reason, prompt_tokens=10)
    uses = [PageUse(number, PageSource.TEXT, 10) for number in range(first, last + 1)]
    await site.store.count_call(claim, range(first, last + 1))
    await site.store.save_part(claim, part, stage=Stage.ASKING, progress=50, uses=uses)


async def test_a_running_task_tells_what_became_of_its_pages_so_far(site: Site) -> None:
    task_id = await site.accepted()
    assert await site.get(f"/api/v2/tasks/{task_id}/pages") == {
        "task_id": task_id,
        "counts": {"total": 0, "text": 0, "picture": 0, "both": 0, "none": 0},
        "pages": [],
    }
    claim = await site.claim()
    pages = [
        Page(1, PageSource.TEXT, "has text", chars=10),
        Page(2, PageSource.BOTH, "has a chart", chars=5, picture_width=800, picture_height=600),
        Page(3, PageSource.NONE, "damaged"),
    ]
    await site.store.save_pages(claim, pages, progress=20, pages_total=4)
    await answered(site, claim, 1, 1, finish_reason="length")
    body = await site.get(f"/api/v2/tasks/{task_id}/pages")
    assert body == {
        "task_id": task_id,
        "counts": {"total": 3, "text": 1, "picture": 0, "both": 1, "none": 1},
        "pages_total": 4,
        "pages": [
            {
                "page": 1,
                "read_as": "text",
                "reason": "has text",
                "used_as": "text",
                "model": "sees",
                "attempts": 1,
                "tokens": 10,
                "finish_reason": "length",
                "characters": 10,
            },
            {
                "page": 2,
                "read_as": "both",
                "reason": "has a chart",
                "attempts": 0,
                "tokens": 0,
                "characters": 5,
                "picture_width": 800,
                "picture_height": 600,
            },
            {"page": 3, "read_as": "none", "reason": "damaged", "attempts": 0, "tokens": 0, "characters": 0},
        ],
    }


async def test_the_ledger_stays_when_the_task_has_ended(site: Site) -> None:
    task_id = await site.accepted()
    claim = await site.claim()
    await site.read_pages(claim, range(1, 3), total=2, progress=30)
    await answered(site, claim, 1, 2)
    before = await site.get(f"/api/v2/tasks/{task_id}/pages")
    await site.complete(claim)
    assert await site.get(f"/api/v2/tasks/{task_id}/pages") == before
    await site.store.expire(time.time() + 60)
    status, _, _ = await site.call("GET", f"/api/v2/tasks/{task_id}/pages")
    assert status == 404


async def test_a_long_ledger_comes_in_parts_and_each_is_cheap(site: Site) -> None:
    task_id = await site.accepted()
    claim = await site.claim()
    await site.read_pages(claim, range(1, 2501), total=2500, progress=30)
    seen: list[int] = []
    query = {"limit": "1000"}
    while True:
        began = time.perf_counter()
        body = await site.get(f"/api/v2/tasks/{task_id}/pages", **query)
        assert time.perf_counter() - began < 0.5
        seen += [page["page"] for page in body["pages"]]
        assert body["counts"]["total"] == 2500
        if "next_cursor" not in body:
            break
        query["cursor"] = body["next_cursor"]
    assert seen == list(range(1, 2501))
    assert len((await site.get(f"/api/v2/tasks/{task_id}/pages"))["pages"]) == 100


async def test_somebody_elses_ledger_is_not_there_and_an_administrator_sees_it(site: Site) -> None:
    task_id = await site.accepted()
    stranger, admin = await site.add_user("eve@example.org"), await site.add_user("root@example.org", role="admin")
    unknown = "00000000-0000-0000-0000-000000000000"
    answers = [
        await site.call("GET", f"/api/v2/tasks/{asked}/pages", key=key)
        for asked, key in ((task_id, stranger), (unknown, stranger), (unknown, admin), ("../status", admin))
    ]
    assert [status for status, _, _ in answers] == [404] * 4
    assert {body["detail"] for _, body, _ in answers[:3]} == {"Task not found"}
    status, body, _ = await site.call("GET", f"/api/v2/tasks/{task_id}/pages", key=admin)
    assert (status, body["task_id"]) == (200, task_id)
    status, _, _ = await site.call("GET", f"/api/v2/tasks/{task_id}/pages", key=None)
    assert status == 401


async def test_a_limit_or_cursor_that_is_none_is_refused(site: Site) -> None:
    task_id = await site.accepted()
    for query, status in (
        ({"limit": "0"}, 422),
        ({"limit": "1001"}, 422),
        ({"limit": "all"}, 400),
        ({"cursor": "x"}, 422),
        ({"cursor": "9" * 30}, 422),
        ({"page": "1"}, 400),
    ):
        found, _, _ = await site.call("GET", f"/api/v2/tasks/{task_id}/pages", params=query)
        assert found == status, query
