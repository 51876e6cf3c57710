"""Who gets in: API keys, nothing else, and not for a moment longer than they are valid."""

from __future__ import annotations

import pytest

from docv2.store.sqlite import SQLiteStore
from docv2.web.app import ROUTES
from tests.web.site import PROMPT, Site

CLOSED = [(route.method, route.path.replace("{task_id}", "x")) for route in ROUTES if not route.public]
OPEN = [(route.method, route.path) for route in ROUTES if route.public]


def test_what_is_open_to_anyone_is_a_decision() -> None:
    assert {path for _, path in OPEN} == {"/api/v2/models", "/api/v2/health", "/api/version"}


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
    assert (await site.call(method, path, key=None, headers=headers))[0] == 200


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_the_scheme_is_read_in_any_case(site: Site, scheme: str) -> None:
    status, _, _ = await site.call("GET", "/api/v2/status/x", key=None, headers={"Authorization": scheme + site.key})
    assert status == 404


async def test_credentials_are_checked_before_anything_of_the_body(site: Site) -> None:
    async with site.connection() as (reader, writer):
        head = site.head(Content_Length=str(10**12)).replace(site.key.encode(), b"sk-wrong")
        writer.write(head + b"--b\r\n")
        assert b" 401 " in await reader.readuntil(b"\r\n")


async def test_a_revocation_beside_the_server_is_seen_by_the_next_request(site: Site) -> None:
    assert (await site.call("GET", "/api/v2/status/x"))[0] == 404
    listed = await site.store.keys(site.user.user_id)
    path = site.files.parent / "docv2.db"
    async with await SQLiteStore.open(path, checkpoints=False) as beside:
        await beside.revoke_key(listed[0].key_id)
    assert (await site.call("GET", "/api/v2/status/x"))[0] == 401


async def test_a_refused_upload_leaves_nothing(site: Site) -> None:
    status, _ = await site.submit(key="sk-wrong", prompt=PROMPT)
    assert status == 401
    assert site.stored() == []
