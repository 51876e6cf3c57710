"""Reading an upload as it arrives: a multipart form with one file and a few short fields.

The bytes go through a push parser straight into the file; nothing else of the form is larger than a prompt. Every
length is bounded, and so is the time that all of it takes: headers, names, fields, how many parts there are, and what
stands before, between and after them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from email.message import Message
from email.utils import collapse_rfc2231_value

from aiohttp import StreamReader, web
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from docv2.errors import BadRequest, InvalidValue
from docv2.storage.base import Incoming
from docv2.web.state import FIELDS

FILE = "file"

OVERHEAD = 64 * 1024
"""Bytes of a form that are no part's contents: boundaries, part headers, what stands before the first part and after
the last. Real forms need some hundred."""

SLICE = 64 * 1024
"""Bytes parsed at a stretch. A body made of almost-boundaries was measured to cost the parser 12 ms for so many; others
get their turn in between."""

STALL_SECONDS = 30.0
"""Nothing arriving for so long ends the upload."""

LEAST_RATE = 4 * 1024
"""Bytes a second that an upload must reach on average from STALL_SECONDS on: a trickle holds no connection."""

TOTAL_SECONDS = 3600.0
"""In which any upload must be through."""


class Upload:
    """The form of one request, read once."""

    def __init__(self, request: web.Request, fields: Mapping[str, int]) -> None:
        """`fields`: what the form may hold beside the file, each with its most bytes."""
        self._request = request
        self._form = _Form(fields)

    async def read_into(self, file: Incoming) -> tuple[str, dict[str, str]]:
        """Hand the file's bytes on as they come; answer the name it was sent under and the other fields.

        BadRequest for a form that is none, InvalidValue for a field that is too long, and whatever `file` raises.
        """
        form, parser = self._form, self._parser()
        async for piece in _pieces(self._request.content):
            try:
                parser.write(piece)
            except FormParserError:
                raise BadRequest("The multipart form is malformed") from None
            form.received += len(piece)
            if form.received - form.contents > OVERHEAD:
                raise BadRequest("The multipart form has too much around its parts")
            for data in form.file_data:
                await file.write(data)
            form.file_data.clear()
        if not form.ended:
            raise BadRequest("The multipart form ends before its closing boundary")
        if form.filename is None:
            raise BadRequest(f"The field {FILE} is missing")
        self._request[FIELDS] = {name: len(value) for name, value in form.fields.items()}
        return form.filename, form.fields

    def _parser(self) -> MultipartParser:
        headers = self._request.headers
        kind, options = parse_options_header(headers.get("Content-Type"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest("The request must be multipart/form-data with a boundary")
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise BadRequest("The body must not be compressed")
        form = self._form
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": form.begin_part,
                    "on_header_field": form.header_name,
                    "on_header_value": form.header_value,
                    "on_header_end": form.end_header,
                    "on_headers_finished": form.end_headers,
                    "on_part_data": form.part_data,
                    "on_part_end": form.end_part,
                    "on_end": form.end,
                },
            )
        except FormParserError:
            raise BadRequest("The boundary of the form is too long") from None


async def _pieces(content: StreamReader) -> AsyncIterator[bytes]:
    """The body in pieces of at most SLICE bytes, with the loop free between them."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    total = 0
    while True:
        deadline = min(loop.time(), begin + total / LEAST_RATE, begin + TOTAL_SECONDS - STALL_SECONDS) + STALL_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await content.readany()
        except TimeoutError:
            raise BadRequest("The upload stopped or came too slowly") from None
        except web.RequestPayloadError:
            raise BadRequest("The body of the request is malformed or ends early") from None
        if not chunk:
            return
        total += len(chunk)
        for start in range(0, len(chunk), SLICE):
            if start:
                await asyncio.sleep(0)
            yield chunk[start : start + SLICE]


class _Form:
    """What the parser found so far. Its methods are the parser's callbacks and raise what ends the upload."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.received = 0
        self.contents = 0
        self.file_data: list[memoryview] = []
        self.filename: str | None = None
        self.fields: dict[str, str] = {}
        self.ended = False
        self._limits = limits
        self._name = ""
        self._text = bytearray()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[str, str] = {}

    def begin_part(self) -> None:
        self._headers = {}

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def end_header(self) -> None:
        name = self._header_name.decode("ascii").lower()
        if name in self._headers:
            raise BadRequest("A part of the form has a header twice")
        self._headers[name] = _text(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def end_headers(self) -> None:
        """The part is known now, before any byte of it was taken."""
        name, filename = _disposition(self._headers.get("content-disposition", ""))
        if name != FILE and name not in self._limits:
            known = ", ".join([FILE, *self._limits])
            raise BadRequest(f"Unknown field {_shown(name)}; known are {known}")
        if name in self.fields or (name == FILE and self.filename is not None):
            raise BadRequest(f"The field {name} is given twice")
        if self._headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "7bit", "8bit"):
            raise BadRequest(f"The field {name} must be sent as it is, without a transfer encoding")
        if name == FILE:
            if not filename:
                raise BadRequest(f"The field {FILE} must be sent as a file with a name")
            self.filename = filename
        self._name = name
        self._text.clear()

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.contents += end - start
        if self._name == FILE:
            self.file_data.append(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > self._limits[self._name]:
            raise InvalidValue(f"The field {self._name} is too long")

    def end_part(self) -> None:
        if self._name == FILE:
            return
        try:
            self.fields[self._name] = self._text.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"The field {self._name} must be UTF-8 text") from None

    def end(self) -> None:
        self.ended = True


def _disposition(header: str) -> tuple[str, str | None]:
    """Name and file name of a part. Where both are there `filename*` wins (RFC 6266, 4.3): it says its encoding."""
    message = Message()
    message["Content-Disposition"] = header
    try:
        kind, *parameters = message.get_params(header="Content-Disposition") or [("", "")]
    except ValueError:  # a section of `filename*N*` with a number too long to read
        raise BadRequest("A part of the form has an unreadable Content-Disposition") from None
    names = [value for name, value in parameters if name.lower() == "name"]
    if kind[0].lower() != "form-data" or len(names) != 1:
        raise BadRequest("Each part of the form must have a Content-Disposition of form-data with one name")
    # Extended values come as (charset, language, text), plain ones as text.
    filenames = sorted((value for name, value in parameters if name.lower() == "filename"), key=_is_plain)
    return collapse_rfc2231_value(names[0]), collapse_rfc2231_value(filenames[0]) if filenames else None


def _is_plain(value: object) -> bool:
    return isinstance(value, str)


def _text(value: bytearray) -> str:
    """A header's value as text: UTF-8 as browsers, curl and requests send it, else Latin-1, in which all is text."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    if not all(char >= " " or char == "\t" for char in text):
        raise BadRequest("A part of the form has a control character in its headers")
    return text


def _shown(name: str) -> str:
    """A name out of a request, fit for an answer."""
    return repr(name if len(name) <= 40 else name[:40] + "…")
