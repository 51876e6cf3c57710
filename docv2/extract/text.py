"""Plain text and Markdown in whatever encoding they come, in pages of about a sheet of paper."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from charset_normalizer import from_bytes

from docv2.documents import Detail
from docv2.errors import DocumentError
from docv2.extract.base import PAGE_CHARACTERS, Found, clean, text_page

BLOCK = 1 << 16
"""Characters or bytes read at a time: the file may have gigabytes."""

BOMS = (  # The first two bytes of a UTF-32 mark are a UTF-16 one.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)

LEGACY = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "iso8859_2"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
)
"""Encodings that old files have. Rarer ones are left out: on short texts they were guessed where others were right."""

SAMPLE = 1 << 16
"""Bytes that the guess is made on: lines that are not plain ASCII."""

BINARY = "The file is no text: it holds binary data."


def pages(path: Path, folder: Path, first_page: int, _detail: Detail) -> Iterator[Found]:
    """Each page from `first_page` on. How many there are shows at the end."""
    number = 0
    for number, text in enumerate(paged(_blocks(path)), 1):
        if number >= first_page:
            yield text_page(folder, number, text, "The document is a text."), None
    if not number:
        raise DocumentError("The document is empty.")


_NOTHING = re.compile("(?!)")


def paged(blocks: Iterable[str], uncut: re.Pattern[str] = _NOTHING) -> Iterator[str]:
    """Text as pages: cut at form feeds, and within long stretches at the end of a paragraph, line or word.

    What matches `uncut` is never cut.
    """
    rest = ""
    for block in blocks:
        *whole, rest = (rest + block).split("\f")
        for stretch in whole:
            yield from _sheets(stretch, uncut, end=True)
        *sheets, rest = _sheets(rest, uncut, end=False)
        yield from sheets
    yield from _sheets(rest, uncut, end=True)


def _sheets(text: str, uncut: re.Pattern[str], *, end: bool) -> Iterator[str]:
    """A stretch without form feeds in pieces; the last one, where more is to come, as it is."""
    while len(text) > 2 * PAGE_CHARACTERS:
        window = text[: PAGE_CHARACTERS + 1]
        cut = next(
            (at + len(mark) for mark in ("\n\n", "\n", " ") if (at := window.rfind(mark, PAGE_CHARACTERS // 2)) >= 0),
            PAGE_CHARACTERS,
        )
        over = (match for match in uncut.finditer(text, 0, 2 * PAGE_CHARACTERS) if match.start() < cut < match.end())
        cut = next((match.start() or match.end() for match in over), cut)
        if sheet := clean(text[:cut]).strip("\n").rstrip():
            yield sheet
        text = text[cut:]
    if not end:
        yield text
    elif sheet := clean(text).strip("\n").rstrip():
        yield sheet


def _blocks(path: Path) -> Iterator[str]:
    """The text as it streams, in whatever encoding it is."""
    encoding = _encoding(path)
    seen = unwanted = 0
    with path.open(encoding=encoding, errors="replace") as file:
        while block := file.read(BLOCK):
            seen += len(block)
            unwanted += len(block) - len(clean(block)) + block.count("\ufffd")
            if unwanted * 20 > seen:
                raise DocumentError(BINARY)
            yield block


def _encoding(path: Path) -> str:
    """What the bytes are: by their mark, else UTF-8, else the best guess. DocumentError for what is no text."""
    with path.open("rb") as file:
        head = file.read(4)
        for mark, name in BOMS:
            if head.startswith(mark):
                return name
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        good = bad = 0
        sample = bytearray()
        while block := file.read(BLOCK):
            if b"\0" in block:
                raise DocumentError(BINARY)
            if block.isascii() and not decoder.getstate()[0]:
                continue
            text = decoder.decode(block)
            bad += text.count("\ufffd")
            good += sum(not character.isascii() for character in text) - text.count("\ufffd")
            for line in io.BytesIO(block):
                if len(sample) < SAMPLE and not line.isascii():
                    sample += line[:SAMPLE]
    # A slip or two do not make UTF-8 anything else: no other encoding looks like it by chance.
    if bad * 10 <= good:
        return "utf-8"
    guesses = from_bytes(bytes(sample[:SAMPLE]), cp_isolation=list(LEGACY))
    best = guesses.best()
    if best is None:
        raise DocumentError(BINARY)
    # Western and Central European letters share their bytes; where both make sense, the West has more old files.
    west = next((guess for guess in guesses if guess.encoding == "cp1252"), best)
    return (west if west.chaos <= best.chaos and west.coherence > best.coherence - 0.05 else best).encoding
