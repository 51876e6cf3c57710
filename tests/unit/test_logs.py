"""Logs: one line an event whatever is in it, with its ids, and never in the way of the event loop."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import threading
from pathlib import Path

import pytest

from docv2.telemetry import logs

log = logging.getLogger("docv2.test")


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_line_for_people_names_time_level_source_sentence_and_fields() -> None:
    stream = io.StringIO()
    with logs.running(stream=stream):
        log.info("task %s accepted", "t1", extra={"bytes": 12, "model": "two words"})
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    docv2\.test: task t1 accepted bytes=12 model="two words"\n',
        stream.getvalue(),
    )


def test_a_line_for_machines_is_one_json_object() -> None:
    stream = io.StringIO()
    with logs.running(stream=stream, style="json"):
        log.warning("half full", extra={"percent": 50.5})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "WARNING", "logger": "docv2.test", "message": "half full", "percent": 50.5}


@pytest.mark.parametrize("style", ["human", "json"])
@pytest.mark.parametrize(
    "evil", ["a\nERROR forged", "a\r\nERROR forged", "a\x1b[2J", "a\u2028ERROR", "a\x85ERROR", "\0"]
)
def test_nothing_that_is_logged_makes_a_second_line_or_a_command(style: str, evil: str) -> None:
    stream = io.StringIO()
    with logs.running(stream=stream, style=style):
        log.info("name is %s", evil, extra={"field": evil})
        try:
            raise ValueError(evil)
        except ValueError:
            log.exception("failed")
    assert len(lines(stream)) == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", stream.getvalue())
    assert "Traceback" in lines(stream)[1]


def test_lines_carry_the_ids_of_their_own_request() -> None:
    stream = io.StringIO()

    async def handle(number: int) -> None:
        logs.request_id.set(f"req_{number}")
        logs.task_id.set(f"task-{number}")
        await asyncio.sleep(0)
        log.info("done %d", number)

    async def server() -> None:
        await asyncio.gather(*(asyncio.create_task(handle(number)) for number in range(5)))
        log.info("outside")

    with logs.running(stream=stream, style="json"):
        asyncio.run(server())
    found = [json.loads(line) for line in lines(stream)]
    assert {(entry["message"], entry["request_id"], entry["task_id"]) for entry in found[:5]} == {
        (f"done {number}", f"req_{number}", f"task-{number}") for number in range(5)
    }
    assert "request_id" not in found[5]


def test_docv2_is_heard_from_its_level_on_and_libraries_from_warning_on() -> None:
    stream = io.StringIO()
    with logs.running(stream=stream, level="DEBUG"):
        log.debug("ours")
        logging.getLogger("library").info("theirs")
        logging.getLogger("library").warning("their warning")
        logging.getLogger("python_multipart.multipart").warning("bytes of an upload")
    assert [line.split(": ", 1)[1] for line in lines(stream)] == ["ours", "their warning"]
    stream = io.StringIO()
    with logs.running(stream=stream, level="WARNING"):
        log.info("quiet")
    assert lines(stream) == []


def test_the_file_is_opened_anew_when_it_was_moved(tmp_path: Path) -> None:
    path = tmp_path / "docv2.log"
    with logs.running(stream=io.StringIO(), file=path):
        log.info("first")
    with logs.running(stream=io.StringIO(), file=path):
        path.rename(tmp_path / "docv2.log.1")
        log.info("second")
    assert "first" in (tmp_path / "docv2.log.1").read_text()
    assert "second" in path.read_text()
    assert "first" not in path.read_text()


def test_a_reader_that_stands_still_costs_lines_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_LIMIT", 3)
    released, stream = StuckStream(), io.StringIO()
    released.target = stream
    with logs.running(stream=released):
        log.info("held")
        released.entered.wait(10)
        for number in range(5):
            log.info("line %d", number)
        released.gate.set()
        released.idle_after(4)
        log.info("after")
    text = stream.getvalue()
    assert [f"line {number}" in text for number in range(5)] == [True, True, True, False, False]
    assert "2 log lines were dropped" in text
    assert "after" in text


class StuckStream(io.StringIO):
    """A terminal that takes no text until its gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.target = io.StringIO()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self._written = threading.Semaphore(0)

    def write(self, text: str) -> int:
        self.entered.set()
        self.gate.wait(10)
        self.target.write(text)
        if text.endswith("\n"):
            self._written.release()
        return len(text)

    def idle_after(self, lines: int) -> None:
        for _ in range(lines):
            assert self._written.acquire(timeout=10)
