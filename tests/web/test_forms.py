"""The reading of forms, under every cut and every nonsense that hypothesis thinks of."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import StreamReader
from aiohttp.test_utils import make_mocked_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docv2.errors import BadRequest, InvalidValue
from docv2.web.uploads import Upload

PROMPT = "What is the total?"
Form = tuple[bytes, str, dict[str, str]]
Reader = Callable[..., Form]

within_a_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Collector:
    """A file on its way in that only collects."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes | memoryview) -> None:
        self.data += data


class Connection:
    """What a stream asks of its connection."""

    connected = True
    _reading_paused = False

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


@pytest.fixture
def read() -> Iterator[Reader]:
    """Read a form that arrives in pieces, cut at the given offsets."""

    async def reading(body: bytes, cuts: Sequence[int], boundary: str) -> Form:
        content = StreamReader(Connection(), 2**18, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        upload = Upload(make_mocked_request("POST", "/", headers, payload=content), {"prompt": 100})
        file: Any = Collector()
        found = asyncio.create_task(upload.read_into(file))
        edges = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
        for start, end in itertools.pairwise(edges):
            if start < end:
                content.feed_data(body[start:end])
                await asyncio.sleep(0)
        content.feed_eof()
        name, fields = await found
        return bytes(file.data), name, fields

    with asyncio.Runner() as runner:
        yield lambda body, cuts=(), boundary="b": runner.run(reading(body, cuts, boundary))


def form(content: bytes, boundary: bytes = b"b") -> bytes:
    return b"\r\n".join(
        (
            b"--" + boundary,
            b'Content-Disposition: form-data; name="prompt"',
            b"",
            PROMPT.encode(),
            b"--" + boundary,
            b'Content-Disposition: form-data; name="file"; filename="note.txt"',
            b"",
            content,
            b"--" + boundary + b"--",
            b"",
        )
    )


ALMOST_BOUNDARIES = st.lists(
    st.binary(max_size=20) | st.sampled_from([b"\r\n--b", b"\r", b"\n", b"--b--", b"\r\n--", b"\r\n--bb\r\n"]),
    max_size=12,
).map(b"".join)


@within_a_test
@given(content=ALMOST_BOUNDARIES, cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_the_file_is_the_same_however_the_body_is_cut(read: Reader, content: bytes, cuts: list[int]) -> None:
    boundary = b"b"
    while b"\r\n--" + boundary in b"\r\n" + content:
        boundary += b"7"
    assert read(form(content, boundary), cuts, boundary.decode()) == (content, "note.txt", {"prompt": PROMPT})


@within_a_test
@given(
    keep=st.integers(0, len(form(b"text"))),
    junk=st.binary(max_size=400),
    cuts=st.lists(st.integers(0, 500), max_size=5),
)
def test_no_body_makes_an_error_of_ours(read: Reader, keep: int, junk: bytes, cuts: list[int]) -> None:
    refused_at_most(read, form(b"text")[:keep] + junk, cuts)


@within_a_test
@given(st.text(max_size=300))
def test_no_header_of_a_part_makes_an_error_of_ours(read: Reader, header: str) -> None:
    sent = b"--b\r\nContent-Disposition: form-data; " + header.encode("utf-8", "replace")
    refused_at_most(read, sent + b"\r\n\r\nx\r\n--b--\r\n", ())


def refused_at_most(read: Reader, body: bytes, cuts: Sequence[int]) -> None:
    with suppress(BadRequest, InvalidValue):
        read(body, cuts)
