"""A document that is sent again is not read again; and kill -9 at any moment leaves no page that is not whole."""

from __future__ import annotations

import asyncio
import random
import re

import aiohttp
import pytest

from tests.documents import page_picture, scanned_pdf, text_pdf
from tests.e2e.server import Server
from tests.endpoint import Call, ScriptedEndpoint, answer
from tests.waiting import until

ROUNDS = 6
PAGES = 40


@pytest.fixture(autouse=True)
def enabled(server: Server) -> None:
    server.settings.update(ENABLE_PROCESSING_CACHE="true", OPEN_WEBUI_LOG_LEVEL="DEBUG")


def readings(server: Server) -> int:
    """How often reading a document was begun."""
    return len(re.findall(r"is read from page 1\b", server.log.read_text()))


async def metric(server: Server, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as response:
        found = re.search(rf'^{name}{{cache="processing"}} (\S+)$', await response.text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_a_second_question_finds_the_pages_of_the_first(server: Server, endpoint: ScriptedEndpoint) -> None:
    await server.start()
    typed = text_pdf([f"This is page {number} of the report." for number in range(1, 31)])
    scanned = scanned_pdf([page_picture(f"scan {number}") for number in range(3)])
    for content in (typed, scanned):
        await server.finished(await server.submit(content, "a.pdf", prompt="What is it?"))
    assert readings(server) == 2
    for content in (typed, scanned):
        task_id = await server.submit(content, "another name.pdf", prompt="And who wrote it?")
        body = await server.finished(task_id)
        assert (body["status"], body["result"]["cached"]) == ("completed", False)
        assert body["pages_done"] == body["pages_total"] == body["result"]["pages"]["total"]
    assert readings(server) == 2
    _, scan, second, scan_again = endpoint.calls
    assert "page 30 of the report" in second.text
    assert (scan_again.pictures, len(scan.pictures)) == (scan.pictures, 3)
    assert "And who wrote it?" in second.text
    assert (await metric(server, "docv2_cache_hits_total"), await metric(server, "docv2_cache_misses_total")) == (2, 2)
    kept = await metric(server, "docv2_cache_bytes")
    assert kept > 1000
    # What was not read says nothing of how long reading takes.
    assert server.query("SELECT weight FROM measurements WHERE kind = 'reading'") == [(1.9,)]

    await server.restart()
    assert await metric(server, "docv2_cache_bytes") == kept
    await server.finished(await server.submit(typed, "a.pdf", prompt="And what does it cost?"))
    await server.finished(await server.submit(typed, "a.pdf", prompt="And seen as pictures?", detail="image"))
    assert readings(server) == 3, "read otherwise, it is read anew"


async def test_however_often_it_is_killed_every_page_that_is_found_is_whole(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    def pages_of(call: Call) -> str:
        return " ".join(re.findall(r"document \d+ page \d+ ends", call.text))

    endpoint.otherwise = answer(pages_of)
    server.settings["API_V2_MAX_CONCURRENT"] = "4"
    await server.start()
    chance = random.Random(7)
    documents = {
        number: text_pdf([f"document {number} page {page} ends" for page in range(1, PAGES + 1)]) for number in range(4)
    }
    sent: dict[str, int] = {}
    for _ in range(ROUNDS):
        for number, content in documents.items():
            sent[await server.submit(content, "a.pdf", prompt=f"Question {len(sent)}")] = number
        # Three kills without a finished step in between end a task: that is another test's.
        await until(lambda: not server.query("SELECT 1 FROM tasks WHERE crashes > 1 AND ended_at IS NULL"))
        await asyncio.sleep(chance.random() * 0.3)
        await server.kill()
        await server.start()
    for task_id, number in sent.items():
        body = await server.finished(task_id)
        assert body["status"] == "completed", body
        assert body["result"]["content"] == " ".join(
            f"document {number} page {page} ends" for page in range(1, PAGES + 1)
        )
    assert readings(server) < len(sent), "some found what was read before"
    assert "cannot be used" not in server.log.read_text()
    assert not list((server.data_dir / "cache").glob(".*"))
    work = server.data_dir / "work"
    await until(lambda: not any(work.iterdir()))
