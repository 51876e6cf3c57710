"""Clients that take their time: heads, bodies and readers that stall or drip, and too many at once.

Each limit is shortened; that nothing but the limit ends the connection is what the other tests show.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from docv2.store.sqlite import SQLiteStore
from docv2.web import inputs, server, uploads
from tests.waiting import until
from tests.web.site import Site, open_site

GET = b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def dripping(writer: asyncio.StreamWriter, byte: bytes) -> AsyncIterator[None]:
    """Send a byte every few milliseconds meanwhile."""

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(byte)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(drip())
    yield
    task.cancel()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes."""
    async with asyncio.timeout(10):
        try:
            return await reader.read(-1)
        except ConnectionResetError:
            return b""


# -- heads ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("begin", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-"])
async def test_a_head_that_stalls_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    async with site.connection() as (reader, writer):
        writer.write(begin)
        assert await ended(reader) == b""


async def test_a_head_that_drips_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    async with site.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        async with dripping(writer, b"x"):
            assert await ended(reader) == b""


async def test_a_later_head_on_the_same_connection_is_not_waited_for_either(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.connection() as (reader, writer):
        for _ in range(3):
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
        writer.write(GET[:10])
        assert await ended(reader) == b""


async def test_a_connection_that_was_of_use_may_idle(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the time that a head has; pools of connections live from that."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    async with site.connection() as (reader, writer):
        writer.write(GET)
        first = await reader.readuntil(b"}")
        async with site.connection() as (other, _):
            assert await ended(other) == b""  # as long as that takes
        writer.write(GET)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert first.startswith(b"HTTP/1.1 200")


async def test_a_long_poll_outlives_the_time_for_heads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    task_id = await site.accepted()
    waiting = asyncio.create_task(site.status(task_id, wait=10))
    async with site.connection() as (reader, _):
        await ended(reader)
    await site.claim()
    assert (await waiting)["status"] == "processing"


# -- bodies -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "head",
    [
        b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
        b"POST /api/v2/process HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /api/version HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
    ],
)
@pytest.mark.parametrize("drips", [False, True])
async def test_a_body_that_nobody_reads_holds_no_connection(
    tmp_path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, head: bytes, drips: bool
) -> None:
    monkeypatch.setitem(server.LIMITS, "lingering_time", 0.1)
    async with open_site(tmp_path, store) as site, site.connection() as (reader, writer):
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        if drips:
            async with dripping(writer, b"1\r\nx\r\n" if b"chunked" in head else b"x"):
                await ended(reader)
        else:
            await ended(reader)
    assert answer.split()[1] in (b"404", b"401", b"200")


@pytest.mark.parametrize("drips", [False, True])
async def test_json_that_stalls_or_drips_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch, drips: bool) -> None:
    monkeypatch.setattr(inputs, "JSON_SECONDS", 0.2)
    async with site.connection() as (reader, writer):
        writer.write(
            b"POST /api/v1/auths/signin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10000\r\nConnection: close\r\n\r\n{"
        )
        if drips:
            async with dripping(writer, b" "):
                head = await reader.readuntil(b"\r\n\r\n")
        else:
            head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")


async def test_an_upload_that_never_ends_is_ended_however_fast_it_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "TOTAL_SECONDS", 0.3)
    monkeypatch.setattr(uploads, "LEAST_RATE", 1)
    async with site.connection() as (reader, writer):
        writer.write(
            site.head(Content_Length="1000000000")
            + b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        )
        async with dripping(writer, b"x" * 1000):
            head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    await until(lambda: site.stored() == [])


# -- readers ----------------------------------------------------------------------------------------------------------
async def test_an_answer_that_nobody_takes_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SEND_SECONDS", 0.2)
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", site.port))

        async def ask() -> None:
            while True:
                await loop.sock_sendall(raw, GET * 1000)

        with pytest.raises(ConnectionError):
            async with asyncio.timeout(30):
                await ask()
    assert (await site.call("GET", "/api/version"))[0] == 200


# -- too many ---------------------------------------------------------------------------------------------------------
async def test_more_connections_than_there_is_room_for_are_told_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    async with site.connection() as (first, first_writer), site.connection():
        first_writer.write(GET)
        assert (await first.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        async with site.connection() as (third, _):
            answer = await ended(third)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5" in head
        assert json.loads(body)["error_type"] == "system_error"
        first_writer.write(GET)
        assert (await first.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(10):
        while True:  # the places of those that left are free again
            async with site.connection() as (reader, writer):
                writer.write(GET)
                if (await reader.read(12)) == b"HTTP/1.1 200":
                    break
