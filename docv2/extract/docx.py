"""Word files: text in reading order with headings, lists and tables as Markdown, and the pictures in their places."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docx
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml
from lxml import etree

from docv2.documents import Detail, Page
from docv2.errors import DocumentError
from docv2.extract.archive import BadArchive, open_archive
from docv2.extract.base import TEXT_ALONE, Found, picture_page, text_page, unread_page
from docv2.extract.docxlists import LEVELS, Lists
from docv2.extract.image import open_picture, upright
from docv2.extract.text import paged

PICTURE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF")
"""Of embedded pictures; Windows' drawing formats (EMF, WMF) cannot be drawn here."""

SMALL = 24
"""Pixels; a picture that is no larger either way is an ornament."""

MAX_GENERATIONS = 20
"""Of styles that build on one another; Word itself stops at 11."""

MAX_COLUMNS = 64
"""Of a table; a hostile cell may claim to span billions."""


def pages(path: Path, folder: Path, first_page: int, detail: Detail) -> Iterator[Found]:
    """Each page from `first_page` on; a picture is the page after the one it stands on. How many shows at the end."""
    number = 0
    for number, part in enumerate(_parts(_open(path)), 1):
        if number < first_page:
            continue
        if isinstance(part, str):
            yield text_page(folder, number, part, "The document is a text."), None
        else:
            yield _picture_page(folder, number, *part, detail), None
    if not number:
        raise DocumentError("The document is empty.")


def _open(path: Path) -> _Reader:
    """The document, once it is neither a bomb nor damaged."""
    with path.open("rb") as file:
        try:
            open_archive(file)
            document = docx.Document(file)
            parts = [part for part in document.part.package.iter_parts() if hasattr(part, "element")]
            if any(part.element.getroottree().docinfo.doctype for part in parts):
                raise BadArchive("it defines XML entities, which no Word file does")
            return _Reader(document)
        except BadArchive as error:
            raise DocumentError(f"The Word file is not opened: {error}.") from None
        except MemoryError:
            raise
        except Exception as error:  # Broken files lead python-docx into any exception there is.
            if isinstance(error, etree.XMLSyntaxError) and error.code == etree.ErrorTypes.ERR_NO_MEMORY:
                raise MemoryError from error
            raise DocumentError("The Word file is damaged and cannot be opened.") from error


_MARK = re.compile(r"\[Picture (\d{1,6})(?:: [^]]{1,200})?\]")
"""How the text names a picture, with its title if it has one."""


def _parts(reader: _Reader) -> Iterator[str | tuple[int, bytes]]:
    """The text of each page, and after it the pictures that it names, with their numbers; last what no text names."""
    for text in paged(reader.blocks(), _MARK):
        yield text
        for name in map(int, _MARK.findall(text)):
            if (picture := reader.pictures.pop(name, None)) is not None:
                yield name, picture
    yield from sorted(reader.pictures.items())


def _picture_page(folder: Path, number: int, name: int, data: bytes, detail: Detail) -> Page:
    if detail is Detail.TEXT:
        return unread_page(number, TEXT_ALONE)
    try:
        with open_picture(io.BytesIO(data), PICTURE_FORMATS) as picture:
            return picture_page(folder, number, upright(picture), f"Picture {name} of the document.")
    except DocumentError:
        return unread_page(number, f"Picture {name} of the document cannot be decoded.")


@dataclass(frozen=True, slots=True)
class _Style:
    heading: int
    """Its level, or 0."""
    list_id: str
    depth: int


class _Reader:
    """Walks the XML itself: python-docx's own walk leaves out content controls, text boxes and what was inserted."""

    def __init__(self, document: Any) -> None:
        self._part = document.part
        self._body = document.element.body
        styles = document.styles.element.iterchildren(qn("w:style"))
        self._style_elements = {style.get(qn("w:styleId")): style for style in styles}
        self._styles: dict[str, _Style] = {}
        self._lists = Lists(next((root for root, _ in self._related("numbering")), None))
        self._notes = {
            (kind, note.get(qn("w:id"))): (note, part)
            for kind in ("footnote", "endnote", "comment")
            for root, part in self._related(f"{kind}s")
            for note in root.iterchildren()
        }
        self._notes_told: list[str] = []
        """Footnotes of the paragraph at hand, and comments on it."""
        self._names: dict[Any, int] = {}
        """The number of each picture, by the part that holds it."""
        self._in_list = False
        self._tables = 0
        """How many tables the walk is within; Markdown has none within tables, so their rows go into the cell."""
        self.pictures: dict[int, bytes] = {}
        """Files of the pictures met so far, by the number that the text names them by."""

    def blocks(self) -> Iterator[str]:
        """The document's text, piece by piece, with a form feed where a page ends."""
        yield from self._margins("header")
        yield from self._blocks(self._body, self._part)
        yield from self._margins("footer")

    def _related(self, kind: str) -> list[tuple[Any, Any]]:
        """Root and part of every part of a kind that the document refers to."""
        found = []
        for relation in self._part.rels.values():
            if relation.reltype.endswith(f"/{kind}") and not relation.is_external:
                part = relation.target_part
                found.append((part.element if hasattr(part, "element") else parse_xml(part.blob), part))
        return found

    def _margins(self, kind: str) -> Iterator[str]:
        """What stands above or below the pages, each text once."""
        texts = [" ".join(" ".join(self._blocks(root, part)).split()) for root, part in self._related(kind)]
        for text in dict.fromkeys(texts):
            if text:
                yield f"\n{kind.capitalize()}: {text}\n\n"

    # -- blocks -------------------------------------------------------------------------------------------------------
    def _blocks(self, parent: Any, part: Any) -> Iterator[str]:
        """Paragraphs and tables, whatever they are wrapped in."""
        for element in parent.iterchildren():
            tag = _local(element)
            if tag == "p":
                yield self._paragraph(element, part)
            elif tag == "tbl":
                yield self._table(element, part)
            elif tag == "altChunk":
                yield "[A part of the document in another format, which is not read.]\n\n"
            elif tag not in _LEFT_OUT:
                yield from self._blocks(element, part)

    def _paragraph(self, element: Any, part: Any) -> str:
        text = self._inline(element, part)
        properties = element.find(qn("w:pPr"))
        before = "\f" if text.startswith("\f") or _is_on(properties, "w:pageBreakBefore") else ""
        after = "\f" if _ends_page(properties) else ""
        text = text.lstrip("\f").strip(" \n")
        if not text.strip():
            return before + after
        style = self._style(properties)
        label = self._lists.label(style.list_id, style.depth)
        listed = bool(label) and not style.heading
        if style.heading:
            text = "#" * style.heading + " " + label.removeprefix("- ") + " ".join(text.split())
        elif listed:
            text = "  " * style.depth + label + text
        gap = "\n" if self._in_list and not listed else ""
        self._in_list = listed
        notes = "".join(f"{note}\n\n" for note in self._notes_told)
        self._notes_told.clear()
        return before + gap + text + ("\n" if listed else "\n\n") + notes + after

    def _table(self, table: Any, part: Any) -> str:
        """Markdown, the first row as its head. A page that ends within a row ends after it."""
        self._tables += 1
        nested = self._tables > 1
        lines: list[str] = []
        for row in _descend(table, "tr"):
            skipped = _number(row.find(qn("w:trPr")), "w:gridBefore", 0)
            cells: list[str] = [""] * min(skipped, MAX_COLUMNS)
            for cell in _descend(row, "tc"):
                properties = cell.find(qn("w:tcPr"))
                text = "" if _continues(properties) else "".join(self._blocks(cell, part))
                span = _number(properties, "w:gridSpan", 1)
                cells += [text, *[""] * (min(span, MAX_COLUMNS) - 1)][: max(0, MAX_COLUMNS - len(cells))]
            if nested:
                lines.append("; " * bool(lines) + " / ".join(" ".join(cell.split()) for cell in cells))
                continue
            line = "|" + "|".join(f" {' '.join(cell.split()).replace('|', '/')} " for cell in cells) + "|\n"
            lines.append(line + ("" if lines else "|" + " --- |" * len(cells) + "\n"))
            if any("\f" in cell for cell in cells):
                lines.append("\f")
        self._in_list = False
        self._tables -= 1
        return "".join(lines) + "\n"

    # -- within a paragraph -------------------------------------------------------------------------------------------
    def _inline(self, parent: Any, part: Any) -> str:
        out = []
        for element in parent.iterchildren():
            tag = _local(element)
            if tag == "t":
                out.append(element.text or "")
            elif tag in _SIGNS:
                out.append(_SIGNS[tag])
            elif tag == "br":
                out.append("\f" if element.get(qn("w:type")) == "page" else "\n")
            elif tag in ("footnoteReference", "endnoteReference"):
                out.append(self._note(tag.removesuffix("Reference"), element.get(qn("w:id"))))
            elif tag == "commentReference":
                self._comment(element.get(qn("w:id")))
            elif tag == "sym":
                out.append(_WINGDINGS.get((element.get(qn("w:char")) or "")[-2:].upper(), "\ufffd"))
            elif tag == "checkBox":
                state = "w:checked" if element.find(qn("w:checked")) is not None else "w:default"
                out.append("☒" if _is_on(element, state) else "☐")
            elif tag in ("drawing", "pict", "object"):
                out += [self._picture(element, part), *(f"\n{block.strip()}" for block in self._blocks(element, part))]
            elif tag not in _LEFT_OUT:
                out.append(self._inline(element, part))
        return "".join(out)

    def _note(self, kind: str, name: str) -> str:
        """The mark of a footnote; its text follows the paragraph."""
        note, part = self._notes.pop((kind, name), (None, None))
        if note is not None:
            self._notes_told.append(f"[^{name}]: " + " ".join("".join(self._blocks(note, part)).split()))
        return f"[^{name}]"

    def _comment(self, name: str) -> None:
        """A comment follows the paragraph that it is on, with who made it."""
        comment, part = self._notes.pop(("comment", name), (None, None))
        if comment is not None:
            author = " ".join((comment.get(qn("w:author")) or "").split())[:100]
            text = " ".join("".join(self._blocks(comment, part)).split())
            self._notes_told.append(f"[Comment{' by ' + author if author else ''}: {text}]")

    def _picture(self, element: Any, part: Any) -> str:
        """The marks of the pictures in a drawing."""
        drawn = (item.get("uri", "").rpartition("/")[2] for item in element.iter(qn("a:graphicData")))
        marks = [f"[A {kind} that is not shown here.]" for kind in drawn if kind in ("chart", "diagram")]
        titles = [item.get("descr") or "" for item in element.iter(qn("wp:docPr"))]
        for item in element.iter(qn("a:blip"), _IMAGE_DATA):
            relation = part.rels.get(item.get(qn("r:embed")) or item.get(qn("r:id")) or "")
            if relation is None or relation.is_external:
                continue
            source = relation.target_part
            if source not in self._names:
                if _is_small(source.blob):
                    continue
                self._names[source] = len(self._names) + 1
                self.pictures[self._names[source]] = source.blob
            title = " ".join(titles.pop(0).replace("]", ")").split())[:200] if titles else ""
            marks.append(f"[Picture {self._names[source]}{': ' + title if title else ''}]")
        return " ".join(marks)

    # -- styles -------------------------------------------------------------------------------------------------------
    def _style(self, properties: Any) -> _Style:
        """What a paragraph is: its own properties over those of its style."""
        base = self._named_style(_value(properties, "w:pStyle"), 0)
        return _refined(base, properties)

    def _named_style(self, name: str, generation: int) -> _Style:
        if name not in self._styles:
            element = self._style_elements.get(name)
            if element is None or generation > MAX_GENERATIONS:
                return _Style(0, "", 0)
            parent = self._named_style(_value(element, "w:basedOn"), generation + 1)
            style = _refined(parent, element.find(qn("w:pPr")))
            title = _value(element, "w:name").lower()
            if match := re.fullmatch(r"heading ([1-9])|title", title):
                style = _Style(min(6, int(match[1] or 1)), style.list_id, style.depth)
            self._styles[name] = style
        return self._styles[name]


_SIGNS = {"tab": "\t", "cr": "\n", "noBreakHyphen": "-", "lastRenderedPageBreak": "\f"}
_WINGDINGS = {
    "6F": "☐",
    "71": "☐",
    "A8": "☐",
    "FD": "☒",
    "FE": "☑",
    "FB": "✗",
    "FC": "✓",
    "E0": "→",
    "B7": "•",
    "A7": "▪",
}
"""Signs that Word writes as a place in a symbol font: boxes that were ticked, above all."""
_LEFT_OUT = {
    "pPr",
    "rPr",
    "sdtPr",
    "tblPr",
    "trPr",
    "tcPr",
    "sectPr",
    "del",
    "moveFrom",
    "instrText",
    "delText",
    "Fallback",
}
"""Properties, what was deleted, field codes, and the second copy of what newer Word versions draw."""
_IMAGE_DATA = "{urn:schemas-microsoft-com:vml}imagedata"


def _local(element: Any) -> str:
    """The tag without its namespace; "" for comments and the like."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _descend(parent: Any, wanted: str) -> Iterator[Any]:
    """Rows of a table or cells of a row, whatever they are wrapped in."""
    for element in parent.iterchildren():
        tag = _local(element)
        if tag == wanted:
            yield element
        elif tag not in _LEFT_OUT and tag not in ("tbl", "p"):
            yield from _descend(element, wanted)


def _value(parent: Any, child: str) -> str:
    found = parent.find(qn(child)) if parent is not None else None
    return (found.get(qn("w:val")) or "") if found is not None else ""


def _number(parent: Any, child: str, default: int) -> int:
    value = _value(parent, child)
    return int(value) if value.isdecimal() and len(value) < 10 else default


def _is_on(properties: Any, child: str) -> bool:
    """Whether a switch is set; Word writes none, an empty one, or one that says so."""
    found = properties.find(qn(child)) if properties is not None else None
    return found is not None and found.get(qn("w:val")) not in ("0", "false", "off")


def _ends_page(properties: Any) -> bool:
    """Whether a section ends with this paragraph and the next one begins on a new page."""
    section = properties.find(qn("w:sectPr")) if properties is not None else None
    return section is not None and _value(section, "w:type") not in ("continuous", "nextColumn")


def _continues(properties: Any) -> bool:
    """Whether a cell belongs to the one above it."""
    merge = properties.find(qn("w:vMerge")) if properties is not None else None
    return merge is not None and merge.get(qn("w:val")) != "restart"


def _refined(base: _Style, properties: Any) -> _Style:
    """A style with what these paragraph properties say otherwise."""
    if properties is None:
        return base
    numbering = properties.find(qn("w:numPr"))
    outline = _number(properties, "w:outlineLvl", -1)
    return _Style(
        min(6, outline + 1) if 0 <= outline < LEVELS else 0 if outline == LEVELS else base.heading,
        _value(numbering, "w:numId") or base.list_id,
        _number(numbering, "w:ilvl", base.depth),
    )


def _is_small(blob: bytes) -> bool:
    try:
        with open_picture(io.BytesIO(blob), PICTURE_FORMATS) as picture:
            return max(picture.size) <= SMALL
    except DocumentError:
        return False  # It is told of as one that cannot be decoded.
