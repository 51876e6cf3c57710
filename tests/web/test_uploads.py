"""Uploads as bytes on the wire: forms of every shape, cut anywhere, stalled, endless, abandoned."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from docv2.store.base import User
from docv2.tasks import NewTask, Task
from docv2.web import uploads
from docv2.web.uploads import OVERHEAD, SLICE
from tests.waiting import until
from tests.web.site import PROMPT, TEXT, Site

PROMPT_PART = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + PROMPT.encode() + b"\r\n"
FILE_HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="note.txt"\r\n\r\n'
FORM = PROMPT_PART + FILE_HEAD + TEXT + b"\r\n--b--\r\n"


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """Status and body of the answer that arrives."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1]), json.loads(body)


async def send(site: Site, body: bytes, content_type: str = "multipart/form-data; boundary=b", **headers: str) -> Any:
    """Send a whole body; status and detail of the answer."""
    async with site.connection() as (reader, writer):
        writer.write(site.head(content_type, Content_Length=str(len(body)), **headers) + body)
        status, answer = await answer_of(reader)
    if status != 200:
        assert site.stored() == []
        assert answer["error_type"] == "validation_error"
    return status, answer.get("detail")


async def nothing_left(site: Site) -> None:
    """Wait until the storage is empty: the server notices a client's end in its own time."""
    await until(lambda: site.stored() == [])
    assert (await site.store.depth()).waiting == 0


def part(header: str, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + header.encode() + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "detail"),
    [
        ("", FORM, "The request must be multipart/form-data with a boundary"),
        ("application/json", b"{}", "The request must be multipart/form-data with a boundary"),
        ("application/x-www-form-urlencoded", b"a=b", "The request must be multipart/form-data with a boundary"),
        ("multipart/form-data", FORM, "The request must be multipart/form-data with a boundary"),
        ('multipart/form-data; boundary=""', FORM, "The request must be multipart/form-data with a boundary"),
        ("multipart/mixed; boundary=b", FORM, "The request must be multipart/form-data with a boundary"),
        ("multipart/form-data; boundary=" + "b" * 300, FORM, "The boundary of the form is too long"),
        ("multipart/form-data; boundary=other", FORM, "The multipart form is malformed"),
    ],
)
async def test_a_body_that_is_no_form(site: Site, content_type: str, body: bytes, detail: str) -> None:
    assert await send(site, body, content_type) == (400, detail)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "The multipart form ends before its closing boundary"),
        (b"--b--\r\n", 400, "The field file is missing"),
        (PROMPT_PART + b"--b--\r\n", 400, "The field file is missing"),
        (FORM[:-7], 400, "The multipart form ends before its closing boundary"),
        (PROMPT_PART + FILE_HEAD + TEXT, 400, "The multipart form ends before its closing boundary"),
        (PROMPT_PART + PROMPT_PART + FORM, 400, "The field prompt is given twice"),
        (FILE_HEAD + TEXT + b"\r\n" + FORM, 400, "The field file is given twice"),
        (part("Content-Disposition: form-data; name=prompt", b"\xff\xfe\xfd\xfc\xfb") + FORM, 400, None),
        (part("X: y") + FORM, 400, None),
        (part("Content-Disposition: attachment; name=prompt") + FORM, 400, None),
        (part("Content-Disposition: form-data") + FORM, 400, None),
        (part("Content-Disposition: form-data; name=prompt; name=file") + FORM, 400, None),
        (part("Content-Disposition: form-data; name=file", TEXT) + PROMPT_PART + b"--b--", 400, None),
        (part('Content-Disposition: form-data; name=file; filename=""') + PROMPT_PART + b"--b--", 400, None),
        (
            part("Content-Disposition: form-data; name=prompt\r\nContent-Disposition: form-data; name=file") + FORM,
            400,
            None,
        ),
        (part("Content-Disposition: form-data; name=prompt\r\nContent-Transfer-Encoding: base64") + FORM, 400, None),
        (part("Content-Disposition: form-data; name=prompt\x01") + FORM, 400, None),
        (part("Content-Disposition: form-data; name=\x00") + FORM, 400, None),
        (part("Content-Disposition: form-data; name=prompt\nX: y") + FORM, 400, None),
        (part("Content-Disposition: form-data; name=prompt; filename*" + "9" * 4100 + "*=x") + FORM, 400, None),
        (part("X: " + "y" * 5000) + FORM, 400, "The multipart form is malformed"),
        (part("\r\n".join(f"X-{n}: y" for n in range(20))) + FORM, 400, "The multipart form is malformed"),
        (part(": y") + FORM, 400, "The multipart form is malformed"),
        (part("no colon") + FORM, 400, "The multipart form is malformed"),
    ],
)
async def test_a_form_that_is_not_in_order(site: Site, body: bytes, status: int, detail: str | None) -> None:
    found, told = await send(site, body)
    assert found == status
    assert told == detail or detail is None


@pytest.mark.parametrize(
    "body", [FORM, b"\r\n" + FORM, FORM + b"\r\nepilogue", FORM[:-2], FORM.replace(b"--b\r", b"--b  \r")]
)
async def test_what_the_standard_lets_pass_is_read(site: Site, body: bytes) -> None:
    if body.startswith(b"--b  "):
        body = body.replace(b"--b  ", b"--b", 1)  # the first boundary is taken without padding only
    assert await send(site, body) == (200, None)


async def test_a_compressed_body_is_refused_and_not_opened(site: Site) -> None:
    body = gzip.compress(FORM)
    assert await send(site, body, Content_Encoding="gzip") == (400, "The body must not be compressed")


async def test_a_chunked_body_is_read(site: Site) -> None:
    async with site.connection() as (reader, writer):
        writer.write(site.head(Transfer_Encoding="chunked"))
        for start in range(0, len(FORM), 7):
            piece = FORM[start : start + 7]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        assert (await answer_of(reader))[0] == 200


async def test_a_body_whose_chunks_are_malformed_is_refused(site: Site) -> None:
    async with site.connection() as (reader, writer):
        writer.write(site.head(Transfer_Encoding="chunked") + b"3\r\n--b\r\nnonsense\r\n")
        status, body = await answer_of(reader)
    assert (status, body["error_type"]) == (400, "validation_error")
    await nothing_left(site)


# -- limits while it arrives ------------------------------------------------------------------------------------------
async def test_too_large_a_file_is_refused_while_it_arrives(site: Site) -> None:
    site.configure(max_file_size=1024 * 1024)
    async with site.connection() as (reader, writer):
        writer.write(site.head(Content_Length=str(10**12)) + FILE_HEAD + bytes(1024 * 1024 + 1))
        status, body = await answer_of(reader)  # though most of it never came
    assert (status, body["detail"]) == (413, "File too large. Maximum size: 1.0MB")
    await nothing_left(site)


@pytest.mark.parametrize(
    "begin",
    [b"\r\n", b"--b\r\n\r\n", FORM],
    ids=["before the first part", "a part without a name", "after the last part"],
)
async def test_bytes_that_belong_to_no_part_are_bounded(site: Site, begin: bytes) -> None:
    async with site.connection() as (reader, writer):
        writer.write(site.head(Content_Length=str(10**12)) + begin + b"x" * (OVERHEAD + 2 * SLICE))
        status, body = await answer_of(reader)
    assert (status, body["error_type"]) == (400, "validation_error")
    await nothing_left(site)


async def test_a_field_without_end_is_bounded(site: Site) -> None:
    async with site.connection() as (reader, writer):
        writer.write(site.head(Content_Length=str(10**12)) + PROMPT_PART[:-2] + b"x" * 30_000)
        assert (await answer_of(reader))[0] == 422
    await nothing_left(site)


async def test_an_upload_that_stops_is_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STALL_SECONDS", 0.05)
    async with site.connection() as (reader, writer):
        writer.write(site.head(Content_Length="1000000") + FILE_HEAD + bytes(500_000))
        status, body = await answer_of(reader)
    assert (status, body["detail"]) == (400, "The upload stopped or came too slowly")
    await nothing_left(site)


async def test_an_upload_that_trickles_is_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STALL_SECONDS", 0.2)
    async with site.connection() as (reader, writer):
        writer.write(site.head(Content_Length="1000000") + FILE_HEAD)

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        status, body = await answer_of(reader)
        trickling.cancel()
    assert (status, body["detail"]) == (400, "The upload stopped or came too slowly")
    await nothing_left(site)


# -- clients that go away ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sent", [0, 10, len(PROMPT_PART), len(PROMPT_PART + FILE_HEAD), 700_000])
async def test_a_client_that_goes_away_leaves_nothing(site: Site, sent: int) -> None:
    body = PROMPT_PART + FILE_HEAD + bytes(1_000_000)
    async with site.connection() as (_, writer):
        writer.write(site.head(Content_Length=str(len(body) + 100)) + body[:sent])
        await writer.drain()
        if sent == 700_000:
            await until(site.stored)
    await nothing_left(site)


@pytest.mark.parametrize("guarded", [False, True])
async def test_a_client_that_goes_away_while_it_is_accepted_leaves_a_whole_task(
    site: Site, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """The row is committed and nobody knows yet: were the work cancelled here, the file would go and the task stay."""
    committed, cancelled = asyncio.Event(), asyncio.Event()
    enqueue, submit = site.store.enqueue, site.services.intake.submit

    async def commit_and_wait(new: NewTask, *more: Any) -> Task:
        task = await enqueue(new, *more)
        committed.set()
        await cancelled.wait()
        return task

    async def watched(user: User, upload: Any, **more: Any) -> Any:
        work = asyncio.ensure_future(submit(user, upload, **more))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.cancel()
            asyncio.get_running_loop().call_soon(cancelled.set)
            await asyncio.wait([work])
            raise

    monkeypatch.setattr(site.store, "enqueue", commit_and_wait)
    monkeypatch.setattr(site.services.intake, "submit", watched)
    if not guarded:
        monkeypatch.setattr("docv2.intake._to_the_end", lambda work: work)
    async with site.connection() as (_, writer):
        writer.write(site.head(Content_Length=str(len(FORM))) + FORM)
        await committed.wait()
    await asyncio.wait_for(cancelled.wait(), 10)
    task = await site.store.claim("pool")
    assert task is not None
    await until(lambda: site.stored() == ([site.document(task.task_id)] if guarded else []))
