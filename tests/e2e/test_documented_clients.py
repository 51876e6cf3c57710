"""Clients written from the API's description alone work against the server as they stand.

Where that description lies beside the repository (or where DOCV2_SEEDS says), its own clients are run, with nothing but
address and key put in. The same sequence of calls in our own words is run in any case.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest
import requests

from tests import documents, pages
from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer
from tests.pages import DESCRIPTION, ROOT, SECONDS, blocks
from tests.programs import missing, require

ANSWER = "The document is a lease; the monthly rent is 1200 EUR."
OURS = ROOT / "docs" / "clients.md"
PLACEHOLDERS = ("https://your-domain.com", "sk-your-api-key")


@pytest.fixture
async def folder(tmp_path: Path, server: Server, endpoint: ScriptedEndpoint) -> Path:
    """Where the client runs, beside its document; the server is up."""
    endpoint.otherwise = answer(ANSWER)
    await server.start()
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "document.pdf").write_bytes(documents.text_pdf(["Lease. The monthly rent is 1200 EUR."]))
    return folder


def documented(language: str, server: Server) -> str:
    """The client of that language in the description."""
    text = DESCRIPTION.read_text()
    client: str
    [client] = [block for block in blocks(text, language) if "class APIv2Client" in block]
    for placeholder, value in zip(PLACEHOLDERS, (server.url, server.key), strict=True):
        assert placeholder in client
        client = client.replace(placeholder, value)
    return client


async def run(folder: Path, *arguments: str, **environment: str) -> str:
    """What the program prints; it must end well and say nothing on standard error."""
    code, out, errors = await pages.run(*arguments, cwd=folder, **environment)
    assert (code, errors) == (0, "")
    return out


if DESCRIPTION.exists():

    async def test_the_documented_python_client(server: Server, folder: Path) -> None:
        (folder / "client.py").write_text(documented("python", server))
        assert await run(folder, sys.executable, "client.py") == ANSWER + "\n"

    async def test_the_documented_javascript_client(server: Server, folder: Path) -> None:
        (folder / "client.js").write_text(documented("javascript", server))
        node, npm = require("node"), require("npm")
        (folder / "package.json").write_text('{"private": true}')
        install = await asyncio.create_subprocess_exec(
            *(npm, "install", "--silent", "--no-audit", "--no-fund", "axios", "form-data"),
            cwd=folder,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(SECONDS):
            if await install.wait() != 0:
                missing("needs axios and form-data, which npm cannot install here")
        assert await run(folder, node, "client.js") == ANSWER + "\n"


async def test_the_same_calls_with_requests(server: Server, folder: Path) -> None:
    def ask() -> str:
        headers = {"Authorization": f"Bearer {server.key}"}
        with (folder / "document.pdf").open("rb") as file:
            sent = requests.post(
                f"{server.url}/api/v2/process",
                headers=headers,
                files={"file": file},
                data={"prompt": "What does this document say?", "temperature": 0.7},
                timeout=SECONDS,
            ).json()
        assert sent["status"] == "processing", "a slot is free, and a client may rely on this word to go on"
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            task = requests.get(
                f"{server.url}/api/v2/status/{sent['task_id']}", headers=headers, timeout=SECONDS
            ).json()
            if task["status"] in ("completed", "failed"):
                return str(task["result"]["content"])
            time.sleep(0.05)
        raise TimeoutError

    assert await asyncio.to_thread(ask) == ANSWER


FETCH = """
const [url, key] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${key}` };

async function ask() {
  const form = new FormData();
  const bytes = await require("fs").promises.readFile("document.pdf");
  form.append("file", new Blob([bytes]), "document.pdf");
  form.append("prompt", "What does this document say?");
  form.append("temperature", 0.7);
  const { task_id } = await (await fetch(`${url}/api/v2/process`, { method: "POST", headers, body: form })).json();
  for (;;) {
    const { status, result, error } = await (await fetch(`${url}/api/v2/status/${task_id}`, { headers })).json();
    if (status === "completed") return result.content;
    if (status === "failed") throw new Error(error);
    await new Promise((later) => setTimeout(later, 50));
  }
}

ask().then(console.log);
"""


async def test_the_same_calls_with_fetch(server: Server, folder: Path) -> None:
    node = require("node")
    (folder / "client.cjs").write_text(FETCH)
    assert await run(folder, node, "client.cjs", server.url, server.key) == ANSWER + "\n"


async def test_the_python_of_our_own_page(server: Server, folder: Path) -> None:
    (folder / "document.pdf").rename(folder / "lease.pdf")
    environment = {"DOCV2_URL": server.url, "DOCV2_API_KEY": server.key}
    plain, of_asyncio = [
        await run(folder, sys.executable, "-W", "error", "-c", code, **environment)
        for code in blocks(OURS.read_text(), "python")
    ]
    assert plain == ANSWER + "\n"
    assert of_asyncio.count(ANSWER) == 2
    assert "lease.pdf: completed 100 %" in of_asyncio


async def test_the_command_and_curl_of_our_own_page(server: Server, folder: Path) -> None:
    curl = require("curl")
    (folder / "document.pdf").rename(folder / "lease.pdf")
    environment = {
        "DOCV2_URL": server.url,
        "DOCV2_API_KEY": server.key,
        "PATH": f"{Path(sys.executable).parent}:{Path(curl).parent}:{os.environ['PATH']}",
    }
    command, by_hand = blocks(OURS.read_text(), "sh")
    command = command.replace("qwen2.5-vl", "test-vision")
    assert await run(folder, "sh", "-euc", command, **environment) == ANSWER + "\n"
    assert ANSWER in (folder / "answers.jsonl").read_text()
    submit, poll = by_hand.strip().rsplit("\n", 1)
    task = json.loads(await run(folder, "sh", "-euc", submit.replace("curl", "curl -sS"), **environment))
    poll = poll.replace("curl", "curl -sS").replace("TASK_ID", task["task_id"])
    ended = json.loads(await run(folder, "sh", "-euc", poll, **environment))
    assert ended["status"] in ("pending", "processing", "completed")
