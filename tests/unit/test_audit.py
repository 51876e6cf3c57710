"""The audit file: rotation, search over all of it, and lines that a crash cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def test_levels_by_area(tmp_path: Path) -> None:
    environ = {"SRC_LOG_LEVELS": '{"API_V2.WORKER": "debug", "RAG": "whatever"}', "OPEN_WEBUI_LOG_LEVEL": "WARNING"}
    settings = load(environ)
    assert (settings.own_log_level, settings.area_log_levels) == ("WARNING", {"docv2.worker": "DEBUG"})
    assert load({"DEBUG": "true"}).own_log_level == "DEBUG"
    assert load({"DEBUG": "app:*"}).own_log_level == "INFO", "another program's value"
    assert load({"DEBUG": "true", "SRC_LOG_LEVELS": '{"API_V2": "ERROR"}'}).own_log_level == "ERROR"
    assert load({"AUDIT_LOG_FILE_ROTATION_SIZE": "2MB"}).audit_rotation_size == 2 * 1024**2
