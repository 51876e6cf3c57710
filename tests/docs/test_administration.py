"""docs/administration.md: each of its calls runs, in their order, and no administrators' route is without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from docv2.web.app import ROUTES
from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, hang
from tests.pages import ROOT, curl, curls

TEXT = (ROOT / "docs/administration.md").read_text(encoding="utf-8")
CALLS = curls(TEXT)
PLACES = {"{user_id}": r"\$ID", "{key_id}": r"\$KEY_ID", "{task_id}": r"\$TASK_ID", "{model_id}": r"\w[\w:.-]+"}
OTHER = "mary@example.org"
"""Whom the page makes an account for."""


@pytest.mark.parametrize("route", [route for route in ROUTES if route.admin], ids=lambda route: route.handler.__name__)
def test_every_route_of_administrators_has_a_call(route: Any) -> None:
    path = re.sub(r"{\w+}", lambda found: PLACES[found[0]], route.path)
    called = [call for call in CALLS if re.search(rf"localhost:3000{path}[\s\"?]", f"{call} ")]
    assert [call for call in called if f"-X {route.method}" in call or (route.method == "GET" and "-X" not in call)]


async def test_every_call_on_the_page_is_answered(tmp_path: Path) -> None:
    async with (
        ScriptedEndpoint() as endpoint,
        Server(tmp_path / "data", OPENAI_API_BASE_URLS=endpoint.base_url) as server,
    ):
        endpoint.otherwise = hang()
        failed = await server.submit(b"some text")
        await server.cancel(failed)
        for call in CALLS:
            command = call.replace("localhost:3000", f"127.0.0.1:{server.port}")
            ids = {"KEY": server.key, "TASK_ID": failed, **await ids_of_the_other(server)}
            status, out = await curl(command, tmp_path, **ids)
            assert status in (200, 201), (call, out)


async def ids_of_the_other(server: Server) -> dict[str, str]:
    """Of the user that the page makes, as soon as it did, and of a key of hers that is good."""
    _, listed = await server.request("GET", "/admin/users")
    for user in listed["users"]:
        if user["email"] == OTHER:
            _, keys = await server.request("GET", f"/admin/users/{user['id']}/keys")
            good = [key["id"] for key in keys["keys"] if "revoked_at" not in key]
            return {"ID": user["id"], "KEY_ID": good[-1] if good else ""}
    return {}
