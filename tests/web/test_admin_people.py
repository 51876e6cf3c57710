"""Administrators look after users and keys."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.site import Site


@pytest.fixture
async def admin(site: Site) -> str:
    return await site.add_user("grace@example.org", role="admin")


async def post(site: Site, admin: str, path: str, **body: Any) -> tuple[int, Any]:
    status, answered, _ = await site.call("POST", path, key=admin, json=body)
    return status, answered


async def sign_in(site: Site, email: str, password: str) -> int:
    body = {"email": email, "password": password}
    return (await site.call("POST", "/api/v1/auths/signin", key=None, json=body))[0]


async def test_an_account_is_made_listed_shut_out_and_let_in_again(site: Site, admin: str) -> None:
    status, user = await post(site, admin, "/admin/users", email="Mary@example.org", password="correct horse")
    assert (status, user["role"], user["active"]) == (200, "user", True)
    _, listed, _ = await site.call("GET", "/admin/users", key=admin)
    assert listed["users"][-1] == user
    _, made = await post(site, admin, f"/admin/users/{user['id']}/keys", name="laptop")
    assert (await site.call("GET", "/api/v1/auths/", key=made["api_key"]))[1]["email"] == "Mary@example.org"
    assert await sign_in(site, "mary@example.org", "correct horse") == 200

    assert (await post(site, admin, f"/admin/users/{user['id']}/disable"))[1]["active"] is False
    assert (await site.call("GET", "/api/v1/auths/", key=made["api_key"]))[0] == 401
    assert await sign_in(site, "mary@example.org", "correct horse") == 401
    await post(site, admin, f"/admin/users/{user['id']}/enable")
    assert (await site.call("GET", "/api/v1/auths/", key=made["api_key"]))[0] == 200

    assert (await post(site, admin, "/admin/users", email="mary@EXAMPLE.org"))[0] == 409
    assert (await post(site, admin, "/admin/users", email="nobody"))[0] == 422
    assert (await post(site, admin, "/admin/users/none/disable"))[0] == 404


async def test_the_last_administrator_is_not_shut_out(site: Site, admin: str) -> None:
    me = (await site.call("GET", "/api/v1/auths/", key=admin))[1]["id"]
    status, body = await post(site, admin, f"/admin/users/{me}/disable")
    assert (status, "last administrator" in body["detail"]) == (409, True)
    await site.add_user("hedy@example.org", role="admin")
    assert (await post(site, admin, f"/admin/users/{me}/disable"))[0] == 200


async def test_a_password_is_set_or_made(site: Site, admin: str) -> None:
    path = f"/admin/users/{site.user.user_id}/password"
    _, body = await post(site, admin, path, password="correct horse")
    assert "password" not in body
    assert await sign_in(site, site.user.email, "correct horse") == 200
    _, body = await post(site, admin, path)
    assert await sign_in(site, site.user.email, "correct horse") == 401
    assert await sign_in(site, site.user.email, body["password"]) == 200
    assert (await post(site, admin, path, password="short"))[0] in (400, 422)


async def test_a_key_is_rotated_and_revoked(site: Site, admin: str) -> None:
    path = f"/admin/users/{site.user.user_id}/keys"
    _, listed, _ = await site.call("GET", path, key=admin)
    (before,) = listed["keys"]
    status, rotated = await post(site, admin, f"{path}/{before['id']}/rotate")
    assert status == 200
    assert (await site.call("GET", "/api/v1/auths/"))[0] == 401
    assert (await site.call("GET", "/api/v1/auths/", key=rotated["api_key"]))[0] == 200
    assert (await post(site, admin, f"{path}/{before['id']}/rotate"))[0] == 409
    new = f"{path}/{rotated['key']['id']}"
    status, revoked, _ = await site.call("DELETE", new, key=admin)
    assert (status, revoked["revoked_at"] > 0) == (200, True)
    assert (await site.call("DELETE", new, key=admin))[0] == 409
    assert (await site.call("GET", "/api/v1/auths/", key=rotated["api_key"]))[0] == 401
    other = (await site.call("GET", "/api/v1/auths/", key=admin))[1]["id"]
    assert (await site.call("DELETE", f"/admin/users/{other}/keys/{before['id']}", key=admin))[0] == 404
