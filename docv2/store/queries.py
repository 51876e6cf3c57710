"""The statements of the SQLite store by name, and how they are run on a connection."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from typing import Any

from docv2.tasks import Task

Values = dict[str, Any]
"""The parameters of a statement by name."""


TASK_COLUMNS = tuple(field.name for field in fields(Task))
"""In the order in which a task is made of them."""

LISTS: Mapping[str, str] = {
    "task": ", ".join(f"tasks.{name}" for name in TASK_COLUMNS),
    "listed_task": ", ".join("NULL" if name == "result" else f"tasks.{name}" for name in TASK_COLUMNS),
}
"""What stands for a task in a statement."""


def load_queries(text: str, parts: Mapping[str, str]) -> dict[str, str]:
    """Cut a file of `-- name: …` sections into statements by name.

    `{name}` in a statement stands for one of `parts` or for the section `-- part: name`.
    """
    named: dict[str, dict[str, str]] = {"name": {}, "part": dict(parts)}
    for found in re.finditer(
        r"^-- (name|part): (\w+)\n(.*?)(?=^-- (?:name|part): |\Z)", text, re.MULTILINE | re.DOTALL
    ):
        named[found[1]][found[2]] = found[3].strip()
    assert sum(map(len, named.values())) == len(parts) + len(re.findall(r"^-- (?:name|part):", text, re.MULTILINE))
    return {
        name: re.sub(r"\{(\w+)\}", lambda used: named["part"][used[1]], statement)
        for name, statement in named["name"].items()
    }


QUERIES = load_queries((files("docv2.store") / "sqlite.sql").read_text(encoding="utf-8"), LISTS)


def fetch(name: str, values: Values, connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """The rows of a statement, all at once: one left half read would hold its snapshot, and with it the log, open."""
    return connection.execute(QUERIES[name], bind(values)).fetchall()


def count(name: str, values: Values, connection: sqlite3.Connection) -> int:
    """How many rows a statement changed."""
    return connection.execute(QUERIES[name], bind(values)).rowcount


def bind(values: Values) -> Values:
    """Values as SQLite takes them: structures as JSON, text as UTF-8."""
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, ensure_ascii=False)  # a person may read it in the shell
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair, as JSON allows, is no UTF-8
    return value
