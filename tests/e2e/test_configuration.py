"""The configuration changes while documents are worked on, and no task is lost or answered twice."""

from __future__ import annotations

import asyncio
from typing import Any

from tests import documents
from tests.e2e.server import Server
from tests.endpoint import ScriptedEndpoint, answer

TASKS = 24


async def change(server: Server, **settings: Any) -> None:
    status, body = await server.request("POST", "/admin/config", json={"api_v2": settings})
    assert status == 200, body


async def running(server: Server) -> int:
    return len(server.query("SELECT 1 FROM tasks WHERE status = 'running'"))


async def until_running(server: Server, number: int) -> None:
    async with asyncio.timeout(20):
        while await running(server) != number:
            await asyncio.sleep(0.02)


async def test_the_pool_grows_and_shrinks_under_load_and_every_task_is_answered_once(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    gate = asyncio.Semaphore(0)
    endpoint.script(*(answer("done", pieces=1, gate=gate) for _ in range(TASKS)))
    server.settings["API_V2_MAX_CONCURRENT"] = "1"
    await server.start()
    task_ids = [await server.submit(f"text number {number}".encode()) for number in range(TASKS)]
    await until_running(server, 1)
    await change(server, max_concurrent=6)
    await until_running(server, 6)

    await change(server, max_concurrent=2, timeout=200, temperature=0.1)
    for _ in range(6):
        gate.release()
    await until_running(server, 2)

    await change(server, enabled=False)
    await server.restart()  # a crash: the two go on, and what was set holds
    await until_running(server, 2)
    status, _ = await server.request("POST", "/api/v2/process", data={"prompt": "What is it?"})
    assert status == 503
    await change(server, paused=True)
    for _ in range(TASKS):
        gate.release()
    await until_running(server, 0)
    waiting = [task_id for task_id in task_ids if (await server.status(task_id))["status"] == "queued"]
    assert waiting == task_ids[-len(waiting) :]
    assert (await server.status(waiting[0]))["waiting_reason"] == "paused"
    await server.restart()
    assert (await server.status(waiting[0]))["waiting_reason"] == "paused"
    await change(server, paused=None, max_concurrent=4)
    assert [(await server.finished(task_id))["status"] for task_id in task_ids] == ["completed"] * TASKS
    ends = server.query("SELECT task_id FROM tasks WHERE status = 'completed' ORDER BY place")
    assert [task_id for (task_id,) in ends] == task_ids
    # A kill repeats at most the calls that were under way then: the two.
    assert len(endpoint.calls) <= TASKS + 2


async def test_the_template_the_pictures_and_the_files_are_as_configured(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    await server.start()
    await change(
        server,
        default_prompt_template="Be brief. {prompt}",
        enable_vision=False,
        memory_management={"cleanup_after_processing": False, "monitor_usage": False},
    )
    task_id = await server.submit(b"some text", prompt="What of {0} and {prompt}?")
    await server.finished(task_id)
    assert "Be brief. What of {0} and {prompt}?" in endpoint.calls[0].text
    await server.restart()
    assert (server.data_dir / "files" / "documents" / task_id).exists()
    _, health = await server.request("GET", "/api/v2/health")
    assert any("monitor_usage is off" in reason for reason in health["reasons"])

    picture = await server.submit(documents.encoded(documents.page_picture("a scan")), "scan.png")
    body = await server.finished(picture)
    assert (body["status"], "configured to send no pictures" in body["error"]) == ("failed", True)
    assert len(endpoint.calls) == 1
    status, quote = await server.send(documents.encoded(documents.page_picture("a scan")), "scan.png", dry_run="true")
    assert (status, "configured to send no pictures" in quote["detail"]) == (422, True), "a quote foretells it"

    mixed = documents.mixed_pdf(
        ["Typed text, and enough of it to be read as text. " * 4, documents.page_picture("a scan")]
    )
    status, quote = await server.send(mixed, "mixed.pdf", dry_run="true")
    body = await server.finished(await server.submit(mixed, "mixed.pdf"))
    assert quote["pages"] == body["result"]["pages"] == {"total": 2, "text": 1, "picture": 0, "both": 0, "none": 1}
    assert body["result"]["warnings"] == ["Page 2 could not be used: the server is configured to send no pictures"]

    await change(server, enable_vision=True, enable_multimodal=False)
    body = await server.finished(
        await server.submit(
            documents.scanned_pdf_with_text(documents.page_picture("a scan"), "Text over it. " * 20), "scan.pdf"
        )
    )
    [warning] = body["result"]["warnings"]
    assert "as text or as a picture, not as both" in warning


async def test_a_page_is_sent_as_text_and_as_picture_at_once_only_where_it_may(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    await server.start()
    scan = documents.scanned_pdf_with_text(documents.page_picture("Letter"), "The text below the scan. " * 4)
    for allowed in (True, False):
        await change(server, enable_multimodal=allowed)
        await server.finished(await server.submit(scan, "letter.pdf"))
        call = endpoint.calls[-1]
        assert "The text below the scan." in call.text
        assert len(call.pictures) == allowed
    picture = documents.encoded(documents.page_picture("Letter"))
    body = await server.finished(await server.submit(picture, "letter.png"))
    assert (body["status"], len(endpoint.calls[-1].pictures)) == ("completed", 1), "it has nothing else"


async def test_the_memory_thresholds_hold_from_the_moment_they_are_set_and_only_while_memory_is_watched(
    server: Server, endpoint: ScriptedEndpoint
) -> None:
    """The machine's memory is as it is; so the thresholds go below it."""
    await server.start()
    low = {"warning_threshold": 0.1, "hold_threshold": 0.1, "emergency_stop_threshold": 0.1}
    await change(server, memory_management=low)
    status, body = await server.send(b"some text")
    assert (status, body["detail"]) == (503, "The server is short of memory")
    _, health = await server.request("GET", "/api/v2/health")
    assert any("Memory is short" in reason for reason in health["reasons"])

    await change(server, memory_management={"emergency_stop_threshold": 100})
    task_id = await server.submit(b"some text")
    assert (await server.status(task_id))["waiting_reason"] == "memory"
    await change(server, memory_management={"monitor_usage": False})
    assert (await server.finished(task_id))["status"] == "completed"
    await change(server, memory_management={"emergency_stop_threshold": 0.1})
    assert (await server.finished(await server.submit(b"some text")))["status"] == "completed"
