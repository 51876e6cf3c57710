"""The model calls of one task: what was answered before is not asked again, what fits in one call is one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from docv2.documents import Page, PageSource
from docv2.errors import ClaimLost, DocV2Error, ModelError, TaskError
from docv2.events import Changes
from docv2.llm import prompt
from docv2.llm.catalog import Model
from docv2.llm.client import Endpoint, Message
from docv2.llm.health import EndpointHealth
from docv2.llm.prompt import Excerpt
from docv2.store.base import Store
from docv2.tasks import Part, Result, Stage, Task
from docv2.worker.clock import StepClock

READING_SHARE = 30.0
ASKING_SHARE = 65.0
"""Percent of a task's progress that reading and asking make up; combining has the rest."""

PARTS_AT_ONCE = 4
"""Model calls of one task under way at a time, so that one long document does not take an endpoint for itself."""

REPORT_SECONDS = 1.0
"""Progress within a step is written at most this often."""

HALFWAY_CHARACTERS = 2000
"""Of a streamed answer, whose length nobody knows: at this many it counts as half done."""


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One task put to one model."""

    task: Task
    pages: Sequence[Page]
    folder: Path
    model: Model
    endpoint: Endpoint
    health: EndpointHealth
    store: Store
    changes: Changes
    clock: StepClock

    async def run(self) -> Result:
        """Ask about every page that no kept answer covers, then combine the answers into one."""
        kept = await self.store.parts(self.task.task_id)
        parts = await self._ask_pages([part for part in kept if part.level == 0])
        used = list(parts)
        level = 0
        while len(parts) > 1:
            level += 1
            parts = await self._combine(level, parts, [part for part in kept if part.level == level])
            used += parts
        return self._result(parts[0], used)

    async def _ask_pages(self, kept: Sequence[Part]) -> list[Part]:
        covered = {
            number for part in kept if ":" not in part.scope for number in range(part.first_page, part.last_page + 1)
        }
        left = [page for page in self.pages if page.number not in covered]
        sizes = await prompt.text_sizes(left, self.folder)
        groups = prompt.plan(left, sizes, self.model, self.task.prompt, self.task.max_tokens)
        parts = {part.scope: part for part in kept if ":" not in part.scope}
        again = {part.scope: part for part in kept if ":" in part.scope}
        new: list[tuple[str, list[Excerpt]]] = []
        for group in groups:
            scope = _scope(group)
            if scope in again:
                parts[scope] = again[scope]
            else:
                new.append((scope, group))
        count = len(parts) + len(new)
        if not count:
            raise ModelError("The document has only pictures, and no model that can see is available")
        order = sorted([*(part.first_page for part in parts.values()), *(group[0].page.number for _, group in new)])
        meter = _Meter(Stage.ASKING, READING_SHARE, ASKING_SHARE, done=len(parts), of=count)
        jobs = [
            partial(self._ask_group, meter, scope, group, order.index(group[0].page.number) + 1, count)
            for scope, group in new
        ]
        for part in await self._all(meter, jobs):
            parts[part.scope] = part
        return sorted(parts.values(), key=lambda part: part.first_page)

    async def _ask_group(self, meter: _Meter, scope: str, group: list[Excerpt], number: int, of: int) -> Part:
        limit = prompt.whole_answer if of == 1 else prompt.part_answer
        messages = await prompt.part_messages(self.task.prompt, group, self.folder, self.model, number=number, of=of)
        numbers = [excerpt.page.number for excerpt in group]
        unanswered = self._unanswered(0, scope, numbers[0], numbers[-1])
        return await self._call(meter, unanswered, messages, limit(self.model, self.task.max_tokens))

    async def _combine(self, level: int, parts: Sequence[Part], kept: Sequence[Part]) -> list[Part]:
        groups = prompt.plan_combine(parts, self.model, self.task.prompt, self.task.max_tokens)
        done = {part.scope: part for part in kept}
        unread = [page.number for page in self.pages if not self._usable(page)]
        meter = _Meter(
            Stage.COMBINING, READING_SHARE + ASKING_SHARE, 100 - READING_SHARE - ASKING_SHARE, of=len(groups)
        )
        jobs: list[Callable[[], Awaitable[Part]]] = []
        combined: dict[str, Part] = {}
        for group in groups:
            scope = f"{group[0].scope}..{group[-1].scope}"
            if scope in done:
                combined[scope] = done[scope]
                continue
            messages = prompt.combine_messages(self.task.prompt, group, unread)
            unanswered = self._unanswered(level, scope, group[0].first_page, group[-1].last_page)
            limit = prompt.whole_answer if len(groups) == 1 else prompt.part_answer
            jobs.append(partial(self._call, meter, unanswered, messages, limit(self.model, self.task.max_tokens)))
        for part in await self._all(meter, jobs):
            combined[part.scope] = part
        return sorted(combined.values(), key=lambda part: part.first_page)

    def _unanswered(self, level: int, scope: str, first_page: int, last_page: int) -> Part:
        return Part(level, scope, first_page, last_page, self.model.id, content="", finish_reason="")

    async def _call(self, meter: _Meter, unanswered: Part, messages: list[Message], max_tokens: int) -> Part:
        """One call; its answer is kept before anyone uses it."""
        reply = await self.endpoint.ask(
            self.model.id,
            messages,
            temperature=self.task.temperature,
            max_tokens=max_tokens,
            on_progress=partial(meter.streamed, unanswered.scope),
            task_id=self.task.task_id,
        )
        self.health.succeeded(self.model)
        part = replace(
            unanswered,
            content=reply.content,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            notes=reply.notes,
        )
        meter.finished(part.scope)
        await self.store.save_part(self.task.claim, part, stage=meter.stage, progress=meter.percent)
        self.clock.step()
        self.changes.announce(self.task.task_id)
        return part

    async def _all(self, meter: _Meter, jobs: Sequence[Callable[[], Awaitable[Part]]]) -> list[Part]:
        """Run the calls, several at once. After a failure none starts, but those under way may end: they are paid."""
        slots = asyncio.Semaphore(PARTS_AT_ONCE)
        failures: list[DocV2Error] = []

        async def one(job: Callable[[], Awaitable[Part]]) -> Part | None:
            async with slots:
                if failures:
                    return None
                try:
                    return await job()
                except DocV2Error as error:
                    failures.append(error)
                    return None

        async with self._reporting(meter), asyncio.TaskGroup() as group:
            running = [group.create_task(one(job)) for job in jobs]
        if failures:
            raise min(failures, key=lambda error: (not isinstance(error, ClaimLost), not isinstance(error, TaskError)))
        return [part for part in (task.result() for task in running) if part is not None]

    @asynccontextmanager
    async def _reporting(self, meter: _Meter) -> AsyncIterator[None]:
        """Write progress as it moves, at most once a second."""

        async def report() -> None:
            while True:
                await self.store.report(self.task.claim, stage=meter.stage, progress=meter.percent)
                self.changes.announce(self.task.task_id)
                await asyncio.sleep(REPORT_SECONDS)
                meter.moved.clear()
                await meter.moved.wait()

        reporter = asyncio.create_task(report())
        try:
            yield
        finally:
            reporter.cancel()
            # A claim lost here is met again by the next write that matters.
            await asyncio.wait([reporter])

    def _usable(self, page: Page) -> bool:
        return page.has_text or (page.has_picture and self.model.vision)

    def _result(self, final: Part, used: Sequence[Part]) -> Result:
        return Result(
            content=final.content,
            model_used=self.model.id,
            finish_reason=final.finish_reason,
            warnings=tuple(self._warnings(final, used)),
            temperature=self.task.temperature,
            max_tokens=self.task.max_tokens,
            prompt_tokens=sum(part.prompt_tokens for part in used),
            completion_tokens=sum(part.completion_tokens for part in used),
        )

    def _warnings(self, final: Part, used: Sequence[Part]) -> Iterable[str]:
        reasons: dict[str, list[int]] = {}
        for page in self.pages:
            if page.source is PageSource.NONE:
                reasons.setdefault(page.reason, []).append(page.number)
        for reason, numbers in reasons.items():
            yield f"{page_list(numbers)} could not be used: {reason}"
        if unseen := [page.number for page in self.pages if page.has_picture and not self._usable(page)]:
            yield f"{page_list(unseen)} could not be used: no model that can see was available"
        for part in used:
            if part.finish_reason == "length":
                which = "The answer" if part is final else f"The answer for pages {part.first_page} to {part.last_page}"
                yield f"{which} was cut short at the limit of tokens (finish_reason: length)"
        yield from dict.fromkeys(note for part in used for note in part.notes)


class _Meter:
    """How far the calls of one stage are."""

    def __init__(self, stage: Stage, start: float, share: float, *, done: int = 0, of: int) -> None:
        self.stage = stage
        self.moved = asyncio.Event()
        self._start = start
        self._share = share
        self._done = done
        self._of = of
        self._under_way: dict[str, float] = {}

    @property
    def percent(self) -> float:
        """Of the whole task."""
        return self._start + self._share * (self._done + sum(self._under_way.values())) / self._of

    def streamed(self, scope: str, characters: int) -> None:
        """An answer has grown to so many characters."""
        self._under_way[scope] = characters / (characters + HALFWAY_CHARACTERS)
        self.moved.set()

    def finished(self, scope: str) -> None:
        """An answer is complete."""
        self._under_way.pop(scope, None)
        self._done += 1


def _scope(group: Sequence[Excerpt]) -> str:
    """What a part covers, in a word that names the same excerpts in every plan."""

    def label(excerpt: Excerpt) -> str:
        piece = f":{excerpt.piece + 1}/{excerpt.pieces}" if excerpt.pieces > 1 else ""
        return f"{excerpt.page.number}{piece}"

    return f"{label(group[0])}-{label(group[-1])}"


def page_list(numbers: Sequence[int]) -> str:
    """Page numbers as a person writes them: `Page 3`, `Pages 1 to 3, 7`."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    shown = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
    return f"Page {shown}" if len(numbers) == 1 else f"Pages {shown}"
