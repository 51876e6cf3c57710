"""The description of the API says what the routes do, and its page shows it without help from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import pytest
from jsonschema import Draft202012Validator

from docv2.web.app import ROUTES
from docv2.web.openapi import describe
from tests.web.site import Site

API = describe(ROUTES)
OPERATIONS = {
    (method.upper(), path): operation for path, methods in API["paths"].items() for method, operation in methods.items()
}


async def test_the_server_hands_the_description_out(site: Site) -> None:
    for _ in range(2):
        status, body, headers = await site.call("GET", "/openapi.json", key=None)
        assert (status, body) == (200, API)
        assert headers["Content-Type"] == "application/json"


def test_every_route_is_described_and_no_other() -> None:
    assert set(OPERATIONS) == {(route.method, route.path) for route in ROUTES}


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_says_what_it_needs_and_answers(route: Any) -> None:
    assert route.answers
    operation = OPERATIONS[route.method, route.path]
    assert operation["summary"]
    assert ({} in operation["security"]) == route.public
    assert {"200", "400", "503"} <= set(operation["responses"])
    assert route.public or {"401", "403"} <= set(operation["responses"])
    for kind in route.refuses:
        assert f"`{kind.error_type}`" in operation["responses"][str(kind.status)]["description"]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [each for item in value.values() for each in references(item)]
    return [each for item in value for each in references(item)] if isinstance(value, list) else []


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    found = set(references(API))
    for reference in found:
        place: Any = API
        for key in reference.split("/")[1:]:
            place = place[key]
    for group in ("schemas", "headers"):
        assert {f"#/components/{group}/{name}" for name in API["components"][group]} <= found


def test_every_schema_is_one_of_json_schema_2020_12() -> None:
    for schema in API["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_no_field_is_said_to_be_null() -> None:
    """None is left out of answers and requests. In a change of the configuration null takes a value away."""
    schemas = API["components"]["schemas"]
    assert "null" not in str([schema for name, schema in schemas.items() if name != "Changes"])


# -- the page ---------------------------------------------------------------------------------------------------------
class References(HTMLParser):
    """What a page loads, and whether it holds a script or style itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "link", "img"):
            self.loads.append(given.get("src") or given.get("href") or "")
        self.inline |= tag == "style" or (tag == "script" and "src" not in given)
        self.inline |= any(name == "style" or name.startswith("on") for name in given)


async def test_the_page_loads_only_what_its_server_has(site: Site) -> None:
    async with site.session.get(site.url + "/docs") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = response.headers["Content-Security-Policy"]
        page = References()
        page.feed(await response.text())
    assert "'unsafe" not in policy
    assert set(re.findall(r"-src ([^;]+)", policy)) == {"'none'", "'self'"}
    assert not page.inline
    for name in page.loads:
        async with site.session.get(urljoin(site.url + "/docs", name)) as response:
            assert response.status == 200
            text = await response.text()
        assert "//" not in re.sub(r"^ *// .*$", "", text, flags=re.MULTILINE).replace("://", "")
        assert "://" not in text


@pytest.mark.parametrize("path", ["/docs/static/", "/docs/static/none", "/docs/static/../answers.py"])
async def test_nothing_else_is_handed_out(site: Site, path: str) -> None:
    status, body, _ = await site.call("GET", path, key=None)
    assert status == 404
    assert "detail" in body
