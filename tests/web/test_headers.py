"""Headers of every kind, as bytes on the wire: what is odd is taken, what is ambiguous or too much is refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.web.site import PROMPT, TEXT, Site

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + PROMPT.encode() + b"\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="note.txt"\r\n\r\n' + TEXT + b"\r\n--b--\r\n"
)


async def answer(site: Site, request: bytes) -> tuple[int, dict[str, object]]:
    async with site.connection() as (reader, writer):
        writer.write(request)
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 100"):
                head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            return int(head.split()[1]), json.loads(await reader.readexactly(length))


def get(site: Site, *lines: str, target: str = "/api/v2/tasks") -> bytes:
    head = [f"GET {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {site.key}", *lines]
    return "\r\n".join(head).encode("utf-8") + b"\r\n\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "X-Empty:",
        "X-Spaces:    a   ",
        "X-Tabs:\ta\t",
        "X-Text: é世🗺",
        "Cookie: " + "a=b; " * 1500,
        "Accept: " + "text/html;q=0.1," * 300,
        "Accept-Encoding: gzip, br, zstd",
        "Range: bytes=0-1",
        "If-None-Match: *",
        "Connection: keep-alive, Upgrade\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: websocket",
        "X-Forwarded-For: " + "1.2.3.4, " * 500,
        "X-Request-ID: " + "x" * 5000,
        "Content-Type: application/json; charset=klingon",
        "Content-Length: 0",
        "TE: trailers",
        "\r\n".join(f"X-{number}: y" for number in range(100)),
    ],
    ids=range(18),
)
async def test_a_header_that_means_nothing_here_changes_nothing(site: Site, line: str) -> None:
    status, body = await answer(site, get(site, *([line] if line else [])))
    assert (status, body) == (200, {"tasks": []})


@pytest.mark.parametrize(
    "line",
    [
        "X-Folded: a\r\n b",
        "X Spaced: a",
        "X-Before : a",
        ": a",
        "X-Nul: \0",
        "X-Return: a\rb",
        "X-Long: " + "x" * 9000,
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Content-Length: 0x10",
        "Content-Length: " + "9" * 40,
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity, chunked\r\nContent-Length: 3",
        "Host: y",
        "\r\n".join(f"X-{number}: y" for number in range(200)),
    ],
    ids=range(16),
)
async def test_a_header_that_two_programs_could_read_in_two_ways_is_refused(site: Site, line: str) -> None:
    status, body = await answer(site, get(site, line))
    assert (status, body["error_type"]) == (400, "validation_error")


@pytest.mark.parametrize(
    "target",
    ["/api/v2/tasks?limit=%FF", "/api/v2/tasks?%", "/api/v2/tasks?" + "a=b&" * 1000, "/api/v2/tasks?limit=1;limit=2"],
)
async def test_a_query_of_any_kind_is_read_or_refused(site: Site, target: str) -> None:
    status, body = await answer(site, get(site, target=target))
    assert (status, body["error_type"]) == (400, "validation_error")


@pytest.mark.parametrize(
    "target", ["//api/v2/tasks", "/api/v2/../v2/tasks", "/api/v2/tasks/", "/%2e%2e/etc/passwd", "*"]
)
async def test_a_path_leads_where_it_says_or_nowhere(site: Site, target: str) -> None:
    status, body = await answer(site, get(site, target=target))
    assert status in (400, 404, 405)
    assert "detail" in body


async def test_a_body_may_be_waited_for(site: Site) -> None:
    async with site.connection() as (reader, writer):
        writer.write(site.head(Content_Length=str(len(FORM)), Expect="100-continue"))
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(FORM)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_chunks_of_any_size_and_trailers_are_read(site: Site) -> None:
    chunks = b"".join(
        b"%x;ext=1\r\n%b\r\n" % (len(FORM[at : at + 7]), FORM[at : at + 7]) for at in range(0, len(FORM), 7)
    )
    status, _ = await answer(site, site.head(Transfer_Encoding="chunked") + chunks + b"0\r\nX-Trailer: a\r\n\r\n")
    assert status == 200


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"5\r\nab\r\n", b"ffffffffffffffffff\r\n", b"1" * 10_000])
async def test_a_malformed_chunk_is_refused_and_leaves_nothing(site: Site, chunk: bytes) -> None:
    status, body = await answer(site, site.head(Transfer_Encoding="chunked") + chunk + b"\r\n\r\n0\r\n\r\n")
    assert (status, body["error_type"]) == (400, "validation_error")
    assert site.stored() == []
