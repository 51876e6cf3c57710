"""The JavaScript client in a browser, on a page of the host that nginx shares between it and docv2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.deploy.proxy import HOST, ROOT, behind, beside, end
from tests.endpoint import ScriptedEndpoint, answer_unless_told_never_to
from tests.programs import require

# Without a screen, and without a word to anyone but the page's host. Page and certificate are the test's own.
FLAGS = """
--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-quic --no-proxy-server --ignore-certificate-errors
"""

PAGE = """\
<!doctype html>
<meta charset="utf-8">
<input type="file" id="document">
<script type="module">
  import { Client } from "./docv2.js";

  const input = document.getElementById("document");
  const chosen = new DataTransfer();
  chosen.items.add(new File(["The rent is 1200 EUR a month."], "läse.txt"));
  input.files = chosen.files;

  const refusal = (error) => [error.name, error.status ?? null, error.errorType ?? null];
  const told = { states: [] };
  try {
    const client = new Client({ url: location.origin, apiKey: KEY });
    const task = await client.process(input.files[0], "What is the rent?", { model: "test-text", maxTokens: 100 });
    const result = await client.wait(task.task_id, { onChange: ({ status }) => told.states.push(status) });
    told.answer = result.content;

    const endless = await client.process(input.files[0], "Will this never end?");
    const leaving = new AbortController();
    const onChange = ({ status }) => status === "processing" && leaving.abort();
    await client.wait(endless.task_id, { onChange, signal: leaving.signal }).catch((error) => {
      told.left = refusal(error);
    });
    told.cancelled = (await client.cancel(endless.task_id)).error_type;
    await client.wait(endless.task_id).catch((error) => (told.failed = refusal(error)));

    told.tasks = (await client.tasks()).tasks.map((listed) => [listed.file_info.filename, listed.status]);
    const stranger = new Client({ url: location.origin, apiKey: "sk-of-nobody" });
    await stranger.tasks().catch((error) => (told.refused = refusal(error)));
    await client.process(new File(["x"], "x.exe"), "What is it?").catch((error) => (told.unknown = refusal(error)));
  } catch (error) {
    told.error = String(error.stack);
  }
  await fetch("/told", { method: "POST", body: JSON.stringify(told) });
</script>
"""


def rest_of_the_host(key: list[str], told: asyncio.Future[dict[str, Any]]) -> web.Application:
    """What the host serves beside docv2: the page, the client, and what the page says in the end."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE.replace("KEY", json.dumps(key[0])), content_type="text/html")

    async def take(request: web.Request) -> web.Response:
        told.set_result(json.loads(await request.text()))
        return web.Response()

    application = web.Application()
    application.router.add_get("/", page)
    application.router.add_static("/", ROOT / "clients/javascript")
    application.router.add_post("/told", take)
    return application


@asynccontextmanager
async def browser(program: str, folder: Path, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Chromium with the page open; what it says goes to a file of the folder."""
    own = [f"--user-data-dir={folder / 'profile'}", f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]
    with (folder / "browser.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, *FLAGS.split(), *own, url, stdout=log, stderr=log)
    try:
        yield process
    finally:
        await end(process)


@pytest.mark.timeout(180)
async def test_the_javascript_client_works_in_a_browser(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    chromium = require("chromium")
    endpoint.otherwise = answer_unless_told_never_to
    key, told = list[str](), asyncio.get_running_loop().create_future()
    async with (
        beside(rest_of_the_host(key, told)) as changes,
        behind("nginx", tmp_path, endpoint, site="docv2-beside-open-webui.conf", changes=changes) as server,
    ):
        key.append(server.key)
        async with browser(chromium, tmp_path, f"https://{HOST}:{server.proxy.port}/") as process:
            ended = asyncio.ensure_future(process.wait())
            await asyncio.wait([told, ended], timeout=60, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                pytest.fail((tmp_path / "browser.log").read_text(), pytrace=False)
        log = server.proxy.log.read_text()
    said = await told
    assert "error" not in said, said
    assert said.pop("states")[-1] == "completed"
    assert said == {
        "answer": "1200 EUR a month.",
        "left": ["AbortError", None, None],
        "cancelled": "cancelled",
        "failed": ["TaskFailed", None, "cancelled"],
        "tasks": [["läse.txt", "failed"], ["läse.txt", "completed"]],
        "refused": ["APIError", 401, "auth_error"],
        "unknown": ["APIError", 415, "validation_error"],
    }
    assert "POST /api/v2/process HTTP/2.0" in log
