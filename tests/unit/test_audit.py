"""The audit file: rotation, search over all of it, and lines that a crash cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docv2.settings import load
from docv2.telemetry import audit


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


def test_levels_by_area(tmp_path: Path) -> None:
    environ = {"SRC_LOG_LEVELS": '{"API_V2.WORKER": "debug", "RAG": "whatever"}', "OPEN_WEBUI_LOG_LEVEL": "WARNING"}
    settings = load(environ)
    assert (settings.own_log_level, settings.area_log_levels) == ("WARNING", {"docv2.worker": "DEBUG"})
    assert load({"DEBUG": "true"}).own_log_level == "DEBUG"
    assert load({"DEBUG": "app:*"}).own_log_level == "INFO", "another program's value"
    assert load({"DEBUG": "true", "SRC_LOG_LEVELS": '{"API_V2": "ERROR"}'}).own_log_level == "ERROR"
    assert load({"AUDIT_LOG_FILE_ROTATION_SIZE": "2MB"}).audit_rotation_size == 2 * 1024**2
