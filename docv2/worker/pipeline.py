"""One task from claim to end: read its pages, ask the model about them, keep every finished step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from docv2.config import Config, RuntimeConfig
from docv2.documents import MediaType, Page
from docv2.errors import (
    CannotSee,
    ClaimLost,
    ContextExceeded,
    Crashed,
    DocV2Error,
    ModelError,
    ParserDied,
    TaskError,
    Unavailable,
    UnfitAnswer,
    UpstreamUnavailable,
)
from docv2.estimate import asked
from docv2.events import Changes
from docv2.extract.base import is_whole, read
from docv2.llm.catalog import Catalog, candidates
from docv2.llm.forms import FormCheck
from docv2.llm.health import Consequence, EndpointHealth
from docv2.sandbox import Sandbox
from docv2.storage.base import Storage
from docv2.store.base import Store
from docv2.tasks import Result, Task
from docv2.telemetry import metrics
from docv2.worker import outcome
from docv2.worker.answers import first_in_line, question_key
from docv2.worker.asking import READING_SHARE, Asking, Means, text_sizes
from docv2.worker.clock import StepClock, step_clock
from docv2.worker.folders import WorkFolders
from docv2.worker.pagecache import PageCache
from docv2.worker.turns import Turns
from docv2.worker.usable import usable

log = logging.getLogger(__name__)

READING_TRIES = 2
"""A document whose parser died is read once more, from the page it died on."""

LESSONS = 20
"""Refusals from which one attempt learns how to ask: each halves the pictures or takes a quarter of the text."""

SAVED_AT_ONCE = 500
"""Pages."""

STORE_RETRY_SECONDS = 5.0


class Pipeline:
    """Brings claimed tasks to an end."""

    def __init__(
        self,
        *,
        store: Store,
        storage: Storage,
        folders: WorkFolders,
        page_cache: PageCache,
        sandbox: Sandbox,
        catalog: Catalog,
        health: EndpointHealth,
        forms: FormCheck,
        config: RuntimeConfig,
        changes: Changes,
    ) -> None:
        self._store = store
        self._storage = storage
        self._folders = folders
        self._page_cache = page_cache
        self._sandbox = sandbox
        self._catalog = catalog
        self._health = health
        self._means = Means(store, changes, health, Turns(), forms)
        self._config = config
        self._changes = changes

    async def work(self, task: Task) -> None:
        """Complete a claimed task, fail it, or put it back in its place. Cancelled, it leaves the task as it stands."""
        try:
            await self._work(task)
        except ClaimLost:
            log.info("task %s ended meanwhile", task.task_id)
            await self._leave_nothing_of_removed(task)
        except asyncio.CancelledError:
            await self._leave_nothing_of_removed(task)
            raise

    async def _work(self, task: Task) -> None:
        try:
            if (after := await self._complete(task)) is not None:
                await self._put_back(task, after)
                return
        except ClaimLost:
            raise
        except UpstreamUnavailable as error:
            await self._put_back(task, self._failed(task, error))
        except Unavailable as error:
            log.warning("task %s goes back to its place: %s", task.task_id, error)
            await self._store.release(task.claim, not_before=time.time() + STORE_RETRY_SECONDS)
        except TaskError as error:
            await self._fail(task, error)
        except Exception:
            # A defect of ours fails this task and no other.
            log.exception("Failed: task %s met an internal error", task.task_id)
            await self._fail(task, Crashed("An internal error ended the task"))
        else:
            if not self._config.current.memory_management.cleanup_after_processing:
                return
            await self._storage.delete(task.task_id)
            await self._folders.remove(task.task_id)

    async def _complete(self, task: Task) -> Consequence | None:
        """Answer a task, if it may be with the answer of an earlier one; or why there is no answer yet."""
        config = self._config.current
        asked = replace(task, prompt=config.asked(task.prompt))
        key = await self._question_key(asked, config) if config.model_cache.enabled else ""
        cached = bool(key) and not task.fresh and await self._answered_before(task, key)
        if not cached:
            async with step_clock(config, task) as clock:
                result = await self._answer(asked, config, clock)
            if isinstance(result, Consequence):
                return result
            if key and not await self._may_be_given_again(asked, key, config):
                key = ""
            await self._store.complete(task.claim, result, key=key)
        log.info("task %s completed%s", task.task_id, " with the answer of an earlier one" if cached else "")
        expected = None if task.estimated_wait is None or cached else task.estimated_wait + (task.estimated_work or 0)
        metrics.task_completed(created_at=task.created_at, started_at=task.started_at, estimated=expected)
        return None

    async def _question_key(self, asked: Task, config: Config) -> str:
        may = partial(config.permits, await self._store.user(asked.user_id))
        return question_key(asked, config, first_in_line(self._catalog, asked.model, may))

    async def _answered_before(self, task: Task, key: str) -> bool:
        since = time.time() - self._config.current.model_cache.ttl
        found = await self._store.complete_again(task.claim, key, since=since)
        metrics.cache_asked(metrics.MODEL_CACHE, found=found)
        return found

    async def _may_be_given_again(self, asked: Task, key: str, config: Config) -> bool:
        """Whether the answer lacks nothing and all of it follows from what the key was made of."""
        if asked.attempt > 1:  # what an earlier attempt left was made of what was configured then
            return False
        parts = await self._store.parts(asked.task_id)
        if not outcome.is_whole(parts, await self._store.ledger(asked.task_id)):
            return False
        may = partial(config.permits, await self._store.user(asked.user_id))
        pages = usable(await self._store.pages(asked.task_id), config)
        try:
            first = candidates(self._catalog, asked.model, pages, may)[0].model
        except (ModelError, UpstreamUnavailable):  # it is gone by now
            return False
        # Not the answer of a fallback: the model that was asked for may do better the next time.
        return all(part.model == first.id for part in parts) and key == await self._question_key(asked, config)

    async def _leave_nothing_of_removed(self, task: Task) -> None:
        """Whoever removed a task may have removed its pages before we stopped adding to them."""
        try:
            if await self._store.get(task.task_id) is None:
                await self._folders.remove(task.task_id)
                await self._page_cache.drop(task)
        except DocV2Error as error:
            log.warning("pages of task %s, which was removed, may be left: %s", task.task_id, error)

    async def _fail(self, task: Task, error: TaskError) -> None:
        said = f"{type(error).__name__}, told to its owner" if error.quotes else error.for_log
        log.warning("Failed: task %s: %s: %s", task.task_id, error.error_type, said)
        await self._store.fail(task.claim, error.message, error.error_type)
        metrics.task_failed(error.error_type)

    def _failed(self, task: Task, error: UpstreamUnavailable, given_up: int = 0) -> Consequence:
        """What comes of a failed call."""
        log.warning("task %s: its model endpoint failed: %s", task.task_id, error.for_log)
        return self._health.after_failure(task, error, given_up=given_up)

    async def _put_back(self, task: Task, after: Consequence) -> None:
        """Back to its place until the endpoint may do better; failed, where the endpoint fails on this task alone."""
        if after.error is not None:
            await self._fail(task, after.error)
            return
        log.info("task %s waits for its model endpoint", task.task_id)
        await self._store.release(task.claim, not_before=after.not_before, upstream_failed=after.counts)

    # -- reading ------------------------------------------------------------------------------------------------------
    async def _read(self, task: Task, folder: Path, clock: StepClock) -> list[Page]:
        """All pages, those that an earlier attempt kept included."""
        pages = await self._kept_pages(task, folder)
        if len(pages) == task.pages_total:
            return pages
        if not pages and (found := await self._page_cache.take(task, folder)):
            await self._save_found(task, found)
            clock.step()
            self._changes.announce(task.task_id)
            return found
        kept, began = len(pages), time.monotonic()
        total: int | None = None
        for tries_left in reversed(range(READING_TRIES)):
            log.debug("task %s is read from page %d", task.task_id, len(pages) + 1)
            try:
                async with self._storage.document(task.task_id) as path:
                    reading = read(
                        self._sandbox,
                        path,
                        MediaType(task.media_type),
                        folder,
                        first_page=len(pages) + 1,
                        owner=task.task_id,
                        detail=task.detail,
                    )
                    async with aclosing(reading):
                        async for page, total in reading:
                            pages.append(page)
                            share = len(pages) / max(total, len(pages)) if total else 0
                            await self._store.save_pages(
                                task.claim, [page], progress=READING_SHARE * share, pages_total=total
                            )
                            clock.step()
                            self._changes.announce(task.task_id)
                break
            except ParserDied as error:
                if not tries_left:
                    raise Crashed("The program that reads the document died twice on it") from error
                log.warning("reading task %s again from page %d: %s", task.task_id, len(pages) + 1, error)
        await self._store.save_pages(task.claim, [], progress=READING_SHARE, pages_total=len(pages))
        metrics.STAGE.labels("reading").observe(time.monotonic() - began)
        if pages and not kept:
            await self._store.measure("bytes", task.media_type, len(pages), task.size)
            await self._store.measure("reading", task.media_type, len(pages), time.monotonic() - began)
            await self._page_cache.keep(task, pages, folder)
        return pages

    async def _save_found(self, task: Task, pages: Sequence[Page]) -> None:
        """Keep pages that need not be read, some at a time: no other write is to wait for 20,000 of them."""
        for start in range(0, len(pages), SAVED_AT_ONCE):
            some = pages[start : start + SAVED_AT_ONCE]
            await self._store.save_pages(task.claim, some, progress=READING_SHARE, pages_total=len(pages))

    async def _kept_pages(self, task: Task, folder: Path) -> list[Page]:
        """The pages that an earlier attempt stored, up to the first whose file a power cut took."""
        pages = await self._store.pages(task.task_id)

        def kept() -> list[Page]:
            return [page for number, page in enumerate(pages, 1) if page.number == number and is_whole(page, folder)]

        found = await asyncio.to_thread(kept)
        return [page for number, page in enumerate(found, 1) if page.number == number]

    # -- asking -------------------------------------------------------------------------------------------------------
    async def _answer(self, task: Task, config: Config, clock: StepClock) -> Result | Consequence:
        """The answer, or why there is none yet."""
        folder = await self._folders.make(task.task_id)
        pages = usable(await self._read(task, folder, clock), config)
        sizes = await text_sizes(pages, folder)
        return await self._ask(task, pages, sizes, folder, clock)

    async def _ask(
        self, task: Task, pages: Sequence[Page], sizes: dict[int, int], folder: Path, clock: StepClock
    ) -> Result | Consequence:
        """Ask the first model that may be asked now; where it fails for good or its endpoint does, the next one."""
        kept = await self._store.parts(task.task_id)
        may = partial(self._config.current.permits, await self._store.user(task.user_id))
        found = candidates(self._catalog, task.model, pages, may)
        given_up: dict[str, TaskError] = {}
        asked_ids: set[str] = set()
        began, lessons_left = time.monotonic(), LESSONS
        while True:
            left = [one for one in found if one.model.id not in given_up]
            if not left:
                raise next(iter(given_up.values()))
            chosen = next((one for one in left if self._health.lets_in(task, one.model)), None)
            if chosen is None:
                return self._health.postponed([one.model for one in left])
            model = chosen.model
            if model.id not in asked_ids:
                asked_ids.add(model.id)
                clock.put_to(model.id)
            endpoint, notes = self._catalog.endpoint(model), (chosen.note,) if chosen.note else ()
            try:
                result = await Asking(task, pages, sizes, folder, model, endpoint, clock, self._means, notes).run()
            except UnfitAnswer:
                raise  # another model would start from the same kept answers
            except ModelError as error:
                if isinstance(error, CannotSee | ContextExceeded) and lessons_left:
                    lessons_left -= 1
                    # What the refusal taught changes the route or the plan; if it changes nothing, it is final.
                    found = candidates(self._catalog, task.model, pages, may)
                    if all(one.model != model for one in found):
                        continue
                log.warning("task %s: the model %s cannot answer it: %s", task.task_id, model.id, error.for_log)
                self._health.finished(task)  # whether its endpoint works may be tried by another
                given_up[model.id] = error
                if model.id == task.model and not self._catalog.lists(model.id):
                    with suppress(ModelError):  # it may be one that nobody has any more
                        found += candidates(self._catalog, task.model, pages, may, gone=given_up)
            except UpstreamUnavailable as error:
                after = self._failed(task, error, len(given_up))
                following = next((one for one in left if self._health.lets_in(task, one.model)), None)
                if after.error is not None:
                    given_up[model.id] = after.error
                elif following in (None, chosen):
                    return after
            else:
                if not kept and asked_ids == {model.id}:
                    seconds = time.monotonic() - began
                    await self._store.measure("asking", asked(model.id, task.media_type), len(pages), seconds)
                return result
