"""The key that users make, see and revoke themselves."""

from __future__ import annotations

import time

from tests.web.site import Site

PATH = "/api/v1/auths/api_key"


async def test_a_key_is_shown_once_and_works(site: Site) -> None:
    assert (await site.call("GET", PATH))[0] == 404
    status, made, _ = await site.call("POST", PATH)
    assert status == 200
    assert set(made) == {"api_key", "prefix", "created_at"}
    assert made["api_key"].startswith(made["prefix"])
    status, shown, _ = await site.call("GET", PATH, key=made["api_key"])
    assert status == 200
    assert shown["prefix"] == made["prefix"]
    assert abs(shown["created_at"] - time.time()) < 60
    assert made["api_key"] not in str(shown)


async def test_another_one_replaces_it_and_leaves_the_keys_that_others_made(site: Site) -> None:
    first = (await site.call("POST", PATH))[1]["api_key"]
    second = (await site.call("POST", PATH, key=first))[1]["api_key"]
    assert [(await site.call("GET", PATH, key=key))[0] for key in (first, second, site.key)] == [401, 200, 200]


async def test_a_revoked_key_is_gone(site: Site) -> None:
    key = (await site.call("POST", PATH))[1]["api_key"]
    status, body, _ = await site.call("DELETE", PATH, key=key)
    assert (status, body["prefix"]) == (200, key[:9])
    assert abs(body["revoked_at"] - time.time()) < 60
    assert (await site.call("GET", PATH, key=key))[0] == 401
    assert [(await site.call(method, PATH))[0] for method in ("GET", "DELETE")] == [404, 404]


async def test_an_own_key_is_its_user_s(site: Site) -> None:
    other = await site.add_user("bob@example.org")
    await site.call("POST", PATH)
    assert [(await site.call(method, PATH, key=other))[0] for method in ("GET", "DELETE")] == [404, 404]
    assert (await site.call("GET", PATH))[0] == 200
