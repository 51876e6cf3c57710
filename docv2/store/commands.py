"""Writes to the queue of more than one statement: plain functions, each within one transaction of the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from docv2.errors import ClaimLost, Conflict
from docv2.store.administration import keep_within
from docv2.store.base import Limits, Recovery, Request
from docv2.store.queries import Values, count, fetch
from docv2.store.rows import task_of, task_of_request
from docv2.tasks import Task

Step = tuple[str, Values]
"""A statement that goes with a fenced one, and its parameters but for the task's id."""


def claimed(name: str, values: Values, steps: Sequence[Step], connection: sqlite3.Connection) -> None:
    """A write under a claim, ClaimLost where that is over; `steps` go with it."""
    if not count(name, values, connection):
        fetch("touch", values, connection)
        raise ClaimLost(f"task {values['task_id']} is no longer this attempt's")
    for step, row in steps:
        count(step, {"task_id": values["task_id"], **row}, connection)


def enqueue(values: Values, request: Request | None, limits: Limits | None, connection: sqlite3.Connection) -> Task:
    """Accept a task, or find the one that the same request became."""
    if request is not None:
        values = {**values, "key": request.key, "request_sha256": request.sha256}
        if before := task_of_request(fetch("same_request", values, connection), request):
            return before
    if limits is not None:
        keep_within(limits, values["user_id"], values["now"], connection)
    rows = fetch("enqueue", values, connection)
    if not rows:
        raise Conflict("This task exists already.")
    if request is not None:
        count("keep_request", values, connection)
    return task_of(rows[0])


def replace_own_key(values: Values, connection: sqlite3.Connection) -> None:
    """Add a key in place of the one that its user made before."""
    fetch("revoke_own_key", values, connection)
    count("add_key", values, connection)


def cancel(values: Values, connection: sqlite3.Connection) -> Task | None:
    """End a task that has not ended; answers it as it was just before."""
    rows = fetch("get", values, connection)
    count("cancel", values, connection)
    return task_of(rows[0]) if rows else None


def complete_again(values: Values, connection: sqlite3.Connection) -> bool:
    """End a task with the answer of another one; False where there is none any more."""
    rows = fetch("answered", values, connection)  # once more: it may have been removed meanwhile
    if not rows:
        return False
    values = {**values, "before_id": rows[0]["task_id"]}
    claimed("complete_again", values, [("copy_pages", {"before_id": values["before_id"]})], connection)
    return True


def recover(values: Values, connection: sqlite3.Connection) -> Recovery:
    """Give up those that crashed once too often, and return the other running ones to their place."""
    given_up = fetch("give_up", values, connection)
    requeued = fetch("requeue", values, connection)
    # RETURNING has no order of its own.
    return Recovery(*(tuple(task_id for _, task_id in sorted(map(tuple, rows))) for rows in (requeued, given_up)))
