"""`docv2 process` that is interrupted, or whose streams are closed: what it leaves on the server, and what it tells."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from aiohttp import web

from tests.client_command import Terminal, start
from tests.scripted_api import ScriptedAPI, State, completed, processing, refuse

QUESTION = "What is the monthly rent?"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_ctrl_c_cancels_every_task_of_the_run(
    api: ScriptedAPI, documents: list[str], sent: signal.Signals
) -> None:
    """As do a supervisor's way to say it, and a closed terminal's."""
    api.states = [processing(10)]
    api.hold.clear()
    process = await start(api, *documents, QUESTION)
    await api.until(lambda: len(api.routes("GET /status")) == 3)
    process.send_signal(sent)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == "interrupted; cancelled on the server: 3\n"
    assert sorted(api.cancelled) == ["task-1", "task-2", "task-3"]


async def test_a_terminal_that_is_closed_cancels_every_task_of_the_run(
    api: ScriptedAPI, documents: list[str], terminal: Terminal
) -> None:
    """Although nothing can be written to it any more."""
    api.states = [processing(10)]
    api.hold.clear()
    process = await start(api, documents[0], QUESTION, stderr=terminal.slave, term="xterm")
    await terminal.until("a.txt")
    await api.until(lambda: len(api.routes("GET /status")) == 1)
    terminal.close()
    process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(30):
        await process.communicate()
    assert process.returncode == 130
    assert api.cancelled == ["task-1"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
async def test_only_a_person_is_impatient(api: ScriptedAPI, documents: list[str], sent: signal.Signals) -> None:
    """The shell passes on a hang-up that the kernel sent too, and some supervisors send both signals."""
    api.states = [processing(10)]
    api.hold.clear()

    async def again(request: web.Request) -> web.StreamResponse:
        process.send_signal(sent)
        return await api._cancel(request)

    api.script("DELETE /tasks", again)
    process = await start(api, documents[0], QUESTION)
    await api.until(lambda: api.routes("GET /status"))
    process.send_signal(signal.SIGHUP)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"interrupted; cancelled on the server: 1\n")


async def test_a_signal_that_is_to_be_ignored_is(api: ScriptedAPI, documents: list[str]) -> None:
    """As under nohup."""
    api.hold.clear()
    process = await start(api, documents[0], QUESTION, before=["nohup"])
    await api.until(lambda: api.routes("GET /status"))
    process.send_signal(signal.SIGHUP)
    api.hold.set()
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"The answer.\n")


async def test_a_second_ctrl_c_waits_for_no_server_and_names_what_stays(api: ScriptedAPI, documents: list[str]) -> None:
    api.states = [processing(10)]
    api.hold.clear()
    never, sending = asyncio.Event(), asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await request.read()
        sending.set()
        await never.wait()
        raise AssertionError

    api.script("POST /process", None, None, hang)
    api.script("DELETE /tasks", hang, hang)
    process = await start(api, *documents, QUESTION)
    await api.until(lambda: len(api.routes("GET /status")) == 2)
    await sending.wait()
    process.send_signal(signal.SIGINT)
    await api.until(lambda: len(api.routes("DELETE /tasks")) == 2)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode().splitlines() == [
        "interrupted; cancelled on the server: 0",
        "not cancelled: task task-1: the server has not answered",
        "not cancelled: task task-2: the server has not answered",
        f"not cancelled: {documents[2]}: the server has not said whether it took it",
    ]


async def test_ctrl_c_before_the_server_has_answered_the_upload(api: ScriptedAPI, documents: list[str]) -> None:
    """The task is made all the same, and must not be left behind."""
    api.states = [processing(10)]
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(request: web.Request) -> web.StreamResponse:
        api.calls.pop()
        answer = await api._process(request)
        taken.set()
        await go_on.wait()
        return answer

    api.script("POST /process", slowly)
    process = await start(api, documents[0], QUESTION)
    await taken.wait()
    process.send_signal(signal.SIGINT)
    go_on.set()
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 130
    assert api.cancelled == ["task-1"]
    assert err.decode() == "interrupted; cancelled on the server: 1\n"


async def test_ctrl_c_names_what_it_could_not_cancel(api: ScriptedAPI, documents: list[str]) -> None:
    api.states = [processing(10)]
    api.hold.clear()
    api.script("DELETE /tasks", refuse(403, "Not with this key", "auth_error"))
    process = await start(api, documents[0], QUESTION)
    await api.until(lambda: api.routes("GET /status"))
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert "not cancelled: task task-1: Not with this key" in err.decode()


async def test_a_reader_that_leaves_ends_the_run(api: ScriptedAPI, documents: list[str]) -> None:
    """As in `docv2 process … | head -1`: nobody would see the answers that are still to come."""
    api.hold.clear()
    reader, writer = os.pipe()
    process = await start(api, *documents, QUESTION, stdout=writer)
    os.close(writer)
    os.close(reader)
    await api.until(lambda: len(api.tasks) == 3)
    answered: State = completed("The answer.")
    api.tasks["task-1"].append(answered)
    api.tasks["task-2"].appendleft(processing(10))
    api.tasks["task-2"].pop()
    api.tasks["task-3"].appendleft(processing(10))
    api.tasks["task-3"].pop()
    api.hold.set()
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert sorted(api.cancelled) == ["task-2", "task-3"]


async def redirected(api: ScriptedAPI, document: str, redirection: str) -> tuple[int | None, str, str]:
    """As a shell starts it."""
    shell = ["sh", "-c", f'"$@" {redirection}', "sh"]
    process = await start(api, document, QUESTION, before=shell)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_where_no_answer_can_go_nothing_is_asked(api: ScriptedAPI, documents: list[str]) -> None:
    status, _, err = await redirected(api, documents[0], ">&-")
    assert (status, err.splitlines()[-1]) == (2, "Error: standard output is closed: the answers would go nowhere")
    assert api.calls == []
    assert (await redirected(api, documents[0], ">&- 2>&-"))[0] == 2


async def test_without_standard_error_there_are_answers_all_the_same(api: ScriptedAPI, documents: list[str]) -> None:
    api.states = [completed("1200 EUR", ("page 3 is blank",))]
    for nowhere in ("2>&-", "2>/dev/full"):
        assert await redirected(api, documents[0], nowhere) == (0, "1200 EUR\n", "")


async def test_a_full_disk_is_told(api: ScriptedAPI, documents: list[str]) -> None:
    status, _, err = await redirected(api, documents[0], ">/dev/full")
    assert (status, err) == (1, "standard output: No space left on device\n")
