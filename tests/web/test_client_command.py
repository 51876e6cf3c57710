"""`docv2 process` as a program: what it prints where, and what its exit status says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from docv2.commands.terminal import duration, fit, harmless, one_line
from tests.client_command import Terminal, run, start
from tests.scripted_api import Behaviour, ScriptedAPI, completed, failed, page, processing, queued, refuse

QUESTION = "What is the monthly rent?"
HOSTILE = "rent\x1b]0;owned\x07 \x9b31m\u202e1200\r\x1b[2J\ud83d"


# -- what is printed --------------------------------------------------------------------------------------------------
async def test_one_answer_is_all_that_goes_to_standard_output(api: ScriptedAPI, documents: list[str]) -> None:
    api.states = [queued(2), processing(40), completed("1200 EUR", ("page 3 is blank",))]
    options = ["--model", "m", "--temperature", "0.2", "--max-tokens", "99"]
    status, out, err = await run(api, documents[0], QUESTION, *options)
    assert (status, out) == (0, "1200 EUR\n")
    assert err == f"{documents[0]}: warning: page 3 is blank\n"
    [call] = api.routes("POST /process")
    assert call.fields == {"prompt": QUESTION, "model": "m", "temperature": "0.2", "max_tokens": "99"}


async def test_answers_come_in_the_order_of_the_files(api: ScriptedAPI, documents: list[str]) -> None:
    """Although the first file is answered last."""
    api.states = [completed("first")]
    api.hold.clear()
    running = asyncio.create_task(run(api, *documents, QUESTION))
    await api.until(lambda: len(api.tasks) == 3)
    api.tasks["task-2"].append(completed("second"))
    api.tasks["task-3"].append(failed("The file is encrypted"))
    api.tasks["task-2"].popleft()
    api.tasks["task-3"].popleft()
    api.hold.set()
    status, out, err = await running
    first, second, third = documents
    assert status == 1
    assert out == f"==> {first} <==\nfirst\n\n==> {second} <==\nsecond\n\n"
    assert err == f"{third}: The file is encrypted\n"
    assert [call.filename for call in api.routes("POST /process")] == ["a.txt", "b.txt", "c.txt"]


async def test_documents_reach_the_queue_in_the_order_given(api: ScriptedAPI, documents: list[str]) -> None:
    """Although the first one is not taken at once."""
    api.script("POST /process", refuse(503, Retry_After="0.2"))
    await run(api, *documents, QUESTION)
    accepted = [call.filename for call in api.routes("POST /process") if call.filename]
    assert accepted == ["a.txt", "b.txt", "c.txt"]


async def test_json_is_one_object_a_file(api: ScriptedAPI, documents: list[str]) -> None:
    api.script("POST /process", refuse(415, "Type not supported", "validation_error"))
    status, out, err = await run(api, *documents[:2], QUESTION, "--json")
    refused, answered = map(json.loads, out.splitlines())
    assert status == 1
    assert refused == {
        "file": documents[0],
        "status": "failed",
        "error": "Type not supported",
        "error_type": "validation_error",
    }
    assert answered["file"] == documents[1]
    assert answered["result"]["content"] == "The answer."
    assert "Type not supported" in err


async def test_hostile_text_is_passed_on_to_programs_and_shown_to_people(
    api: ScriptedAPI, tmp_path: Path, terminal: Terminal
) -> None:
    document = tmp_path / "a\x1b[31m.txt"
    document.write_text("text")
    api.states = [completed(HOSTILE, ("\x1b[2Jwarned",))]
    _, out, err = await run(api, str(document), QUESTION)
    assert out == HOSTILE.replace("\ud83d", "\\ud83d") + "\n"
    assert "\x1b" not in err

    for option in ([], ["--json"]):
        terminal.received.clear()
        process = await start(
            api, str(document), QUESTION, *option, stdout=terminal.slave, stderr=terminal.slave, term="xterm"
        )
        assert await process.wait() == 0
        await terminal.until("warned")
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", terminal.text)
        assert "\\x1b]0;owned" in terminal.text or "\\u001b]0;owned" in terminal.text


async def test_progress_is_drawn_on_a_terminal(api: ScriptedAPI, documents: list[str], terminal: Terminal) -> None:
    api.states = [queued(3, 120), processing(50.0, 2, 4), completed("done")]
    api.hold.clear()
    process = await start(api, *documents[:2], QUESTION, stderr=terminal.slave, term="xterm")
    await terminal.until("50 %")
    api.hold.set()
    assert process.stdout is not None
    assert (await process.stdout.read()).decode().count("done") == 2
    assert await process.wait() == 0
    assert "a.txt" in terminal.text
    assert "Reading the document: 2 of 4 pages" in terminal.text
    assert re.search(rb"\x1b\[\d+F\x1b\[J$", terminal.received), "nothing of it stays"


async def test_nothing_is_drawn_where_nobody_looks(api: ScriptedAPI, documents: list[str], terminal: Terminal) -> None:
    _, _, err = await run(api, documents[0], QUESTION, term="xterm")
    assert err == ""
    process = await start(api, documents[0], QUESTION, stderr=terminal.slave, term="dumb")
    await process.communicate()
    assert terminal.received == b""


# -- exit status ------------------------------------------------------------------------------------------------------
async def test_a_file_that_is_refused_keeps_no_other_from_its_answer(api: ScriptedAPI, documents: list[str]) -> None:
    api.script("POST /process", refuse(413, "File too large. Maximum size: 50.0MB", "validation_error"))
    status, out, err = await run(api, *documents[:2], QUESTION)
    assert status == 1
    assert out == f"==> {documents[1]} <==\nThe answer.\n\n"
    assert err == f"{documents[0]}: File too large. Maximum size: 50.0MB (request req_scripted)\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["{a}"], "Missing argument"),
        (["{a}", "{b}"], "the question is missing"),
        (["/nowhere.txt", QUESTION], "does not exist"),
        (["{a}", QUESTION, "--url", "docs.example.org"], "http://"),
        (["{a}", QUESTION, "--api-key", "sk-\x1b"], "API key"),
        (["{a}", QUESTION, "--temperature", "warm"], "warm"),
    ],
)
async def test_a_wrong_command(api: ScriptedAPI, documents: list[str], arguments: list[str], said: str) -> None:
    status, out, err = await run(api, *(text.format(a=documents[0], b=documents[1]) for text in arguments))
    assert (status, out) == (2, "")
    assert said in err
    assert api.calls == []


@pytest.mark.parametrize(
    ("code", "detail", "error_type"),
    [
        (401, "Invalid API key", "auth_error"),
        (403, "Not this model", "auth_error"),
        (422, "Too short", "validation_error"),
    ],
)
async def test_what_is_wrong_with_every_file_is_said_once(
    api: ScriptedAPI, documents: list[str], code: int, detail: str, error_type: str
) -> None:
    api.script("POST /process", refuse(code, detail, error_type))
    status, out, err = await run(api, *documents, QUESTION)
    assert (status, out, err.count(detail)) == (2, "", 1)
    assert len(api.routes("POST /process")) == 1
    assert ("DOCV2_API_KEY" in err) == (code == 401)


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (
            refuse(429, "At most 1 documents are taken in an hour", "rate_limit_error", Retry_After="3400"),
            3,
            "At most 1 documents are taken in an hour; try again in 57 min (request req_scripted)",
        ),
        (refuse(507, "No room"), 3, "No room (request req_scripted)"),
        (page(), 3, "the server's answer to this request is not docv2's (HTTP 200)"),
        (refuse(401, "The key has expired", "auth_error"), 2, "The key has expired; set DOCV2_API_KEY"),
    ],
    ids=["hourly limit", "full disk", "something else", "expired key"],
)
async def test_what_was_taken_is_answered_and_what_was_not_is_named(
    api: ScriptedAPI, documents: list[str], refusal: Behaviour, code: int, reason: str
) -> None:
    """When the server takes the first file and then no more."""
    for option in ([], ["--json"]):
        api.hold.clear()
        api.script("POST /process", None, refusal)
        api.calls.clear()
        running = asyncio.create_task(run(api, *documents, QUESTION, *option))
        await api.until(lambda: len(api.routes("POST /process")) == 2)
        api.hold.set()
        status, out, err = await running
        first, second, third = documents
        assert status == code
        assert err.startswith(f"{second}: not sent\n{third}: not sent\ndocv2: {reason}")
        assert err.count("\n") == 3
        assert len(api.routes("POST /process")) == 2, "the third would be refused as well"
        if not option:
            assert out == f"==> {first} <==\nThe answer.\n\n"
        else:
            told = [json.loads(line) for line in out.splitlines()]
            assert [(each["file"], each["status"]) for each in told] == [
                (first, "completed"),
                (second, "unsent"),
                (third, "unsent"),
            ]
            assert told[1]["error"] == told[2]["error"]
            assert reason.startswith(told[1]["error"])
    assert api.cancelled == []


async def test_a_status_that_cannot_be_had_leaves_no_task_behind(api: ScriptedAPI, documents: list[str]) -> None:
    api.script("GET /status", refuse(500, "Broken"))
    api.hold.clear()
    running = asyncio.create_task(run(api, *documents, QUESTION))
    await api.until(lambda: api.cancelled)
    api.hold.set()
    status, _, err = await running
    assert status == 3
    assert f"{documents[0]}: Broken (request req_scripted)\n" in err
    assert api.cancelled == ["task-1"]


async def test_a_server_that_is_not_there(api: ScriptedAPI, documents: list[str]) -> None:
    await api.stop()
    status, out, err = await run(api, *documents, QUESTION)
    assert (status, out) == (3, "")
    assert err == f"docv2: no answer from {api.url}: Connection refused\n"


async def test_something_else_at_the_address(api: ScriptedAPI, documents: list[str]) -> None:
    api.script("GET /health", page())
    status, _, err = await run(api, documents[0], QUESTION)
    assert status == 3
    assert "not docv2's" in err


async def test_a_server_that_restarts_meanwhile(api: ScriptedAPI, documents: list[str]) -> None:
    api.hold.clear()
    running = asyncio.create_task(run(api, documents[0], QUESTION))
    await api.until(lambda: api.routes("GET /status"))
    await api.stop()
    api.hold.set()
    await api.start()
    status, out, err = await running
    assert (status, out) == (0, "The answer.\n")
    assert err.count("asking again") <= 1


# -- text -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nnext", "plain\ttext\nnext"),
        ("dos\r\nline", "dos\nline"),
        ("over\rwritten", "over\\rwritten"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("exe.\u202efdp", "exe.\\u202efdp"),
        ("👩\u200d🔬 und Zwölf 你好", "👩\u200d🔬 und Zwölf 你好"),
    ],
)
def test_what_a_terminal_would_act_upon_is_shown(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_one_line_is_one_line() -> None:
    assert one_line("a\n b\x85\u2028c") == "a b\\x85\\u2028c"


@pytest.mark.parametrize(
    ("text", "cells", "shown"),
    [
        ("short", 8, "short   "),
        ("exactly8", 8, "exactly8"),
        ("much too long", 8, "much to…"),
        ("你好世界你好", 8, "你好世… "),
        ("你好世界", 8, "你好世界"),
        ("e\u0301te\u0301", 8, "e\u0301te\u0301     "),
    ],
)
def test_text_is_cut_to_columns(text: str, cells: int, shown: str) -> None:
    assert fit(text, cells) == shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
