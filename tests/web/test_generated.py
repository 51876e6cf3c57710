"""The API held to its own description by schemathesis: systematic, generated and chained requests, all checks on.

As a user, who may do everything but administer, and as an administrator where that makes a difference. No operation,
check or phase is left out; tests/web/generated.py says which refusals the description has no words for.
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


OF_ADMINISTRATORS = r"^/admin/|^/api/v1/configs|/models|/ollama/"
"""What they may do alone, and what they see more of."""


@pytest.mark.timeout(240)
async def test_the_api_is_as_it_is_described(site: Site, tmp_path: Path) -> None:
    told = await tried(site.url, site.key, tmp_path)
    count = len(ROUTES) - 1  # it leaves out the address that it read the description from; test_openapi.py does not
    assert f"{count} selected / {count} total" in told, told


@pytest.mark.timeout(240)
async def test_so_it_is_for_administrators(site: Site, tmp_path: Path) -> None:
    key = await site.add_user("grace@example.org", role="admin")
    told = await tried(site.url, key, tmp_path, "--include-path-regex", OF_ADMINISTRATORS)
    count = sum(bool(re.search(OF_ADMINISTRATORS, route.path)) for route in ROUTES)
    assert f"{count} selected / " in told, told


async def tried(url: str, key: str, folder: Path, *options: str) -> str:
    """What schemathesis says of its requests; nothing may be wrong."""
    (folder / "schemathesis.toml").write_text("", encoding="utf-8")  # none of a developer's own
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("--config-file", str(folder / "schemathesis.toml"), "run", f"{url}/openapi.json", *options),
        *("--header", f"Authorization: Bearer {key}"),
        *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"),
        *("--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color", "--generation-database", "none"),
        *("--max-response-time", "5", "--request-timeout", "20"),
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.web.generated", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    told = output.decode()
    assert process.returncode == 0, told
    return told
