"""Who gets in: whoever has a key that is valid, and not for a moment longer. Tokens: test_sign_in.py."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from docv2.store.sqlite import SQLiteStore
from docv2.web.app import ROUTES
from tests.web.site import PROMPT, Site, open_site

CLOSED = [(route.method, re.sub(r"\{\w+\}", "x", route.path)) for route in ROUTES if not route.public]
OPEN = [(route.method, route.path) for route in ROUTES if route.public]


def test_what_is_open_to_anyone_is_a_decision() -> None:
    assert {path for _, path in OPEN} == {
        "/openapi.json",
        "/docs",
        "/api/v2/models",
        "/ollama/api/tags",
        "/api/v2/health",
        "/api/version",
        "/api/v1/auths/signin",
        "/metrics",  # for this machine alone, or with a token of its own
    }


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer sk-",
        "Bearer sk-wrong",
        "Bearer {key}x",
        "Bearer {key} x",
        "Basic {key}",
        "{key}",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer sk-é",
    ],
)
async def test_without_a_valid_key_a_closed_route_says_401(
    site: Site, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.format(key=site.key)}
    status, body, answer = await site.call(method, path, key=None, headers=headers)
    assert (status, body["error_type"]) == (401, "auth_error")
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert site.key not in str(body)


@pytest.mark.parametrize(("method", "path"), OPEN)
@pytest.mark.parametrize("authorization", [None, "Bearer sk-wrong"])
async def test_an_open_route_asks_for_nothing(site: Site, method: str, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    # Of models it shows more with credentials, and says so where they are wrong rather than show less.
    expected = 401 if authorization and path == "/api/v2/models" else 200 if method == "GET" else 400
    async with site.session.request(method, site.url + path, headers=headers) as response:
        assert response.status == expected


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_the_scheme_is_read_in_any_case(site: Site, scheme: str) -> None:
    status, _, _ = await site.call("GET", "/api/v2/status/x", key=None, headers={"Authorization": scheme + site.key})
    assert status == 404


async def test_credentials_are_checked_before_anything_of_the_body(site: Site) -> None:
    async with site.connection() as (reader, writer):
        head = site.head(Content_Length=str(10**12)).replace(site.key.encode(), b"sk-wrong")
        writer.write(head + b"--b\r\n")
        assert b" 401 " in await reader.readuntil(b"\r\n")


async def test_a_revocation_beside_the_server_is_seen_within_a_second(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await site.call("GET", "/api/v2/status/x"))[0] == 404
    listed = await site.store.keys(site.user.user_id)
    path = site.files.parent / "docv2.db"
    async with await SQLiteStore.open(path, checkpoints=False) as beside:
        await beside.revoke_key(listed[0].key_id)
    later = time.monotonic() + 1
    monkeypatch.setattr("docv2.accounts.keys.time.monotonic", lambda: later)
    assert (await site.call("GET", "/api/v2/status/x"))[0] == 401


async def test_a_refused_upload_leaves_nothing(site: Site) -> None:
    status, _ = await site.submit(key="sk-wrong", prompt=PROMPT)
    assert status == 401
    assert site.stored() == []


# -- where keys are let in --------------------------------------------------------------------------------------------
async def called(site: Site, method: str, path: str) -> int:
    return (await site.call(method, path))[0]


@pytest.fixture
async def site_with(tmp_path: Path, store: SQLiteStore) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    """Opens a server with other settings."""
    async with AsyncExitStack() as stack:

        async def opened(**more: Any) -> Site:
            return await stack.enter_async_context(open_site(tmp_path, store, **more))

        yield opened


SiteWith = Callable[..., Awaitable[Site]]


@pytest.mark.parametrize(
    ("entries", "path", "allowed"),
    [
        ("/api/v2/status", "/api/v2/status/x", True),
        ("/api/v2/process,/api/v2/status", "/api/v2/status/x", True),
        (" /api/v2/process , /api/v2/status ", "/api/v2/status/x", True),
        ("/api/v2/status/x", "/api/v2/status/x", True),
        ("/api/v2/stat", "/api/v2/status/x", False),
        ("/api/v2/status/", "/api/v2/status/x", False),
        ("/api/v2/status", "/api/v2/tasks", False),
        ("/api/v2/tasks", "/api/v2/tasks", True),
        ("/api/v2/status,", "/api/v2/tasks", False),
        (",", "/api/v2/tasks", False),
        ("/api", "/api/v2/tasks", True),
        ("*", "/api/v2/tasks", False),
    ],
)
async def test_a_key_may_call_what_is_listed_and_what_lies_below(
    site_with: SiteWith, entries: str, path: str, allowed: bool
) -> None:
    site = await site_with(api_key_allowed_endpoints=entries)
    status, body, _ = await site.call("GET", path)
    assert (status != 403) == allowed
    if not allowed:
        assert body["error_type"] == "auth_error"


async def test_the_documented_list_lets_a_key_do_all_but_cancel(site_with: SiteWith) -> None:
    site = await site_with(
        api_key_allowed_endpoints="/api/v2/process,/api/v2/status,/api/v2/models,/api/v2/health,/api/v2/config"
    )
    task_id = await site.accepted()
    assert (await site.status(task_id))["task_id"] == task_id
    assert await called(site, "GET", "/api/v2/config") == 200
    assert await called(site, "DELETE", f"/api/v2/tasks/{task_id}") == 403


async def test_an_unknown_key_is_told_nothing_of_the_list(site_with: SiteWith) -> None:
    site = await site_with(api_key_allowed_endpoints="/api/v2/process")
    assert (await site.call("GET", "/api/v2/tasks", key="sk-wrong"))[0] == 401


async def test_keys_can_be_switched_off(site_with: SiteWith) -> None:
    site = await site_with(enable_api_key=False)
    status, body, _ = await site.call("GET", "/api/v2/tasks")
    assert (status, body["error_type"]) == (403, "auth_error")
    assert (await site.call("GET", "/api/v2/tasks", key="sk-wrong"))[0] == 401
    token = await site.sign_in()
    assert (await site.call("GET", "/api/v2/tasks", key=token))[0] == 200
    assert (await site.call("POST", "/api/v1/auths/api_key", key=token))[0] == 403


async def test_tokens_of_a_sign_in_may_call_all(site_with: SiteWith) -> None:
    site = await site_with(api_key_allowed_endpoints="/api/v2/process")
    assert (await site.call("GET", "/api/v2/tasks", key=await site.sign_in()))[0] == 200
