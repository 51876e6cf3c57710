"""Administrators take away all that a user has, and what the caches hold."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from docv2.configparts import ProcessingCache
from docv2.documents import Page, PageSource
from docv2.storage.local import PIECE
from docv2.store import administration
from docv2.store.sqlite import SQLiteStore
from docv2.worker.folders import WorkFolders
from tests.waiting import until
from tests.web.site import TEXT, Site, open_site


@pytest.fixture
async def admin(site: Site) -> str:
    return await site.add_user("grace@example.org", role="admin")


async def remove(site: Site, admin: str, path: str) -> tuple[int, Any]:
    status, body, _ = await site.call("DELETE", path, key=admin)
    return status, body


async def busy(site: Site, key: str = "") -> list[str]:
    """A completed, a failed, a running and a waiting task of one user; one has an idempotency key."""
    task_ids = [await site.accepted(key=key) for _ in range(4)]
    for end in ("complete", "fail"):
        claim = await site.claim()
        await site.read_pages(claim, range(1, 3), total=2, progress=30)
        if end == "complete":
            await site.complete(claim)
        else:
            await site.store.fail(claim, "It broke.", "processing_error")
    await site.claim()
    return task_ids


async def keep_pages(site: Site, task_id: str) -> None:
    """What a worker does that has read a document."""
    site.configure(processing_cache=ProcessingCache(enabled=True))
    folders = WorkFolders(site.files.parent / "work")
    folder = await folders.make(task_id)
    page = Page(1, PageSource.TEXT, "has text", chars=len(TEXT))
    await asyncio.to_thread(page.text_path(folder).write_bytes, TEXT)
    await site.services.removal._page_cache.keep(await site.task(task_id), [page], folder)


def cached(site: Site) -> int:
    return len(list((site.files.parent / "cache").glob("[!.]*/*")))


@pytest.mark.parametrize("bite", [500, 1])
async def test_all_that_a_user_has_goes_and_the_account_stays(
    site: Site, admin: str, monkeypatch: pytest.MonkeyPatch, bite: int
) -> None:
    monkeypatch.setattr(administration, "REMOVED_TASKS", bite)
    other = await site.add_user("mary@example.org")
    mine = await busy(site)
    await keep_pages(site, mine[3])
    theirs = await site.accepted(key=other)
    await keep_pages(site, theirs)
    path = f"/admin/users/{site.user.user_id}/data"
    status, body = await remove(site, admin, path)
    assert status == 200
    assert body == {
        "user_id": site.user.user_id,
        "tasks": 4,
        "cancelled": 2,
        "documents": 4,  # of the completed one too: nobody cleans up here
        "pages": 4,
        "parts": 0,
        "idempotency_keys": 0,
        "cached_answers": 0,
        "cached_documents": 1,
        "keys": 0,
        "account": False,
    }
    assert site.stopped == mine, "whatever is worked on is stopped"
    for task_id in mine:
        assert (await site.call("GET", f"/api/v2/status/{task_id}"))[0] == 404
        assert (await site.call("GET", f"/api/v2/tasks/{task_id}/pages"))[0] == 404
        assert (await site.call("POST", f"/admin/tasks/{task_id}/retry", key=admin))[0] == 404
    assert (await site.get("/api/v2/tasks"))["tasks"] == []
    assert [file.name for file in site.stored()] == [theirs]
    assert [path.name for path in (site.files.parent / "work").iterdir()] == [theirs]
    assert cached(site) == 1
    assert (await site.status(await site.accepted()))["status"] == "pending", "the account goes on"
    again = (await remove(site, admin, path))[1]
    assert (again["tasks"], again["documents"], again["cached_documents"]) == (1, 1, 0)
    assert (await site.call("GET", f"/api/v2/status/{theirs}", key=other))[0] == 200


async def test_an_account_goes_with_keys_and_sessions(site: Site, admin: str) -> None:
    token = await site.sign_in()
    await busy(site)
    path = f"/admin/users/{site.user.user_id}"
    status, body = await remove(site, admin, path)
    assert (status, body["tasks"], body["keys"], body["account"]) == (200, 4, 1, True)
    for credentials in (site.key, token):
        assert (await site.call("GET", "/api/v1/auths/", key=credentials))[0] == 401
    sign_in = {"email": site.user.email, "password": "correct horse"}
    assert (await site.call("POST", "/api/v1/auths/signin", key=None, json=sign_in))[0] == 401
    listed = (await site.call("GET", "/admin/users", key=admin))[1]["users"]
    assert [user["email"] for user in listed] == ["grace@example.org"]
    assert (await remove(site, admin, path))[0] == 404
    assert site.stored() == []
    assert await site.store.submitted(site.user.user_id, site.services.config.current.limits("")) == [(0, 0)] * 3
    assert (await site.add_user(site.user.email)) != site.key, "the e-mail is free again"


async def test_the_last_administrator_and_nobody_cannot_be_removed(site: Site, admin: str) -> None:
    me = (await site.call("GET", "/api/v1/auths/", key=admin))[1]["id"]
    status, body = await remove(site, admin, f"/admin/users/{me}")
    assert (status, "last administrator" in body["detail"]) == (409, True)
    for path in ("/admin/users/nobody", "/admin/users/nobody/data"):
        assert (await remove(site, admin, path))[0] == 404
    await site.add_user("hedy@example.org", role="admin")
    assert (await remove(site, admin, f"/admin/users/{me}"))[0] == 200


async def test_whoever_waits_for_a_task_is_told_at_once_that_it_is_gone(site: Site, admin: str) -> None:
    task_id = await site.accepted()
    waiting = asyncio.create_task(site.call("GET", f"/api/v2/status/{task_id}", params={"wait": "60"}))
    await until(lambda: site.services.changes._waiting)
    await remove(site, admin, f"/admin/users/{site.user.user_id}/data")
    async with asyncio.timeout(5):
        status, body, _ = await waiting
    assert (status, body["detail"]) == (404, "Task not found")


async def test_an_upload_that_ends_after_its_account_is_refused(site: Site, admin: str) -> None:
    boundary = b"--b\r\nContent-Disposition: form-data; "
    body = (
        boundary
        + b'name="prompt"\r\n\r\nWhat is it?\r\n'
        + boundary
        + b'name="file"; filename="a.txt"\r\n\r\n'
        + b"text " * PIECE
    )
    end = b"\r\n--b--\r\n"
    async with site.connection() as (reader, writer):
        writer.write(site.head(Content_Length=str(len(body) + len(end))) + body)
        await until(site.stored)
        assert (await remove(site, admin, f"/admin/users/{site.user.user_id}"))[0] == 200
        writer.write(end)
        head = await reader.readuntil(b"\r\n\r\n")
    assert b" 401 " in head
    assert site.stored() == []
    assert (await site.store.depth()).waiting == 0


async def test_the_caches_are_cleared_for_everyone(site: Site, admin: str) -> None:
    task_id = await site.accepted()
    await keep_pages(site, task_id)
    claim = await site.claim()
    await site.complete(claim)
    done = await site.accepted()
    claim = await site.claim()
    await site.store.fail(claim, "no", "processing_error")
    status, body = await remove(site, admin, "/admin/caches")
    assert (status, body) == (200, {"answers": 0, "documents": 1, "bytes": len(TEXT)})
    assert cached(site) == 0
    assert (await site.status(task_id))["result"]["content"] == "Forty-two."
    assert (await site.status(done))["status"] == "failed"


@pytest.mark.parametrize("path", ["/admin/users/{}", "/admin/users/{}/data", "/admin/caches"])
async def test_only_administrators_remove_and_the_audit_says_who(site: Site, path: str) -> None:
    status, body, _ = await site.call("DELETE", path.format(site.user.user_id))
    assert (status, body["error_type"]) == (403, "auth_error")
    assert (await site.call("GET", "/api/v1/auths/"))[0] == 200


async def test_audit_records_beyond_their_time_are_not_found(tmp_path: Path, store: SQLiteStore) -> None:
    now = time.time()
    records = [
        {"timestamp": when, "user": {}, "verb": "GET", "request_uri": "/a"} for when in (now - 3 * 86400, now - 86400)
    ]
    file = tmp_path / "audit.log"
    await asyncio.to_thread(file.write_text, "".join(json.dumps(record) + "\n" for record in records))
    for days, count in ((2.0, 1), (None, 2)):
        async with open_site(tmp_path / str(days), store, audit_log_file=file, audit_retention_days=days) as site:
            admin = await site.add_user(f"grace{count}@example.org", role="admin")
            _, body, _ = await site.call("GET", "/admin/audit", key=admin)
            assert len(body["records"]) == count
            await store.remove_tasks(site.user.user_id)
            await store.set_active(site.user.user_id, active=False)
            await store.remove_user(site.user.user_id)
