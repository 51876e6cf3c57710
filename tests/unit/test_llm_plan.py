"""Splitting documents into calls that fit, knowing again what was answered, and grouping answers to combine."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docv2.documents import Page, PageSource
from docv2.errors import ContextExceeded
from docv2.llm import plan, prompt
from docv2.llm.catalog import Model
from docv2.llm.plan import Excerpt, Request
from docv2.llm.prompt import combine_messages, read_fences
from docv2.tasks import Part
from tests.unit.test_llm_prompt import BLIND, MODEL, REQUEST, page, write

WANTED = Request(REQUEST, 8000)


def model(context: int, pictures: int = 8, *, bytes_per_token: float = 3) -> Model:
    return replace(MODEL, context=context, pictures_per_call=pictures, bytes_per_token=bytes_per_token)


def planned(
    pages: list[Page], sizes: dict[int, int], model: Model = MODEL, wanted: Request = WANTED
) -> list[list[Excerpt]]:
    return plan.plan(plan.remaining(pages, sizes, []), sizes, model, wanted)


def part(first: int, last: int, content: str = "answer") -> Part:
    return Part(0, f"{first}-{last}", first, last, "m", content, "stop")


def answered(group: list[Excerpt]) -> Part:
    """The part that asking about these excerpts leaves."""
    first, last = group[0], group[-1]
    made = part(first.page.number, last.page.number)
    return replace(made, scope=plan.scope_of(group), first_byte=first.start, last_byte=last.end)


def numbers(parts: list[list[Excerpt]]) -> list[list[int]]:
    return [[excerpt.page.number for excerpt in group] for group in parts]


def size_of(messages: list[dict[str, object]], bytes_per_token: float = 3) -> float:
    """Tokens of a request by the same measure as the plan's, pictures apart."""
    size = 0.0
    for message in messages:
        content = message["content"]
        assert isinstance(content, str | list)
        for item in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            size += len(item.get("text", "").encode()) / bytes_per_token
    return size


# -- pages ------------------------------------------------------------------------------------------------------------
def test_what_fits_is_one_part() -> None:
    pages = [page(1), page(2, PageSource.PICTURE), page(3, PageSource.NONE), page(4, PageSource.BOTH)]
    assert planned(pages, {1: 3000, 4: 3000}) == [[Excerpt(one) for one in pages]]


def test_splits_at_page_boundaries() -> None:
    sizes = dict.fromkeys(range(1, 31), 9_000)  # 3,000 tokens each
    parts = planned([page(n) for n in sizes], sizes)
    assert [n for group in numbers(parts) for n in group] == list(sizes)
    assert [len(group) for group in parts] == [8, 8, 8, 6]
    assert all(excerpt.whole for group in parts for excerpt in group)


def test_a_part_holds_no_more_pictures_than_the_model_takes() -> None:
    pages = [page(n, PageSource.PICTURE, pixels=(100, 100)) for n in range(1, 20)]
    assert [len(group) for group in planned(pages, {})] == [8, 8, 3]


def test_pictures_count_by_their_pixels() -> None:
    pages = [page(n, PageSource.PICTURE) for n in range(1, 9)]  # A4 at 150 dpi: 2,774 tokens each
    parts = planned(pages, {}, model(16_384), Request(REQUEST, 1000))
    assert [len(group) for group in parts] == [5, 3]


def test_what_an_endpoint_counted_decides_how_much_fits() -> None:
    sizes = dict.fromkeys(range(1, 41), 3_000)
    pages = [page(n) for n in sizes]
    lengths = [
        len(planned(pages, sizes, model(16_384, bytes_per_token=ratio), Request(REQUEST, 1000)))
        for ratio in (1.5, 3, 4.5)
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[1] > lengths[2]


def test_a_page_that_is_too_long_is_cut_by_text(tmp_path: Path) -> None:
    text = " ".join(f"wörd{n}" for n in range(30_000))
    pages = [page(1), page(2, PageSource.BOTH), page(3)]
    write(tmp_path, pages, "short")
    pages[1].text_path(tmp_path).write_text(text)
    sizes = {1: 5, 2: len(text.encode()), 3: 5}
    parts = planned(pages, sizes)
    pieces = [excerpt for group in parts for excerpt in group if excerpt.page.number == 2]
    assert len(pieces) >= 3
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end is None
    read = [read_fences(prompt._part_messages(REQUEST, group, tmp_path, MODEL, 1, len(parts))) for group in parts]
    found = [fenced for one in read for fenced in one.pages if fenced.number == 2]
    assert "".join(fenced.text for fenced in found) == text
    assert sum(bool(fenced.picture) for fenced in found) == 1
    assert all(fenced.text.startswith("wörd") for fenced in found if fenced.text)


def test_text_without_spaces_is_cut_between_characters(tmp_path: Path) -> None:
    text = "契約書第一条" * 20_000
    one = page(1)
    one.text_path(tmp_path).write_text(text)
    parts = planned([one], {1: len(text.encode())})
    assert len(parts) > 2
    read = [read_fences(prompt._part_messages(REQUEST, group, tmp_path, MODEL, 1, len(parts))) for group in parts]
    assert "".join(fenced.text for one in read for fenced in one.pages) == text


@pytest.mark.parametrize("context", [4_096, 8_192, 32_768, 128_000])
@pytest.mark.parametrize("max_tokens", [1, 8_000, 100_000])
@pytest.mark.parametrize("form", ["", '{"type": "object"}' * 20])
def test_every_request_with_its_answer_fits(tmp_path: Path, context: int, max_tokens: int, form: str) -> None:
    asked = model(context)
    pages = [page(n) for n in range(1, 61)]
    texts = {n: f"{n} " * (200 * n) for n in range(1, 61)}
    for one in pages:
        one.text_path(tmp_path).write_text(texts[one.number])
    sizes = {n: len(text) for n, text in texts.items()}
    parts = planned(pages, sizes, asked, Request(REQUEST, max_tokens, form))
    of = len(parts)
    for number, group in enumerate(parts, 1):
        messages = prompt._part_messages(REQUEST, group, tmp_path, asked, number, of, form if of == 1 else "")
        limit = (plan.whole_answer if of == 1 else plan.part_answer)(asked, max_tokens)
        assert size_of(messages) + limit <= context


@pytest.mark.parametrize("bytes_", range(60_000, 90_000, 1_500))
def test_a_document_at_the_edge_of_one_call_fits(tmp_path: Path, bytes_: int) -> None:
    pages = [page(1), page(2)]
    for one in pages:
        one.text_path(tmp_path).write_text("x" * (bytes_ // 2))
    parts = planned(pages, dict.fromkeys((1, 2), bytes_ // 2))
    limit = plan.whole_answer if len(parts) == 1 else plan.part_answer
    for number, group in enumerate(parts, 1):
        messages = prompt._part_messages(REQUEST, group, tmp_path, MODEL, number, len(parts))
        assert size_of(messages) + limit(MODEL, 8000) <= MODEL.context


def test_unreadable_pages_make_no_part_of_their_own() -> None:
    assert planned([page(n, PageSource.NONE) for n in range(1, 5)], {}) == []
    assert planned([page(1, PageSource.PICTURE)], {}, BLIND) == []
    pages = [page(n, PageSource.NONE if n % 2 else PageSource.PICTURE, pixels=(10, 10)) for n in range(1, 40)]
    parts = planned(pages, {})
    assert [n for group in numbers(parts) for n in group] == list(range(1, 40))
    assert all(any(excerpt.page.has_picture for excerpt in group) for group in parts)


def test_a_prompt_that_fills_the_model_is_refused() -> None:
    with pytest.raises(ContextExceeded):
        planned([page(1)], {1: 10}, model(4_096, 1), Request("界" * 4000, 8000))


def test_the_plan_is_the_same_each_time() -> None:
    sizes = {n: n * 700 for n in range(1, 80)}
    pages = [page(n, PageSource.BOTH if n % 7 == 0 else PageSource.TEXT) for n in sizes]
    assert planned(pages, sizes) == planned(pages, sizes)


# -- what was answered is known again ---------------------------------------------------------------------------------
def test_what_was_answered_is_not_planned_again() -> None:
    sizes = dict.fromkeys(range(1, 31), 9_000)
    pages = [page(n) for n in sizes]
    parts = planned(pages, sizes)
    done = [answered(parts[0]), answered(parts[2])]
    runs = plan.remaining(pages, sizes, done)
    assert [[excerpt.page.number for excerpt in run] for run in runs] == [list(range(9, 17)), list(range(25, 31))]
    assert plan.plan(runs, sizes, MODEL, WANTED) == [parts[1], *parts[3:]]
    assert plan.remaining(pages, sizes, [answered(group) for group in parts]) == []


@given(
    st.lists(st.sampled_from([0, 10, 5_000, 40_000, 200_000]), min_size=1, max_size=12),
    st.integers(0, 2**32),
)
def test_whatever_is_answered_under_whatever_plan_the_rest_completes_it(lengths: list[int], seed: int) -> None:
    """Models, limits and counts change from attempt to attempt; nothing is asked twice and nothing is left out."""
    chance = random.Random(seed)
    pages = [page(n, PageSource.TEXT if length else PageSource.NONE) for n, length in enumerate(lengths, 1)]
    sizes = {n: length for n, length in enumerate(lengths, 1) if length}
    asked: list[tuple[int, int, int]] = []
    done: list[Part] = []
    while groups := plan.plan(
        plan.remaining(pages, sizes, done),
        sizes,
        model(chance.choice([4_096, 8_192, 30_000]), bytes_per_token=chance.uniform(1, 4.5)),
        Request(REQUEST, chance.choice([10, 4000])),
    ):
        for group in chance.sample(groups, chance.randint(1, len(groups))):
            done.append(answered(group))
            asked += [
                (excerpt.page.number, excerpt.start, excerpt.end or sizes[excerpt.page.number])
                for excerpt in group
                if excerpt.page.has_text
            ]
    for number, size in sizes.items():
        pieces = sorted((start, end) for n, start, end in asked if n == number)
        assert pieces[0][0] == 0
        assert pieces[-1][1] == size
        assert all(before[1] == after[0] for before, after in pairwise(pieces))
    assert len({one.scope for one in done}) == len(done)


# -- combining --------------------------------------------------------------------------------------------------------
def test_answers_that_fit_are_combined_at_once() -> None:
    answers = [part(n, n) for n in range(1, 10)]
    assert plan.plan_combine(answers, MODEL, WANTED) == [answers]


@given(st.lists(st.integers(1, 40_000), min_size=2, max_size=40))
def test_each_round_of_combining_fits_and_loses_nothing(lengths: list[int]) -> None:
    small = model(8_192)
    answers = [part(n, n, f"{n} " * (length // 3)) for n, length in enumerate(lengths, 1)]
    groups = plan.plan_combine(answers, small, WANTED)
    assert "".join(piece.content for group in groups for piece in group) == "".join(one.content for one in answers)
    assert all(len(group) > 1 for group in groups[:-1])
    assert len({piece.scope for group in groups for piece in group}) == sum(map(len, groups))
    for group in groups:
        messages = combine_messages(REQUEST, group, last=False)
        assert size_of(messages) + plan.whole_answer(small, 8000) <= small.context


@given(st.integers(2, 500), st.sampled_from([2_048, 4_096, 32_768]))
def test_combining_comes_to_an_end(count: int, context: int) -> None:
    small = model(context)
    longest = "x" * (plan.part_answer(small, 8000) * 3)
    parts, rounds = [part(n, n, longest) for n in range(1, count + 1)], 0
    while len(parts) > 1:
        groups = plan.plan_combine(parts, small, WANTED)
        parts = [replace(group[0], scope=plan.joint_scope(group), content=longest) for group in groups]
        rounds += 1
    assert rounds <= 10
    assert parts[0].scope == f"1-{count}"


def test_halves_of_an_answer_are_told_apart() -> None:
    [group, *_] = plan.plan_combine([part(1, 4, "long " * 20_000), part(5, 9)], model(8_192), WANTED)
    assert group[0].scope.startswith("1@0-4@")
    assert group[1].scope.split("-")[0].replace("1@", "4@") == group[0].scope.split("-")[1]
