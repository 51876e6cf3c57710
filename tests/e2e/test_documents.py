"""Documents of every type through a real server: what the model is given is what a person would read."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from PIL import Image, ImageStat

from tests import documents
from tests.e2e.server import Server
from tests.endpoint import Call, ScriptedEndpoint, answer
from tests.waiting import until

SCAN = documents.noisy_picture((1240, 1754), spread=20)
TEXT = "Grüße aus Köln: die Miete beträgt 700 € im Monat."


@asynccontextmanager
async def one_server(folder: Path) -> AsyncIterator[tuple[Server, ScriptedEndpoint]]:
    async with ScriptedEndpoint() as endpoint:
        endpoint.otherwise = answer("read")
        async with Server(folder / "data", OPENAI_API_BASE_URLS=endpoint.base_url) as server:
            yield server, endpoint


async def ask(tmp_path: Path, content: bytes, filename: str) -> tuple[dict[str, Any], list[Call]]:
    """The ended task and the calls it took."""
    async with one_server(tmp_path) as (server, endpoint):
        return await server.finished(await server.submit(content, filename)), list(endpoint.calls)


async def ask_all(tmp_path: Path, files: dict[str, tuple[bytes, str]]) -> dict[str, tuple[dict[str, Any], Call | None]]:
    """Several documents at one server; each with the call that held its picture or text."""
    async with one_server(tmp_path) as (server, endpoint):
        tasks = {name: await server.submit(content, file) for name, (content, file) in files.items()}
        bodies = {name: await server.finished(task_id) for name, task_id in tasks.items()}
        calls = {call.headers["X-Client-Request-Id"]: call for call in endpoint.calls}
        return {name: (bodies[name], calls.get(task_id)) for name, task_id in tasks.items()}


def pictures(call: Call) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in call.pictures]


async def test_what_has_text_is_sent_as_text(tmp_path: Path) -> None:
    found = await ask_all(
        tmp_path,
        {
            "pdf": (documents.text_pdf(["First page.", "Second page."]), "a.pdf"),
            "turned": (documents.text_pdf(["Read me from the side."], rotate=90), "a.pdf"),
            "open": (documents.encrypted_pdf("", ["Anyone may read this page."]), "a.pdf"),
            "japanese": (documents.cjk_pdf(), "a.pdf"),
            "word": (
                documents.docx(["# Lease", "The rent.", [["Month", "Rent"], ["May", "700"]], "- a list"]),
                "a.docx",
            ),
            "utf-8": (TEXT.encode(), "a.txt"),
            "utf-16": (TEXT.encode("utf-16"), "a.txt"),
            "utf-32": (TEXT.encode("utf-32"), "a.md"),
            "windows": (TEXT.encode("cp1252") * 5, "a.txt"),
        },
    )
    expected = {
        "pdf": ["First page.", "Second page."],
        "turned": ["Read me from the side."],
        "open": ["Anyone may read this page."],
        "japanese": ["契約書", "八万円"],
        "word": ["# Lease", "The rent.", "700", "a list"],
        "utf-8": [TEXT],
        "utf-16": [TEXT],
        "utf-32": [TEXT],
        "windows": [TEXT],
    }
    for name, (body, call) in found.items():
        assert body["status"] == "completed", (name, body)
        assert call is not None
        assert not call.pictures, name
        for words in expected[name]:
            assert words in call.text, (name, call.text)
    pages = found["pdf"][1]
    assert pages is not None
    assert pages.text.index("First page.") < pages.text.index("Second page.")
    word = found["word"][1]
    assert word is not None
    assert word.text.index("The rent.") < word.text.index("700") < word.text.index("a list"), "in the document's order"


async def test_what_has_none_is_sent_as_pictures(tmp_path: Path) -> None:
    top_black = Image.new("RGB", (800, 1100), "white")
    top_black.paste("black", (0, 0, 800, 300))
    frames = [Image.new("L", (300, 200), shade) for shade in (0, 120, 250)]
    found = await ask_all(
        tmp_path,
        {
            "scan": (documents.scanned_pdf([top_black, top_black]), "a.pdf"),
            "turned scan": (documents.scanned_pdf([top_black.rotate(90, expand=True)], rotate=90), "a.pdf"),
            "png": (documents.encoded(top_black), "a.png"),
            "turned photo": (documents.turned_jpeg(top_black, 6), "a.jpg"),
            "photo": (documents.encoded(top_black, "JPEG"), "a.jpeg"),
            "gif": (documents.animated_gif(frames), "a.gif"),
            "unreadable font": (documents.undecodable_pdf(), "a.pdf"),
        },
    )
    counts = {"scan": 2, "gif": 3}
    for name, (body, call) in found.items():
        assert body["status"] == "completed", (name, body)
        assert call is not None
        shown = pictures(call)
        assert len(shown) == counts.get(name, 1), name
        for picture in shown:
            assert picture.format == "JPEG"
            assert picture.width * picture.height <= 4_000_000
        if name in ("scan", "png", "turned photo", "photo"):
            for picture in shown:
                grey = picture.convert("L")
                top = ImageStat.Stat(grey.crop((0, 0, grey.width, grey.height // 5))).mean[0]
                bottom = ImageStat.Stat(grey.crop((0, grey.height // 2, grey.width, grey.height))).mean[0]
                assert top < 50 < 200 < bottom, f"{name} stands upright"


async def test_mixed_pages_go_each_in_its_way(tmp_path: Path) -> None:
    scan = documents.page_picture("A scanned page")
    body, [call] = await ask(tmp_path, documents.mixed_pdf(["Typed text.", scan, "More typed text."]), "mixed.pdf")
    assert body["status"] == "completed"
    assert len(call.pictures) == 1
    assert "Typed text." in call.text
    assert "More typed text." in call.text
    assert body["pages_total"] == 3


async def test_a_page_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    body, [call] = await ask(tmp_path, documents.damaged_pages_pdf(["First.", None, "Third."]), "damaged.pdf")
    assert body["status"] == "completed"
    assert any(warning.startswith("Page 2 ") for warning in body["result"]["warnings"])
    assert "First." in call.text
    assert "Third." in call.text


async def test_three_hundred_pages(tmp_path: Path) -> None:
    pages = [f"Page {number}.\n" + "It says little, and says it at some length.\n" * 30 for number in range(1, 301)]
    body, calls = await ask(tmp_path, documents.text_pdf(pages), "long.pdf")
    assert body["status"] == "completed", body
    assert (body["pages_done"], body["pages_total"]) == (300, 300)
    asked = "\n".join(call.text for call in calls)
    assert all(f"Page {number}.\n" in asked for number in range(1, 301)), "no page is lost between the parts"
    assert len(calls) > 2, "it does not fit into one call of a model with a small context"


@pytest.mark.parametrize(
    ("make", "filename", "said"),
    [
        (lambda: documents.encrypted_pdf("secret"), "locked.pdf", "password"),
        (lambda: documents.blank_pdf(2), "blank.pdf", "The document is empty"),
        (lambda: documents.entities_docx(), "laughs.docx", ""),
        (lambda: documents.huge_png(), "huge.png", ""),
    ],
    ids=["encrypted", "blank", "entities", "pixel bomb"],
)
async def test_what_cannot_be_read_fails_with_a_clear_error(
    tmp_path: Path, make: Callable[[], bytes], filename: str, said: str
) -> None:
    content = await asyncio.to_thread(make)
    async with one_server(tmp_path) as (server, endpoint):
        form_status, accepted = await _try_to_submit(server, content, filename)
        if form_status == 200:
            body = await server.finished(accepted["task_id"])
            assert (body["status"], body["error_type"]) == ("failed", "processing_error"), body
            assert said in body["error"]
            assert "/" not in body["error"]
        else:
            assert form_status == 415
            assert accepted["error_type"] == "validation_error"
        assert not endpoint.calls, "nothing was made up about a document that nobody read"
        assert (await server.request("GET", "/api/version"))[0] == 200


async def _try_to_submit(server: Server, content: bytes, filename: str) -> tuple[int, dict[str, Any]]:
    form = aiohttp.FormData({"prompt": "What is it?"})
    form.add_field("file", io.BytesIO(content), filename=filename)
    return await server.request("POST", "/api/v2/process", data=form)


# -- the child that reads ---------------------------------------------------------------------------------------------
def reading_children(server: Server) -> list[psutil.Process]:
    assert server.process is not None
    return [child for helper in psutil.Process(server.process.pid).children() for child in helper.children()]


async def test_a_killed_parser_is_tried_once_more_then_fails_its_task_alone(tmp_path: Path) -> None:
    scan = documents.scanned_pdf([SCAN] * 12)
    async with one_server(tmp_path) as (server, _):
        task_id = await server.submit(scan, "scan.pdf")
        killed: list[int] = []
        while len(killed) < 2:
            await until(lambda: [child for child in reading_children(server) if child.pid not in killed])
            [child] = [child for child in reading_children(server) if child.pid not in killed]
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)
        body = await server.finished(task_id)
        assert (body["status"], body["error_type"]) == ("failed", "system_error")
        assert (await server.finished(await server.submit(b"healthy")))["status"] == "completed"


async def test_a_parser_that_was_killed_once_goes_on_where_it_was(tmp_path: Path) -> None:
    scan = documents.scanned_pdf([SCAN] * 12)
    async with one_server(tmp_path) as (server, endpoint):
        task_id = await server.submit(scan, "scan.pdf")
        await until(lambda: server.query("SELECT count(*) FROM pages")[0][0] >= 3)
        for child in reading_children(server):
            os.kill(child.pid, signal.SIGKILL)
        body = await server.finished(task_id)
        assert body["status"] == "completed", body
        assert sum(len(call.pictures) for call in endpoint.calls) == 12


async def test_a_cancelled_reading_is_killed_within_a_second(tmp_path: Path) -> None:
    scan = documents.scanned_pdf([SCAN] * 30)
    async with one_server(tmp_path) as (server, _):
        task_id = await server.submit(scan, "scan.pdf")
        await until(lambda: reading_children(server))
        await server.cancel(task_id)
        await until(lambda: not reading_children(server), seconds=1)
        assert (await server.status(task_id))["error_type"] == "cancelled"
