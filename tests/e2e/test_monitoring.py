"""What is in monitoring/, held by Prometheus itself; and the guide's own scripts, where the guide is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.server import Server, free_port
from tests.endpoint import ScriptedEndpoint, answer, status
from tests.pages import GUIDE, ROOT, run, script
from tests.programs import require
from tests.waiting import until

MONITORING = ROOT / "monitoring"
JOB = "openwebui-api-v2"


@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_the_alerts_are_understood_and_fire_when_they_should(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([require("promtool"), *arguments], cwd=MONITORING, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_has_its_section_for_operators() -> None:
    alerts = re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    tested = set(re.findall(r"alertname: (\w+)\n", (MONITORING / "alerts_test.yml").read_text()))
    assert set(alerts) <= tested
    sections = re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert sections == alerts


@asynccontextmanager
async def prometheus(folder: Path, server: Server) -> AsyncIterator[str]:
    """A Prometheus that scrapes the server as the shipped file says, but every half second; its URL."""
    program, port = require("prometheus"), free_port()
    shutil.copytree(MONITORING, folder)
    text = (folder / "prometheus.yml").read_text().replace("localhost:3000", f"127.0.0.1:{server.port}")
    (folder / "prometheus.yml").write_text(text.replace("15s", "500ms"))
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Asker:
    """Puts queries to a Prometheus."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def __call__(self, query: str) -> list[Any]:
        """The series of the answer; none while it does not run yet."""
        try:
            async with self.session.get(f"{self.url}/api/v1/query", params={"query": query}) as response:
                body = await response.json(content_type=None)
        except (aiohttp.ClientConnectionError, ValueError):
            return []
        assert body["status"] == "success", (query, body)
        return list(body["data"]["result"])

    async def until(self, query: str) -> None:
        async with asyncio.timeout(20):
            while not await self(query):
                await asyncio.sleep(0.05)


async def test_every_query_of_the_dashboard_and_every_alert_finds_its_series_in_the_real_metrics(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    require("prometheus")
    endpoint.otherwise = answer("fine")
    await server.start()
    async with prometheus(tmp_path / "prometheus", server) as url, aiohttp.ClientSession() as session:
        ask = Asker(url, session)
        await ask.until(f'docv2_slots{{job="{JOB}"}}')
        # A rise needs a sample before it.
        endpoint.script(status(500))
        for _ in range(2):
            await server.finished(await server.submit(b"some text"))
        backup = await asyncio.create_subprocess_exec(
            *(server.program, "backup", tmp_path / "backup"),
            env=server.environment(),
            cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await backup.wait() == 0
        await ask.until("api_v2_completed_tasks_total >= 2 and docv2_last_backup_timestamp_seconds > 0")
        await ask.until("rate(api_v2_completed_tasks_total[1m]) > 0")
        await ask.until("rate(docv2_upstream_errors_total[1m]) >= 0")
        dashboard = json.loads((MONITORING / "dashboard.json").read_text())
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        assert len(queries) > 30
        for query in queries:
            assert await ask(query.replace("$__rate_interval", "1m")), f"finds nothing: {query}"
        async with session.get(f"{url}/api/v1/rules") as response:
            groups = (await response.json())["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == (MONITORING / "alerts.yml").read_text().count("alert:")
        for rule in rules:
            assert rule["health"] != "err", rule
            names = set(re.findall(r"\b(?:api_v2|docv2|process)_\w+|\bup\b", rule["query"]))
            assert names, rule["query"]
            for name in names:
                assert await ask(f'{name}{{job="{JOB}"}}'), f"{rule['name']} looks at {name}, which is not there"
        firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
        assert not firing


async def test_the_error_rate_outlives_the_server(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(status(400, {"error": {"message": "no"}}))
    await server.start()
    ends = [(await server.finished(await server.submit(b"some text")))["status"] for _ in range(4)]
    assert ends == ["failed", "completed", "completed", "completed"]
    for _ in range(2):
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as response:
            assert "\napi_v2_error_rate 0.25\n" in await response.text()
        await server.restart()


if GUIDE.is_file():

    async def run_script(title: str, server: Server) -> tuple[int, str]:
        """Run it with nothing changed but the port, which every test has its own of."""
        text = script(title).replace("localhost:3000", f"127.0.0.1:{server.port}")
        code, out, _ = await run(require("bash"), "-c", text, cwd=server.data_dir.parent)
        return code, out

    async def test_the_guides_health_check_runs(server: Server) -> None:
        require("curl")
        await server.start()
        code, out = await run_script("health_check.sh", server)
        assert (code, "healthy" in out) == (0, True), out
        await server.kill()
        code, out = await run_script("health_check.sh", server)
        assert code == 1
        assert "failed (HTTP 000)" in out

    async def test_the_guides_comprehensive_check_runs(server: Server, endpoint: ScriptedEndpoint) -> None:
        for program in ("curl", "jq", "bc"):
            require(program)
        await server.start()
        await until(lambda: server.query("SELECT 1 FROM notes WHERE kind = 'catalog'"))
        code, out = await run_script("comprehensive_check.sh", server)
        assert code == 0, out
        assert "Active tasks: 0, Queue: 0" in out
        assert f"Available models: {len(endpoint.models)}" in out
        assert "status:" not in out, "it is healthy"
        server.settings["API_V2_ENABLED"] = "false"
        await server.restart()
        _, out = await run_script("comprehensive_check.sh", server)
        assert "API v2 status: degraded" in out
