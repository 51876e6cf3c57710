"""Administrators look at the configuration, change it at once, go back, and take a copy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from docv2.web.configuration import MASK
from tests.web.site import Site


@pytest.fixture
async def admin(site: Site) -> str:
    return await site.add_user("grace@example.org", role="admin")


async def change(site: Site, admin: str, **settings: Any) -> tuple[int, Any]:
    status, body, _ = await site.call("POST", "/admin/config", key=admin, json={"api_v2": settings})
    return status, body


ADMIN_ROUTES = [
    ("GET", "/admin/config"),
    ("POST", "/admin/config"),
    ("GET", "/admin/config/versions"),
    ("POST", "/admin/config/revert"),
    ("GET", "/admin/config/schema"),
    ("GET", "/api/v1/configs"),
    ("POST", "/api/v1/configs/import"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
async def test_only_administrators_are_let_in(site: Site, method: str, path: str) -> None:
    status, body, _ = await site.call(method, path)
    assert (status, body["error_type"]) == (403, "auth_error")
    status, body, _ = await site.call(method, path, key=None)
    assert (status, body["error_type"]) == (401, "auth_error")


async def test_a_change_is_answered_with_what_is_in_force_and_listed_with_who_and_when(site: Site, admin: str) -> None:
    status, body = await change(site, admin, max_concurrent=8, rate_limits={"per_minute": 7})
    assert status == 200
    assert body["api_v2"]["max_concurrent"] == 8
    assert body["api_v2"]["rate_limits"] == {"per_minute": 7, "per_hour": 1000, "per_day": 10000}
    assert body["overrides"] == {"max_concurrent": 8, "rate_limits": {"per_minute": 7}}
    assert (await site.call("GET", "/admin/config", key=admin))[1] == body
    assert (await site.call("GET", "/api/v2/config"))[1]["max_concurrent"] == 8
    _, listed, _ = await site.call("GET", "/admin/config/versions", key=admin)
    (version,) = listed["versions"]
    assert (version["version"], version["changed_by"]) == (1, "grace@example.org")
    assert version["changes"] == body["overrides"]
    assert version["changed_at"] == body["changed_at"] > 0


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({"temperature": 2.5}, 422, "temperature"),
        ({"max_concurrent": "8"}, 422, "max_concurrent"),
        ({"max_file_size": 1, "max_file_size_mb": 1}, 422, "one setting"),
        ({"colour": 1}, 400, "unknown setting colour"),
        ({"memory_management": {"colour": 1}}, 400, "unknown setting memory_management.colour"),
        ({"model_configs": {"m": {"colour": 1}}}, 400, "known are: temperature"),
    ],
)
async def test_what_is_wrong_is_refused_whole(
    site: Site, admin: str, settings: dict[str, Any], status: int, words: str
) -> None:
    code, body = await change(site, admin, **{"timeout": 9, **settings})
    assert (code, body["error_type"]) == (status, "validation_error")
    assert words in body["detail"]
    assert (await site.call("GET", "/admin/config", key=admin))[1]["version"] == 0


async def test_disabled_refuses_documents_and_keeps_the_queue(site: Site, admin: str) -> None:
    task_id = await site.accepted()
    await change(site, admin, enabled=False)
    status, body = await site.submit()
    assert (status, body["detail"]) == (503, "API v2 is currently disabled")
    assert (await site.status(task_id))["status"] == "pending"
    assert (await site.call("GET", "/api/v2/health", key=None))[1]["status"] == "degraded"
    await change(site, admin, enabled=None)
    await site.accepted()


async def test_types_and_sizes_are_as_configured(site: Site, admin: str) -> None:
    await change(site, admin, blocked_extensions=[".TXT"])
    status, body = await site.submit()
    assert (status, "txt" in body["detail"]) == (415, False)
    await change(site, admin, blocked_extensions=None, supported_formats=["pdf"])
    assert (await site.submit())[0] == 415
    assert (await site.call("GET", "/api/v2/config"))[1]["supported_formats"] == ["pdf"]
    await change(site, admin, supported_formats=None, max_file_size_mb=0.00001)
    assert (await site.submit())[0] == 413


async def test_a_model_has_its_own_defaults_and_a_request_wins_over_them(site: Site, admin: str) -> None:
    await change(site, admin, temperature=0.2, model_configs={"reads": {"temperature": 0, "max_tokens": 99}})
    of_all, of_model, asked = [
        (await site.submit(**fields))[1]["config_applied"]
        for fields in ({}, {"model": "reads"}, {"model": "reads", "temperature": 1, "max_tokens": 5})
    ]
    assert (of_all["temperature"], of_all["max_tokens"]) == (0.2, 8000)
    assert (of_model["temperature"], of_model["max_tokens"]) == (0, 99)
    assert (asked["temperature"], asked["max_tokens"]) == (1, 5)


async def test_a_default_model_that_nobody_lists_is_taken_with_a_warning(site: Site, admin: str) -> None:
    _, body = await change(site, admin, admin_model="claude-3-haiku")
    assert body["warnings"] == ["No endpoint lists the model claude-3-haiku"]
    _, health, _ = await site.call("GET", "/api/v2/health", key=None)
    assert any("claude-3-haiku" in reason for reason in health["reasons"])


async def test_an_earlier_version_comes_back(site: Site, admin: str) -> None:
    for timeout in (10, 20):
        await change(site, admin, timeout=timeout)
    _, body, _ = await site.call("POST", "/admin/config/revert", key=admin, json={"version": 1})
    assert (body["version"], body["api_v2"]["timeout"]) == (3, 10)
    status, body, _ = await site.call("POST", "/admin/config/revert", key=admin, json={"version": 7})
    assert status == 404
    _, page, _ = await site.call("GET", "/admin/config/versions?up_to=2&limit=1", key=admin)
    assert [one["version"] for one in page["versions"]] == [2]
    for wrong in ("up_to=0", f"up_to={2**53 + 1}", "limit=51"):
        status, body, _ = await site.call("GET", f"/admin/config/versions?{wrong}", key=admin)
        assert (status, body["error_type"]) == (422, "validation_error"), wrong
    status, body, _ = await site.call("POST", "/admin/config/revert", key=admin, json={"version": 2**53 + 1})
    assert status == 422


async def test_a_copy_comes_back_and_shows_no_secret(site: Site, admin: str) -> None:
    await change(site, admin, timeout=10, model_configs={"sees": {"max_tokens": 5}})
    _, copy, _ = await site.call("GET", "/api/v1/configs", key=admin)
    assert "sk-upstream" not in json.dumps(copy)
    assert copy["environment"]["OPENAI_API_KEYS"] == MASK
    await change(site, admin, timeout=20, temperature=0)
    status, body, _ = await site.call("POST", "/api/v1/configs/import", key=admin, json=copy)
    assert (status, body["overrides"]) == (200, copy["api_v2"])
    assert body["api_v2"]["temperature"] == 0.7


async def test_null_takes_a_value_away_and_a_whole_number_may_have_a_point(site: Site, admin: str) -> None:
    await change(site, admin, user_limits={"ada@example.org": {"per_day": 5}}, max_concurrent=7.0)
    _, body = await change(site, admin, user_limits={"ada@example.org": None})
    assert body["overrides"] == {"user_limits": {}, "max_concurrent": 7}
    _, body = await change(site, admin, max_concurrent=None)
    assert body["overrides"] == {"user_limits": {}}


async def test_the_schema_describes_every_setting(site: Site, admin: str) -> None:
    _, schema, _ = await site.call("GET", "/admin/config/schema", key=admin)
    assert all("description" in setting or "$ref" in setting for setting in schema["properties"].values())
