"""Reading a document into pages: the job that a sandboxed child runs, and the server's side of it.

A reader is a module with `pages(path, folder, first_page, detail)`, which leaves each page's text and picture in the
folder and yields the page with the number of pages where that is known. Only children load readers.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docv2.documents import Detail, MediaType, Page, PageSource
from docv2.errors import DocumentError, OverLimit, ParserDied

if TYPE_CHECKING:  # A child needs neither the server's side of the sandbox nor, for text, a picture library.
    from PIL import Image

    from docv2.sandbox import Sandbox

READERS: dict[MediaType, str] = {
    MediaType.PDF: "docv2.extract.pdf",
    MediaType.DOCX: "docv2.extract.docx",
    MediaType.TEXT: "docv2.extract.text",
    MediaType.MARKDOWN: "docv2.extract.text",
    MediaType.PNG: "docv2.extract.image",
    MediaType.JPEG: "docv2.extract.image",
    MediaType.GIF: "docv2.extract.image",
}
"""The module that reads each type; the fork server loads it with the first document of that type."""

MAX_PAGES = 20_000
"""A text of 50 MB has 17,476; what claims more is refused."""

MAX_LOST = 10
"""Pages that may each take more than allowed, some of them minutes, before no further one is tried."""

PAGE_CHARACTERS = 3000
"""Where a document has no pages of its own, a page is about what a sheet of paper holds."""

MAX_PIXELS = 4_000_000
"""Of a page's picture: more than vision models look at (most scale down to 2 megapixels or fewer)."""

MAX_SIDE = 8_000
"""Pixels of a picture's longer side; JPEG itself ends at 65,535."""

JPEG_QUALITY = 85

NOT_TRIED = f"It was not tried, since {MAX_LOST} pages before it took more than allowed to read."
"""Why the pages after those are unread."""

Found = tuple[Page | None, int | None]
"""A page, and the number of all pages. None: no page yet, or nobody knows."""


# -- in the child -----------------------------------------------------------------------------------------------------
def read_pages(
    path: str, media_type: str, folder: str, first_page: int, detail: str = Detail.AUTO
) -> Iterator[dict[str, Any]]:
    """The job: read a document from `first_page` on, yielding one record for each page."""
    reader = importlib.import_module(READERS[MediaType(media_type)])
    for page, total in reader.pages(Path(path), Path(folder), first_page, Detail(detail)):
        if (total or 0) > MAX_PAGES or (page is not None and page.number > MAX_PAGES):
            raise DocumentError(f"The document has more than {MAX_PAGES:,} pages.")
        yield {"page": page and asdict(page), "total": total}


def text_page(folder: Path, number: int, text: str, reason: str) -> Page:
    """A page of text, left in the folder."""
    page = Page(number, PageSource.TEXT, reason, chars=len(text))
    _write(page.text_path(folder), text.encode())
    return page


def picture_page(folder: Path, number: int, picture: Image.Image, reason: str, text: str | None = None) -> Page:
    """A page that is a picture, with text where the model needs both; left in the folder."""
    source = PageSource.PICTURE if text is None else PageSource.BOTH
    page = Page(number, source, reason, len(text or ""), picture.width, picture.height)
    if text is not None:
        _write(page.text_path(folder), text.encode())
    target = page.picture_path(folder)
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        picture.save(file, "JPEG", quality=JPEG_QUALITY)
        os.fsync(file.fileno())  # See is_whole.
    part.replace(target)
    return page


def unread_page(number: int, reason: str) -> Page:
    """A page that could not be read."""
    return Page(number, PageSource.NONE, reason)


TEXT_ALONE = "It is a picture, and text alone was asked for."
"""Why a page is unread that would be none otherwise."""


def _write(target: Path, data: bytes) -> None:
    part = target.with_suffix(".part")
    part.write_bytes(data)
    part.replace(target)


def fitting(width: float, height: float, scale: float = 1.0) -> float:
    """The largest scale, up to the given one, at which a picture of that size keeps to the pixel budget."""
    area, side = max(width * height, 1e-9), max(width, height, 1e-9)
    return float(min(scale, (MAX_PIXELS / area) ** 0.5, MAX_SIDE / side))


_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufeff\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Text that can be stored, shown and sent: one kind of line end, no control characters, no half characters."""
    return _SURROGATES.sub("\ufffd", _UNWANTED.sub("", _LINE_ENDS.sub("\n", text)))


def is_whole(page: Page, folder: Path) -> bool:
    """Whether what a page left in the folder is still there, and all of it: a power cut may have taken it.

    A picture is on disk before it has its name, which costs little beside drawing it. For text it would cost more than
    reading it did (0.5 to 10 ms as measured), and is not needed: its length is known, and it holds no NUL. Blocks.
    """
    try:
        text = page.text_path(folder).read_text("utf-8") if page.has_text else ""
    except (OSError, UnicodeDecodeError):
        return False
    if len(text) != (page.chars if page.has_text else 0) or "\0" in text:
        return False
    return not page.has_picture or page.picture_path(folder).is_file()


# -- in the server ----------------------------------------------------------------------------------------------------
async def read(
    sandbox: Sandbox,
    path: Path,
    media_type: MediaType,
    folder: Path,
    first_page: int = 1,
    *,
    owner: str,
    detail: Detail = Detail.AUTO,
) -> AsyncGenerator[tuple[Page, int | None], None]:
    """Read a document from `first_page` on in a child: each page as it is done, with the number of pages if known.

    Close the generator (contextlib.aclosing) to stop. A page on which the child exceeds its limits is lost alone: it
    becomes an unread page and a new child goes on after it. After MAX_LOST of them the rest is unread too, or the
    document given up where nothing was read. Raises DocumentError where the document or all of its pages cannot be
    read or are blank, ParserDied where a child died.
    """
    number, total, lost = first_page, None, 0
    found: list[Page] = []
    while total is None or number <= total:
        try:
            arguments = (str(path), media_type, str(folder), number, detail)
            async with aclosing(
                sandbox.run(read_pages, *arguments, owner=owner, needs=[READERS[media_type]])
            ) as records:
                async for record in records:
                    page, total = _checked(record, number)
                    if page is not None:
                        found.append(page)
                        number += 1
                        yield page, total
        except OverLimit as error:
            lost += 1
            nothing = first_page == 1 and not any(page.has_content for page in found)
            if total is None or number > total or (nothing and lost >= MAX_LOST):
                raise
            unread = [unread_page(number, error.message)]
            if lost >= MAX_LOST:
                unread += [unread_page(after, NOT_TRIED) for after in range(number + 1, total + 1)]
            for page in unread:
                found.append(page)
                yield page, total
            number += len(unread)
        else:
            if total is not None and number <= total:
                raise ParserDied("The reading child ended before the last page.")
            break
    if first_page == 1:
        check_content(found)


def check_content(pages: Sequence[Page]) -> None:
    """DocumentError where all the pages of a document hold nothing: a model that is asked about it makes it up."""
    if any(page.has_content for page in pages):
        return
    unread = [page for page in pages if page.source is PageSource.NONE]
    if pages and not unread:
        raise DocumentError("The document is empty.")
    reason = f": {unread[0].reason}" if unread else "."
    raise DocumentError(f"No page of the document could be read{reason}")


def _checked(record: object, expected: int) -> Found:
    """A record as a page; ParserDied where it is none, since a child that talks nonsense is not itself any more."""
    match record:
        case {"page": None, "total": None | int() as total}:
            page = None
        case {
            "page": {
                "number": int() as number,
                "source": str() as source,
                "reason": str() as reason,
                "chars": int() as chars,
                "picture_width": int() as width,
                "picture_height": int() as height,
            },
            "total": None | int() as total,
        } if number == expected and source in set(PageSource) and min(chars, width, height) >= 0:
            reason = "".join(c for c in reason if c.isprintable())[:500]
            page = Page(number, PageSource(source), reason, chars, width, height)
        case _:
            raise ParserDied("The reading child sent what is no page.")
    least = expected - (page is None)
    if total is not None and not least <= total <= MAX_PAGES:
        raise ParserDied("The reading child sent a number of pages that cannot be.")
    return page, total
