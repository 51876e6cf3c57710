"""A model endpoint that answers at once: reads a request's body away and streams a short answer. A process of its own.

python -m benchmarks.endpoint      prints its base URL
"""

from __future__ import annotations

import asyncio
import json
import re

MODEL = "bench-vision"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _answer(content_type: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _event(choices: list[object], **more: object) -> bytes:
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices, **more}).encode() + b"\n\n"


MODELS = _answer("application/json", json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode())
CHAT = _answer(
    "text/event-stream",
    _event([{"index": 0, "delta": {"content": "The total is 42. "}}])
    + _event([{"index": 0, "delta": {"content": "It stands on page 1."}}])
    + _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    + _event([], usage={"prompt_tokens": 100_000, "completion_tokens": 12})
    + b"data: [DONE]\n\n",
)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._head = b""
        self._left = 0
        """Bytes of the body that have yet to come."""

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head)
            self._left, data = int(length[1]) if length else 0, body
        self._left -= len(data)
        if self._left <= 0:
            self._transport.write(MODELS if self._head.startswith(b"GET") else CHAT)
            self._head, self._left = b"", 0


async def main() -> None:
    """Answer until it is ended."""
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
