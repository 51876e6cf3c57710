"""Models: who sees which and may use it, in three shapes; and what administrators say of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from docv2.errors import UpstreamUnavailable
from docv2.llm.capabilities import Told
from docv2.llm.learned import Facts
from tests.documents import encoded, page_picture
from tests.unit.test_llm_catalog import TAG
from tests.web.site import ENDPOINT, Site

GUIDE = {"id": "gpt-4-vision-preview", "name": "GPT-4 Vision Preview", "meta": {"vision": True, "max_tokens": 4096}}
"""The body that the administrators' guide sends."""


@pytest.fixture
async def admin(site: Site) -> str:
    return await site.add_user("grace@example.org", role="admin")


async def say(site: Site, admin: str, model_id: str, **facts: Any) -> tuple[int, Any]:
    status, body, _ = await site.call("POST", "/admin/models", key=admin, json={"id": model_id, **facts})
    return status, body


async def forget(site: Site, admin: str, model_id: str) -> tuple[int, Any]:
    status, body, _ = await site.call("DELETE", f"/admin/models/{quote(model_id, safe='/')}", key=admin)
    return status, body


async def known(site: Site, admin: str) -> dict[str, Any]:
    _, body, _ = await site.call("GET", "/admin/models", key=admin)
    return {model["id"]: model for model in body["models"]}


async def listed(site: Site, path: str = "/api/v2/models", key: str | None = "") -> list[str]:
    status, body, _ = await site.call("GET", path, key=key)
    assert status == 200, body
    return [model["id"] for model in body["data" if path == "/api/v1/models" else "models"]]


# -- what is said of a model ------------------------------------------------------------------------------------------
async def test_the_guides_model_is_there_at_once(site: Site, admin: str) -> None:
    status, body, _ = await site.call("POST", "/admin/models", key=admin, json=GUIDE)
    assert status == 201
    assert (body["name"], body["vision"], body["max_tokens"]) == ("GPT-4 Vision Preview", True, 4096)
    assert (body["endpoint"], body["listed"], body["has_entry"]) == (ENDPOINT, False, True)
    assert body["warnings"] == ["No endpoint lists the model gpt-4-vision-preview"]
    assert body["sources"] == {
        "name": "entry",
        "vision": "entry",
        "context": "table",
        "pictures_per_call": "assumed",
        "temperature": "configuration",
        "max_tokens": "entry",
        "timeout": "configuration",
    }
    assert GUIDE["id"] in await listed(site)
    _, accepted = await site.submit(model=GUIDE["id"])
    assert accepted["config_applied"] == {"model": GUIDE["id"], "temperature": 0.7, "max_tokens": 4096}


async def test_an_entry_is_replaced_whole_and_is_a_version_of_the_configuration(site: Site, admin: str) -> None:
    everything = {
        "name": "Reader",
        "vision": True,
        "context": 5000,
        "temperature": 0.1,
        "max_tokens": 9,
        "timeout": 2.5,
        "fallback": "sees",
        "users": ["Ada@Example.org", "ada@example.org"],
    }
    status, body = await say(site, admin, "reads", **everything)
    assert (status, {name: body[name] for name in everything}) == (201, {**everything, "users": ["ada@example.org"]})
    assert set(body["sources"].values()) == {"entry", "assumed"}
    status, body = await say(site, admin, "reads", temperature=0.2)
    assert (status, body["name"], body["vision"], body["temperature"]) == (200, "It Reads", False, 0.2)
    assert "users" not in body
    _, configuration, _ = await site.call("GET", "/admin/config", key=admin)
    assert configuration["overrides"] == {"model_configs": {"reads": {"temperature": 0.2}}}
    assert (configuration["version"], configuration["changed_by"]) == (2, "grace@example.org")
    await site.call("POST", "/admin/config/revert", key=admin, json={"version": 1})
    assert (await known(site, admin))["reads"]["fallback"] == "sees"


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        ({"vision": "yes"}, 400, "vision must be true or false"),
        ({"context": 10}, 422, "context must be a whole number from 1000"),
        ({"timeout": 0}, 422, "timeout must be a number of seconds above 0"),
        ({"users": "ada"}, 400, "users must be a list"),
        ({"colour": 1}, 400, "Unknown name 'colour'"),
        ({"meta": {"colour": 1}}, 400, "meta must be an object with vision and max_tokens"),
        ({"vision": True, "meta": {"vision": False}}, 422, "say different things"),
        ({"fallback": "m"}, 422, "must be another one"),
        ({"id": " "}, 422, "id must be"),
        ({"id": None}, 400, "id must be"),
    ],
)
async def test_what_is_wrong_is_refused_and_nothing_is_said(
    site: Site, admin: str, facts: dict[str, Any], status: int, words: str
) -> None:
    code, body, _ = await site.call("POST", "/admin/models", key=admin, json={"id": "m", **facts})
    assert (code, body["error_type"]) == (status, "validation_error")
    assert words in body["detail"]
    assert (await site.call("GET", "/admin/config", key=admin))[1]["version"] == 0


async def test_every_model_is_listed_with_who_says_what_and_how_it_stands(site: Site, admin: str) -> None:
    await say(site, admin, "extra", fallback="reads", vision=True)
    await site.accepted(model="reads")
    await site.services.catalog._learned.keep("sees", Facts(cannot_see=True))
    task = await site.task(await site.accepted(model="reads"))
    down = UpstreamUnavailable("down", endpoint_down=True, retry_after=60, endpoint=ENDPOINT)
    site.services.health.after_failure(task, down)
    models = await known(site, admin)
    assert list(models) == ["sees", "reads", "extra"]
    assert [model["waiting_tasks"] for model in models.values()] == [0, 2, 0]
    assert all(model["endpoint_blocked"] for model in models.values())
    assert (models["sees"]["vision"], models["sees"]["sources"]["vision"]) == (False, "learned")
    assert (models["reads"]["vision"], models["reads"]["sources"]["vision"]) == (False, "endpoint")
    assert models["extra"]["warnings"] == [
        "No endpoint lists the model extra",
        "The model reads, the fallback of extra, cannot see",
    ]
    await say(site, admin, "extra", fallback="none")
    assert "Nobody has the model none, the fallback of extra" in (await known(site, admin))["extra"]["warnings"]


async def test_what_is_said_before_its_endpoint_has_told_is_shown_without_one(
    site: Site, admin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.services.catalog, "_told", {})
    monkeypatch.setattr(site.services.catalog, "_index", {})
    status, body = await say(site, admin, "extra", vision=False)
    assert (status, body["vision"], "endpoint" in body) == (201, False, False)
    assert list(await known(site, admin)) == ["extra"]
    assert await listed(site) == []


# -- taking it back ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model_id", ["library/llava:7b", "a b", "a%2Fb", "ü/é", "..x"])
async def test_an_entry_goes_whatever_its_model_is_called(site: Site, admin: str, model_id: str) -> None:
    await say(site, admin, model_id)
    path = f"/admin/models/{quote(model_id, safe='')}"
    status, body, _ = await site.call("DELETE", path, key=admin)
    assert (status, body["id"], body["exists"]) == (200, model_id, False)
    status, body, _ = await site.call("DELETE", path, key=admin)
    assert (status, body["error_type"]) == (404, "system_error")


async def test_a_slash_may_stand_as_it_is(site: Site, admin: str) -> None:
    await say(site, admin, "org/model:1")
    assert (await forget(site, admin, "org/model:1"))[0] == 200


async def test_it_is_said_what_becomes_of_the_tasks_that_wait(site: Site, admin: str) -> None:
    await say(site, admin, "extra")
    await say(site, admin, "reads", users=[])
    for model in ("extra", "extra", "sees"):
        await site.accepted(model=model)
    status, body = await forget(site, admin, "extra")
    assert (status, body["exists"], body["waiting_tasks"]) == (200, False, 2)
    assert "answered by their owner's default model, which is sees" in body["message"]
    _, body = await forget(site, admin, "reads")
    assert (body["exists"], body["waiting_tasks"]) == (True, 0)
    assert "go on as before" in body["message"]
    assert "Everyone may use it now" in body["message"]


async def test_an_entry_of_the_environment_is_not_taken_back_here(site: Site, admin: str) -> None:
    current = site.services.config.current
    site.services.config.current = current.model_copy(update={"model_configs": {"reads": current.model("reads")}})
    status, body = await forget(site, admin, "reads")
    assert (status, "API_V2_ADMIN_CONFIG" in body["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/admin/models"), ("POST", "/admin/models"), ("DELETE", "/admin/models/a/b")]
)
async def test_only_administrators_are_let_in(site: Site, method: str, path: str) -> None:
    status, body, _ = await site.call(method, path)
    assert (status, body["error_type"]) == (403, "auth_error")
    assert (await site.call(method, path, key=None))[0] == 401


# -- who may use it ---------------------------------------------------------------------------------------------------
async def test_everyone_sees_what_he_may_use(site: Site, admin: str) -> None:
    other = await site.add_user("mary@example.org")
    await say(site, admin, "sees", users=["ada@example.org"])
    await say(site, admin, "secret", users=[])
    everything = ["sees", "reads", "secret"]
    for path in ("/api/v2/models", "/api/v1/models"):
        assert await listed(site, path, admin) == everything
        assert await listed(site, path) == ["sees", "reads"]
        assert await listed(site, path, other) == ["reads"]
    assert await listed(site, key=None) == ["reads"]
    defaults = [(await site.call("GET", "/api/v2/models", key=key))[1]["default_model"] for key in ("", other, None)]
    assert defaults == ["sees", "reads", "reads"]
    assert (await site.call("GET", "/api/v2/config", key=other))[1]["admin_model"] == "reads"


async def test_a_model_that_is_not_for_the_caller_is_refused_and_never_chosen(site: Site, admin: str) -> None:
    await say(site, admin, "sees", users=["mary@example.org"])
    for dry_run in ("false", "true"):
        status, body = await site.submit(model="sees", dry_run=dry_run)
        assert (status, body["error_type"], body["detail"]) == (403, "auth_error", "Model not permitted")
    assert site.stored() == []
    _, body = await site.submit()
    assert body["config_applied"]["model"] == "reads"
    _, body = await site.submit(model="nope")
    assert body["detail"] == "Unknown model; available: reads"
    assert (await site.submit(model="sees", key=admin))[0] == 200
    mary = await site.add_user("Mary@Example.org")
    assert (await site.submit(key=mary))[1]["config_applied"]["model"] == "sees"
    await say(site, admin, "reads", users=[])
    status, body = await site.submit()
    assert (status, body["error_type"]) == (403, "auth_error")


async def test_a_default_that_is_not_for_the_caller_is_not_shown_as_his(site: Site, admin: str) -> None:
    site.configure(admin_model="sees")
    await say(site, admin, "sees", users=[])
    site.configure(admin_model="sees")
    assert (await site.call("GET", "/api/v2/config"))[1]["admin_model"] == "reads"
    assert (await site.call("GET", "/api/v2/config", key=admin))[1]["admin_model"] == "sees"


async def test_a_quote_is_of_a_model_that_the_caller_may_use(site: Site, admin: str) -> None:
    await say(site, admin, "sees", users=["mary@example.org"])
    status, body = await site.submit(encoded(page_picture("a scan")), "scan.png", model="reads", dry_run="true")
    assert (status, body["error_type"]) == (422, "processing_error")
    mary = await site.add_user("mary@example.org")
    status, body = await site.submit(encoded(page_picture("a scan")), "scan.png", key=mary, dry_run="true")
    assert (status, body["model_used"]) == (200, "sees")


# -- other shapes -----------------------------------------------------------------------------------------------------
async def test_the_list_is_in_the_shape_of_openai_and_open_webui(site: Site) -> None:
    _, body, _ = await site.call("GET", "/api/v1/models")
    assert (body["object"], len(body["data"])) == ("list", 2)
    assert body["data"][1] == {
        "id": "reads",
        "object": "model",
        "created": 0,
        "owned_by": "openai",
        "name": "It Reads",
        "info": {"meta": {"capabilities": {"vision": False}}},
    }


async def test_models_of_ollama_are_in_its_shape(site: Site, admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await site.call("GET", "/ollama/api/tags", key=None))[1] == {"models": []}
    catalog = site.services.catalog
    told = [Told("llava:7b", "llava:7b", vision=True, ollama=TAG), Told("other", "other")]
    monkeypatch.setattr(catalog, "_told", {ENDPOINT: [*told, replace(told[0], id="secret")]})
    catalog._reindex()
    await say(site, admin, "secret", users=[])
    _, body, _ = await site.call("GET", "/ollama/api/tags", key=None)
    assert body == {"models": [{"name": "llava:7b", "model": "llava:7b", **TAG}]}
    _, body, _ = await site.call("GET", "/api/v1/models")
    assert [model["owned_by"] for model in body["data"]] == ["ollama", "openai"]
