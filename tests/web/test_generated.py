"""The API held to its own description by schemathesis: systematic, generated and chained requests, all checks on.

As a user, who may do everything but administer; what is about models as an administrator as well. No check or phase is
left out; tests/web/generated.py says which refusals the description has no words for.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from docv2.web.app import ROUTES
from tests.web.site import Site

ROOT = Path(__file__).parents[2]
EXAMPLES = 15
"""Generated requests an operation, beside the systematic ones; chains are as many."""


OF_MODELS = r"/models|/ollama/"


@pytest.mark.timeout(240)
async def test_the_api_is_as_it_is_described(site: Site, tmp_path: Path) -> None:
    told = await tried(site, tmp_path, site.key)
    count = len(ROUTES) - 1  # it leaves out the address that it read the description from; test_openapi.py does not
    assert f"{count} selected / {count} total" in told, told


@pytest.mark.timeout(240)
async def test_so_it_is_for_an_administrator_of_models(site: Site, tmp_path: Path) -> None:
    key = await site.add_user("grace@example.org", role="admin")
    told = await tried(site, tmp_path, key, "--include-path-regex", OF_MODELS)
    count = sum(bool(re.search(OF_MODELS, route.path)) for route in ROUTES)
    assert f"{count} selected / " in told, told


async def tried(site: Site, tmp_path: Path, key: str, *options: str) -> str:
    """What it says of its run, in which nothing failed."""
    (tmp_path / "schemathesis.toml").write_text("", encoding="utf-8")  # none of a developer's own
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("--config-file", tmp_path / "schemathesis.toml", "run", f"{site.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {key}", *options),
        *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"),
        *("--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color", "--generation-database", "none"),
        *("--max-response-time", "5", "--request-timeout", "20"),
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.web.generated", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    told = output.decode()
    assert process.returncode == 0, told
    return told
