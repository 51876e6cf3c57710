"""What is written about a busy day: who did what, and nothing of what they sent, were told or signed in with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.documents import text_pdf
from tests.e2e.server import Server
from tests.endpoint import KEY, ScriptedEndpoint, answer, hang, status
from tests.waiting import until

PROMPT, TEXT, ANSWER, NAME = "marked-prompt-51", "marked-text-52", "marked-answer-53", "marked-field-54"
PASSWORD, SECRET, TOKEN = "marked-password-55", "marked-signing-secret-56-long-enough", "marked-metrics-token-57"
QUERY = "marked-query-58"
MARKS = (PROMPT, TEXT, ANSWER, NAME, PASSWORD, SECRET, TOKEN, QUERY, KEY)


def audited(server: Server) -> list[dict[str, Any]]:
    path = server.data_dir / "audit.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("style", ["human", "json"])
async def test_nothing_that_was_sent_or_told_is_written_anywhere(tmp_path: Path, style: str) -> None:
    async with ScriptedEndpoint(key=KEY) as endpoint:
        server = Server(
            tmp_path / "data",
            OPENAI_API_BASE_URLS=endpoint.base_url,
            OPENAI_API_KEYS=KEY,
            WEBUI_SECRET_KEY=SECRET,
            DOCV2_METRICS_TOKEN=TOKEN,
            DOCV2_LOG_FORMAT=style,
            DOCV2_LOG_FILE=str(tmp_path / "api_v2.log"),
            AUDIT_LOG_LEVEL="REQUEST_RESPONSE",
            DEBUG="true",
        )
        endpoint.otherwise = answer(ANSWER)
        endpoint.script(status(500, {"error": {"message": f"cannot answer {PROMPT} about {TEXT} by {KEY}"}}))
        async with server:
            sent = {"prompt": PROMPT, "filename": "note.txt"}
            tasks = [
                await server.submit(TEXT.encode(), **sent),
                await server.submit(text_pdf([TEXT]), prompt=PROMPT, filename="report.pdf"),
                await server.submit(b"%PDF-1.7 " + TEXT.encode(), prompt=PROMPT, filename="broken.pdf"),
            ]
            for task_id in tasks:
                await server.finished(task_id)
            said: list[Any] = []
            form = {"prompt": PROMPT, NAME: "1"}
            said.append(await server.request("POST", "/api/v2/process", data=form))
            said.append(await server.request("POST", "/api/v2/process", data=PROMPT))
            body = {"email": "admin@localhost", "password": PASSWORD}
            said.append(await server.request("POST", "/api/v1/auths/signin", json=body))
            said.append(await server.request("GET", "/api/v2/config", params={"secret": QUERY}))
            said.append(await server.request("GET", "/api/v2/config", key=TOKEN))
            key = (await server.request("POST", "/api/v1/auths/api_key"))[1]["api_key"]
            assert (await server.request("GET", "/api/v1/auths/", key=key))[0] == 200
            await until(lambda: any(entry["request_uri"].endswith("/auths/") for entry in audited(server)))
            found = (await server.request("GET", "/admin/audit", params={"path": "/process", "verb": "POST"}))[1]
            session = server._session
            assert session is not None
            async with session.get(server.url + "/metrics") as response:
                measured = await response.text()
            first_key = server.key
            server.signal()
            await server.ended()
    assert all(code >= 400 for code, _ in said), said
    places = {
        "log": server.log.read_text(),
        "log file": (tmp_path / "api_v2.log").read_text(),
        "audit": (server.data_dir / "audit.log").read_text(),
        "metrics": measured,
        "found": json.dumps(found),
    }
    errors = json.dumps([body for _, body in said])
    for mark in (*MARKS, key, first_key):
        for place, text in places.items():
            assert mark not in text, f"{mark} is in the {place}"
        if mark not in (NAME, QUERY):
            assert mark not in errors, "a caller is told the name of an unknown field; nothing else of what was sent"
    # The words that the guide looks for.
    log = places["log file"]
    assert "completed" in log
    assert "Failed" in log
    named = f'"task_id": "{tasks[0]}"' if style == "json" else f"task_id={tasks[0]}"
    assert [line for line in log.splitlines() if f"{tasks[0]} completed" in line and named in line]
    records = found["records"]
    assert [record["response_status_code"] for record in records].count(200) == 3
    asked = json.loads(records[-1]["request_object"])
    assert asked["fields"] == {"prompt": len(PROMPT)}
    assert records[-1]["user"]["email"] == "admin@localhost"
    wanted = {"id", "timestamp", "user", "audit_level", "verb", "request_uri", "response_status_code", "source_ip"}
    assert wanted | {"user_agent", "request_object", "response_object", "extra"} == records[-1].keys()
    assert (server.data_dir / "audit.log").stat().st_mode & 0o077 == 0


async def test_who_did_what_to_which_task_key_and_configuration(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = hang()
    await server.start()
    _, me = await server.request("GET", "/api/v1/auths/")
    await server.request("POST", f"/admin/users/{me['id']}/password", json={"password": PASSWORD})
    token = ""
    for email, password in ((me["email"], "another one"), ("nobody@localhost", PASSWORD), (me["email"], PASSWORD)):
        for _ in range(2):
            _, session = await server.request(
                "POST",
                "/api/v1/auths/signin",
                headers={"Authorization": ""},
                json={"email": email, "password": password},
            )
            token = session.get("token", token)
    task_id = await server.submit(b"some text", key=token)
    for _ in range(20):
        await server.status(task_id)
    await server.cancel(task_id)
    _, ada = await server.request("POST", "/admin/users", json={"email": "ada@example.org"})
    keys = f"/admin/users/{ada['id']}/keys"
    first = (await server.request("POST", keys, json={}))[1]["key"]["id"]
    second = (await server.request("POST", f"{keys}/{first}/rotate"))[1]["key"]["id"]
    await server.request("DELETE", f"{keys}/{second}")
    own = (await server.request("POST", "/api/v1/auths/api_key"))[0]
    await server.request("POST", "/admin/config", json={"api_v2": {"timeout": 9}})
    await server.request("POST", "/admin/queue/pause")
    await server.request("POST", "/admin/config/revert", json={"version": 1})
    await server.request("GET", "/api/v2/config", key="sk-unknown")
    server.signal()
    await server.ended()
    assert own == 200
    owned = server.query(f"SELECT key_id FROM api_keys WHERE user_id = '{me['id']}' AND own")[0][0]
    kept = [
        (
            record["verb"],
            record["request_uri"].removeprefix(server.url),
            record["response_status_code"],
            record["user"].get("email"),
            record["extra"],
        )
        for record in audited(server)
    ]
    mine, sign_in, repeated = me["email"], "/api/v1/auths/signin", {"repeated": 1}
    assert kept == [
        ("GET", "/api/v1/auths/", 200, mine, {}),
        ("POST", f"/admin/users/{me['id']}/password", 200, mine, {}),
        ("POST", sign_in, 401, mine, {}),
        ("POST", sign_in, 401, None, {}),
        ("POST", sign_in, 200, mine, {}),
        ("POST", sign_in, 200, mine, {}),
        ("POST", "/api/v2/process", 200, mine, {"task_id": task_id}),
        ("GET", f"/api/v2/status/{task_id}", 200, mine, {}),
        ("DELETE", f"/api/v2/tasks/{task_id}", 200, mine, {}),
        ("POST", "/admin/users", 200, mine, {"user_id": ada["id"]}),
        ("POST", keys, 200, mine, {"key_id": first}),
        ("POST", f"{keys}/{first}/rotate", 200, mine, {"key_id": second}),
        ("DELETE", f"{keys}/{second}", 200, mine, {}),
        ("POST", "/api/v1/auths/api_key", 200, mine, {"key_id": owned}),
        ("POST", "/admin/config", 200, mine, {"version": 1}),
        ("POST", "/admin/queue/pause", 200, mine, {"version": 2}),
        ("POST", "/admin/config/revert", 200, mine, {"version": 3}),
        ("GET", "/api/v2/config", 401, None, {}),
        # What was repeated is known by its number, here as the server stops.
        ("POST", sign_in, 401, mine, repeated),
        ("POST", sign_in, 401, None, repeated),
        ("GET", f"/api/v2/status/{task_id}", 200, mine, {"repeated": 19}),
    ]


async def test_only_administrators_search_the_audit_and_none_writes_it(server: Server) -> None:
    server.settings["AUDIT_LOG_LEVEL"] = "NONE"
    await server.start()
    process = await asyncio.create_subprocess_exec(
        *(server.program, "users", "add", "ada@example.org"),
        env=server.environment(),
        cwd=server.data_dir.parent,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    process = await asyncio.create_subprocess_exec(
        *(server.program, "keys", "create", "ada@example.org"),
        env=server.environment(),
        cwd=server.data_dir.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    key = (await process.communicate())[0].decode().strip()
    code, body = await server.request("GET", "/admin/audit", key=key)
    assert (code, body["error_type"]) == (403, "auth_error")
    assert (await server.request("GET", "/admin/audit"))[1] == {"records": []}
    assert not (server.data_dir / "audit.log").exists()


@pytest.mark.parametrize("way", ["rename", "copytruncate"])
async def test_the_log_file_survives_logrotate(server: Server, tmp_path: Path, way: str) -> None:
    file = tmp_path / "api_v2.log"
    server.settings["DOCV2_LOG_FILE"] = str(file)
    await server.start()
    await server.finished(await server.submit(b"before"))
    await until(lambda: "completed" in file.read_text())
    if way == "rename":
        file.rename(tmp_path / "api_v2.log.1")
    else:
        with file.open("r+") as open_file:
            open_file.truncate()
    task_id = await server.submit(b"after")
    await server.finished(task_id)
    await until(lambda: file.exists() and f"{task_id} completed" in file.read_text())
    assert "\0" not in file.read_text(), "it goes on at the new end"
