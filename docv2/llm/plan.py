"""How much of a document fits into one call: splitting it into parts, and grouping the answers that are combined.

What a part covers is told in pages and bytes of their text, never in numbers of a plan. So what was answered is known
again in every later plan, however much the models, their limits or our estimates have changed meanwhile.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from docv2.documents import Page, PageSource
from docv2.errors import ContextExceeded, ModelError
from docv2.tasks import Part

if TYPE_CHECKING:  # The reader's children count tokens, and loading the client would take each of them two seconds.
    from docv2.llm.catalog import Model

BYTES_PER_TOKEN = 3
"""UTF-8 bytes; English has about four, Chinese about three: a low figure splits early rather than fails late. Used
until an endpoint has counted for us (see learned.py)."""
PIXELS_PER_TOKEN = 28 * 28
"""As Qwen-VL counts a picture (its model card), the most of those published: 2,860 tokens for a page of A4 at 150 dpi,
where OpenAI's tiles make 1,105."""
MOST_PICTURE_TOKENS = 4_000
"""Larger pictures are scaled down by whoever takes them."""
FRAME_TOKENS = 400
"""Everything we say ourselves in a call."""
BLOCK_TOKENS = 40
"""The fence around one page."""
LEAST_ROOM = 256
"""Tokens of document below which asking makes no sense."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller wants."""

    prompt: str
    max_tokens: int
    form: str = ""
    """The JSON Schema of the answer as text; empty where any words will do."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What one call gets of a page: all of it, or a piece of a text that is too long for one call."""

    page: Page
    start: int = 0
    """Bytes of the text before it. The page's picture goes with the piece that begins at 0."""
    end: int | None = None
    """Where it ends; None: with the page."""

    @property
    def whole(self) -> bool:
        """Whether it is all of the page."""
        return self.start == 0 and self.end is None


def whole_answer(model: Model, max_tokens: int) -> int:
    """`max_tokens` for an answer that the caller gets: what was asked for, at most a quarter of the context."""
    return min(max_tokens, model.context // 4)


def part_answer(model: Model, max_tokens: int) -> int:
    """`max_tokens` for an answer that is combined with others: so few that several always fit into one call."""
    return min(max_tokens, model.context // 8)


def tokens_of(text: str, model: Model) -> int:
    """About how many tokens a text makes."""
    return math.ceil(len(text.encode("utf-8", "replace")) / model.bytes_per_token)


def used_of(page: Page, model: Model) -> PageSource:
    """What a model gets of a page."""
    if page.has_picture and model.vision:
        return page.source
    return PageSource.TEXT if page.has_text else PageSource.NONE


# -- pages ------------------------------------------------------------------------------------------------------------
def remaining(pages: Sequence[Page], sizes: Mapping[int, int], answered: Sequence[Part]) -> list[list[Excerpt]]:
    """What no answered part covers, in runs that follow on from page to page.

    `sizes` holds the UTF-8 bytes of each page's text by number.
    """
    covered: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for part in answered:
        for number in range(part.first_page, part.last_page + 1):
            start = part.first_byte if number == part.first_page else 0
            end = part.last_byte if number == part.last_page and part.last_byte is not None else math.inf
            covered[number].append((start, end))
    runs: list[list[Excerpt]] = [[]]
    for page in pages:
        gaps = list(_gaps(sizes.get(page.number, 0), sorted(covered[page.number])))
        if not gaps or gaps[0][0] > 0:
            runs.append([])
        for gap_start, gap_end in gaps:
            runs[-1].append(Excerpt(page, gap_start, gap_end))
            if gap_end is not None:
                runs.append([])
    return [run for run in runs if run]


def _gaps(size: int, covered: Sequence[tuple[int, float]]) -> Iterator[tuple[int, int | None]]:
    at: float = 0
    for start, end in covered:
        if start > at:
            yield int(at), start
        at = max(at, end)
    if at == 0 or at < size:
        yield int(at), None


def plan(
    runs: Sequence[Sequence[Excerpt]], sizes: Mapping[int, int], model: Model, request: Request
) -> list[list[Excerpt]]:
    """Split runs of a document into the fewest calls that each fit the model, at page boundaries wherever a page fits.

    The same arguments give the same plan. No part for a run in which nothing can be read. ContextExceeded where the
    request alone fills the model.
    """
    room = _room(model, request)
    parts: list[list[Excerpt]] = []
    for run in runs:
        pieces = [piece for excerpt in run for piece in _pieces(excerpt, sizes, model, room)]
        parts += _cut(pieces, sizes, model, room)
    return [part for part in parts if any(_readable(excerpt.page, model) for excerpt in part)]


@dataclass(frozen=True, slots=True)
class Expected:
    """What asking about a document will take."""

    parts: int
    """Calls that ask about pages."""
    calls: int
    """All calls, those that combine answers included, where every answer is as long as it may be."""
    prompt_tokens: int
    completion_tokens: int
    """At most."""


def expect(
    pages: Sequence[Page], sizes: Mapping[int, int], model: Model, request: Request, *, times: float
) -> Expected:
    """What asking about a document will take that is `times` as long as these pages of it."""
    groups = plan(remaining(pages, sizes, []), sizes, model, request)
    if not groups:
        raise ModelError("The document has only pictures, and no model that can see is available")
    parts, room = len(groups), _room(model, request)
    document = round(times * sum(cost(excerpt, sizes, model) for group in groups for excerpt in group))
    if times > 1:
        pictures = times * sum(shows_picture(excerpt, model) for group in groups for excerpt in group)
        parts = max(parts, math.ceil(document / room), math.ceil(pictures / model.pictures_per_call))
    frame = FRAME_TOKENS + tokens_of(request.prompt, model)
    prompt = parts * frame + document
    whole, part = whole_answer(model, request.max_tokens), part_answer(model, request.max_tokens)
    calls, completion, answers = parts, whole if parts == 1 else parts * part, parts
    at_once = max(2, room // (part + BLOCK_TOKENS))
    while answers > 1:
        prompt += answers * part
        answers = math.ceil(answers / at_once)
        prompt += answers * frame
        completion += whole if answers == 1 else answers * part
        calls += answers
    return Expected(parts, calls, prompt + tokens_of(request.form, model), completion)


def cost(excerpt: Excerpt, sizes: Mapping[int, int], model: Model) -> int:
    """About how many tokens an excerpt takes."""
    page = excerpt.page
    tokens = BLOCK_TOKENS if _readable(page, model) else 5
    if page.has_text:
        tokens += _text_tokens(excerpt, sizes, model)
    if shows_picture(excerpt, model):
        tokens += min(MOST_PICTURE_TOKENS, page.picture_width * page.picture_height // PIXELS_PER_TOKEN) + BLOCK_TOKENS
    return tokens


def shows_picture(excerpt: Excerpt, model: Model) -> bool:
    """Whether the page's picture goes with an excerpt."""
    return excerpt.page.has_picture and model.vision and excerpt.start == 0


def _text_tokens(excerpt: Excerpt, sizes: Mapping[int, int], model: Model) -> int:
    end = sizes.get(excerpt.page.number, 0) if excerpt.end is None else excerpt.end
    return math.ceil((end - excerpt.start) / model.bytes_per_token)


def _room(model: Model, request: Request) -> int:
    """Tokens that a call leaves for the document."""
    answer = whole_answer(model, request.max_tokens)
    if request.form:
        answer *= 2  # one that does not fit the form goes back with the second try
    said = FRAME_TOKENS + tokens_of(request.prompt, model) + tokens_of(request.form, model)
    room = model.context - answer - said
    if room < LEAST_ROOM:
        raise ContextExceeded(f"The prompt leaves no room for the document: {model.id} holds {model.context} tokens.")
    return room


def _cut(excerpts: Sequence[Excerpt], sizes: Mapping[int, int], model: Model, room: int) -> list[list[Excerpt]]:
    parts: list[list[Excerpt]] = [[]]
    left, pictures_left = room, model.pictures_per_call
    readable = False
    """Whether the last part holds anything: pages that cannot be read never make a part of their own."""
    for excerpt in excerpts:
        tokens = cost(excerpt, sizes, model)
        picture = shows_picture(excerpt, model)
        if readable and _readable(excerpt.page, model) and (tokens > left or picture > pictures_left):
            parts.append([])
            left, pictures_left = room, model.pictures_per_call
        parts[-1].append(excerpt)
        left -= tokens
        pictures_left -= picture
        readable = readable or _readable(excerpt.page, model)
    return parts


def _pieces(excerpt: Excerpt, sizes: Mapping[int, int], model: Model, room: int) -> list[Excerpt]:
    """An excerpt in pieces that fit."""
    tokens = cost(excerpt, sizes, model)
    if tokens <= room or not excerpt.page.has_text:
        return [excerpt]
    text = _text_tokens(excerpt, sizes, model)
    count = -(-text // max(room - (tokens - text), room // 2))
    end = sizes.get(excerpt.page.number, 0) if excerpt.end is None else excerpt.end
    borders = [excerpt.start + (end - excerpt.start) * number // count for number in range(count)]
    return [
        replace(excerpt, start=start, end=following)
        for start, following in zip(borders, [*borders[1:], excerpt.end], strict=True)
    ]


def _readable(page: Page, model: Model) -> bool:
    return used_of(page, model) is not PageSource.NONE


# -- answers ----------------------------------------------------------------------------------------------------------
def plan_combine(answers: Sequence[Part], model: Model, request: Request) -> list[list[Part]]:
    """Group answers into the fewest calls that combine them, in order; one group gives the final answer.

    An answer that is too long to go with another (it may be of a model that holds more) comes in pieces. One that is
    left over at the end is a group by itself, not to be asked about before the next round.
    """
    room = _room(model, request)
    pieces = [piece for answer in answers for piece in _halves(answer, model, room // 2 - BLOCK_TOKENS)]
    groups: list[list[Part]] = []
    left = 0
    for piece in pieces:
        tokens = tokens_of(piece.content, model) + BLOCK_TOKENS
        if not groups or tokens > left:
            groups.append([])
            left = room
        groups[-1].append(piece)
        left -= tokens
    return groups


def _halves(answer: Part, model: Model, limit: int) -> list[Part]:
    """An answer in as many pieces as it takes for each to keep to the limit, cut where a line or a word ends."""
    if tokens_of(answer.content, model) <= limit:
        return [answer]
    text = answer.content
    half = len(text) // 2
    at = next((found for mark in ("\n", " ") if (found := text.find(mark, half, half + len(text) // 4)) > 0), half)
    first, last = answer.scope.split("-")
    begin = int(first.partition("@")[2] or 0)
    halves = (
        replace(answer, content=text[:at], scope=f"{_marked(first, begin)}-{_marked(last, begin + at)}"),
        replace(answer, content=text[at:], scope=f"{_marked(first, begin + at)}-{last}"),
    )
    return [piece for half_ in halves for piece in _halves(half_, model, limit)]


def _marked(label: str, at: int) -> str:
    return f"{label.partition('@')[0]}@{at}"


# -- what a part covers, in a word ------------------------------------------------------------------------------------
def scope_of(part: Sequence[Excerpt]) -> str:
    """The word for excerpts: `3-7`, or `3:12000-3:24000` where it begins and ends within a page."""
    first, last = part[0], part[-1]
    begin = f"{first.page.number}:{first.start}" if first.start else f"{first.page.number}"
    end = f"{last.page.number}" if last.end is None else f"{last.page.number}:{last.end}"
    return f"{begin}-{end}"


def joint_scope(group: Sequence[Part]) -> str:
    """The word for all that a group of answers covers."""
    return f"{group[0].scope.split('-')[0]}-{group[-1].scope.split('-')[1]}"
