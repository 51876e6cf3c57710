"""docv2 behind a real nginx and a real Apache, each with the files as shipped."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import re
import signal
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.deploy.proxy import KINDS, MEBIBYTE, Behind, Kind, behind, beside, configured
from tests.e2e.server import DEADLINE
from tests.endpoint import ScriptedEndpoint, answer, hang
from tests.waiting import until

BOUNDARY = "docv2-test"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
async def server(tmp_path: Path, endpoint: ScriptedEndpoint, kind: Kind) -> AsyncIterator[Behind]:
    async with behind(kind, tmp_path, endpoint) as server:
        yield server


def requests_logged(server: Behind) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if "route" in line]


def form_around(prompt: str = "What is it?") -> tuple[bytes, bytes]:
    """What stands before and after a file in a form."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{prompt}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="note.txt"\r\n\r\n'
    )
    return head.encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


def received(server: Behind) -> int:
    """Bytes of uploads under way that docv2 has on disk."""
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in (server.data_dir / "files/documents").iterdir())
    return 0


class Upload:
    """A connection of its own that sends an upload as slowly, or as partly, as the test wants."""

    def __init__(self, server: Behind, size: int) -> None:
        self._server = server
        self._head, self._tail = form_around()
        self._size = size

    async def __aenter__(self) -> Upload:
        tls = ssl.create_default_context(cafile=self._server.proxy.folder / "certificates/fullchain.pem")
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._server.proxy.port, ssl=tls)
        length = len(self._head) + self._size + len(self._tail)
        lines = [
            "POST /api/v2/process HTTP/1.1",
            "Host: docv2.example.org",
            f"Authorization: Bearer {self._server.key}",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
            f"Content-Length: {length}",
        ]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + self._head)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def end(self) -> tuple[int, Any]:
        """Send what closes the form; status and body of the answer."""
        await self.send(self._tail)
        return await self.answer()

    async def answer(self) -> tuple[int, Any]:
        self.answered = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", self.answered)
        assert length, self.answered
        return int(self.answered.split()[1]), json.loads(await self.reader.readexactly(int(length[1])))


def shaped(body: Any) -> bool:
    """Whether a body is an error in docv2's shape."""
    return (
        set(body) - {"task_id"} == {"detail", "error_type", "timestamp", "request_id"}
        and abs(body["timestamp"] - time.time()) < 60
        and re.fullmatch(r"req_[A-Za-z0-9_-]{1,64}", body["request_id"]) is not None
    )


# -- the files --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("site", ["docv2.conf", "docv2-beside-open-webui.conf"])
def test_the_program_takes_the_files(kind: Kind, site: str, tmp_path: Path) -> None:
    said = configured(kind, tmp_path / "proxy", 3000, site=site, changes={}).check()
    assert "[warn]" not in said
    assert "[emerg]" not in said


# -- uploads ----------------------------------------------------------------------------------------------------------
async def test_a_hundred_megabytes_go_through_as_they_come(server: Behind, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = hang()
    half = b"word " * (50 * MEBIBYTE // 5)
    async with Upload(server, 2 * len(half)) as upload:
        await upload.send(half)
        await until(lambda: received(server) > 49 * MEBIBYTE)
        assert not server.proxy.open_files(), "the proxy keeps no copy"
        await upload.send(half)
        status, body = await upload.end()
    assert status == 200, body
    assert server.query("SELECT size FROM tasks") == [(2 * len(half),)]
    await server.cancel(body["task_id"])


async def test_one_byte_more_than_docv2_takes_is_docv2s_to_refuse(server: Behind) -> None:
    size = 100 * MEBIBYTE + 1
    async with Upload(server, size) as upload:
        await upload.send(b"a" * size)
        status, body = await upload.end()
    assert (status, body["detail"]) == (413, "File too large. Maximum size: 100.0MB")
    await until(lambda: requests_logged(server))  # by a thread, after the answer
    assert requests_logged(server)[-1]["status"] == 413


async def test_a_client_that_goes_away_leaves_nothing(server: Behind) -> None:
    async with Upload(server, 10 * MEBIBYTE) as upload:
        await upload.send(b"a" * 5 * MEBIBYTE)
        await until(lambda: received(server) > 4 * MEBIBYTE)
    await until(lambda: requests_logged(server) and not received(server))
    assert requests_logged(server)[-1]["status"] in (400, 499)
    assert not list((server.data_dir / "files/documents").iterdir())
    assert not server.query("SELECT task_id FROM tasks")
    assert (await server.request("GET", "/api/v2/health"))[0] == 200


# -- who asks ---------------------------------------------------------------------------------------------------------
async def test_a_forged_address_is_not_believed(server: Behind) -> None:
    forged = {"X-Forwarded-For": "127.0.0.1, 203.0.113.7", "X-Real-IP": "203.0.113.8", "Forwarded": "for=203.0.113.9"}
    url = f"{server.url}/api/version"
    async with server.session(client="127.0.0.9") as session, session.get(url, headers=forged) as response:
        assert response.status == 200
    await until(lambda: requests_logged(server))
    assert [line["client"] for line in requests_logged(server)] == ["127.0.0.9"]


async def test_one_id_is_in_the_answer_and_in_both_logs(server: Behind) -> None:
    assert server._session
    for sent, kept in (("req_mine-1", True), ("mine", False), ('req_"x', False)):
        async with server._session.get(f"{server.url}/api/version", headers={"X-Request-ID": sent}) as response:
            request_id = response.headers["X-Request-ID"]
            assert response.headers.getall("X-Request-ID") == [request_id]
        assert (request_id == sent) is kept
        await until(lambda wanted=request_id: wanted in [line["request_id"] for line in requests_logged(server)])  # type: ignore[misc]
        await until(lambda wanted=request_id: server.proxy.log.read_text().rstrip().endswith(wanted))  # type: ignore[misc]


# -- limits and failures ----------------------------------------------------------------------------------------------
async def test_what_a_proxy_refuses_by_itself_has_docv2s_shape(server: Behind) -> None:
    lines = ["GET /api/v2/status/%zz", f"GET /{'a' * 40_000}", "GET /api/v2/status/%00", "GET /.docv2-error"]
    lines += ["TRACE /api/v2/health", "CONNECT docv2.example.org:443"]
    for line, header in itertools.product(lines, ["", "Expect: 200-maybe", "Transfer-Encoding: gzip"]):
        head, body = await raw(server, line, header)
        assert int(head.split()[1]) in range(400, 502)
        assert "content-type: application/json" in head.lower(), (line[:40], header, head)
        assert "(null)" not in head
        error = json.loads(body)
        assert error["error_type"] in ("validation_error", "system_error")
        assert shaped(error) or (server.proxy.kind == "apache" and error["timestamp"] == 0), "Apache could not read it"


async def test_an_encoded_slash_is_docv2s_to_refuse(server: Behind) -> None:
    head, body = await raw(server, "GET /api/v2/status/a%2Fb")
    assert head.split()[1] in ("401", "404")
    assert shaped(json.loads(body))
    await until(lambda: requests_logged(server))


async def raw(server: Behind, line: str, header: str = "") -> tuple[str, bytes]:
    """Head and body of the answer to a request that no library would send."""
    tls = ssl.create_default_context(cafile=server.proxy.folder / "certificates/fullchain.pem")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.proxy.port, ssl=tls)
    lines = [f"{line} HTTP/1.1", "Host: docv2.example.org", "Connection: close", *filter(None, [header])]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.decode(), body


@pytest.mark.parametrize("kind", ["apache"])
async def test_apache_ends_an_upload_that_would_never_end(
    tmp_path: Path, kind: Kind, endpoint: ScriptedEndpoint
) -> None:
    hour = {"body=60-3600,": "body=1-3,"}
    async with behind(kind, tmp_path, endpoint, changes=hour) as server, Upload(server, 100 * MEBIBYTE) as upload:
        began, ended = time.monotonic(), asyncio.create_task(upload.reader.read())
        with contextlib.suppress(ConnectionError):
            while not ended.done() and time.monotonic() - began < DEADLINE:
                await upload.send(b"word " * 2000)
                await asyncio.sleep(0.1)
        assert 2 < time.monotonic() - began < 10, "though it came faster than the least rate"
        await asyncio.wait([ended])


async def test_a_docv2_that_is_down_is_told_in_its_own_words(server: Behind) -> None:
    await server.kill()
    assert server._session
    async with server._session.get(f"{server.url}/api/v2/health", headers={"X-Request-ID": "req_down"}) as response:
        body = await response.json()
    assert response.status in (502, 503)
    assert shaped(body)
    assert (body["error_type"], body["request_id"]) == ("system_error", "req_down")
    assert response.headers["X-Request-ID"] == "req_down"
    assert int(response.headers["Retry-After"]) > 0
    for name in ("X-Content-Type-Options", "Content-Security-Policy", "Strict-Transport-Security", "Cache-Control"):
        assert len(response.headers.getall(name)) == 1
    await server.start()
    assert (await server.request("GET", "/api/v2/health"))[0] == 200, "and it is found again at once"


@pytest.mark.parametrize("kind", ["nginx"])
async def test_an_upload_refused_halfway_tells_that_its_connection_ends(server: Behind) -> None:
    """Else its client sends the next one over a connection that is being closed."""
    await server.kill()
    async with Upload(server, 10_000) as upload:
        status, _ = await upload.answer()
        assert status == 502
        assert "connection: close" in upload.answered


async def test_a_docv2_that_hangs_is_told_in_its_own_words(
    tmp_path: Path, kind: Kind, endpoint: ScriptedEndpoint
) -> None:
    shipped = {"nginx": "proxy_read_timeout 75s", "apache": "timeout=75 ttl"}[kind]
    async with behind(kind, tmp_path, endpoint, changes={shipped: shipped.replace("75", "1")}) as server:
        server.signal(signal.SIGSTOP)
        status, body = await server.request("GET", "/api/version")
        server.signal(signal.SIGCONT)
    assert status == {"nginx": 504, "apache": 502}[kind]
    assert shaped(body)
    assert body["error_type"] == "system_error"


@pytest.mark.parametrize("kind", ["nginx"])
async def test_nginx_refuses_what_docv2_can_never_take_before_it_arrives(server: Behind) -> None:
    async with Upload(server, 101 * MEBIBYTE) as upload:
        status, body = await upload.answer()
    assert status == 413
    assert shaped(body)
    assert (body["detail"], body["error_type"]) == ("File too large. Maximum size: 100.0MB", "validation_error")
    assert not requests_logged(server), "docv2 never heard of it"


@pytest.mark.parametrize("kind", ["nginx"])
async def test_nginx_limits_submissions_by_key_and_polls_hardly(server: Behind) -> None:
    async def submit(key: str) -> tuple[int, Any]:
        return await server.request("POST", "/api/v2/process", key=key, data=b"no form")

    def counted(answers: list[tuple[int, Any]]) -> dict[int, int]:
        return {status: sum(1 for found, _ in answers if found == status) for status in {found for found, _ in answers}}

    answers = await asyncio.gather(*(submit(server.key) for _ in range(70)))
    refused = [body for status, body in answers if status == 429]
    assert set(counted(answers)) == {400, 429}
    assert 15 <= len(refused) <= 19, "a burst of 50, and those that the rate of 50 a minute allowed meanwhile"
    assert shaped(refused[0])
    assert refused[0]["error_type"] == "rate_limit_error"
    assert counted(await asyncio.gather(*(submit("sk-of-somebody-else") for _ in range(40)))) == {401: 40}
    polls = await asyncio.gather(*(server.request("GET", "/api/v2/health") for _ in range(300)))
    assert counted(polls) == {200: 300}, "a poll every 2 s of 600 clients behind one address"
    nobody = await asyncio.gather(*(submit(" ") for _ in range(70)))
    assert counted(nobody)[429] >= 15, "without a key the address counts"


# -- life -------------------------------------------------------------------------------------------------------------
async def test_a_restart_under_load_loses_nothing(tmp_path: Path, kind: Kind, endpoint: ScriptedEndpoint) -> None:
    endpoint.otherwise = answer(lambda call: f"answer to {call.text.count('word')} words")
    unlimited = {"rate=50r/m": "rate=1000r/s"} if kind == "nginx" else {}
    async with behind(kind, tmp_path, endpoint, changes=unlimited) as server:
        await restart_under_load(server)


async def restart_under_load(server: Behind) -> None:
    accepted: list[str] = []
    refusals: list[int] = []
    enough = asyncio.Event()

    async def keep_submitting(number: int) -> None:
        while not enough.is_set():
            form = aiohttp.FormData({"prompt": "How many words?"})
            form.add_field("file", b"word " * 2000, filename=f"{number}.txt")
            try:
                status, body = await server.request("POST", "/api/v2/process", data=form)
            except aiohttp.ClientConnectionError:
                # Where docv2 goes away without a word, Apache does the same, so that the client asks again.
                assert server.proxy.kind == "apache"
                refusals.append(502)
                continue
            if status == 200:
                accepted.append(body["task_id"])
                await server.status(body["task_id"], wait=0.05)
            else:
                assert shaped(body)
                refusals.append(status)
                await asyncio.sleep(0.02)

    async def status_where_it_answers(task_id: str, wait: float | None = None) -> dict[str, Any]:
        status, body = await server.request("GET", f"/api/v2/status/{task_id}", params={"wait": str(wait or 0)})
        return dict(body) if status == 200 else {"status": "unknown"}

    server.status = status_where_it_answers  # type: ignore[method-assign]
    submitting = [asyncio.create_task(keep_submitting(number)) for number in range(4)]
    for restart in range(1, 4):
        await until(lambda wanted=restart * 8: len(accepted) >= wanted)  # type: ignore[misc]
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
        await until(lambda wanted=restart: len(refusals) >= wanted)  # type: ignore[misc]
        await server.start()
    enough.set()
    await asyncio.gather(*submitting)
    assert set(refusals) <= {502, 503}
    for task_id in accepted:
        body = await server.finished(task_id)
        assert body["status"] == "completed", body


@pytest.mark.timeout(180)
async def test_a_slow_upload_and_a_long_poll_outlast_every_time_out(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    """Both proxies at once, since all that this does is wait."""
    endpoint.otherwise = hang()
    pieces, pause = 40, 2.0  # 80 s, above each proxy's 60 and 75 s; 5 KB/s, little above the least that docv2 takes

    async def upload(server: Behind) -> None:
        async with Upload(server, pieces * 10_000) as upload:
            for _ in range(pieces):
                await upload.send(b"word " * 2000)
                await asyncio.sleep(pause)
            status, body = await upload.end()
        assert status == 200, body

    async def poll(server: Behind) -> None:
        waiting = await server.submit(b"word")
        await server.until(waiting, ("processing",))
        await endpoint.until(lambda: bool(endpoint.calls))
        took = 0.0
        for _ in range(5):  # a poll ends early while the task's first steps are reported
            if took < 59:
                began = time.monotonic()
                assert (await server.status(waiting, wait=60))["status"] == "processing"
                took = time.monotonic() - began
        assert 59 < took < 70

    async def both(kind: Kind) -> None:
        folder = tmp_path / kind
        folder.mkdir()
        async with behind(kind, folder, endpoint) as server:
            await asyncio.gather(upload(server), poll(server))

    async with asyncio.TaskGroup() as group:
        for kind in KINDS:
            group.create_task(both(kind))


# -- beside Open WebUI ------------------------------------------------------------------------------------------------
async def test_open_webui_has_the_rest_of_the_host(tmp_path: Path, kind: Kind, endpoint: ScriptedEndpoint) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade") == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str(await socket.receive_str())
            await socket.close()
            return socket
        return web.json_response({"path": request.path, "host": request.host, "sent": len(await request.read())})

    application = web.Application(client_max_size=200 * MEBIBYTE)
    application.router.add_route("*", "/{path:.*}", page)
    async with (
        beside(application) as changes,
        behind(kind, tmp_path, endpoint, site="docv2-beside-open-webui.conf", changes=changes) as server,
    ):
        assert server._session
        for path in ("/", "/admin", "/metrics", "/api/v1/models", "/ws/socket.io"):
            assert (await server.request("GET", path))[1]["path"] == path
        sent = io.BytesIO(bytes(2 * MEBIBYTE))
        assert (await server.request("POST", "/api/v1/files/", data=sent))[1]["sent"] == 2 * MEBIBYTE
        async with server._session.ws_connect(f"{server.url}/ws/") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
        assert (await server.request("GET", "/api/v2/health"))[1]["services"]["api_v2"] is True
        assert (await server.finished(await server.submit(b"word")))["status"] == "completed"
        await server.kill()
        status, body = await server.request("GET", "/api/v2/health")
        assert status in (502, 503)
        assert shaped(body)
        assert (await server.request("GET", "/"))[0] == 200
