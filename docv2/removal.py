"""Taking away for good: all that one user has, and what the caches hold.

First the rows go, in one transaction for some tasks at a time with all that hangs on them, and it is noted there whose
files are to go. Then the files do. So at no moment anybody is shown half of a task, and whatever is cut short is
finished by doing it again, by the housekeeping of a running server or by its next start.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace

from docv2.accounts import users
from docv2.errors import Cancelled, Conflict
from docv2.storage.base import Storage
from docv2.store.base import Store
from docv2.telemetry import metrics
from docv2.worker.folders import WorkFolders
from docv2.worker.pagecache import PageCache

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Purged:
    """What was removed of one user, in numbers. What an earlier try removed is not counted again."""

    user_id: str
    tasks: int = 0
    cancelled: int = 0
    """Of them, those that waited or were worked on."""
    documents: int = 0
    """Files as they were sent. Those of completed tasks were gone before."""
    pages: int = 0
    """Pages in the ledgers of the tasks."""
    parts: int = 0
    """Answers to parts of documents."""
    idempotency_keys: int = 0
    cached_answers: int = 0
    """Answers that might have been given again."""
    cached_documents: int = 0
    """Documents whose pages were kept."""
    keys: int = 0
    """API keys, revoked ones included; only with the account."""
    account: bool = False
    """Whether the account is gone as well."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What the caches held."""

    answers: int
    """Answers that might have been given again; their tasks keep them."""
    documents: int
    """Documents whose pages were kept."""
    bytes: int
    """Of these pages."""


async def _nobody_works(_: Collection[str]) -> None:
    """What stops the work on tasks in a process that does none."""


class Removal:
    """Removes. Works in the server and beside it."""

    def __init__(
        self,
        *,
        store: Store,
        storage: Storage,
        folders: WorkFolders,
        page_cache: PageCache,
        stop: Callable[[Collection[str]], Awaitable[None]] = _nobody_works,
    ) -> None:
        """`stop` returns when nobody works on tasks any more that were removed; another server sees to its own."""
        self._store = store
        self._storage = storage
        self._folders = folders
        self._page_cache = page_cache
        self._stop = stop

    async def purge(self, user_id: str) -> Purged:
        """Remove all tasks of a user, whatever becomes of them, and all that was kept of them; NotFound without user.

        The account stays, and with it keys, sessions and how much was sent within the last day. What is accepted
        while this goes on may stay or go.
        """
        await users.by_id(self._store, user_id)
        kept = await self._page_cache.clear(user_id)
        purged = Purged(user_id, cached_documents=kept.documents)
        while (removed := await self._store.remove_tasks(user_id)).task_ids:
            await self._stop(removed.task_ids)
            for _ in range(removed.unfinished):
                metrics.task_failed(Cancelled.error_type)
            purged = replace(
                purged,
                tasks=purged.tasks + len(removed.task_ids),
                cancelled=purged.cancelled + removed.unfinished,
                documents=purged.documents + await self.finish(),
                pages=purged.pages + removed.pages,
                parts=purged.parts + removed.parts,
                idempotency_keys=purged.idempotency_keys + removed.idempotency_keys,
                cached_answers=purged.cached_answers + removed.cached_answers,
            )
        documents = purged.documents + await self.finish()  # of a try that was cut short
        kept = await self._page_cache.clear(user_id)  # what those kept meanwhile that were worked on
        purged = replace(purged, documents=documents, cached_documents=purged.cached_documents + kept.documents)
        log.info("data of a user removed", extra={"user_id": user_id, "tasks": purged.tasks})
        return purged

    async def remove_account(self, user_id: str) -> Purged:
        """Remove a user with keys and sessions and all that they have; NotFound, Conflict for the last administrator.

        First the user is shut out, so that nothing more comes while the rest is removed.
        """
        await users.set_active(self._store, user_id, active=False)
        purged = await self.purge(user_id)
        keys = await self._store.remove_user(user_id)
        if keys is None:
            raise Conflict("The user was let in again meanwhile")
        log.info("account removed", extra={"user_id": user_id})
        return replace(purged, keys=keys, account=True)

    async def clear_caches(self) -> Cleared:
        """Remove what the caches of all users hold."""
        answers, kept = await self._store.clear_answers(), await self._page_cache.clear()
        log.info("caches cleared", extra={"answers": answers, "documents": kept.documents})
        return Cleared(answers, kept.documents, kept.bytes)

    async def finish(self) -> int:
        """Remove the files of tasks that were removed; answers how many documents were among them."""
        documents = 0
        while task_ids := await self._store.leftovers():
            for task_id in task_ids:
                documents += await self._storage.delete(task_id)
                await self._folders.remove(task_id)
            await self._store.forget_leftovers(task_ids)
        return documents
