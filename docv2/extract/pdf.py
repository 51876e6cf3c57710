"""PDF: the text of a page where it is good, its picture where it is not, both where both matter.

PDFium reads and draws (measured on 971 files of a public suite: 948 read, no crash, 11 to 23 times faster than
pdfminer.six); pdfminer.six is the second reader, for what PDFium cannot open or finds no text in.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw
from PIL import Image

from docv2.documents import Detail, Page, PageSource
from docv2.errors import DocumentError
from docv2.extract.base import Found, clean, fitting, picture_page, text_page, unread_page
from docv2.extract.pdftext import SecondReader

ENCRYPTED = "The PDF is encrypted. Please send it without a password."
DAMAGED = "The PDF is damaged and cannot be opened."

DPI = 150
"""Of page pictures, where the pixel budget allows: OCR lost up to 13 points at 110 and gained nothing above 150."""

SAMPLE = 200
"""Characters of a page that are asked for how they were decoded."""

MAX_OBJECTS = 5000
"""Of a page that are looked at for pictures and drawings; a crowded map has more, and is then drawn anyway."""

MAX_GROWTH = 32 * 1024**2
"""Bytes after which the file is opened anew: PDFium keeps whatever it read of a file until that is closed."""

MAX_DEPTH = 4
"""Of drawings within drawings."""

WHITE = ((255, 255),) * 3
"""The extremes of a picture on which there is nothing."""

Image.preinit()  # In the fork server once, rather than in each child.


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
    marks: bool = False
    """Whether it carries form fields, stamps or notes, which are in no text."""


def choose(page: Measures, detail: Detail = Detail.AUTO) -> tuple[PageSource, str]:
    """What the model is given of a page, and why. The thresholds are first ones, set by eye on public sample files."""
    if detail is Detail.IMAGE:
        return PageSource.PICTURE, "Pictures of the pages were asked for."
    source, reason = _best(page)
    if detail is Detail.TEXT:
        if source is PageSource.PICTURE:
            return PageSource.NONE, f"{reason} Text alone was asked for."
        return PageSource.TEXT, "Text alone was asked for."
    return source, reason


def _best(page: Measures) -> tuple[PageSource, str]:
    if page.characters == 0:
        return PageSource.PICTURE, "The page has no text."
    if page.odd > 0.1 or (page.unmapped > 0.3 and page.odd > 0.01):
        return PageSource.PICTURE, "The text of the page cannot be decoded."
    if page.unmapped > 0.5:
        return PageSource.BOTH, "The font does not say for sure what the text of the page is."
    if page.pictures >= 0.5 and page.characters < 50:
        return PageSource.PICTURE, "Most of the page is a picture."
    if page.pictures >= 0.1:
        return PageSource.BOTH, "A picture takes up a good part of the page."
    if page.marks:
        return PageSource.BOTH, "The page carries form fields, stamps or notes."
    if page.characters < 100 and page.drawings > 20:
        return PageSource.BOTH, "The page is drawn rather than written."
    return PageSource.TEXT, "The page has text."


def pages(path: Path, folder: Path, first_page: int, detail: Detail) -> Iterator[Found]:
    """Each page from `first_page` on."""
    with closing(SecondReader(path)) as second:
        try:
            document = _open(path)
        except pdfium.PdfiumError as error:
            if error.err_code == raw.FPDF_ERR_PASSWORD:
                raise DocumentError(ENCRYPTED) from None
            yield from _pages_without_pictures(second, folder, first_page)
            return
        total, start = len(document), 0
        yield None, total
        for number in range(first_page, total + 1):
            yield _page(document, second, folder, number, detail), total
            held = _resident()
            start = start or held
            if held > start + MAX_GROWTH:
                document.close()
                document, start = _open(path), 0
        document.close()


def _open(path: Path) -> pdfium.PdfDocument:
    document = pdfium.PdfDocument(path)
    with suppress(pdfium.PdfiumError):  # Without it filled fields stay empty, and that is all.
        document.init_forms()
    return document


def _resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _page(document: pdfium.PdfDocument, second: SecondReader, folder: Path, number: int, detail: Detail) -> Page:
    """One page; those that fail, fail alone."""
    try:
        page = document[number - 1]
    except pdfium.PdfiumError:
        text = second.text(number, len(document))
        return _text_or_nothing(folder, number, text, "The page is damaged.")
    with closing(page):
        text, measures = _look(page)
        if measures.characters == 0 and _has_text_objects(page):
            other = second.text(number, len(document))
            if choose(measure_text(other))[0] is PageSource.TEXT:
                text, measures = other, measure_text(other)
        source, reason = choose(measures, detail)
        if source is PageSource.TEXT:
            return text_page(folder, number, text, reason)
        try:
            picture = _draw(page)
        except (pdfium.PdfiumError, ValueError):
            return _text_or_nothing(folder, number, text, "The page has no usable text and cannot be drawn.")
        if measures.characters == 0 and picture.getextrema() == WHITE:
            if _has_broken_picture(page):
                return unread_page(number, "The picture on the page cannot be decoded.")
            return text_page(folder, number, "", "The page is blank.")
        if source is PageSource.NONE:
            return unread_page(number, reason)
        return picture_page(folder, number, picture, reason, text if source is PageSource.BOTH else None)


def _pages_without_pictures(second: SecondReader, folder: Path, first_page: int) -> Iterator[Found]:
    """What the second reader makes of a file that PDFium cannot open."""
    total = second.count()
    if not total:
        raise DocumentError(ENCRYPTED if second.encrypted else DAMAGED)
    yield None, total
    for number in range(first_page, total + 1):
        text = second.text(number, total)
        yield _text_or_nothing(folder, number, text, "The page cannot be drawn and has no usable text."), total


def _text_or_nothing(folder: Path, number: int, text: str, reason: str) -> Page:
    """A page that cannot be drawn: its text if that is good, or why it is unread."""
    if choose(measure_text(text))[0] is PageSource.TEXT:
        return text_page(folder, number, text, "The page cannot be drawn, but has text.")
    return unread_page(number, reason)


# -- looking at a page ------------------------------------------------------------------------------------------------
_ODD = re.compile(r"[\x00-\x01\x03-\x08\x0b\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd-\uffff]|\(cid:\d+\)")
"""What no text has. PDFium marks a hyphen at a line's end with \\x02; pdfminer.six writes (cid:N) for what it lacks."""


def measure_text(text: str) -> Measures:
    """What the text alone tells."""
    characters = len("".join(text.split()))
    return Measures(characters, odd=sum(len(odd[0]) for odd in _ODD.finditer(text)) / max(1, characters))


def _look(page: pdfium.PdfPage) -> tuple[str, Measures]:
    """A page's text, within what of the page is shown, and its measures."""
    with closing(page.get_textpage()) as textpage:
        found = textpage.get_text_bounded()
        count = max(0, textpage.count_chars())
        sample = range(0, count, max(1, count // SAMPLE))
        unmapped = sum(raw.FPDFText_HasUnicodeMapError(textpage, index) == 1 for index in sample)
    measured = measure_text(found)
    pictures, drawings = _contents(page)
    measures = Measures(
        measured.characters, measured.odd, unmapped / max(1, len(sample)), pictures, drawings, _is_marked(page)
    )
    return clean(found), measures


def _contents(page: pdfium.PdfPage) -> tuple[float, int]:
    """Share of the page under pictures, and how much is drawn on it."""
    left, bottom, right, top = page.get_bbox()
    covered, drawings = 0.0, 0
    pending = _objects(raw.FPDFPage_CountObjects, raw.FPDFPage_GetObject, page.raw, pdfium.PdfMatrix(), 0)
    for _ in range(MAX_OBJECTS):
        if not pending:
            break
        item, matrix, depth = pending.pop()
        kind = raw.FPDFPageObj_GetType(item)
        if kind == raw.FPDF_PAGEOBJ_IMAGE:
            x0, y0, x1, y1 = matrix.on_rect(*_bounds(item))
            covered += max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, top) - max(y0, bottom))
        elif kind in (raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_SHADING):
            drawings += 1
        elif kind == raw.FPDF_PAGEOBJ_FORM and depth < MAX_DEPTH:
            own = raw.FS_MATRIX()
            raw.FPDFPageObj_GetMatrix(item, own)
            inner = pdfium.PdfMatrix.from_raw(own).multiply(matrix)
            pending += _objects(raw.FPDFFormObj_CountObjects, raw.FPDFFormObj_GetObject, item, inner, depth + 1)
    area = (right - left) * (top - bottom)
    return (min(1.0, covered / area) if area > 0 else 0.0), drawings


def _objects(
    count: Callable[[Any], int], get: Callable[[Any, int], Any], parent: Any, matrix: pdfium.PdfMatrix, depth: int
) -> list[tuple[Any, pdfium.PdfMatrix, int]]:
    """What a page or a drawing within it consists of, with the matrix that takes it to page coordinates."""
    return [(get(parent, index), matrix, depth) for index in range(min(MAX_OBJECTS, count(parent)))]


def _bounds(item: Any) -> tuple[float, float, float, float]:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    raw.FPDFPageObj_GetBounds(item, left, bottom, right, top)
    return left.value, bottom.value, right.value, top.value


def _has_text_objects(page: pdfium.PdfPage) -> bool:
    """Whether there is text that PDFium made nothing of; a scan has none, and needs no second reader."""
    return any(True for _ in islice(page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT], max_depth=MAX_DEPTH), 1))


def _has_broken_picture(page: pdfium.PdfPage) -> bool:
    """Whether a page that came out white should have shown something."""
    for picture in islice(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=MAX_DEPTH), SAMPLE):
        try:
            picture.get_bitmap().close()
        except pdfium.PdfiumError:
            return True
    return False


_UNMARKING = {raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP}


def _is_marked(page: pdfium.PdfPage) -> bool:
    """Whether the page carries anything that a person put on it and no text holds."""
    for index in range(min(MAX_OBJECTS, raw.FPDFPage_GetAnnotCount(page))):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        subtype = raw.FPDFAnnot_GetSubtype(annotation)
        raw.FPDFPage_CloseAnnot(annotation)
        if subtype not in _UNMARKING:
            return True
    return False


def _draw(page: pdfium.PdfPage) -> Image.Image:
    """The page as a picture. Its size is bounded before anything is drawn: 405 bytes of PDF once took 1.3 GB here."""
    width, height = page.get_size()
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError("a page without a size")
    with closing(page.render(scale=fitting(width, height, DPI / 72), rev_byteorder=True)) as bitmap:
        picture: Image.Image = bitmap.to_pil()  # A copy: the bitmap can go.
    return picture
