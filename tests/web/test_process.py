"""`POST /api/v2/process`: what is taken, what is refused and how, and what is on disk afterwards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from docv2.errors import Unavailable
from tests.web.site import PROMPT, TEXT, Site


async def test_an_accepted_document_is_on_disk_and_in_the_queue(site: Site) -> None:
    status, body = await site.submit(model="reads", temperature="0.25", max_tokens="123")
    assert status == 200
    task = await site.task(body["task_id"])
    assert body == {
        "task_id": task.task_id,
        "status": "processing",
        "message": "Processing of the document starts",
        "config_applied": {"model": "reads", "temperature": 0.25, "max_tokens": 123},
        "created_at": task.created_at,
        "estimated_time": 3,
    }
    assert site.stored() == [site.document(task.task_id)]
    assert site.document(task.task_id).read_bytes() == TEXT
    assert (task.size, task.sha256) == (len(TEXT), hashlib.sha256(TEXT).hexdigest())
    assert (task.filename, task.media_type, task.prompt) == ("note.txt", "text/plain", PROMPT)
    assert task.user_id == site.user.user_id


async def test_what_is_not_said_comes_from_the_configuration(site: Site) -> None:
    _, body = await site.submit(model="", temperature="", max_tokens=" ")
    assert body["config_applied"] == {"model": "sees", "temperature": 0.7, "max_tokens": 8000}


async def test_beyond_the_free_slots_a_task_is_queued_with_its_position(site: Site) -> None:
    answers = [(await site.submit())[1] for _ in range(4)]
    assert [body["status"] for body in answers] == ["processing", "processing", "queued", "queued"]
    assert [body.get("position") for body in answers] == [None, None, 3, 4]
    assert answers[3]["estimated_time"] > answers[0]["estimated_time"] > 0


async def test_while_memory_holds_the_pool_a_task_is_queued(site: Site) -> None:
    await site.use_memory(91)
    _, body = await site.submit()
    assert (body["status"], body["position"]) == ("queued", 1)


async def test_a_task_whose_endpoint_is_left_alone_is_queued(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.services.health, "holds_back", lambda model: model == "sees")
    _, body = await site.submit()
    assert (body["status"], body["position"]) == ("queued", 1)
    assert (await site.submit(model="reads"))[1]["status"] == "processing"


async def test_an_accepted_task_is_answered_even_where_its_position_cannot_be_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(place: int) -> int:
        raise Unavailable("The database is busy")

    monkeypatch.setattr(site.store, "position", busy)
    status, body = await site.submit()
    assert (status, body["status"]) == (200, "queued")
    assert (await site.task(body["task_id"])).filename == "note.txt"


KNOWN = "file, prompt, model, temperature, max_tokens, detail, response_format, dry_run"


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"prompt": None}, 400, "The field prompt is missing"),
        ({"prompt": ""}, 422, "prompt must be 5 to 4000 characters of text"),
        ({"prompt": "   four   "}, 422, "prompt must be 5 to 4000 characters of text"),
        ({"prompt": "x" * 4001}, 422, "prompt must be 5 to 4000 characters of text"),
        ({"prompt": "x" * 100_000}, 422, "The field prompt is too long"),
        ({"prompt": "zero \0 byte"}, 422, "prompt must be 5 to 4000 characters of text"),
        ({"temperature": "2.01"}, 422, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "-0.1"}, 422, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "hot"}, 400, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "nan"}, 400, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "Infinity"}, 400, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "1e400"}, 400, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "1_0"}, 400, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "١"}, 400, "temperature must be a number from 0.0 to 2.0"),
        ({"temperature": "1" * 200}, 422, "The field temperature is too long"),
        ({"max_tokens": "0"}, 422, "max_tokens must be a whole number from 1 to 1000000"),
        ({"max_tokens": "1000001"}, 422, "max_tokens must be a whole number from 1 to 1000000"),
        ({"max_tokens": "9" * 99}, 422, "max_tokens must be a whole number from 1 to 1000000"),
        ({"max_tokens": "12.5"}, 400, "max_tokens must be a whole number from 1 to 1000000"),
        ({"max_tokens": "0x10"}, 400, "max_tokens must be a whole number from 1 to 1000000"),
        ({"model": "nobody's"}, 422, "Unknown model; available: sees, reads"),
        ({"detail": "high"}, 422, "detail must be auto, text or image"),
        ({"dry_run": "perhaps"}, 400, "dry_run must be true or false"),
        ({"priority": "1"}, 400, f"Unknown field 'priority'; known are {KNOWN}"),
        ({"x" * 60: "1"}, 400, f"Unknown field '{'x' * 40}…'; known are {KNOWN}"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named(
    site: Site, fields: dict[str, Any], status: int, detail: str
) -> None:
    found, body = await site.submit(**fields)
    assert (found, body["error_type"], body["detail"]) == (status, "validation_error", detail)
    assert site.stored() == []
    assert (await site.store.depth()).waiting == 0


@pytest.mark.parametrize("prompt", ["12345", "x" * 4000, "🗺" * 4000, "  padded  "])
async def test_a_prompt_of_5_to_4000_characters_is_taken_and_stripped(site: Site, prompt: str) -> None:
    assert (await site.task(await site.accepted(prompt=prompt))).prompt == prompt.strip()


@pytest.mark.parametrize(
    ("temperature", "expected"), [("0", 0.0), ("2", 2.0), (".5", 0.5), ("1e-1", 0.1), ("+1.", 1.0)]
)
async def test_numbers_are_taken_as_people_and_programs_write_them(
    site: Site, temperature: str, expected: float
) -> None:
    assert (await site.task(await site.accepted(temperature=temperature))).temperature == expected


async def test_the_file_may_stand_anywhere_in_the_form(site: Site) -> None:
    for order in (("file", "prompt"), ("prompt", "file")):
        form = aiohttp.FormData()
        for name in order:
            if name == "file":
                form.add_field("file", TEXT, filename="note.txt")
            else:
                form.add_field("prompt", PROMPT)
        status, body, _ = await site.call("POST", "/api/v2/process", data=form)
        assert status == 200, body


async def test_a_file_of_the_limit_is_taken_and_one_byte_more_is_not(site: Site) -> None:
    limit = 3 * 1024 * 1024 + 5
    site.configure(max_file_size=limit)
    await site.accepted(content=b"x" * limit)
    status, body = await site.submit(content=b"x" * (limit + 1))
    assert (status, body["detail"]) == (413, "File too large. Maximum size: 3.0MB")
    assert body["error_type"] == "validation_error"
    assert len(site.stored()) == 1


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("tool.exe", b"MZ\x90\x00"),
        ("note", TEXT),
        ("note.pdf", TEXT),
        ("note.txt", b"%PDF-1.7\n"),
        ("note.txt", b"\x00\x01\x02"),
        ("note.txt", b""),
    ],
)
async def test_a_file_that_is_not_what_it_says_or_nothing_we_read_is_refused(
    site: Site, filename: str, content: bytes
) -> None:
    status, body = await site.submit(content=content, filename=filename)
    assert (status, body["error_type"]) == (415, "validation_error")
    assert site.stored() == []


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\ada\\note.txt", "note.txt"),
        ("Übersicht 世界 🗺.txt", "Übersicht 世界 🗺.txt"),
        ("U\u0308bersicht.txt", "Übersicht.txt"),
        ("a\u202etxt.exe.txt", "atxt.exe.txt"),
        ("x" * 4000 + ".txt", "x" * 251 + ".txt"),
        ('quo"ted; filename=other.pdf.txt', 'quo"ted; filename=other.pdf.txt'),
        ("a\\b.txt", "b.txt"),
    ],
)
async def test_a_file_name_is_for_display_only(site: Site, sent: str, shown: str) -> None:
    quoted = sent.replace("\\", "\\\\").replace('"', '\\"')
    body = (
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\ntext\r\n'
        f'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{PROMPT}\r\n--b--\r\n'
    )
    status, answer, _ = await site.call(
        "POST", "/api/v2/process", data=body.encode(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert status == 200, answer
    assert (await site.task(answer["task_id"])).filename == shown
    assert site.stored() == [site.document(answer["task_id"])]


@pytest.mark.parametrize(
    ("disposition", "shown"),
    [
        ("filename*=UTF-8''%C3%9Cbersicht.txt", "Übersicht.txt"),
        ("filename=\"plain.txt\"; filename*=utf-8'de'%E4%B8%96.txt", "世.txt"),
        ("filename*0=one; filename*1=two.txt", "onetwo.txt"),
        ("filename=\"a; filename*=utf-8''x.pdf; .txt\"", "a; filename*=utf-8''x.pdf; .txt"),
        ("filename*=klingon''%FFx.txt", "ÿx.txt"),
        ('filename="\u00e9.txt"', "é.txt"),
    ],
)
async def test_every_way_that_clients_encode_a_name_is_read(site: Site, disposition: str, shown: str) -> None:
    body = (
        f'--b\r\nContent-Disposition: form-data; name="file"; {disposition}\r\n\r\ntext\r\n'
        f'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{PROMPT}\r\n--b--\r\n'
    )
    status, answer, _ = await site.call(
        "POST", "/api/v2/process", data=body.encode(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert status == 200, answer
    assert (await site.task(answer["task_id"])).filename == shown


async def refused_as(site: Site, status: int, detail: str) -> Any:
    """Send a document that is refused whole; everything else goes on answering."""
    form = aiohttp.FormData({"prompt": PROMPT})
    form.add_field("file", TEXT, filename="note.txt")
    found, body, headers = await site.call("POST", "/api/v2/process", data=form)
    assert (found, body["detail"], body["error_type"]) == (status, detail, "system_error")
    assert site.stored() == []
    assert (await site.call("GET", "/api/v2/models"))[0] == 200
    assert (await site.call("GET", "/api/v2/status/x"))[0] == 404
    return headers


async def test_a_disabled_api_refuses_documents_only(site: Site) -> None:
    site.configure(enabled=False)
    assert "Retry-After" in await refused_as(site, 503, "API v2 is currently disabled")


async def test_a_draining_server_refuses_documents_only(site: Site) -> None:
    site.services.pool.draining = True
    assert "Retry-After" in await refused_as(site, 503, "The server is shutting down")


async def test_critical_memory_refuses_documents_only(site: Site) -> None:
    await site.use_memory(95)
    assert "Retry-After" in await refused_as(site, 503, "The server is short of memory")


async def test_a_full_disk_is_507(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("docv2.storage.local.os.fsync", full)
        await refused_as(site, 507, "Not enough disk space to keep the file")
    await site.accepted()


async def test_a_database_that_cannot_take_the_task_leaves_no_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object) -> None:
        raise Unavailable("The database is busy", retry_after=5)

    monkeypatch.setattr(site.store, "enqueue", busy)
    assert (await refused_as(site, 503, "The database is busy"))["Retry-After"] == "5"


async def test_nothing_of_the_form_is_in_a_log(site: Site, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level("DEBUG", logger="docv2")
    await site.accepted(prompt="my secret question", content=b"my secret document", filename="secret.txt")
    told = json.dumps([vars(record) for record in caplog.records], default=str)
    assert "task accepted" in told
    assert "secret" not in told
    assert site.key not in told
