"""The client: bursts of requests over raw connections, and single calls.

It does as little for a request as Python allows, as it shares the cores with the server that it measures.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Burst:
    """What came of many requests."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds, of each answer."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Seconds within which so many answers came."""
        return sorted(self.latencies)[int(len(self.latencies) * percent / 100)]


def burst(url: str, requests: Sequence[bytes], connections: int, enough: Callable[[int, float], bool]) -> Burst:
    """Send the requests round and round, one at a time on each connection.

    `enough` is told the number of answers and the seconds so far. Any answer but 200 raises AssertionError.
    """
    return asyncio.run(_burst(url, cycle(requests), connections, enough))


async def _burst(url: str, requests: Iterator[bytes], connections: int, enough: Callable[[int, float], bool]) -> Burst:
    result = Burst()
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    host, port = address.hostname, address.port
    assert host
    assert port

    async def client() -> None:
        transport, connection = await loop.create_connection(_Connection, host, port)
        while not enough(len(result.latencies), time.perf_counter() - began):
            sent = time.perf_counter()
            await connection.ask(next(requests))
            result.latencies.append(time.perf_counter() - sent)
        transport.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    result.seconds = time.perf_counter() - began
    return result


class _Connection(asyncio.Protocol):
    """One request at a time; the answer's body is not looked at."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""
        self._answered: asyncio.Future[None] | None = None

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        head = received.find(b"\r\n\r\n")
        length = _LENGTH.search(received, 0, head + 2) if head >= 0 else None
        if length and len(received) >= head + 4 + int(length[1]):
            self._received = b""
            assert self._answered is not None
            if received.startswith(b"HTTP/1.1 200"):
                self._answered.set_result(None)
            else:
                self._answered.set_exception(AssertionError(received[:500]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("the server closed the connection"))


def raw(method: str, path: str, key: str = "", body: bytes = b"", content_type: str = "") -> bytes:
    """A request as it goes over the wire."""
    headers = {"Host": "bench", "Authorization": f"Bearer {key}", "Content-Type": content_type}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value and value != "Bearer "]
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}{length}\r\n".encode() + body


def call(url: str, method: str, path: str, key: str = "", body: bytes | None = None, content_type: str = "") -> bytes:
    """One call over a connection of its own: the body of its answer, which must be 200."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        headers = {"Authorization": f"Bearer {key}", **({"Content-Type": content_type} if content_type else {})}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content[:500]
        return content
    finally:
        connection.close()


BOUNDARY = "benchmark-boundary-7d1f"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(filename: str, content: bytes, prompt: str = "What is the total?") -> bytes:
    """A multipart form of a question and a document."""
    return (
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{prompt}\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        + content
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
