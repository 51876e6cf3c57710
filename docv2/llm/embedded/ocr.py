"""Reading the text in a picture. Runs in sandboxed children only."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby, pairwise
from statistics import fmean

from PIL import Image, ImageChops, ImageFilter, ImageOps

from docv2.llm.embedded.tesseract import BLOCKS, UPRIGHT_BLOCKS, Engine, UnreadableError

MAX_PIXELS = 40_000_000
"""Larger pictures are not decoded: 120 MB in colour, and no page of paper needs it."""

READ_PIXELS = 4_000_000
"""Larger ones are scaled down: an A4 page at 200 dpi; above 150 dpi nothing more was read."""

_TOO_LARGE = f"it has more than {MAX_PIXELS // 1_000_000} million pixels"

LONGEST_SIDE = 10_000
"""Pixels, likewise: Tesseract takes 32,767."""

SMALL_PIXELS = 1_000_000
"""Smaller ones are doubled: of an A4 page at 75 dpi 0.97 of the words were read instead of 0.88."""

SURE = 80
"""Mean confidence (percent) below which a picture is looked at again, smoothed and turned upright. Good pages have 90
and more, a noisy one 64."""

LEGIBLE = 50
"""Mean confidence below which a page holds no readable text: what Tesseract sees in a photograph has less."""

DOUBTFUL = 30
"""Confidence below which a word is left out."""

SPECKS = 0.002
"""Share of single dark dots from which a picture is smoothed first: print of 6 points has 0.001 at 150 dpi, a noisy
scan 0.009. As they are, half a million dots keep Tesseract busy for a minute."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word and where it stands, in pixels."""

    block: int
    line: tuple[int, int]
    """Paragraph and line within the block."""
    left: int
    top: int
    width: int
    height: int
    confidence: float
    """Percent."""
    text: str


def read(engine: Engine, data: bytes) -> str:
    """The text in a picture file; empty where none can be read. UnreadableError where it is no picture or too large."""
    picture = _open(data)
    for _ in range(2):
        if _specks(picture) > SPECKS:
            picture = _smooth(picture)
    words = _look(engine, picture, BLOCKS)
    if _confidence(words) < SURE:
        words = max(words, _look(engine, _smooth(picture), UPRIGHT_BLOCKS), key=_confidence)
    if _confidence(words) < LEGIBLE:
        return ""
    return _text([word for word in words if word.confidence >= DOUBTFUL])


def _look(engine: Engine, picture: Image.Image, mode: int) -> list[Word]:
    """The words in a picture, however it lies."""
    words = _words(engine.look(picture, mode))
    if turn := _turned(words):
        words = _words(engine.look(picture.rotate(turn, expand=True), BLOCKS))
    return words


def _open(data: bytes) -> Image.Image:
    """A picture in grey, upright as its maker says, and of a size worth reading."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = Image.open(BytesIO(data), formats=("JPEG", "PNG", "GIF", "WEBP"))
        if file.width * file.height > MAX_PIXELS:
            raise UnreadableError(_TOO_LARGE)
        shrink = min(1.0, (READ_PIXELS / (file.width * file.height)) ** 0.5, LONGEST_SIDE / max(file.size))
        size = max(1, int(file.width * shrink)), max(1, int(file.height * shrink))
        file.draft("L", size)
        picture = ImageOps.exif_transpose(file)
        if picture.has_transparency_data:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        picture = picture.convert("L")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadableError(_TOO_LARGE) from None
    except (OSError, ValueError, SyntaxError, ArithmeticError, LookupError, EOFError):
        # Pillow raises all of these on files that are broken or made to break it.
        raise UnreadableError("it is not a picture that can be opened") from None
    if picture.width * picture.height <= SMALL_PIXELS and max(picture.size) <= LONGEST_SIDE / 2:
        return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.LANCZOS)
    picture.thumbnail((max(size), max(size)), reducing_gap=2.0)
    return picture


def _smooth(picture: Image.Image) -> Image.Image:
    """Without specks: a 3 by 3 median."""
    return picture.filter(ImageFilter.MedianFilter(3))


def _specks(picture: Image.Image) -> float:
    """The share of pixels that are dark with no dark one beside them. Print has hardly any, whatever its size."""
    second_darkest = picture.filter(ImageFilter.RankFilter(3, 1))
    darker_by = ImageChops.subtract(second_darkest, picture).histogram()
    return sum(darker_by[64:]) / (picture.width * picture.height)


def _words(tsv: str) -> list[Word]:
    """The words in Tesseract's TSV. Its columns: level, page, block, paragraph, line, word, box, confidence, text."""
    found = []
    for row in tsv.splitlines():
        cells = row.split("\t")
        if len(cells) == 12 and cells[0] == "5" and (text := cells[11].strip()):
            left, top, width, height = map(int, cells[6:10])
            line = int(cells[3]), int(cells[4])
            found.append(Word(int(cells[2]), line, left, top, width, height, float(cells[10]), text))
    return found


def _confidence(words: list[Word]) -> float:
    """The mean over letters, so that the specks Tesseract takes for words count little."""
    letters = sum(len(word.text) for word in words)
    return sum(word.confidence * len(word.text) for word in words) / letters if letters else 0.0


def _turned(words: list[Word]) -> int:
    """Degrees, counter-clockwise, by which a page must be turned so that its lines run to the right."""
    right = down = 0
    for before, after in pairwise(words):
        if (before.block, before.line) == (after.block, after.line):
            right += after.left - before.left
            down += after.top - before.top
    if abs(right) >= abs(down):
        return 180 if right < 0 else 0
    return 90 if down > 0 else 270


def _text(words: Iterable[Word]) -> str:
    """Words as lines, paragraphs apart. Blocks that are no running text are read across, as tables and forms are."""
    parts: list[str] = []
    cells: list[list[Word]] = []
    for _, block in groupby(words, key=lambda word: word.block):
        lines = [list(line) for _, line in groupby(block, key=lambda word: word.line)]
        if not _is_prose(lines):
            cells += lines
            continue
        parts += [*_rows(cells), "", *(" ".join(word.text for word in line) for line in lines), ""]
        cells = []
    return "\n".join([*parts, *_rows(cells)]).strip()


def _is_prose(lines: list[list[Word]]) -> bool:
    """Whether a block is running text: most of its lines are full and have more words than a cell."""
    lengths = [line[-1].left + line[-1].width - line[0].left for line in lines]
    full = sum(length >= 0.75 * max(lengths) for length in lengths)
    return full >= 0.6 * len(lines) and fmean(map(len, lines)) > 5


def _rows(cells: list[list[Word]]) -> Iterator[str]:
    """Lines that stand side by side as one, three spaces between them; an empty one where there is a gap."""
    rows: list[list[list[Word]]] = []
    bottom = 0
    for line in sorted(cells, key=lambda line: _middle(line)):
        first = rows[-1][0] if rows else None
        if first and abs(_middle(line) - _middle(first)) < _height(first) / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    for row in rows:
        row.sort(key=lambda line: line[0].left)
        top = min(line[0].top for line in row)
        if bottom and top - bottom > 1.5 * _height(row[0]):
            yield ""
        bottom = max(line[0].top + line[0].height for line in row)
        yield "   ".join(" ".join(word.text for word in line) for line in row)


def _middle(line: list[Word]) -> float:
    return fmean(word.top + word.height / 2 for word in line)


def _height(line: list[Word]) -> float:
    return fmean(word.height for word in line)
