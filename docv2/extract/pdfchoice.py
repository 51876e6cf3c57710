"""What a model is given of a PDF page: its text, its picture or both, by what was measured on the page."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from docv2.documents import Detail, PageSource

MAX_ODD = 0.1
"""Share of odd characters from which a text is noise: OCR of poor scans stays below 0.05, a wrong encoding has most."""

MAX_ODD_UNMAPPED = 0.01
"""The same where the font does not say what its glyphs mean: then few odd ones show that the guess is wrong."""

MANY_UNMAPPED = 0.3
"""Share of characters without a meaning from which the stricter bound holds: above a bullet or a symbol font."""

MOST_UNMAPPED = 0.5
"""Share from which the picture has to confirm the text: most of what stands there is then a guess."""

LARGE_PICTURE = 0.5
"""Share of the page from which it is a picture with a caption, a stamp or a page number."""

CAPTION = 50
"""Characters below which a text beside a large picture is no more than that."""

SOME_PICTURE = 0.1
"""Share of the page: a tenth of A4 is 8 by 8 cm, a photograph. Letterheads and logos stay below."""

FIGURE = 0.04
"""Share of the page under drawn figures: a chart of a quarter of a column. Logos and signs in the text stay below."""

SHORT_TEXT = 100
"""Characters, two lines, below which drawings are what the page is about."""

MANY_DRAWINGS = 20
"""Lines and shapes beside a short text; a frame and some rules are fewer."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What tells how well a page's text stands for the page."""

    characters: int
    """Without blanks."""
    odd: float = 0.0
    """Share of characters that no text has: control characters, private use, replacement marks."""
    unmapped: float = 0.0
    """Share of characters that the font gives no meaning for; what stands there is a guess."""
    pictures: float = 0.0
    """Share of the page's area under pictures, at most 1."""
    drawings: int = 0
    """Lines, shapes and shadings."""
    figures: float = 0.0
    """Share of the page's area under drawings that are more than rules and frames, at most 1."""
    marks: bool = False
    """Whether it carries form fields, stamps or notes, which are in no text."""


def choose(page: Measures, detail: Detail = Detail.AUTO) -> tuple[PageSource, str]:
    """What the model is given of a page, and why. In doubt both: that costs tokens, a missing figure the answer."""
    if detail is Detail.IMAGE:
        return PageSource.PICTURE, "Pictures of the pages were asked for."
    unusable = _unusable(page)
    source, reason = (PageSource.PICTURE, unusable) if unusable else _best(page)
    if detail is Detail.TEXT and source is not PageSource.TEXT:
        return PageSource.NONE if unusable else PageSource.TEXT, f"{reason} Text alone was asked for."
    return source, reason


def _unusable(page: Measures) -> str:
    """Why a page has no text that could be given; empty where it has some."""
    if page.characters == 0:
        return "The page has no text."
    if page.odd > MAX_ODD or (page.unmapped > MANY_UNMAPPED and page.odd > MAX_ODD_UNMAPPED):
        return "The text of the page cannot be decoded."
    return ""


def _best(page: Measures) -> tuple[PageSource, str]:
    """What serves the model best of a page with text."""
    if page.unmapped > MOST_UNMAPPED:
        return PageSource.BOTH, "The font does not say for sure what the text of the page is."
    if page.pictures >= LARGE_PICTURE and page.characters < CAPTION:
        return PageSource.PICTURE, "Most of the page is a picture."
    if page.pictures >= SOME_PICTURE:
        return PageSource.BOTH, "A picture takes up a good part of the page."
    if page.marks:
        return PageSource.BOTH, "The page carries form fields, stamps or notes."
    if page.figures >= FIGURE:
        return PageSource.BOTH, "The page shows a drawn figure."
    if page.characters < SHORT_TEXT and page.drawings > MANY_DRAWINGS:
        return PageSource.BOTH, "The page is drawn rather than written."
    return PageSource.TEXT, "The page has text."


# -- measuring --------------------------------------------------------------------------------------------------------
_ODD = re.compile(r"[\x00-\x01\x03-\x08\x0b\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd-\uffff]|\(cid:\d+\)")
"""What no text has. PDFium marks a hyphen at a line's end with \\x02; pdfminer.six writes (cid:N) for what it lacks."""


def measure_text(text: str) -> Measures:
    """What the text alone tells."""
    characters = len("".join(text.split()))
    return Measures(characters, odd=sum(len(odd[0]) for odd in _ODD.finditer(text)) / max(1, characters))


Box = tuple[float, float, float, float]


class Drawing(NamedTuple):
    """A path on the page."""

    box: Box
    """Left, bottom, right and top in points."""
    segments: int
    """How many lines and curves it consists of."""


RULE = 3.0
"""Points; what is thinner either way is a rule or the border of a cell."""

SEGMENTS = 6
"""A rectangle has five; more is a curve, an outline or a line that goes up and down."""

BARS = 3
"""Bars on one line of different lengths that make a chart; the merged cells of a table come in two."""

GRID = 40
"""Squares that a page is divided into either way to sum up areas that overlap."""


def figure_share(drawings: Iterable[Drawing], page: Box) -> float:
    """Share of the page under what is drawn besides rules, frames and cells: curves, slanted lines and bars."""
    left, bottom, right, top = page
    width, height = right - left, top - bottom
    if width <= 0 or height <= 0:
        return 0.0
    figures: list[Box] = []
    bars: dict[tuple[bool, int], list[tuple[float, float, Box]]] = defaultdict(list)
    """Rectangles by the line they stand on, upright or not: length, breadth and box."""
    for drawing in drawings:
        if not all(map(math.isfinite, drawing.box)):
            continue
        x0, y0, x1, y1 = drawing.box
        wide, high = x1 - x0, y1 - y0
        if wide > 0.95 * width and high > 0.95 * height:
            continue  # The ground of the page, or a frame around it.
        if min(wide, high) < RULE:
            continue
        if drawing.segments <= 3 or drawing.segments >= SEGMENTS:
            figures.append(drawing.box)
        else:
            bars[True, round(y0)].append((high, wide, drawing.box))
            bars[False, round(x0)].append((wide, high, drawing.box))
    for row in bars.values():
        lengths, breadths = {round(length) for length, _, _ in row}, {round(breadth) for _, breadth, _ in row}
        if len(lengths) >= BARS and len(breadths) == 1:
            figures += [box for _, _, box in row]
    squares: set[tuple[int, int]] = set()
    for x0, y0, x1, y1 in figures:
        columns = _squares(x0 - left, x1 - left, width)
        rows = _squares(y0 - bottom, y1 - bottom, height)
        squares.update((column, row) for column in columns for row in rows)
    return len(squares) / GRID**2


def _squares(start: float, end: float, length: float) -> range:
    return range(max(0, int(start / length * GRID)), min(GRID, int(end / length * GRID) + 1))
