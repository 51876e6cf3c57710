"""kill -9 again and again, at any moment of reading, asking and combining: nothing that was kept is paid for twice."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import web

from docv2.llm.prompt import read_fences
from docv2.worker.turns import TOGETHER
from tests.documents import page_picture, scanned_pdf, text_pdf
from tests.e2e.server import Server
from tests.endpoint import Call, ScriptedEndpoint, answer, hang
from tests.model import ReadingModel, fact, filler
from tests.waiting import until

KILLS = 20


def report(pages: int, every: int) -> bytes:
    lines = "\n".join(filler(7, 90) for _ in range(14))
    return text_pdf(
        [f"Page {n}\n{lines}" + (f"\n{fact(f'item-{n}', n)}" if n % every == 0 else "") for n in range(1, pages + 1)]
    )


def steps(server: Server) -> int:
    """Pages and answers that are kept."""
    [(kept,)] = server.query("SELECT (SELECT count(*) FROM pages) + (SELECT count(*) FROM parts)")
    return int(kept)


def ended(server: Server) -> bool:
    return server.query("SELECT status FROM tasks") == [("completed",)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_kept_answer_is_asked_for_again(server: Server, endpoint: ScriptedEndpoint, seed: int) -> None:
    chance = random.Random(seed)
    model = ReadingModel(4_096)
    begun: list[Call] = []

    async def slow(call: Call) -> web.StreamResponse:
        begun.append(call)
        await asyncio.sleep(chance.uniform(0, 0.04))  # what a model takes, so that kills find calls under way
        return await model(call)

    endpoint.models, endpoint.otherwise = [model.entry], slow
    server.settings["API_V2_MAX_CONCURRENT"] = "1"
    await server.start()
    task_id = await server.submit(report(200, 10), "report.pdf", prompt="count", max_tokens="300")
    kills = 0
    stages = set()
    while kills < KILLS and not ended(server):
        before = steps(server)
        # Three kills without a finished step in between end a task: that is another test's.
        await until(lambda: steps(server) > before or ended(server))  # noqa: B023 - awaited within its round
        await asyncio.sleep(chance.uniform(0, 0.1))
        stages |= {stage for (stage,) in server.query("SELECT stage FROM tasks")}
        await server.kill()
        kills += 1
        kept = set(server.query("SELECT level, first_page, first_byte, last_page, last_byte FROM parts"))
        covered = {page for level, first, _, last, _ in kept if level == 0 for page in range(int(first), int(last) + 1)}
        at = len(begun)
        await server.start()
        for call in begun[at:]:
            asked = {page.number for page in read_fences(call.json["messages"]).pages}
            assert not asked & covered, "these pages were answered and kept"
    body = await server.finished(task_id)
    assert body["result"]["content"].endswith("There are 20.")
    [(parts,)] = server.query("SELECT count(*) FROM parts")
    assert len(begun) <= parts + kills * TOGETHER, "per kill, the calls that were under way"
    assert kills >= 8
    assert len(stages) >= 2, stages
    for first, last in ((1, 100), (101, 200)):
        [(asked,)] = server.query(f"SELECT max(attempts) FROM pages WHERE number BETWEEN {first} AND {last}")
        assert 1 <= asked <= kills + 1
    assert server.query("SELECT count(*) FROM pages WHERE attempts < 1") == [(0,)]


async def test_a_kill_between_an_answer_and_its_second_try_repeats_only_the_try(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    endpoint.script(answer("no JSON"), hang())
    endpoint.otherwise = answer('{"a": 1}')
    await server.start()
    task_id = await server.submit(b"a text", response_format='{"type": "json_object"}')
    await endpoint.call(2)
    await server.kill()
    await server.start()
    assert (await server.finished(task_id))["result"]["content"] == '{"a": 1}'
    assert ["no JSON" in call.text for call in endpoint.calls] == [False, True, True]


async def test_scans_are_read_once_however_often_the_server_dies(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.models = [ReadingModel(64_000).entry]
    server.settings["OPEN_WEBUI_LOG_LEVEL"] = "DEBUG"
    await server.start()
    task_id = await server.submit(scanned_pdf([page_picture(f"scan {n}") for n in range(30)]), "scan.pdf")
    for at in (3, 11, 19):
        await until(lambda: steps(server) >= at)  # noqa: B023 - awaited within its round
        await server.kill()
        [(kept,)] = server.query("SELECT count(*) FROM pages")
        await server.start()
        if kept < 30:
            said = f"read from page {kept + 1}"
            await until(lambda: said in server.log.read_text())  # noqa: B023 - likewise
    body = await server.finished(task_id)
    assert body["result"]["pages"]["picture"] == 30
