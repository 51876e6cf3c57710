"""The statements of the SQLite store by name, and how they are run on a connection."""

from __future__ import annotations

import json
import sqlite3
from importlib.resources import files
from typing import Any

Values = dict[str, Any]
"""The parameters of a statement by name."""


def load_queries(text: str) -> dict[str, str]:
    """Cut a file of `-- name: …` sections into statements by name."""
    sections = (section.partition("\n") for section in text.split("-- name: ")[1:])
    return {name.strip(): statement.strip() for name, _, statement in sections}


QUERIES = load_queries((files("docv2.store") / "sqlite.sql").read_text(encoding="utf-8"))


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
