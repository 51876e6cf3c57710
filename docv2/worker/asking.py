"""The model calls of one task: what was answered before is not asked again, what fits in one call is one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from docv2.documents import Page, PageSource, PageUse
from docv2.errors import ClaimLost, Crashed, DocV2Error, ModelError, ParserDied, TaskError, UnfitAnswer
from docv2.events import Changes
from docv2.llm import plan, prompt
from docv2.llm.catalog import Model
from docv2.llm.client import Endpoint, Message
from docv2.llm.forms import FormCheck, bare, schema_text
from docv2.llm.health import EndpointHealth
from docv2.llm.plan import Excerpt
from docv2.llm.prompt import Rejected
from docv2.store.base import Store
from docv2.tasks import Part, Result, Stage, Task
from docv2.telemetry import metrics
from docv2.worker import outcome, turns
from docv2.worker.clock import StepClock
from docv2.worker.meter import Meter
from docv2.worker.turns import Turns

READING_SHARE = 30.0
ASKING_SHARE = 65.0
"""Percent of a task's progress that reading and asking make up; combining has the rest."""

REPORT_SECONDS = 1.0
"""Progress within a step is written at most this often."""


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """What all tasks are asked with."""

    store: Store
    changes: Changes
    health: EndpointHealth
    turns: Turns
    forms: FormCheck


@dataclass(frozen=True, slots=True)
class _Question:
    """One call that is to be made."""

    part: Part
    """As it will be kept, still without its answer."""
    messages: Callable[[], Awaitable[list[Message]]]
    """Made when it is its turn: they hold pictures."""
    is_last: bool
    """Whether its answer is the one that the caller gets."""
    excerpts: Sequence[Excerpt] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One task put to one model."""

    task: Task
    pages: Sequence[Page]
    sizes: dict[int, int]
    """UTF-8 bytes of the pages' texts, by number."""
    folder: Path
    model: Model
    endpoint: Endpoint
    clock: StepClock
    means: Means
    notes: tuple[str, ...] = ()
    """What the reader of any answer of this model must know."""

    async def run(self) -> Result:
        """Ask about all that no kept answer covers, then combine the answers into one."""
        async with self.means.turns.asking(self.endpoint.name, self.task.task_id):
            kept = await self.means.store.parts(self.task.task_id)
            parts = await self._ask_pages([part for part in kept if part.level == 0])
            used, below = list(parts), list[Part]()
            level = 0
            while len(parts) > 1:
                below, level = parts, level + 1
                parts = await self._combine(level, below, [part for part in kept if part.level == level])
                if level > 1 and len(parts) >= len(below):
                    raise ModelError("The answers to the parts cannot be combined: the model's answers are too long")
                used += [part for part in parts if part not in used]
            final = parts[0]
            if self.task.response_format is not None:
                used.remove(final)
                final = await self._in_form(final, below, [part for part in kept if part.level == level + 1])
                used.append(final)
        answered = await self.means.store.parts(self.task.task_id)
        ledger = await self.means.store.ledger(self.task.task_id)
        return outcome.result(self.task, final, used, answered, self.pages, ledger)

    @property
    def _request(self) -> plan.Request:
        return plan.Request(self.task.prompt, self.task.max_tokens, schema_text(self.task.response_format))

    # -- parts --------------------------------------------------------------------------------------------------------
    async def _ask_pages(self, kept: Sequence[Part]) -> list[Part]:
        runs = plan.remaining(self.pages, self.sizes, kept)
        groups = plan.plan(runs, self.sizes, self.model, self._request)
        count = len(kept) + len(groups)
        if not count:
            raise ModelError("The document has only pictures, and no model that can see is available")
        new = [self._about(group) for group in groups]
        places = {place: number for number, place in enumerate(sorted(map(_place, [*kept, *new])), 1)}
        meter = Meter(Stage.ASKING, READING_SHARE, ASKING_SHARE, done=len(kept), of=count)
        questions = [
            _Question(part, partial(self._part_messages, group, places[_place(part)], count), count == 1, group)
            for part, group in zip(new, groups, strict=True)
        ]
        return sorted([*kept, *await self._all(meter, questions)], key=_place)

    def _about(self, group: Sequence[Excerpt]) -> Part:
        first, last = group[0], group[-1]
        return replace(
            self._unanswered(0, plan.scope_of(group), first.page.number, last.page.number),
            first_byte=first.start,
            last_byte=last.end,
        )

    async def _part_messages(self, group: Sequence[Excerpt], number: int, of: int) -> list[Message]:
        form = self._request.form if of == 1 else ""
        return await prompt.part_messages(
            self.task.prompt, group, self.folder, self.model, number=number, of=of, form=form
        )

    # -- combining ----------------------------------------------------------------------------------------------------
    async def _combine(self, level: int, below: Sequence[Part], kept: Sequence[Part]) -> list[Part]:
        """One round. What an answer of this round covers already is left out; the rest is grouped anew."""
        done, runs = _covered(below, kept)
        groups = [group for run in runs for group in plan.plan_combine(run, self.model, self._request)]
        known = {part.scope: part for part in kept}
        is_last = not done and len(groups) == 1
        questions = []
        for group in groups:
            scope = plan.joint_scope(group)
            if len(group) == 1 and not is_last:
                done.append(group[0])  # left over: the next round has others to go with it
            elif scope in known:
                done.append(known[scope])
            else:
                questions.append(self._joining(level, scope, group, is_last))
        share = 100 - READING_SHARE - ASKING_SHARE
        meter = Meter(Stage.COMBINING, READING_SHARE + ASKING_SHARE, share, of=max(1, len(questions)))
        return sorted([*done, *await self._all(meter, questions)], key=_place)

    def _joining(self, level: int, scope: str, group: Sequence[Part], is_last: bool) -> _Question:
        first, last = group[0], group[-1]
        part = self._unanswered(level, scope, first.first_page, last.last_page)
        part = replace(part, first_byte=first.first_byte, last_byte=last.last_byte)
        return _Question(part, partial(self._joining_messages, group, is_last=is_last), is_last)

    async def _joining_messages(
        self, group: Sequence[Part], *, is_last: bool, rejected: Rejected | None = None
    ) -> list[Message]:
        unread = [page.number for page in self.pages if plan.used_of(page, self.model) is PageSource.NONE]
        form = self._request.form if is_last else ""
        return prompt.combine_messages(self.task.prompt, group, unread, last=is_last, form=form, rejected=rejected)

    # -- the form -----------------------------------------------------------------------------------------------------
    async def _in_form(self, final: Part, below: Sequence[Part], kept: Sequence[Part]) -> Part:
        """The final answer where it fits the form that is wanted, else what one more try gives, else UnfitAnswer."""
        final = replace(final, content=bare(final.content))
        misfit = await self._misfit(final)
        if not misfit:
            return final
        second = next((part for part in kept if part.scope == final.scope), None)
        if second is None:
            part = self._unanswered(final.level + 1, final.scope, final.first_page, final.last_page)
            rejected = Rejected(final.content, misfit)
            question = _Question(part, partial(self._second_messages, final, below, rejected), is_last=True)
            [second] = await self._all(Meter(Stage.COMBINING, 99.0, 1.0, of=1), [question])
        second = replace(second, content=bare(second.content))
        if misfit := await self._misfit(second):
            raise UnfitAnswer(f"The model's answer does not fit response_format, at a second try either: {misfit}")
        return second

    async def _second_messages(self, final: Part, below: Sequence[Part], rejected: Rejected) -> list[Message]:
        """The last question once more, with the answer that did not fit; that alone where the rest no longer fits."""
        if below:
            groups = plan.plan_combine(below, self.model, self._request)
            return await self._joining_messages(
                groups[0] if len(groups) == 1 else [final], is_last=True, rejected=rejected
            )
        parts = plan.plan([[Excerpt(page) for page in self.pages]], self.sizes, self.model, self._request)
        if len(parts) > 1:
            return await self._joining_messages([final], is_last=True, rejected=rejected)
        form = self._request.form
        return await prompt.part_messages(
            self.task.prompt, parts[0], self.folder, self.model, form=form, rejected=rejected
        )

    async def _misfit(self, answer: Part) -> str:
        assert self.task.response_format is not None
        try:
            return await self.means.forms.misfit(
                self.task.response_format, answer.content, self.folder, owner=self.task.task_id
            )
        except ParserDied as error:
            raise Crashed("The program that checks the form of answers died") from error

    # -- calls --------------------------------------------------------------------------------------------------------
    def _unanswered(self, level: int, scope: str, first_page: int, last_page: int) -> Part:
        return Part(level, scope, first_page, last_page, self.model.id, content="", finish_reason="")

    async def _call(self, meter: Meter, question: _Question) -> Part:
        """One call; its answer is kept before anyone uses it."""
        part, task, store = question.part, self.task, self.means.store
        limit = plan.whole_answer if question.is_last else plan.part_answer
        if question.excerpts:
            await store.count_call(task.claim, self._given(question.excerpts))
        began = time.monotonic()
        reply = await self.endpoint.ask(
            self.model.id,
            await question.messages(),
            temperature=task.temperature,
            max_tokens=limit(self.model, task.max_tokens),
            response_format=task.response_format if question.is_last else None,
            on_progress=partial(meter.streamed, part.scope),
            task_id=task.task_id,
        )
        metrics.model_called(
            self.endpoint.name,
            time.monotonic() - began,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )
        self.means.health.succeeded(self.model)
        part = replace(
            part,
            content=reply.content,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            notes=(*self.notes, *reply.notes),
        )
        meter.finished(part.scope)
        uses = self._uses(question.excerpts, reply.prompt_tokens)
        await store.save_part(task.claim, part, stage=meter.stage, progress=meter.percent, uses=uses)
        self.clock.step()
        self.means.changes.announce(task.task_id)
        return part

    def _given(self, excerpts: Sequence[Excerpt]) -> list[int]:
        """Numbers of the pages of which the model gets more than the number."""
        return [
            excerpt.page.number for excerpt in excerpts if plan.used_of(excerpt.page, self.model) is not PageSource.NONE
        ]

    def _uses(self, excerpts: Sequence[Excerpt], tokens: int) -> list[PageUse]:
        """What the model was given of each page; of the tokens it counted, each page has a share by its estimate."""
        costs = [plan.cost(excerpt, self.sizes, self.model) for excerpt in excerpts]
        whole = sum(costs)
        return [
            PageUse(excerpt.page.number, plan.used_of(excerpt.page, self.model), tokens * cost // whole)
            for excerpt, cost in zip(excerpts, costs, strict=True)
        ]

    async def _all(self, meter: Meter, questions: Sequence[_Question]) -> list[Part]:
        """Ask, several at once. After a failure no call starts, but those under way may end: they are paid."""
        left = iter(questions)
        answers: list[Part] = []
        failures: list[DocV2Error] = []

        async def ask_in_turn() -> None:
            while not failures:
                async with self.means.turns.call(self.endpoint.name, self.task.task_id):
                    question = None if failures else next(left, None)
                    if question is None:
                        return
                    try:
                        answers.append(await self._call(meter, question))
                    except DocV2Error as error:
                        failures.append(error)

        began = time.monotonic()
        async with self._reporting(meter), asyncio.TaskGroup() as group:
            for _ in questions[: turns.TOGETHER]:
                group.create_task(ask_in_turn())
        if failures:
            raise min(failures, key=lambda error: (not isinstance(error, ClaimLost), not isinstance(error, TaskError)))
        if questions:
            metrics.STAGE.labels(meter.stage).observe(time.monotonic() - began)
        return answers

    @asynccontextmanager
    async def _reporting(self, meter: Meter) -> AsyncIterator[None]:
        """Write progress as it moves, at most once a second."""

        async def report() -> None:
            while True:
                await self.means.store.report(self.task.claim, stage=meter.stage, progress=meter.percent)
                self.means.changes.announce(self.task.task_id)
                await asyncio.sleep(REPORT_SECONDS)
                meter.moved.clear()
                await meter.moved.wait()

        reporter = asyncio.create_task(report())
        try:
            yield
        finally:
            reporter.cancel()
            # A claim lost here is met again by the next write that matters.
            await asyncio.gather(reporter, return_exceptions=True)


async def text_sizes(pages: Sequence[Page], folder: Path) -> dict[int, int]:
    """UTF-8 bytes of the pages' texts, by number."""
    return await asyncio.to_thread(
        lambda: {page.number: page.text_path(folder).stat().st_size for page in pages if page.has_text}
    )


def _place(part: Part) -> tuple[int, int]:
    """Where in the document it begins."""
    return part.first_page, part.first_byte


def _covered(below: Sequence[Part], kept: Sequence[Part]) -> tuple[list[Part], list[list[Part]]]:
    """Kept answers that each cover a run of the answers below, and the runs that none covers."""
    begins = {part.scope.split("-")[0]: at for at, part in enumerate(below)}
    ends = {part.scope.split("-")[1]: at for at, part in enumerate(below)}
    done: list[Part] = []
    runs: list[list[Part]] = []
    at = 0
    for answer in sorted(kept, key=_place):
        begin, end = answer.scope.split("-")
        first, last = begins.get(begin, -1), ends.get(end, -1)
        if first >= at and last >= first:
            done.append(answer)
            runs.append(list(below[at:first]))
            at = last + 1
    return done, [run for run in [*runs, list(below[at:])] if run]
