"""docs/api.md: what it says runs, and nothing that clients can see is missing from it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from docv2 import errors
from docv2.errors import DocV2Error
from docv2.web.answers import ERROR_TYPES
from docv2.web.app import ROUTES
from docv2.web.openapi import describe
from tests.e2e.server import Server
from tests.pages import ROOT, blocks, run

TEXT = (ROOT / "docs/api.md").read_text(encoding="utf-8")
BLOCKS = blocks(TEXT, "sh")
NOT_OURS = ("/admin", "/api/v1/configs", "/api/v1/models", "/ollama", "/metrics")
"""Paths that have pages of their own."""
OURS = [route for route in ROUTES if not route.path.startswith(NOT_OURS)]
API = describe(OURS)


# -- nothing is missing -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("route", OURS, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_documented(route: Any) -> None:
    assert f"### `{route.method} {route.path}`" in TEXT


def test_every_operation_has_a_call_that_runs() -> None:
    called = "".join(BLOCKS)
    for route in OURS:
        assert f"$DOCV2_URL{route.path}".replace("{task_id}", "$task_id") in called


@pytest.mark.parametrize("name", sorted(API["components"]["schemas"]))
def test_every_field_is_documented(name: str) -> None:
    for field in API["components"]["schemas"][name].get("properties", {}):
        assert f"`{field}`" in TEXT, field


def test_every_parameter_is_documented() -> None:
    for methods in API["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                assert f"`{parameter['name']}`" in TEXT or parameter["name"] == "task_id"


def test_every_error_is_documented() -> None:
    table = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", TEXT, flags=re.MULTILINE))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DocV2Error)]
    shown = [kind for kind in kinds if issubclass(kind, errors.RequestError | errors.Unavailable)]
    raised = {(str(kind.status), kind.error_type) for kind in shown if kind is not errors.RequestError}
    of_the_library = {("417", "validation_error")}
    assert raised | of_the_library | {("500", "system_error")} == table
    for name in {*ERROR_TYPES, *(kind.error_type for kind in kinds)}:
        assert f"`{name}`" in TEXT


# -- what it says runs ------------------------------------------------------------------------------------------------
@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path / "data") as server:
        yield server


async def test_every_call_on_the_page_is_answered_as_it_says(server: Server, tmp_path: Path) -> None:
    key = ""
    for arguments in (("users", "add"), ("users", "passwd"), ("keys", "create")):
        code, key, errors = await run(
            *(server.program, *arguments, "you@example.org"),
            given="correct horse\n",
            cwd=tmp_path,
            **server.environment(),
        )
        assert code == 0, errors
    shutil.copy(ROOT / "examples/lease.pdf", tmp_path / "lease.pdf")
    mark = "--- next block ---"
    script = f"\necho; echo '{mark}'\n".join(BLOCKS[1:])
    environment = {"DOCV2_URL": server.url, "DOCV2_API_KEY": key.strip()}
    code, output, errors = await run("sh", "-eu", "-c", script, cwd=tmp_path, **environment)
    assert code == 0, errors
    answers = output.split(mark)
    assert len(answers) == len(BLOCKS) - 1
    refused = [
        (block, answer)
        for block, answer in zip(BLOCKS[1:], answers, strict=True)
        if '"detail":' in answer and "-X DELETE" not in block
    ]
    assert refused == []
    sent = [json.loads(one) for one in re.findall(r"\{.*?\}(?=\{|\s*$)", answers[1], flags=re.DOTALL)]
    assert len({task["task_id"] for task in sent}) == 1
    (waited,) = [answer for block, answer in zip(BLOCKS[1:], answers, strict=True) if block.startswith("until curl")]
    assert '"status":"completed"' in waited
    (cancelled,) = [
        answer for block, answer in zip(BLOCKS[1:], answers, strict=True) if "DELETE" in block and "tasks" in block
    ]
    assert "The task has ended already" in cancelled
    assert json.loads((tmp_path / "openapi.json").read_text(encoding="utf-8"))["openapi"] == "3.1.0"
    assert (tmp_path / "docs.html").read_text(encoding="utf-8").startswith("<!doctype html>")
