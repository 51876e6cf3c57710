"""What administrators keep in the SQLite store: the part of it that no task's life depends on."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import partial
from typing import Any

from docv2.errors import Conflict, RateLimited
from docv2.store.base import ApiKey, Configuration, Limits, Removed, User
from docv2.store.queries import Values, count, fetch
from docv2.store.rows import task_of, user_of, values_of
from docv2.store.writer import Command, T
from docv2.tasks import Task, TaskStatus

Rows = list[sqlite3.Row]

CLEAR_BITE = 1000
"""Rows removed in one transaction."""
REMOVED_TASKS = 500
REMOVED_PAGES = 5000
"""Tasks, and pages of theirs, removed in one transaction: some 50 ms. A longer document goes by itself."""

WAITING_RETRY_SECONDS = 30.0
"""After which a queue that is full may have room."""


class Administration(ABC):
    """The administrators' part of SQLiteStore, which says how to get at the database."""

    @abstractmethod
    async def _request(self, command: Command[T]) -> T: ...

    @abstractmethod
    async def _revoke(self, command: Command[T]) -> T: ...

    @abstractmethod
    async def _read(self, name: str, **values: Any) -> list[sqlite3.Row]: ...

    @abstractmethod
    async def _read_list(self, name: str, **values: Any) -> list[sqlite3.Row]: ...

    @abstractmethod
    async def tasks_of(
        self, user_id: str, *, before: int | None, limit: int, status: TaskStatus | None = None
    ) -> list[tuple[Task, int | None]]:
        """A user's tasks, newest first."""

    # -- limits -------------------------------------------------------------------------------------------------------
    async def check_limits(self, user_id: str, limits: Limits) -> None:
        """RateLimited where a document of this user would be more than `limits` now."""
        _refuse_beyond(limits, await self._read("standing", **_sought(limits, user_id)), time.time())

    async def submitted(self, user_id: str, limits: Limits) -> list[tuple[int, float]]:
        """For each window how many documents were accepted in it, and when the oldest of them was."""
        now = time.time()
        since = [now - seconds for seconds, _ in limits.windows]
        return [(number, oldest) for number, oldest in await self._read("submitted", user_id=user_id, since=since)]

    # -- tasks of everyone --------------------------------------------------------------------------------------------
    async def all_tasks(
        self, *, user_id: str | None, before: int | None, limit: int, status: TaskStatus | None = None
    ) -> list[tuple[Task, int | None]]:
        """Everyone's tasks, or one user's, newest first; with each its position while it waits."""
        if user_id is not None:
            return await self.tasks_of(user_id, before=before, limit=limit, status=status)
        values = {"before": sys.maxsize if before is None else before, "limit": limit, "status": status}
        return [(task_of(row), row["position"]) for row in await self._read_list("all_tasks", **values)]

    async def retry(self, task_id: str) -> Task | None:
        """Put a failed task at the tail of the queue."""
        return await self._request(partial(_retry, task_id))

    # -- answers that may be given again -------------------------------------------------------------------------------
    async def clear_answers(self) -> int:
        """Give no answer again that was kept until now."""
        cleared = 0
        while removed := await self._request(partial(count, "clear_answers", {"bite": CLEAR_BITE})):
            cleared += removed
        return cleared

    # -- removal ------------------------------------------------------------------------------------------------------
    async def remove_tasks(self, user_id: str) -> Removed:
        """Remove some tasks of a user; none at the end."""
        values = {"user_id": user_id, "bite": REMOVED_TASKS, "most_pages": REMOVED_PAGES}
        return await self._request(partial(_remove_tasks, values))

    async def leftovers(self) -> list[str]:
        """Ids of some removed tasks whose files are still to go."""
        return [task_id for (task_id,) in await self._read_list("leftovers", bite=CLEAR_BITE)]

    async def forget_leftovers(self, task_ids: Collection[str]) -> None:
        """Their files are gone."""
        await self._request(partial(count, "forget_leftovers", {"task_ids": list(task_ids)}))

    async def remove_user(self, user_id: str) -> int | None:
        """Remove an account that is shut out and has no tasks, with its keys; None for any other."""
        return await self._revoke(partial(_remove_user, {"user_id": user_id}))

    # -- accounts -----------------------------------------------------------------------------------------------------
    async def user(self, user_id: str) -> User | None:
        """The user of this id."""
        rows = await self._read_list("user", user_id=user_id)
        return user_of(rows[0]) if rows else None

    async def set_active(self, user_id: str, *, active: bool) -> bool:
        """Shut a user out or let one in; False where that would leave no active administrator."""
        return await self._revoke(partial(count, "set_active", {"user_id": user_id, "active": active})) > 0

    async def rotate_key(self, key_id: str, key: ApiKey, sha256: str) -> None:
        """Add a key and revoke the one that it takes the place of."""
        values = {**values_of(key), "sha256": sha256, "own": False}
        await self._revoke(partial(_rotate_key, {"key_id": key_id, "now": time.time()}, values))

    # -- the configuration --------------------------------------------------------------------------------------------
    async def add_configuration(self, new: Configuration) -> None:
        """Keep a new version; Conflict where there is one of its number."""
        if not await self._request(partial(count, "add_configuration", values_of(new))):
            raise Conflict("The configuration was changed by somebody else at the same moment; try again")

    async def configurations(self, *, up_to: int | None = None, limit: int = 1) -> list[Configuration]:
        """Versions, the latest first, those above `up_to` left out."""
        rows = await self._read_list("configurations", up_to=sys.maxsize if up_to is None else up_to, limit=limit)
        return [
            Configuration(
                **{**dict(row), "changes": json.loads(row["changes"]), "overrides": json.loads(row["overrides"])}
            )
            for row in rows
        ]


# -- commands ---------------------------------------------------------------------------------------------------------
def keep_within(limits: Limits, user_id: str, now: float, connection: sqlite3.Connection) -> None:
    """In the transaction of an acceptance: refuse it, or count it."""
    _refuse_beyond(limits, fetch("standing", _sought(limits, user_id), connection), now)
    longest = max((seconds for seconds, _ in limits.windows), default=0.0)
    count("forget_submissions", {"user_id": user_id, "until": now - longest}, connection)
    count("add_submission", {"user_id": user_id, "now": now}, connection)


def _sought(limits: Limits, user_id: str) -> Values:
    return {"user_id": user_id, "newer": [most - 1 for _, most in limits.windows]}


def _refuse_beyond(limits: Limits, rows: Rows, now: float) -> None:
    """RateLimited where one document more would be too many. `rows` are those of `standing`."""
    for (seconds, most), (_, _, latest) in zip(limits.windows, rows, strict=False):  # without windows there is one row
        if latest is not None and latest > now - seconds:
            raise RateLimited(
                f"At most {most} documents are taken in {_span(seconds)}", retry_after=latest + seconds - now
            )
    of_user, in_all, _ = rows[0]
    for waiting, most, whose in ((of_user, limits.waiting_of_user, "of one user"), (in_all, limits.waiting, "in all")):
        if waiting >= most:
            raise RateLimited(f"At most {most} tasks {whose} may wait", retry_after=WAITING_RETRY_SECONDS)


def _span(seconds: float) -> str:
    return {60.0: "a minute", 3600.0: "an hour", 86400.0: "24 hours"}.get(seconds, f"{seconds:g} seconds")


def _retry(task_id: str, connection: sqlite3.Connection) -> Task | None:
    rows = fetch("retry", {"task_id": task_id}, connection)
    if not rows:
        return None
    task = task_of(rows[0])
    count("give_place", {"place": task.place}, connection)
    count("forget_last_answer", {"task_id": task.task_id}, connection)
    return task


def _remove_tasks(values: Values, connection: sqlite3.Connection) -> Removed:
    rows = fetch("tasks_to_remove", values, connection)
    removed = {"task_ids": [row["task_id"] for row in rows]}
    (hanging,) = fetch("hangs_on_tasks", removed, connection)
    count("keep_leftovers", removed, connection)
    count("remove_tasks", removed, connection)
    return Removed(tuple(removed["task_ids"]), sum(row["unfinished"] for row in rows), *hanging)


def _remove_user(values: Values, connection: sqlite3.Connection) -> int | None:
    keys = len(fetch("keys", values, connection))
    if not count("remove_user", values, connection):
        return None
    count("remove_submissions", values, connection)
    return keys


def _rotate_key(revoked: Values, new: Values, connection: sqlite3.Connection) -> None:
    if not count("revoke_key", revoked, connection):
        raise Conflict("This key is revoked already")
    count("add_key", new, connection)
