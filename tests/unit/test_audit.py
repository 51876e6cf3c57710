"""The audit file: rotation, search over all of it, and lines that a crash cut."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docv2.settings import load
from docv2.telemetry import audit
from tests.waiting import until


def entry(number: int, **changes: Any) -> audit.Record:
    user = {"id": f"u{number % 2}", "email": f"u{number % 2}@example.org", "role": "user", "name": "U"}
    return {"id": str(number), "timestamp": number, "user": user, "verb": "POST", "request_uri": "/a"} | changes


def test_search_reads_over_rotated_files_newest_first(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with audit.writing(file, rotate_at=1024):
        for number in range(40):
            audit.record(entry(number, verb="GET" if number % 3 else "POST"))
    assert (tmp_path / "audit.log.1").exists()
    with file.open("a") as cut:
        cut.write('{"id": "cut sho')
    assert [found["id"] for found in audit.search(file)] == [str(number) for number in reversed(range(40))]
    assert [found["id"] for found in audit.search(file, user="u1@example.org", limit=2)] == ["39", "37"]
    assert [found["id"] for found in audit.search(file, verb="POST", since=10, until=20)] == ["18", "15", "12"]
    assert audit.search(file, path="/b") == []
    audit.record(entry(99))
    assert len(audit.search(file)) == 40, "nothing is kept once it is closed"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Records a look at something, at a time."""

    def look(what: str, at: int) -> None:
        monkeypatch.setattr("docv2.telemetry.audit.time.time", lambda: at)
        audit.record_look(what, lambda: entry(at, id=what, extra={}))

    return look


def recorded(file: Path) -> list[tuple[str, int, dict[str, int]]]:
    return [(one["id"], one["timestamp"], one["extra"]) for one in reversed(audit.search(file))]


def test_what_is_repeated_is_recorded_at_once_and_then_counted(
    tmp_path: Path, looks: Callable[[str, int], None]
) -> None:
    file = tmp_path / "audit.log"
    with audit.writing(file, rotate_at=10**6):
        for second in range(5):
            looks("poll", 1000 + second)
        looks("other", 1100)
        looks("poll", 1001 + int(audit.REPEAT_SECONDS))
        looks("other", 1650)
        looks("poll", 1651)
    assert recorded(file) == [
        ("poll", 1000, {}),
        ("other", 1100, {}),
        ("poll", 1004, {"repeated": 4}),
        ("poll", 1601, {}),
        ("other", 1650, {"repeated": 1}),
        ("poll", 1651, {"repeated": 1}),
    ]
    looks("poll", 9999)
    assert len(recorded(file)) == 6, "nothing is kept once it is closed"


def test_no_more_than_so_many_are_counted_at_a_time(
    tmp_path: Path, looks: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MOST_LOOKS", 2)
    with audit.writing(tmp_path / "audit.log", rotate_at=10**6):
        for what in "aabcc":
            looks(what, 1000)
        assert len(audit._looks) == 2
    assert [(what, extra) for what, _, extra in recorded(tmp_path / "audit.log") if extra] == [
        ("a", {"repeated": 1}),
        ("c", {"repeated": 1}),
    ]


def stamps(file: Path) -> dict[str, list[int]]:
    """The times of the records in each file."""
    files = [path for path in (file, *audit.rotated(file)) if path.exists()]
    return {path.name: [json.loads(line)["timestamp"] for line in path.read_text().splitlines()] for path in files}


def test_records_go_when_their_time_is_up_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LOOK_SECONDS", 0.0)
    file, before, now = tmp_path / "audit.log", tmp_path / "audit.log.1", int(time.time())
    old, late, new = now - 10_000, now - 3000, now
    file.write_text("".join(json.dumps(entry(0, timestamp=when)) + "\n" for when in (old, late)))
    before.write_text(json.dumps(entry(0, timestamp=old)) + "\n")
    os.utime(before, (old, old))
    with audit.writing(file, rotate_at=10_000, keep_seconds=5000):
        audit.record(entry(1, timestamp=new))
    # The file that began too long ago was closed; it stays for the sake of the younger record in it.
    assert stamps(file) == {"audit.log": [new], "audit.log.1": [old, late]}
    os.utime(before, (late, late))
    with audit.writing(file, rotate_at=10_000, keep_seconds=2500):
        audit.tidy()  # nobody calls
    assert stamps(file) == {"audit.log": [new]}


@pytest.mark.parametrize("way", ["rename", "copytruncate", "remove"])
def test_it_goes_on_where_logrotate_has_been(tmp_path: Path, way: str) -> None:
    file, moved = tmp_path / "audit.log", tmp_path / "audit.log-20261101"

    def rotate() -> None:
        match way:
            case "rename":
                file.rename(moved)
            case "copytruncate":
                moved.write_bytes(file.read_bytes())
                os.truncate(file, 0)
            case "remove":
                file.unlink()

    def written(path: Path, number: int) -> bool:
        return path.exists() and f'"id": "{number}"' in path.read_text()

    with audit.writing(file, rotate_at=10_000):
        audit.record(entry(1))
        asyncio.run(until(lambda: written(file, 1)))
        rotate()
        audit.record(entry(2))
    assert [found["id"] for found in audit.search(file)] == ["2"]
    assert file.stat().st_mode & 0o077 == 0
    assert way == "remove" or written(moved, 1)


def test_what_the_command_line_did_stands_between(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with audit.writing(file, rotate_at=10_000):
        audit.record(entry(1))
        asyncio.run(until(lambda: file.exists() and file.read_text()))
        audit.record_command(file, level="METADATA", verb="DELETE", path="/admin/caches")
        audit.record(entry(2))
    last, command, first = audit.search(file)
    assert (first["id"], last["id"], command["request_uri"]) == ("1", "2", "cli:/admin/caches")
    assert command.keys() >= first.keys()
    assert audit.search(file, user="command line") == [command]


def test_levels_by_area(tmp_path: Path) -> None:
    environ = {"SRC_LOG_LEVELS": '{"API_V2.WORKER": "debug", "RAG": "whatever"}', "OPEN_WEBUI_LOG_LEVEL": "WARNING"}
    settings = load(environ)
    assert (settings.own_log_level, settings.area_log_levels) == ("WARNING", {"docv2.worker": "DEBUG"})
    assert load({"DEBUG": "true"}).own_log_level == "DEBUG"
    assert load({"DEBUG": "app:*"}).own_log_level == "INFO", "another program's value"
    assert load({"DEBUG": "true", "SRC_LOG_LEVELS": '{"API_V2": "ERROR"}'}).own_log_level == "ERROR"
    assert load({"AUDIT_LOG_FILE_ROTATION_SIZE": "2MB"}).audit_rotation_size == 2 * 1024**2
