"""Long documents: what is asked of the parts and of their answers comes out right, once, and is kept.

The model of these tests knows only what a request holds (tests/model.py): a right answer shows that all of it arrived.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from docv2.documents import Page, PageSource
from docv2.errors import ContextExceeded, ModelError, UpstreamUnavailable
from docv2.llm.prompt import Fenced
from docv2.store.sqlite import SQLiteStore
from docv2.tasks import Result, Task
from docv2.worker import turns
from tests.asking import Desk, both, open_desk, picture, text, unread
from tests.endpoint import Behaviour, Call, ScriptedEndpoint, answer, hang, in_turn, status
from tests.model import ReadingModel, fact, filler
from tests.waiting import until

OpenDesk = Callable[[ReadingModel], Awaitable[Desk]]
Document = list[tuple[Page, str]]


@pytest.fixture
async def sit(store: SQLiteStore, tmp_path: Path) -> AsyncIterator[OpenDesk]:
    """Opens a desk before an endpoint with one such model."""
    opened = []

    async def open_one(model: ReadingModel) -> Desk:
        manager = _before(store, tmp_path, model)
        opened.append(manager)
        return await manager.__aenter__()

    yield open_one
    for manager in opened:
        await manager.__aexit__(None, None, None)


@asynccontextmanager
async def _before(store: SQLiteStore, folder: Path, model: ReadingModel) -> AsyncIterator[Desk]:
    async with ScriptedEndpoint([model.entry]) as endpoint, open_desk(store, folder, endpoint) as desk:
        endpoint.otherwise = model
        yield desk


def long_document(pages: int = 200, facts: int = 25) -> Document:
    """Pages of filler, every so often with a fact; the last page has one too."""
    every = pages // facts
    return [
        text(number, filler(number) + (f"\n{fact(f'item-{number}', number)}" if number % every == 0 else ""))
        for number in range(1, pages + 1)
    ]


async def learning(desk: Desk, task: Task) -> Result:
    """Ask again whenever a refusal taught something, as the pipeline does."""
    for _ in range(20):
        try:
            return await desk.ask(task)
        except ContextExceeded:
            continue
    raise AssertionError("nothing was learned")


def rounds(given: Sequence[Fenced]) -> tuple[list[Fenced], list[Fenced]]:
    """Requests about pages, and those about answers."""
    return [one for one in given if one.pages], [one for one in given if one.answers]


CONTEXTS = [2_048, 4_096, 16_384, 400_000]
"""Several rounds of combining; two; one; none."""


# -- the right answer -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("context", [4_096, 400_000])
@pytest.mark.parametrize("place", [1, 137, 200])
async def test_a_fact_in_one_place_is_found(sit: OpenDesk, context: int, place: int) -> None:
    desk = await sit(ReadingModel(context))
    document = long_document()
    document[place - 1] = text(place, filler(place) + "\n" + fact("needle", 4711) + "\n" + filler(0, 300))
    result = await desk.answer(document, "find needle", max_tokens=300)
    assert result.content == f"FACT needle: 4711 (page {place})"
    assert result.warnings == ()


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    ("prompt", "last"),
    [("list", None), ("count", "There are 25."), ("summarise", f"In all {sum(range(8, 201, 8))}.")],
)
async def test_what_is_asked_of_the_whole_comes_of_the_whole(
    sit: OpenDesk, context: int, prompt: str, last: str | None
) -> None:
    model = ReadingModel(context)
    desk = await sit(model)
    result = await desk.answer(long_document(), prompt, max_tokens=8000)
    lines = result.content.splitlines()
    if last is not None:
        assert lines.pop() == last
    assert sorted(lines) == sorted(f"FACT item-{number}: {number} (page {number})" for number in range(8, 201, 8))
    about_pages, about_answers = rounds(model.answered)
    assert Counter(page.number for one in about_pages for page in one.pages) == Counter(range(1, 201))
    assert bool(about_answers) is (context < 400_000)
    assert result.pages == {"text": 200}


async def test_the_ends_of_a_document_are_compared(sit: OpenDesk) -> None:
    desk = await sit(ReadingModel(4_096))
    document = long_document()
    document[0] = text(1, fact("first", 7) + filler(1))
    document[199] = text(200, filler(200) + "\n" + fact("last", 9))
    result = await desk.answer(document, "compare first last")
    assert result.content.splitlines()[-1] == "last is more."


async def test_small_models_take_several_rounds_and_each_gets_smaller(sit: OpenDesk) -> None:
    model = ReadingModel(2_048)
    desk = await sit(model)
    task = await desk.task(long_document(), "list")
    await desk.ask(task)
    levels = Counter(part.level for part in await desk.parts(task))
    assert len(levels) >= 3
    assert [levels[level] for level in sorted(levels)] == sorted(levels.values(), reverse=True)
    assert levels[max(levels)] == 1
    assert len(model.answered) == sum(levels.values()), "each answer was kept, and none was asked for twice"
    assert model.refused == 0


async def test_what_fits_is_one_call(sit: OpenDesk) -> None:
    model = ReadingModel(32_768)
    desk = await sit(model)
    assert (await desk.answer(long_document(20, 4), "count")).content.endswith("There are 4.")
    assert len(model.answered) == 1


async def test_one_page_may_be_longer_than_the_model(sit: OpenDesk) -> None:
    model = ReadingModel(4_096)
    desk = await sit(model)
    lines = "\n".join(f"{filler(n, 700)}\n{fact(f'item-{n}', n)}" for n in range(1, 31))
    result = await desk.answer([text(1, "a cover"), both(2, lines), text(3, fact("after", 5))], "list")
    found = sorted(result.content.splitlines())
    assert found == sorted([*(f"FACT item-{n}: {n} (page 2)" for n in range(1, 31)), "FACT after: 5 (page 3)"])
    shown = [page for one in model.answered for page in one.pages if page.number == 2 and page.text]
    assert "".join(page.text for page in sorted(shown, key=lambda page: lines.find(page.text[:40]))) == lines
    assert sum(bool(page.picture) for one in model.answered for page in one.pages) == 1
    assert result.pages == {"text": 2, "both": 1}


# -- limits of models -------------------------------------------------------------------------------------------------
async def test_no_call_has_more_pictures_than_the_model_takes(sit: OpenDesk) -> None:
    model = ReadingModel(16_384, pictures=3)
    desk = await sit(model)
    task = await desk.task([picture(n, fact(f"item-{n}", n)) for n in range(1, 21)], "count")
    result = await learning(desk, task)
    assert result.content.endswith("There are 20.")
    assert model.refused <= turns.TOGETHER, "refused once, by the calls that were under way"
    about_pages, _ = rounds(model.answered)
    assert [page.number for one in about_pages for page in sorted(one.pages, key=lambda page: page.number)]
    assert Counter(page.number for one in about_pages for page in one.pages) == Counter(range(1, 21))
    assert max(len(one.pages) for one in about_pages) == 3


@pytest.mark.parametrize("states_context", [True, False])
async def test_a_smaller_context_than_was_said_splits_again_and_repeats_nothing(
    sit: OpenDesk, states_context: bool
) -> None:
    model = ReadingModel(6_000, entry_context=32_768, states_context=states_context)
    desk = await sit(model)
    document = [text(1, fact("first", 1)), *long_document(100, 10)[1:]]
    task = await desk.task(document, "list", max_tokens=500)
    result = await learning(desk, task)
    assert "FACT first: 1 (page 1)" in result.content
    assert result.content.count("FACT") == 11
    about_pages, _ = rounds(model.answered)
    assert Counter(page.number for one in about_pages for page in one.pages) == Counter(range(1, 101))
    assert 0 < model.refused <= 12 * turns.TOGETHER


async def test_what_was_answered_before_a_refusal_is_not_asked_again(sit: OpenDesk) -> None:
    """Dense pages come late: the first parts are answered, then one does not fit."""
    model = ReadingModel(8_192, bytes_per_token=2.5)
    desk = await sit(model)
    task = await desk.task(long_document(100, 10), "list", max_tokens=500)
    model.bytes_per_token = 3.2
    desk.endpoint.script(*[model] * 3)
    desk.endpoint.otherwise = in_turn(model, model, status(400, "prompt is too long: context_length_exceeded"), model)
    result = await learning(desk, task)
    assert result.content.count("FACT") == 10
    about_pages, _ = rounds(model.answered)
    assert Counter(page.number for one in about_pages for page in one.pages) == Counter(range(1, 101))


async def test_a_model_that_holds_less_combines_the_long_answers_of_another(sit: OpenDesk) -> None:
    desk = await sit(ReadingModel(40_000))
    task = await desk.task(long_document(), "list", max_tokens=8000)
    desk.endpoint.otherwise = in_turn(*[_wordy(8_000)] * 3, status(503))
    with pytest.raises(UpstreamUnavailable):
        await desk.ask(task)
    kept = await desk.parts(task)
    assert max(len(part.content) for part in kept) > 20_000
    small = ReadingModel(3_000)
    desk.endpoint.otherwise = small
    await desk.learned.keep("reader", replace(desk.learned.of("reader"), context=3_000))
    result = await learning(desk, await desk.again(task))
    assert result.content.count("FACT") >= 25
    assert small.refused == 0
    assert {part.scope for part in kept} <= {part.scope for part in await desk.parts(task, 0)}


def _wordy(tokens: int) -> Behaviour:
    """Answers with all it knows and very many words."""
    model = ReadingModel(10**6)
    model.gives = lambda said: answer(said + "\n" + filler(0, tokens * 3), usage=None)
    return model


async def test_answers_that_never_get_shorter_end_the_task_and_not_the_patience(sit: OpenDesk) -> None:
    desk = await sit(ReadingModel(4_096))
    desk.endpoint.otherwise = answer(filler(1, 40_000), usage=None)
    with pytest.raises(ModelError, match="too long"):
        await desk.answer(long_document(40, 4), "list")
    assert len(desk.endpoint.calls) < 400


# -- tokens -----------------------------------------------------------------------------------------------------------
async def test_counts_of_the_endpoint_correct_the_estimate(sit: OpenDesk) -> None:
    model = ReadingModel(8_192, bytes_per_token=4.5)
    desk = await sit(model)
    first = await desk.task(long_document(100, 10), "list", max_tokens=500)
    await desk.ask(first)
    before = len(await desk.parts(first, 0))
    second = await desk.task(long_document(100, 10), "list", max_tokens=500)
    await desk.ask(second)
    assert len(await desk.parts(second, 0)) < before, "it holds more than was feared"
    assert model.refused == 0
    assert (await desk.store.notes("tokens"))["reader"]["bytes_per_token"] > 3


async def test_text_that_makes_more_tokens_than_was_thought_teaches_that_and_not_a_smaller_model(
    sit: OpenDesk,
) -> None:
    model = ReadingModel(8_192, bytes_per_token=1.4)
    desk = await sit(model)
    task = await desk.task(long_document(60, 10), "list", max_tokens=500)
    result = await learning(desk, task)
    assert result.content.count("FACT") == 10
    assert desk.learned.of("reader").context in (None, model.context), "as it says itself, and no less"
    assert 1.0 <= desk.learned.bytes_per_token("reader") < 1.5
    refused = model.refused
    await desk.answer(long_document(60, 10), "list", max_tokens=500)
    assert model.refused == refused, "learned for every later document"


async def test_counts_beyond_belief_are_not_believed(sit: OpenDesk) -> None:
    desk = await sit(ReadingModel(8_192))
    desk.endpoint.otherwise = answer("fine", usage=(11, 7))
    await desk.answer([text(1, filler(1, 9_000))], "list")
    assert desk.learned.bytes_per_token("reader") == 3
    assert await desk.store.notes("tokens") == {}


# -- interrupted ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fails_at", range(1, 40, 7))
async def test_an_attempt_that_fails_anywhere_is_continued_without_asking_twice(sit: OpenDesk, fails_at: int) -> None:
    model = ReadingModel(4_096)
    desk = await sit(model)
    task = await desk.task(long_document(), "count")
    desk.endpoint.otherwise = in_turn(*[model] * (fails_at - 1), status(503), model)
    with pytest.raises(UpstreamUnavailable):
        await desk.ask(task)
    kept = await desk.parts(task)
    result = await desk.ask(await desk.again(task))
    assert result.content.endswith("There are 25.")
    assert len(model.answered) == len(await desk.parts(task)), "each answer was paid for once"
    after = await desk.parts(task)
    assert all(part in after for part in kept)


async def test_a_document_that_was_answered_whole_is_not_asked_again(sit: OpenDesk) -> None:
    model = ReadingModel(4_096)
    desk = await sit(model)
    task = await desk.task(long_document(), "count")
    first = await desk.ask(task)
    calls = len(model.answered)
    model.bytes_per_token = 3.3
    await desk.learned.counted("reader", 10_000, 3_300)
    assert await desk.ask(await desk.again(task)) == first
    assert len(model.answered) == calls


# -- together with others ---------------------------------------------------------------------------------------------
async def test_several_parts_are_asked_at_once_and_no_more(sit: OpenDesk) -> None:
    desk = await sit(ReadingModel(4_096))
    release = asyncio.Event()
    desk.endpoint.otherwise = hang(release)
    asking = asyncio.create_task(desk.answer(long_document(), "list"))
    await desk.endpoint.until(lambda: len(desk.endpoint.calls) == turns.TOGETHER)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(desk.endpoint.calls) == turns.TOGETHER
    asking.cancel()
    await asyncio.wait([asking])


async def served_before(desk: Desk, model: ReadingModel, at_once: int) -> int:
    """How many parts of a long document an endpoint that answers one call after the other serves before short ones.

    The short tasks come when the long one has all its calls under way, of which there are `at_once`.
    """
    served: list[str] = []
    one_at_a_time, begin = asyncio.Lock(), asyncio.Event()
    arrived = len(desk.endpoint.calls)

    async def slow(call: Call) -> web.StreamResponse:
        await begin.wait()
        async with one_at_a_time:  # first come, first served
            served.append("short" if "a short page" in call.text else "long")
            return await model(call)

    desk.endpoint.otherwise = slow
    long = asyncio.create_task(desk.answer(long_document(120, 10), "list", max_tokens=200))
    await desk.endpoint.until(lambda: len(desk.endpoint.calls) == arrived + at_once)
    shorts = [asyncio.create_task(desk.answer([text(1, "a short page")], "count")) for _ in range(3)]
    await desk.endpoint.until(lambda: sum("a short page" in call.text for call in desk.endpoint.calls[arrived:]) == 3)
    begin.set()
    await asyncio.gather(*shorts, long)
    last = max(number for number, one in enumerate(served) if one == "short")
    return served[:last].count("long")


async def test_a_long_document_does_not_starve_short_ones(sit: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ReadingModel(4_096)
    desk = await sit(model)
    with monkeypatch.context() as unguarded:
        unguarded.setattr(turns, "TOGETHER", 1000)
        waited_for = await served_before(desk, model, at_once=20)
    assert waited_for == 20, "without a share, short tasks wait behind every part of the long one"
    assert await served_before(desk, model, at_once=4) <= 4 + 3, "with one, behind those that were under way"


async def test_a_task_that_is_alone_again_has_all_turns_to_itself() -> None:
    shared = turns.Turns()
    async with shared.asking("endpoint", "long"):
        entered, over = [], asyncio.Event()

        async def hold() -> None:
            async with shared.call("endpoint", "long"):
                entered.append(1)
                await over.wait()

        async with AsyncExitStack() as others, asyncio.TaskGroup() as group:
            for name in ("b", "c", "d"):
                await others.enter_async_context(shared.asking("endpoint", name))
                await others.enter_async_context(shared.call("endpoint", name))
            for _ in range(5):
                group.create_task(hold())
            await until(lambda: entered)
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(entered) == 1
            await others.aclose()
            await until(lambda: len(entered) == turns.TOGETHER)
            over.set()
        assert len(entered) == 5


# -- what the owner is told -------------------------------------------------------------------------------------------
async def test_the_ledger_adds_up_to_what_the_endpoint_counted(sit: OpenDesk) -> None:
    model = ReadingModel(16_384)
    desk = await sit(model)
    document = [*long_document(30, 5), both(31, filler(31)), picture(32, fact("seen", 1)), unread(33)]
    task = await desk.task(document, "list", max_tokens=300)
    result = await desk.ask(task)
    ledger = await desk.store.ledger(task.task_id)
    parts = await desk.parts(task)
    assert [record.attempts for record in ledger] == [1] * 32 + [0], "one could not be read"
    assert [record.model for record in ledger] == ["reader"] * 32 + [None]
    assert [record.used for record in ledger[-3:]] == [PageSource.BOTH, PageSource.PICTURE, PageSource.NONE]
    counted = sum(part.prompt_tokens for part in parts if part.level == 0)
    assert counted - 33 <= sum(record.tokens for record in ledger) <= counted
    assert ledger[30].tokens > ledger[29].tokens, "a picture costs more than none"
    assert result.prompt_tokens == sum(part.prompt_tokens for part in parts)
    assert result.pages == {"text": 30, "both": 1, "picture": 1, "none": 1}
    assert result.warnings == ("Page 33 could not be used: damaged",)


async def test_calls_that_failed_are_counted_too(sit: OpenDesk) -> None:
    model = ReadingModel(16_384)
    desk = await sit(model)
    task = await desk.task([text(1, fact("a", 1)), text(2, "more")], "list")
    desk.endpoint.script(status(500), status(500))
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            await desk.ask(task)
        task = await desk.again(task)
    assert [record.used for record in await desk.store.ledger(task.task_id)] == [None, None]
    await desk.ask(task)
    assert [record.attempts for record in await desk.store.ledger(task.task_id)] == [3, 3]


async def test_everything_that_is_missing_is_said(sit: OpenDesk) -> None:
    desk = await sit(ReadingModel(16_384, sees=False))
    document = [
        text(1, fact("a", 1)),
        unread(2),
        unread(3),
        unread(4, "encrypted"),
        picture(5, fact("unseen", 1)),
        both(6, fact("b", 2)),
    ]
    result = await desk.answer(document, "list")
    assert result.content == "FACT a: 1 (page 1)\nFACT b: 2 (page 6)"
    assert result.warnings == (
        "Pages 2 to 3 could not be used: damaged",
        "Page 4 could not be used: encrypted",
        "Page 5 could not be used: no model that can see was available",
        "Page 6 went in as text alone, without what is to be seen there: no model that can see was available",
    )
    assert result.pages == {"text": 2, "none": 4}


async def test_every_answer_that_was_cut_short_is_named_with_its_pages(sit: OpenDesk) -> None:
    model = ReadingModel(4_096)
    desk = await sit(model)
    document = long_document(40, 4)
    document[19] = text(20, "\n".join(fact(f"entry-{n}", n) for n in range(60)))
    task = await desk.task(document, "list", max_tokens=300)
    result = await desk.ask(task)
    cut = [part for part in await desk.parts(task, 0) if part.finish_reason == "length"]
    assert len(cut) == 1
    said = f"The answer for pages {cut[0].first_page} to {cut[0].last_page} was cut short"
    assert any(said in warning for warning in result.warnings)
    ledger = await desk.store.ledger(task.task_id)
    assert {record.finish_reason for record in ledger[cut[0].first_page - 1 : cut[0].last_page]} == {"length"}
    assert result.finish_reason == "length"
    assert any(warning.startswith("The answer was cut short") for warning in result.warnings)
