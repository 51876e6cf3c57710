"""PDF: the text of a page where it is good, its picture where it is not, both where both matter.

PDFium reads and draws (measured on 971 files of a public suite: 948 read, no crash, 11 to 23 times faster than
pdfminer.six); pdfminer.six is the second reader, for what PDFium cannot open or finds no text in.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw
from PIL import Image

from docv2.documents import Detail, Page, PageSource
from docv2.errors import DocumentError
from docv2.extract.base import Found, clean, fitting, picture_page, text_page, unread_page
from docv2.extract.pdfchoice import Drawing, Measures, choose, figure_share, measure_text
from docv2.extract.pdflayout import layout
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
def _look(page: pdfium.PdfPage) -> tuple[str, Measures]:
    """A page's text, within what of the page is shown, and its measures."""
    with closing(page.get_textpage()) as textpage:
        found = layout(textpage, page.get_bbox())
        count = max(0, textpage.count_chars())
        sample = range(0, count, max(1, count // SAMPLE))
        unmapped = sum(raw.FPDFText_HasUnicodeMapError(textpage.raw, index) == 1 for index in sample)
    measured = measure_text(found)
    pictures, drawings, figures = _contents(page)
    measures = Measures(
        measured.characters,
        measured.odd,
        unmapped / max(1, len(sample)),
        pictures,
        drawings,
        figures,
        _is_marked(page),
    )
    return clean(found), measures


def _contents(page: pdfium.PdfPage) -> tuple[float, int, float]:
    """Share of the page under pictures, how much is drawn on it, and the share of the page under figures."""
    left, bottom, right, top = shown = page.get_bbox()
    covered = 0.0
    drawings: list[Drawing] = []
    pending = _objects(raw.FPDFPage_CountObjects, raw.FPDFPage_GetObject, page.raw, pdfium.PdfMatrix(), 0)
    for _ in range(MAX_OBJECTS):
        if not pending:
            break
        item, matrix, depth = pending.pop()
        kind = raw.FPDFPageObj_GetType(item)
        if kind == raw.FPDF_PAGEOBJ_IMAGE:
            x0, y0, x1, y1 = matrix.on_rect(*_bounds(item))
            covered += max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, top) - max(y0, bottom))
        elif kind == raw.FPDF_PAGEOBJ_PATH:
            drawings.append(Drawing(matrix.on_rect(*_bounds(item)), raw.FPDFPath_CountSegments(item)))
        elif kind == raw.FPDF_PAGEOBJ_SHADING:
            drawings.append(Drawing(matrix.on_rect(*_bounds(item)), 2))
        elif kind == raw.FPDF_PAGEOBJ_FORM and depth < MAX_DEPTH:
            own = raw.FS_MATRIX()
            raw.FPDFPageObj_GetMatrix(item, own)
            inner = pdfium.PdfMatrix.from_raw(own).multiply(matrix)
            pending += _objects(raw.FPDFFormObj_CountObjects, raw.FPDFFormObj_GetObject, item, inner, depth + 1)
    area = (right - left) * (top - bottom)
    return (min(1.0, covered / area) if area > 0 else 0.0), len(drawings), figure_share(drawings, shown)


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
