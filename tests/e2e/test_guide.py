"""The administrator's guide: each of its single commands is run as it is printed, and does what it is there for.

Where the guide lies beside the repository, its own text is run, with nothing but host, tokens and task put in. The same
sequence in our own words is run in any case.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import docv2
from tests import pages
from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, hang
from tests.programs import require

PASSWORD = "correct horse"
NEW_MODEL = "gpt-4-vision-preview"
OURS = """\
```sh
curl http://localhost:3000/api/version
curl http://localhost:3000/api/v2/health
curl http://localhost:3000/admin/config -H 'Authorization: Bearer <admin_token>' \\
  --json '{"api_v2": {"max_concurrent": 8}}'
curl http://localhost:3000/admin/config -H 'Authorization: Bearer <admin_token>' --json '{"api_v2": {"enabled": false}}'
curl http://localhost:3000/api/v2/health | jq .memory_usage
curl http://localhost:3000/api/v2/config
curl http://localhost:3000/api/v1/models --oauth2-bearer <admin_token>
curl http://localhost:3000/admin/models --oauth2-bearer <admin_token> \
  --json '{"id": "gpt-4-vision-preview", "name": "Sees", "meta": {"vision": true, "max_tokens": 4096}}'
curl http://localhost:3000/admin/config -H 'Authorization: Bearer <admin_token>' \\
  --json '{"api_v2": {"admin_model": "claude-3-haiku"}}'
curl http://localhost:3000/api/v2/health | jq .memory_usage
curl http://localhost:3000/api/v2/health | jq .queue_length
curl http://localhost:3000/api/v2/health | jq .active_tasks
curl http://localhost:3000/api/v2/status/<task_id> --oauth2-bearer <token>
curl http://localhost:3000/api/v2/tasks/<task_id> --oauth2-bearer <token> --request DELETE
curl http://localhost:3000/api/v2/models
curl http://localhost:3000/api/v2/models | jq '.models[].id'
curl http://localhost:3000/api/v1/models --oauth2-bearer <admin_token>
curl http://localhost:3000/ollama/api/tags
```
"""


async def signed_in(server: Server) -> str:
    """A token of the first administrator."""
    _, me = await server.request("GET", "/api/v1/auths/")
    await server.request("POST", f"/admin/users/{me['id']}/password", json={"password": PASSWORD})
    _, session = await server.request("POST", "/api/v1/auths/signin", json={"email": me["email"], "password": PASSWORD})
    return str(session["token"])


async def key_of_a_user(server: Server) -> str:
    _, user = await server.request("POST", "/admin/users", json={"email": "ada@example.org"})
    _, made = await server.request("POST", f"/admin/users/{user['id']}/keys", json={})
    return str(made["api_key"])


TEXTS = {"ours": OURS} | ({"guide": pages.GUIDE.read_text(encoding="utf-8")} if pages.GUIDE.is_file() else {})


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_every_command_does_what_it_is_there_for(
    server: Server, endpoint: ScriptedEndpoint, tmp_path: Path, text: str
) -> None:
    require("jq")
    endpoint.otherwise = hang()
    server.settings["API_V2_MAX_CONCURRENT"] = "1"
    await server.start()
    token, key = await signed_in(server), await key_of_a_user(server)
    tasks = [await server.submit(b"some text", key=key) for _ in range(3)]
    await endpoint.call(1)

    for placeholder, value in {
        "localhost:3000": f"127.0.0.1:{server.port}",
        "<admin_token>": token,
        "<token>": key,
        "<task_id>": tasks[0],
    }.items():
        assert placeholder in text
        text = text.replace(placeholder, value)
    left = pages.curls(text)

    async def run(expected: int) -> str:
        status, out = await pages.curl(left.pop(0), tmp_path)
        assert status == expected, out
        return out

    async def run_json(expected: int = 200) -> Any:
        return json.loads(await run(expected))

    async def config() -> Any:
        return (await server.request("GET", "/api/v2/config"))[1]

    assert await run_json() == {"version": docv2.__version__}
    health = await run_json()
    assert (health["status"], health["active_tasks"], health["queue_length"]) == ("healthy", 1, 2)

    assert (await run_json())["api_v2"]["max_concurrent"] == 8
    assert (await config())["max_concurrent"] == 8
    await endpoint.call(3)
    assert (await run_json())["api_v2"]["enabled"] is False
    status, refusal = await server.send(b"some text")
    assert (status, refusal["detail"]) == (503, "API v2 is currently disabled")
    await server.request("POST", "/admin/config", json={"api_v2": {"enabled": None, "max_concurrent": None}})

    assert 0 < (await run_json())["used_percent"] < 100
    assert (await run_json(401))["error_type"] == "auth_error", "the one that the guide has without credentials"
    assert [model["id"] for model in (await run_json())["data"]] == endpoint.models
    made = await run_json(201)
    assert (made["id"], made["vision"], made["max_tokens"]) == (NEW_MODEL, True, 4096)

    assert "claude-3-haiku" in (await run_json())["warnings"][0]
    assert (await config())["admin_model"] == "claude-3-haiku"

    assert (await run_json())["total_mb"] > 0
    assert (await run_json(), await run_json()) == (0, 3)
    assert (await run_json())["status"] == "processing"
    assert (await run_json())["error_type"] == "cancelled"
    assert (await server.finished(tasks[0]))["status"] == "failed"
    await endpoint.calls[0].gone.wait()

    listed = await run_json()
    models = [model["id"] for model in listed["models"]]
    assert set(models) == {*map(str, endpoint.models), NEW_MODEL}
    assert NEW_MODEL in listed["vision_models"]
    assert listed["model_configs"][NEW_MODEL]["max_tokens"] == 4096
    assert (await run(200)).split() == [f'"{model}"' for model in models]
    assert sorted(model["id"] for model in (await run_json())["data"]) == sorted(models)
    assert (await run_json())["models"] == [], "the endpoint is not Ollama's"
    assert not left
