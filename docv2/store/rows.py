"""Rows of the SQLite store as what the store hands out, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from docv2.documents import Detail
from docv2.errors import Conflict
from docv2.store.base import Request, User
from docv2.store.queries import TASK_COLUMNS, Values
from docv2.tasks import Result, Stage, Task, TaskStatus

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def _result(text: str) -> Result:
    values = json.loads(text)
    return Result(**{**values, "warnings": tuple(values["warnings"])})


READ_AS: Mapping[int, Callable[[Any], Any]] = {
    TASK_COLUMNS.index("status"): TaskStatus,
    TASK_COLUMNS.index("stage"): Stage,
    TASK_COLUMNS.index("detail"): Detail,
    TASK_COLUMNS.index("response_format"): json.loads,
    TASK_COLUMNS.index("fresh"): bool,
    TASK_COLUMNS.index("result"): _result,
}
"""What becomes of a task's columns that do not stay as SQLite has them."""


def task_of(row: sqlite3.Row) -> Task:
    """A task as the store hands it out, of a row that begins with its columns."""
    # By position, as this is done at every poll: by name it took twice as long.
    values = list(row[: len(TASK_COLUMNS)])
    for index, read in READ_AS.items():
        if values[index] is not None:
            values[index] = read(values[index])
    return Task(*values)


def task_of_request(rows: Sequence[sqlite3.Row], request: Request) -> Task | None:
    """What a request became, of the rows of `same_request`; Conflict where it was another request."""
    if rows and rows[0]["request_sha256"] != request.sha256:
        raise Conflict("Another request was accepted under this Idempotency-Key")
    return task_of(rows[0]) if rows else None


def user_of(row: Sequence[Any]) -> User:
    """A user out of the columns in their order."""
    user_id, email, name, role, active, created_at = row
    return User(user_id, email, name, role, bool(active), created_at)


def values_of(record: DataclassInstance) -> Values:
    """A record's fields by name. Unlike dataclasses.asdict it copies no value, which took a tenth of every write."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
