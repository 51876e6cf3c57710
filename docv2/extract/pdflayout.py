"""A page's text in the order in which a person reads it, with headings and tables as Markdown.

PDFium gives text in the order in which it was drawn, which is nearly always that in which it was written; where it is,
it stays, since no geometry knows better. Positions are asked for at the ends of lines, and of words where a line may
have a gap; those of all characters would cost more than the text itself. Only where the drawing jumps back up, or sets
words side by side, blocks are put in order by where they stand: lines across the page divide it, then a gutter.
"""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain, pairwise, zip_longest
from statistics import median

import pypdfium2 as pdfium
import pypdfium2.raw as raw

GAP = 1.25
"""Times the font size: a wider gap parts columns and cells. Justified lines stay below one."""

THIN = 0.28
"""Times the font size: how wide letters are in the thinnest words."""

SAMPLED_LINES = 6
"""Lines of a page that are looked at for gaps in any case."""

PROSE = 20
"""Characters of a line of text, at least; most cells of a table hold fewer."""

TOUCHING = 3.0
"""Points between columns at least; what is closer, as a raised figure, belongs to one."""

CROSSING = 0.2
"""Share of the lines that may cross a gutter: the title, the head and the foot of a page."""

MAX_GUTTERS = 20
"""Gutters that are tried; a page has few, a large table dozens."""

MIN_LINES = 3
"""Lines on each side of a gutter; fewer are no column."""

HEADINGS = ((1.7, "# "), (1.35, "## "), (1.15, "### "))
"""Times the size of the page's text, and the mark of a heading of that size."""

MAX_HEADING = 150
"""Characters of a heading; longer ones are text in large print."""

SAMPLE = 50
"""Characters of a page, or of a line, that are asked for their direction."""

MAX_DEPTH = 8
"""Gutters within columns."""

MAX_PIECES = 5000
"""Beyond that a page is a map or an attack, and stays in the order in which it was drawn."""

Box = tuple[float, float, float, float]
"""Left, bottom, right and top; points, upwards."""

Span = tuple[float, float]
"""Left and right."""

_WORD = re.compile(r"[^ \r\n]+")
_BREAK = re.compile("\r\n|\ufffe|\x02")
"""Ends of lines; the marks are PDFium's for a hyphen that it took out, with no line end after it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that stand on one line with no wide gap between them. Points, upwards."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    joined: bool = False
    """Whether a hyphen ends its line: the next one belongs to the same word."""

    @property
    def size(self) -> float:
        """The height of its letters, from the lowest to the highest of the font."""
        return self.top - self.bottom

    def beside(self, other: Piece) -> bool:
        """Whether both are on one line."""
        shared = min(self.top, other.top) - max(self.bottom, other.bottom)
        return shared > 0.5 * min(self.size, other.size)


def layout(textpage: pdfium.PdfTextPage, shown: Box) -> str:
    """The text of a page within what of it is shown, in reading order."""
    pieces = _pieces(textpage, shown)
    body = _body_size(pieces)
    if _is_in_order(pieces):
        return _lines(pieces, body)
    if len(pieces) > MAX_PIECES or _is_turned(textpage) or _runs_left(pieces):
        return "".join(piece.text + ("" if piece.joined else "\n") for piece in pieces)
    return "\n\n".join(filter(None, (block.strip("\n") for block in _ordered(pieces, body, 0))))


# -- pieces -----------------------------------------------------------------------------------------------------------
def _pieces(textpage: pdfium.PdfTextPage, shown: Box) -> list[Piece]:
    """The page's text in drawing order, without what lies beyond the page's edge."""
    count = max(0, textpage.count_chars())
    units = (ctypes.c_ushort * (2 * count + 2))()
    length = max(0, raw.FPDFText_GetText(textpage, 0, count, units) - 1) if count else 0
    text = "".join(map(chr, units[:length]))  # One for each UTF-16 unit, as PDFium counts.
    pieces = (_shown(textpage, piece, shown) for piece in _cut(text, _boxes(textpage, count == length)))
    kept = [piece for piece in pieces if piece is not None]
    return [_with_hyphen(piece, following) for piece, following in zip_longest(kept, kept[1:])]


def _with_hyphen(piece: Piece, following: Piece | None) -> Piece:
    """With the hyphen that PDFium took out at its end, where that is part of the word: before a capital or a digit."""
    if not piece.joined or following is None or not (following.text[0].isupper() or following.text[0].isdigit()):
        return piece
    return replace(piece, text=f"{piece.text}-")


def _shown(textpage: pdfium.PdfTextPage, piece: Piece, shown: Box) -> Piece | None:
    """What of a piece lies within the page."""
    left, bottom = max(piece.left, shown[0]), max(piece.bottom, shown[1])
    right, top = min(piece.right, shown[2]), min(piece.top, shown[3])
    if (left, bottom, right, top) == (piece.left, piece.bottom, piece.right, piece.top):
        return piece
    if left >= right or bottom >= top:
        return None
    text = " ".join(textpage.get_text_bounded(left, bottom, right, top).split())
    return Piece(text, left, bottom, right, top) if text else None


def _boxes(textpage: pdfium.PdfTextPage, plain: bool) -> Callable[[int], Box]:
    """What tells the box of a character by its place in the text, as high as its font. `plain`: nothing is left out."""
    handle, rect = textpage.raw, raw.FS_RECTF()
    box, place = raw.FPDFText_GetLooseCharBox, raw.FPDFText_GetCharIndexFromTextIndex

    def look(at: int) -> Box:
        if not box(handle, at if plain else place(handle, at), rect):
            return 0.0, 0.0, 0.0, 0.0
        return rect.left, min(rect.bottom, rect.top), rect.right, max(rect.bottom, rect.top)

    return look


def _cut(text: str, box: Callable[[int], Box]) -> Iterator[Piece]:
    """Lines of PDFium's in pieces: it joins whatever follows on the same height, however wide the gap.

    A line with a gap is wide for its letters. Where all of them are alike, some tell of all.
    """
    lines: list[tuple[list[re.Match[str]], Piece]] = []
    start = 0
    for end in [*_BREAK.finditer(text), None]:
        words = list(_WORD.finditer(text, start, end.start() if end else len(text)))
        if words:
            first, last = words[0].start(), words[-1].end()
            (x0, bottom, x1, top), (x2, _, x3, _) = box(first), box(last - 1)
            joined = end is not None and end[0] != "\r\n"
            lines.append((words, Piece(_whole(text[first:last]), min(x0, x2), bottom, max(x1, x3), top, joined)))
        start = end.end() if end else 0
    wide = 1.1 * median(map(_spread, (piece for _, piece in lines))) if lines else 0.0
    every = max(1, len(lines) // SAMPLED_LINES)
    samples = (list(_split(text, words, box)) for words, _ in lines[::every])
    if any(len(pieces) > 1 for pieces in samples):
        wide = 0.0
    for words, piece in lines:
        if _spread(piece) < wide:
            yield piece
        else:
            *pieces, last_piece = _split(text, words, box)
            yield from pieces
            yield replace(last_piece, joined=piece.joined)


def _spread(piece: Piece) -> float:
    """How wide a piece is for its letters."""
    return (piece.right - piece.left) / (len(piece.text) * max(piece.size, 0.01))


def _split(text: str, words: Sequence[re.Match[str]], box: Callable[[int], Box]) -> Iterator[Piece]:
    first = words[0].start()
    x0, bottom, x1, top = begun = box(first)
    height = top - bottom
    for word, following in pairwise([*words, None]):
        assert word is not None
        start, end = word.span()
        before = begun
        if following is not None:
            begun = box(following.start())
            # Even thin letters leave no room for a gap: no need to ask where the word ends.
            if 0 <= begun[0] - before[0] <= (GAP + THIN * (end - start)) * height:
                continue
        ended = box(end - 1) if end - start > 1 else before
        x0, x1 = min(x0, before[0], ended[0]), max(x1, before[2], ended[2])
        # The second gap is one where the script goes to the left.
        if following is not None and max(begun[0] - ended[2], ended[0] - begun[2]) <= GAP * height:
            continue
        yield Piece(_whole(text[first:end]), x0, bottom, x1, top)
        if following is not None:
            first = following.start()
            x0, bottom, x1, top = begun
            height = top - bottom


def _whole(units: str) -> str:
    """Characters of UTF-16 units."""
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_turned(textpage: pdfium.PdfTextPage) -> bool:
    """Whether most of the text stands upright only once the page is turned; then it stays as it was drawn."""
    count = max(1, textpage.count_chars())
    sample = range(0, count, max(1, count // SAMPLE))
    return sum(math.cos(raw.FPDFText_GetCharAngle(textpage, at)) < 0.9 for at in sample) > len(sample) / 2


def _runs_left(pieces: Sequence[Piece]) -> bool:
    """Whether some of the text is in a script that goes from right to left: what is said of columns is not for it."""
    directions = [unicodedata.bidirectional(character) for piece in pieces for character in piece.text[:SAMPLE]]
    leftward = sum(direction in ("R", "AL") for direction in directions)
    return 5 * leftward > leftward + directions.count("L")


# -- order ------------------------------------------------------------------------------------------------------------
def _is_in_order(pieces: Sequence[Piece]) -> bool:
    """Whether every piece stands below the one drawn before it: then the page has nothing to put in order."""
    return all(following.top < piece.top and not following.beside(piece) for piece, following in pairwise(pieces))


def _goes_down(pieces: Sequence[Piece]) -> bool:
    """Whether each piece stands below the one before it, or to its right on the same line."""
    return all(
        following.left >= piece.left if following.beside(piece) else following.top < piece.top
        for piece, following in pairwise(pieces)
    )


def _ordered(pieces: list[Piece], body: float, depth: int) -> Iterator[str]:
    """The blocks of a region, from the top: what crosses the gutter, and between that the columns side by side."""
    gutter = _gutter(pieces) if depth < MAX_DEPTH else None
    if gutter is None:
        yield from _column(pieces, body)
        return
    crossing = sorted((piece for piece in pieces if piece.left < gutter < piece.right), key=lambda piece: -piece.top)
    levels = [-piece.top for piece in crossing]
    bands: list[list[Piece]] = [[] for _ in range(len(crossing) + 1)]
    for piece in pieces:
        if piece.right <= gutter or piece.left >= gutter:
            bands[bisect_right(levels, -piece.top)].append(piece)
    drawn = [_drawn_rows(band, gutter) for band in bands]
    is_table = _are_rows(drawn, gutter)
    across: list[Piece] = []
    for index, (band, rows) in enumerate(zip(bands, drawn, strict=True)):
        if band:
            yield _lines(across, body)
            across = []
            full = [at for at, row in enumerate(rows) if _is_full(row, gutter)] if is_table else []
            if len(full) > 1:
                table = rows[full[0] : full[-1] + 1]
                rest = [*chain(*rows[: full[0]], *rows[full[-1] + 1 :])]
                top = table[0][0].top
                yield from _ordered([piece for piece in rest if piece.top > top], body, depth + 1)
                yield _table(table, reduce(_columns, table, []))
                yield from _ordered([piece for piece in rest if piece.top <= top], body, depth + 1)
            else:
                for right in (False, True):
                    yield from _ordered([p for p in band if (p.left >= gutter) is right], body, depth + 1)
        across += crossing[index : index + 1]
    yield _lines(across, body)


def _gutter(pieces: Sequence[Piece]) -> float | None:
    """Where the page falls into columns of text: a place that few lines cross, with whole lines on both sides."""
    if len(pieces) < 2 * MIN_LINES:
        return None
    lefts, rights = sorted(piece.left for piece in pieces), sorted(piece.right for piece in pieces)
    places: list[tuple[int, float, float]] = []
    for left in sorted(set(lefts)):
        # The gutter ends where this line begins; it starts at the nearest end of a line before that.
        ended = bisect_right(rights, left)
        if MIN_LINES <= ended <= len(pieces) - MIN_LINES:
            crossed = bisect_right(lefts, left - 0.01) - ended
            width = left - rights[ended - 1]
            if crossed <= CROSSING * len(pieces) and width > 0:
                places.append((crossed, -width, left - width / 2))
    for _, _, place in sorted(places)[:MAX_GUTTERS]:
        if _is_prose([p for p in pieces if p.right <= place]) and _is_prose([p for p in pieces if p.left >= place]):
            return place
    return None


def _drawn_rows(pieces: Sequence[Piece], gutter: float) -> list[list[Piece]]:
    """What was drawn before the drawing went back to the left, or up: a table's row is drawn cell by cell."""
    rows: list[list[Piece]] = []
    for piece in pieces:
        before = rows[-1][-1] if rows else None
        if before is None or not _goes_on(before, piece, rows[-1][0].top, gutter):
            rows.append([piece])
            continue
        if before.right <= gutter <= piece.left:
            # What stands above its first line, and apart from it, is no part of the row, as a title.
            above = [at for at, one in enumerate(rows[-1]) if one.bottom > piece.top - 0.5 * piece.size]
            lead = max((at + 1 for at in above if _gap(rows[-1][at : at + 2]) > 0.5 * piece.size), default=0)
            rows[-1:] = [row for row in (rows[-1][:lead], rows[-1][lead:]) if row]
        rows[-1].append(piece)
    return rows


def _goes_on(before: Piece, piece: Piece, top: float, gutter: float) -> bool:
    """Whether a piece may belong to the row that the one before it is in, which begins at `top`."""
    if piece.left >= before.right:
        return before.bottom < piece.top <= top + 0.5 * piece.size
    returned = piece.right <= gutter <= before.left
    return not returned and piece.top < before.top and not _is_apart([before], [piece])


def _gap(pieces: Sequence[Piece]) -> float:
    """How much lies between two pieces, one above the other."""
    return pieces[0].bottom - pieces[1].top if len(pieces) == 2 else 0.0


def _is_full(row: Sequence[Piece], gutter: float) -> bool:
    """Whether it was drawn from the left of the gutter to the right of it."""
    return row[0].right <= gutter <= row[-1].left


def _are_rows(bands: Sequence[Sequence[list[Piece]]], gutter: float) -> bool:
    """Whether text on both sides of a gutter is a table: most of it was drawn in rows, each below the one before it.

    Columns of text are drawn one after the other; each part of a page that they fill is one row of this kind.
    """
    returns = held = 0
    for rows in bands:
        full = [row for row in rows if _is_full(row, gutter)]
        for row, following in pairwise(full):
            if min(piece.top + piece.bottom for piece in row) <= max(p.top + p.bottom for p in following):
                return False
        returns += max(0, len(full) - 1)
        held += sum(map(len, full))
    return returns >= MIN_LINES - 1 and 2 * held > sum(len(row) for rows in bands for row in rows)


def _is_prose(pieces: Sequence[Piece]) -> bool:
    """Whether a region is a column of text, whatever tables are in it."""
    lines = [len(piece.text) for piece in pieces if len(piece.text) >= PROSE]
    return len(lines) >= MIN_LINES and 2 * sum(lines) > sum(len(piece.text) for piece in pieces)


def _column(pieces: list[Piece], body: float) -> Iterator[str]:
    """A region without columns of text: its tables, and its lines in the order drawn unless that jumps."""
    rows = _rows(pieces)
    start = 0
    told: list[Piece] = []
    order = {id(piece): index for index, piece in enumerate(pieces)}
    while start < len(rows):
        end, columns = _table_end(rows, start)
        if end > start:
            yield _lines(_in_order(told, order), body)
            told = []
            yield _table(rows[start:end], columns)
            start = end
        else:
            told += rows[start]
            start += 1
    yield _lines(_in_order(told, order), body)


def _in_order(pieces: list[Piece], order: dict[int, int]) -> list[Piece]:
    """As they were drawn, if that goes down the page; else as they stand."""
    drawn = sorted(pieces, key=lambda piece: order[id(piece)])
    return drawn if _goes_down(drawn) else pieces


def _rows(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces by the lines they stand on, from the top, each from the left."""
    rows: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: -(piece.top + piece.bottom)):
        if rows and rows[-1][0].beside(piece):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [sorted(row, key=lambda piece: piece.left) for row in rows]


# -- tables -----------------------------------------------------------------------------------------------------------
def _columns(known: Sequence[Span], row: Sequence[Piece]) -> list[Span]:
    """From where to where columns go, with another row in them: what overlaps belongs to one."""
    columns: list[Span] = []
    for left, right in sorted([*known, *((piece.left, piece.right) for piece in row)]):
        if columns and left < columns[-1][1] + TOUCHING:
            columns[-1] = columns[-1][0], max(right, columns[-1][1])
        else:
            columns.append((left, right))
    return columns


def _table_end(rows: Sequence[Sequence[Piece]], start: int) -> tuple[int, list[Span]]:
    """The row after a table that begins with this one, and its columns; `start` where none does.

    Its rows keep to columns. A row with a single piece may stand within it, as the second line of a cell does.
    """
    end, full = start, 0
    columns: list[Span] = []
    table: list[Span] = []
    for index in range(start, len(rows)):
        row = rows[index]
        wider = _columns(columns, row)
        if len(wider) < max(2, len(columns) - 1) or (index > start and _is_apart(rows[index - 1], row)):
            break
        columns = wider
        if len(row) >= 2:
            full, end, table = full + 1, index + 1, columns
        elif index + 1 - end > MIN_LINES:
            break
    # Two lines with a gap in them are as often a formula; they make a table only with three columns.
    return (end, table) if full >= 3 or (full == end - start == 2 and len(table) >= 3) else (start, [])


def _is_apart(row: Sequence[Piece], following: Sequence[Piece]) -> bool:
    """Whether more than two empty lines lie between two rows."""
    return row[0].bottom - following[0].top > 3 * row[0].size


def _table(rows: Sequence[Sequence[Piece]], columns: Sequence[Span]) -> str:
    """Markdown, the first row as its head."""
    starts = [left for left, _ in columns]
    told: list[str] = []
    for row in rows:
        cells: list[list[Piece]] = [[] for _ in columns]
        for piece in row:
            cells[max(0, bisect_right(starts, piece.left) - 1)].append(piece)
        texts = (_lines(cell, 0.0).replace("\n", " ").replace("|", "/") for cell in cells)
        told.append("| " + " | ".join(texts) + " |")
    return "\n".join([told[0], "|" + " --- |" * len(columns), *told[1:]])


# -- lines ------------------------------------------------------------------------------------------------------------
def _body_size(pieces: Sequence[Piece]) -> float:
    """The size in which most of the page's characters are set."""
    sizes = sorted((piece.size, len(piece.text)) for piece in pieces)
    half = sum(length for _, length in sizes) / 2
    for size, length in sizes:
        half -= length
        if half <= 0:
            return size
    return 0.0


def _heading(line: str, size: float, body: float) -> str:
    """The mark of a heading, by its size; "" for other lines."""
    mark = next((mark for times, mark in HEADINGS if size >= times * body), "")
    is_title = mark and body > 0 and len(line) <= MAX_HEADING and sum(map(str.isalpha, line)) >= 2
    return mark if is_title else ""


def _lines(pieces: Sequence[Piece], body: float) -> str:
    """Pieces as lines of text; headings stand apart."""
    out: list[str] = []
    mark = ""
    before: Piece | None = None
    for piece in pieces:
        if before is not None and before.joined:
            out.append(piece.text)
        elif before is not None and before.beside(piece):
            out.append(" " + piece.text)
        else:
            heading = _heading(piece.text, piece.size, body)
            if heading and heading == mark and before is not None and before.bottom - piece.top < piece.size:
                out.append(" " + piece.text)  # A heading of two lines.
            else:
                out.append("\n\n" + heading if (heading or mark) and out else "\n" if out else heading)
                out.append(piece.text)
            mark = heading
        before = piece
    return "".join(out)
