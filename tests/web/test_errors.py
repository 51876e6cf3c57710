"""Whatever goes wrong anywhere, one shape leaves and nothing of the inside with it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from docv2 import errors
from docv2.errors import DocV2Error
from docv2.web import app as web_app
from docv2.web.route import Route
from tests.web.site import Site

ANSWERED = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DocV2Error)]
SHOWN = (errors.RequestError, errors.Unavailable)
"""Errors whose message is meant for clients; of the others only the fact is told."""

DOCUMENTED = {
    (int(status), error_type)
    for status, error_type in re.findall(
        r"^\| (\d{3}) \| `(\w+)` \|",
        (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}
"""The table of errors that callers read."""


def checked(status: int, body: Any, headers: Any) -> dict[str, Any]:
    """An error answer, after a look at its shape."""
    assert headers["Content-Type"].startswith("application/json")
    assert set(body) - {"task_id"} == {"detail", "error_type", "timestamp", "request_id"}
    assert body["error_type"] in {
        "validation_error",
        "auth_error",
        "rate_limit_error",
        "processing_error",
        "system_error",
    }
    assert (status, body["error_type"]) in DOCUMENTED
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert abs(time.time() - body["timestamp"]) < 60
    assert re.fullmatch(r"req_[A-Za-z0-9_-]+", body["request_id"])
    assert headers["X-Request-ID"] == body["request_id"]
    assert_headers(headers)
    if status in (429, 503):
        assert int(headers["Retry-After"]) >= 1
    if status == 401:
        assert headers["WWW-Authenticate"].startswith("Bearer")
    return dict(body)


def assert_headers(headers: Any) -> None:
    assert headers["Server"] == "docv2"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


class Planted:
    """A route that fails as it is told."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    async def __call__(self, request: web.Request) -> web.Response:
        assert self.error is not None
        raise self.error


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """There before the server is, which takes its routes from the table."""
    planted = Planted()

    async def fail(request: web.Request) -> web.Response:
        return await planted(request)

    monkeypatch.setattr(web_app, "ROUTES", (*web_app.ROUTES, Route("GET", "/planted/{task_id}", fail, public=True)))
    return planted


@pytest.mark.parametrize("kind", ANSWERED, ids=lambda kind: kind.__name__)
async def test_every_error_of_ours_is_answered(planted: Planted, site: Site, kind: type[DocV2Error]) -> None:
    planted.error = (
        kind("told as it is", endpoint_down=True) if kind is errors.UpstreamUnavailable else kind("told as it is")
    )
    status, body, headers = await site.call("GET", "/planted/x")
    body = checked(status, body, headers)
    if issubclass(kind, SHOWN):
        assert (status, body["error_type"], body["detail"]) == (kind.status, kind.error_type, "told as it is")
    else:
        assert (status, body["error_type"], body["detail"]) == (500, "system_error", "Internal server error")


async def test_retry_after_is_what_the_error_says(planted: Planted, site: Site) -> None:
    planted.error = errors.Unavailable("busy", retry_after=12.4)
    assert (await site.call("GET", "/planted/x"))[2]["Retry-After"] == "13", "not a moment too early"
    planted.error = errors.RateLimited("too many", retry_after=0.2)
    assert (await site.call("GET", "/planted/x"))[2]["Retry-After"] == "1"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("SELECT secret FROM /etc/passwd"),
        OSError(28, "No space left on device", "/secret/path"),
        TimeoutError("secret"),
        AssertionError("secret"),
        RecursionError("secret"),
        MemoryError("secret"),
        web.HTTPBadRequest(reason="x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_mistake_of_ours_shows_nothing_of_the_inside(
    planted: Planted, site: Site, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    planted.error = error
    status, body, headers = await site.call("GET", "/planted/x")
    assert "secret" not in json.dumps(body)
    checked(status, body, headers)
    if not isinstance(error, web.HTTPException):
        assert status == 500
        record = next(record for record in caplog.records if record.levelno == logging.ERROR)
        assert record.exc_info
        assert record.exc_info[1] is error


async def test_the_server_goes_on_after_a_mistake(planted: Planted, site: Site) -> None:
    planted.error = ValueError("once")
    await site.call("GET", "/planted/x")
    assert (await site.call("GET", "/api/version"))[0] == 200


async def test_an_error_names_the_task_that_it_is_about(site: Site) -> None:
    task_id = await site.accepted()
    await site.call("DELETE", f"/api/v2/tasks/{task_id}")
    status, body, headers = await site.call("DELETE", f"/api/v2/tasks/{task_id}")
    assert checked(status, body, headers)["task_id"] == task_id
    status, body, headers = await site.call("GET", "/api/v2/status/no-id-at-all")
    assert "task_id" not in checked(status, body, headers)


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/api/v2", "/api/v2/status", "/api/v2/status/", "/api/v2/status/a/b"]
)
async def test_an_unknown_address(site: Site, path: str) -> None:
    status, body, headers = await site.call("GET", path)
    assert (status, checked(status, body, headers)["error_type"]) == (404, "system_error")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v2/process", {"POST"}),
        ("POST", "/api/v2/status/x", {"GET", "HEAD"}),
        ("PATCH", "/api/v2/health", {"GET", "HEAD"}),
        ("OPTIONS", "/api/v2/process", {"POST"}),
    ],
)
async def test_a_wrong_method(site: Site, method: str, path: str, allowed: set[str]) -> None:
    status, body, headers = await site.call(method, path)
    assert (status, checked(status, body, headers)["error_type"]) == (405, "system_error")
    assert set(headers["Allow"].split(",")) == allowed


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nExpect: the-unexpected\r\n\r\n",
        b"GET /api/version HTTP/1.1\r\nHost: x\r\nExpect: the-unexpected\r\n\r\n",
    ],
    ids=range(13),
)
async def test_what_is_no_http_gets_the_same_shape(
    site: Site, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.connection() as (reader, writer):
        writer.write(request_bytes)
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            headers = {
                name.strip(): value.strip()
                for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:-2])
            }
            body = await reader.readexactly(int(headers["Content-Length"]))
    status = int(head.split()[1])
    assert 400 <= status < 500
    assert checked(status, json.loads(body), headers)["error_type"] in ("validation_error", "system_error")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- what every answer has --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/api/version", "/api/v2/health", "/api/v2/models"])
async def test_successes_carry_the_same_headers(site: Site, path: str) -> None:
    status, _, headers = await site.call("GET", path)
    assert status == 200
    assert_headers(headers)
    assert re.fullmatch(r"req_[0-9a-f]{16}", headers["X-Request-ID"])


@pytest.mark.parametrize("sent", ["req_1", "req_123456789", "req_" + "a" * 64, "req_A-b_9"])
async def test_a_well_formed_request_id_is_kept(site: Site, sent: str) -> None:
    for path in ("/api/version", "/nothing"):
        assert (await site.call("GET", path, headers={"X-Request-ID": sent}))[2]["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "1", "req_", "req_" + "a" * 65, "req_a b", "req_é", 'req_"', "REQ_1", "req_1\t"])
async def test_any_other_is_replaced(site: Site, sent: str) -> None:
    found = (await site.call("GET", "/api/version", headers={"X-Request-ID": sent}))[2]["X-Request-ID"]
    assert found.strip() != sent.strip() or sent == "req_1\t"
    assert re.fullmatch(r"req_([0-9a-f]{16}|1)", found)


async def test_each_request_has_an_id_of_its_own(site: Site) -> None:
    ids = {(await site.call("GET", "/api/version"))[2]["X-Request-ID"] for _ in range(20)}
    assert len(ids) == 20


async def test_head_answers_like_get_without_a_body(site: Site) -> None:
    status, _, headers = await site.call("HEAD", "/api/v2/health")
    assert status == 200
    assert int(headers["Content-Length"]) > 0


async def test_a_request_is_logged_with_its_route_and_whose_it_was(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="docv2.web.access")
    task_id = await site.accepted()
    await site.status(task_id)
    await site.call("GET", "/nothing", key=None)
    lines = [record for record in caplog.records if record.name == "docv2.web.access"]
    told = [(record.levelname, record.method, record.route, record.status) for record in lines]  # type: ignore[attr-defined]
    assert told == [
        ("INFO", "POST", "/api/v2/process", 200),
        ("DEBUG", "GET", "/api/v2/status/{task_id}", 200),
        ("INFO", "GET", "/nothing", 404),
    ]
    assert [getattr(record, "user_id", None) for record in lines] == [site.user.user_id, site.user.user_id, None]
