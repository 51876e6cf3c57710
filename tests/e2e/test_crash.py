"""kill -9: whatever was accepted is there again, ends once, and in order."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest

from tests.documents import text_pdf
from tests.e2e.server import Server
from tests.endpoint import Call, ScriptedEndpoint, answer, hang
from tests.waiting import until

ROUNDS = 12


def echo(call: Call) -> str:
    return f"answer to {call.text.count('word')} words"


async def test_every_task_survives_many_kills_and_ends_once_in_order(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    endpoint.otherwise = answer(echo)
    server.settings["API_V2_MAX_CONCURRENT"] = "3"
    await server.start()
    chance = random.Random(20)
    accepted: list[str] = []
    for round_ in range(ROUNDS):
        sending = [asyncio.create_task(server.submit(b"word " * (number + 1))) for number in range(4)]
        seen = len(endpoint.calls)
        # While uploads arrive and children read; and every other time after each slot's task has finished a step, for
        # three kills without one end a task, which is the next test's.
        if round_ % 2:
            await endpoint.call(seen + 3)
        await asyncio.sleep(chance.random() * 0.05)
        await server.kill()
        results = await asyncio.gather(*sending, return_exceptions=True)
        accepted += [result for result in results if isinstance(result, str)]
        assert all(isinstance(result, str | aiohttp.ClientError) for result in results), results
        await server.start()
    accepted += [await server.submit(b"word ") for _ in range(3)]
    for task_id in accepted:
        body = await server.finished(task_id)
        assert body["status"] == "completed", body
        assert body["result"]["content"].startswith("answer to")
    rows = server.query("SELECT task_id, status, attempt FROM tasks ORDER BY place")
    assert {task_id for task_id, _, _ in rows} >= set(accepted)
    assert all(status == "completed" for _, status, _ in rows), (
        "nor is a task that was stored but never acknowledged lost"
    )
    started = server.query("SELECT place FROM tasks ORDER BY started_at")
    assert started == sorted(started), "first attempts begin in the order of acceptance"
    in_flight = 3 * ROUNDS
    assert len(endpoint.calls) <= len(rows) + in_flight, "a call whose answer was kept is not made again"
    assert server.query("PRAGMA integrity_check") == [("ok",)]
    kept = [server.data_dir / "files" / "documents", server.data_dir / "work"]
    await until(lambda: not any(any(folder.iterdir()) for folder in kept))  # the last task's go just after it is told


async def test_a_running_task_is_back_and_going_at_once(server: Server, endpoint: ScriptedEndpoint) -> None:
    endpoint.script(hang())
    server.settings["API_V2_MAX_CONCURRENT"] = "1"
    await server.start()
    first, second = await server.submit(b"the first"), await server.submit(b"the second")
    await endpoint.call(1)
    before = await server.status(first)
    await server.kill()
    await server.start()
    async with asyncio.timeout(5):  # from the first answer on; how long a start takes is a benchmark's to say
        await endpoint.call(2)
    assert "the first" in endpoint.calls[1].text, "it kept its place before the second"
    assert (await server.finished(first))["progress"] >= before["progress"]
    await server.finished(second)
    assert len(endpoint.calls) == 3


async def test_the_third_crash_without_a_finished_step_ends_the_task(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    endpoint.otherwise = hang()
    await server.start()
    poison = await server.submit(b"poison")
    for crash in range(1, 4):
        await endpoint.call(crash)
        await server.kill()
        if crash == 3:
            endpoint.otherwise = answer("fine")
        await server.start()
    body = await server.finished(poison)
    assert (body["status"], body["error_type"]) == ("failed", "system_error")
    assert len(endpoint.calls) == 3
    healthy = await server.finished(await server.submit(b"healthy"))
    assert healthy["status"] == "completed"


@pytest.mark.parametrize("cut", [0.2, 0.9])
async def test_a_read_page_is_not_read_again(server: Server, endpoint: ScriptedEndpoint, cut: float) -> None:
    endpoint.otherwise = hang()
    await server.start()
    task_id = await server.submit(text_pdf([f"page {n} of the report" for n in range(1, 41)]), "report.pdf")
    pages = int(40 * cut)
    await until(lambda: server.query("SELECT count(*) FROM pages")[0][0] >= pages)
    await server.kill()
    [(kept,)] = server.query("SELECT count(*) FROM pages")
    server.settings["OPEN_WEBUI_LOG_LEVEL"] = "DEBUG"
    endpoint.otherwise = answer("all pages")
    await server.start()
    body = await server.finished(task_id)
    assert body["status"] == "completed"
    assert body["pages_total"] == 40
    assert kept == 0 or f"from page {kept + 1}" in server.log.read_text() or kept == 40
