"""`GET /api/v2/status/{id}`: what a task is told as, to whom, and when a waiting look answers."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest

from docv2.tasks import Stage
from tests.waiting import until
from tests.web.site import PROMPT, TEXT, Site


async def test_a_task_with_a_free_slot_is_pending(site: Site) -> None:
    task_id = await site.accepted()
    body = await site.status(task_id)
    assert body == {
        "task_id": task_id,
        "status": "pending",
        "progress": 0.0,
        "message": "Waiting for its turn",
        "created_at": (await site.task(task_id)).created_at,
        "memory_usage": {"used_percent": 10.0, "available_mb": 90 * 1024, "total_mb": 100 * 1024},
        "position": 1,
        "estimated_time": 3,
        "waiting_reason": "slots",
    }


async def test_a_task_without_one_is_queued(site: Site) -> None:
    task_ids = [await site.accepted() for _ in range(3)]
    bodies = [await site.status(task_id) for task_id in task_ids]
    assert [(body["status"], body["position"]) for body in bodies] == [("pending", 1), ("pending", 2), ("queued", 3)]
    assert bodies[2]["estimated_time"] > bodies[0]["estimated_time"]


@pytest.mark.parametrize(("percent", "reason"), [(89, "slots"), (91, "memory"), (96, "memory")])
async def test_memory_is_the_reason_while_it_holds_the_pool(site: Site, percent: float, reason: str) -> None:
    task_id = await site.accepted()
    await site.use_memory(percent)
    body = await site.status(task_id)
    assert body["waiting_reason"] == reason
    assert body["status"] == ("pending" if reason == "slots" else "queued")
    assert body["memory_usage"]["used_percent"] == percent


async def test_the_endpoint_is_the_reason_while_it_is_left_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seeing, reading = await site.accepted(model="sees"), await site.accepted(model="reads")
    monkeypatch.setattr(site.services.health, "holds_back", lambda model: model == "sees")
    assert (await site.status(seeing))["waiting_reason"] == "upstream"
    assert (await site.status(seeing))["status"] == "queued"
    assert (await site.status(reading))["waiting_reason"] == "slots"


async def test_the_endpoint_is_the_reason_while_a_task_backs_off(site: Site) -> None:
    task_id = await site.accepted()
    await site.store.release(await site.claim(), not_before=time.time() + 60, upstream_failed=True)
    body = await site.status(task_id)
    assert (body["status"], body["waiting_reason"]) == ("queued", "upstream")


async def test_a_running_task_says_how_far_it_is(site: Site) -> None:
    task_id = await site.accepted()
    claim = await site.claim()
    body = await site.status(task_id)
    assert (body["status"], body["progress"], body["message"]) == ("processing", 0.0, "Reading the document")
    assert body["started_at"] >= body["created_at"]
    assert {"position", "estimated_time", "waiting_reason", "pages_total", "completed_at"}.isdisjoint(body)

    await site.read_pages(claim, range(1, 4), total=7, progress=12.34)
    body = await site.status(task_id)
    assert (body["progress"], body["pages_done"], body["pages_total"]) == (12.3, 3, 7)
    assert body["message"] == "Reading the document: 3 of 7 pages"
    await site.report(claim, Stage.ASKING, 43.21)
    body = await site.status(task_id)
    assert (body["stage"], body["progress"], body["message"]) == ("asking", 43.2, "Asking the model")
    await site.report(claim, Stage.COMBINING, 95)
    assert (await site.status(task_id))["message"] == "Combining the answers"


async def test_a_completed_task_has_its_answer_and_all_that_it_stands_on(site: Site) -> None:
    task_id = await site.accepted(model="reads", temperature=0.1)
    claim = await site.claim()
    await site.read_pages(claim, range(1, 3), total=2, progress=30)
    await site.complete(
        claim,
        content="Forty-two — 世",
        warnings=("Page 2 could not be read",),
        temperature=0.1,
        max_tokens=8000,
        prompt_tokens=10,
        completion_tokens=5,
        finish_reason="length",
        pages={"text": 1, "none": 1},
    )
    body = await site.status(task_id)
    task = await site.task(task_id)
    assert body.pop("memory_usage")
    assert task.started_at is not None
    assert task.ended_at is not None
    assert body == {
        "task_id": task_id,
        "status": "completed",
        "progress": 100.0,
        "message": "The task is completed",
        "pages_done": 2,
        "pages_total": 2,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "completed_at": task.ended_at,
        "processing_time": round(task.ended_at - task.started_at, 3),
        "result": {
            "content": "Forty-two — 世",
            "model_used": "sees",
            "finish_reason": "length",
            "warnings": ["Page 2 could not be read"],
            "pages": {"total": 2, "text": 1, "picture": 0, "both": 0, "none": 1},
            "file_info": {"filename": "note.txt", "size": len(TEXT), "type": "text/plain"},
            "processing_metadata": {
                "prompt_length": len(PROMPT),
                "response_length": len("Forty-two — 世"),
                "model_config": {"temperature": 0.1, "max_tokens": 8000},
            },
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            "cached": False,
        },
    }


async def test_a_failed_task_says_why_and_has_no_answer(site: Site) -> None:
    task_id = await site.accepted()
    await site.store.fail(await site.claim(), "The document is encrypted", "processing_error")
    body = await site.status(task_id)
    assert (body["status"], body["error"], body["error_type"]) == (
        "failed",
        "The document is encrypted",
        "processing_error",
    )
    assert "result" not in body
    assert body["processing_time"] >= 0


async def test_an_answer_can_be_read_again_and_again(site: Site) -> None:
    task_id = await site.accepted()
    await site.complete(await site.claim())
    assert await site.status(task_id) == await site.status(task_id)


async def test_a_task_of_someone_else_is_as_unknown_as_one_that_never_was(site: Site) -> None:
    task_id = await site.accepted()
    other = await site.add_user("bob@example.org")
    unknown = str(uuid.uuid4())
    for method, path in (("GET", "/api/v2/status/"), ("DELETE", "/api/v2/tasks/")):
        theirs = await site.call(method, path + task_id, key=other)
        nobodys = await site.call(method, path + unknown, key=other)
        assert theirs[0] == nobodys[0] == 404
        assert same_but_ids(theirs[1], task_id) == same_but_ids(nobodys[1], unknown)
        assert theirs[1]["detail"] == "Task not found"
        assert theirs[1]["error_type"] == "system_error"
        assert set(theirs[2]) == set(nobodys[2])
    assert (await site.task(task_id)).status == "waiting"


def same_but_ids(body: dict[str, Any], task_id: str) -> dict[str, Any]:
    assert body["task_id"] == task_id
    return {name: value for name, value in body.items() if name not in ("request_id", "timestamp", "task_id")}


async def test_an_administrator_sees_the_tasks_of_all(site: Site) -> None:
    task_id = await site.accepted()
    key = await site.add_user("root@example.org", role="admin")
    assert (await site.call("GET", f"/api/v2/status/{task_id}", key=key))[0] == 200


@pytest.mark.parametrize("task_id", ["x", "0" * 36, "%00", "%2e%2e", "%27%20OR%201=1", "%ff%fe", "é" * 100, "A" * 36])
async def test_an_id_that_is_none_is_unknown(site: Site, task_id: str) -> None:
    async with site.connection() as (reader, writer):
        path = f"/api/v2/status/{task_id}".encode()
        writer.write(b"GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (path, site.key.encode()))
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.split()[1] in (b"404", b"400")


# -- waiting for a change ---------------------------------------------------------------------------------------------
def waiting(site: Site) -> int:
    """How many look and wait."""
    return sum(len(events) for events in site.services.changes._waiting.values())


async def test_a_waiting_look_answers_when_the_task_starts_moves_and_ends(site: Site) -> None:
    task_id = await site.accepted()

    async def look() -> asyncio.Task[Any]:
        looking = asyncio.create_task(site.status(task_id, wait=60))
        await until(lambda: waiting(site) == 1)
        return looking

    looking = await look()
    claim = await site.claim()
    assert (await looking)["status"] == "processing"
    looking = await look()
    await site.read_pages(claim, range(1, 2), total=5, progress=10)
    assert (await looking)["pages_done"] == 1
    looking = await look()
    await site.complete(claim)
    assert (await looking)["result"]["content"] == "Forty-two."
    assert waiting(site) == 0


async def test_a_waiting_look_sleeps_on_when_nothing_of_the_task_changed(site: Site) -> None:
    task_id = await site.accepted()
    looking = asyncio.create_task(site.status(task_id, wait=60))
    await until(lambda: waiting(site) == 1)
    for _ in range(3):
        site.services.changes.announce(task_id)
        await site.call("GET", "/api/version")
    assert not looking.done()
    await site.claim()
    assert (await looking)["status"] == "processing"


async def test_a_change_between_the_look_and_the_wait_is_not_missed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await site.accepted()
    get, changed = site.store.get, False

    async def change_right_after_reading(sought: str) -> Any:
        nonlocal changed
        task = await get(sought)
        if not changed:
            changed = True
            await site.claim()
        return task

    monkeypatch.setattr(site.store, "get", change_right_after_reading)
    assert (await asyncio.wait_for(site.status(task_id, wait=60), 10))["status"] == "processing"


async def test_a_waiting_look_answers_at_once_where_nothing_will_come(site: Site) -> None:
    task_id = await site.accepted()
    await site.complete(await site.claim())
    assert (await asyncio.wait_for(site.status(task_id, wait=60), 10))["status"] == "completed"


async def test_a_waiting_look_ends_with_its_time(site: Site) -> None:
    task_id = await site.accepted()
    assert (await site.status(task_id, wait=0.05))["status"] == "pending"
    assert waiting(site) == 0


async def test_a_waiting_look_ends_when_the_server_does(site: Site) -> None:
    task_id = await site.accepted()
    looks = [asyncio.create_task(site.status(task_id, wait=60)) for _ in range(5)]
    await until(lambda: waiting(site) == 5)
    site.services.changes.close()
    assert {body["status"] for body in await asyncio.wait_for(asyncio.gather(*looks), 10)} == {"pending"}


async def test_nobody_waits_for_a_client_that_is_gone(site: Site) -> None:
    task_id = await site.accepted()
    async with site.connection() as (_, writer):
        path = f"/api/v2/status/{task_id}?wait=60"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.key}\r\n\r\n".encode())
        await until(lambda: waiting(site) == 1)
    await until(lambda: waiting(site) == 0)


async def test_a_waiting_look_answers_everyone_who_looks(site: Site) -> None:
    task_id = await site.accepted()
    looks = [asyncio.create_task(site.status(task_id, wait=60)) for _ in range(20)]
    await until(lambda: waiting(site) == 20)
    await site.complete(await site.claim())
    assert {body["status"] for body in await asyncio.gather(*looks)} <= {"processing", "completed"}


@pytest.mark.parametrize(
    ("wait", "expected"),
    [("-1", 422), ("60.1", 422), ("nan", 400), ("inf", 400), ("soon", 400), ("1e400", 400), ("", 400)],
)
async def test_only_0_to_60_seconds_can_be_waited(site: Site, wait: str, expected: int) -> None:
    status, body, _ = await site.call("GET", f"/api/v2/status/{await site.accepted()}", params={"wait": wait})
    assert (status, body["error_type"]) == (expected, "validation_error")
    assert body["detail"] == "wait must be a number of seconds from 0 to 60"
