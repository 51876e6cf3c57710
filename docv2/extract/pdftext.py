"""The second reader of PDF: text by pdfminer.six, for what PDFium cannot open or finds no text in.

Of 971 files of a public suite it read 5 that PDFium could not open. It takes some 15 times as long and memory of its
own, so it is loaded and the file opened when first needed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from docv2.extract.base import MAX_PAGES, clean

PAGE_SECONDS = 20
"""Longest look at one page; two files of the suite kept it busy for minutes."""


class SecondReader:
    """Reads single pages of one file. What it cannot read has no text; it raises nothing but MemoryError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._pages: list[Any] | None = None
        self.encrypted = False
        """Whether the file asked for a password."""

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def count(self) -> int:
        """How many pages the file has; 0 where it cannot be opened."""
        if self._pages is None:
            self._pages = self._open()
        return len(self._pages)

    def text(self, number: int, total: int) -> str:
        """The text of a page, counted from 1; empty where it cannot be read.

        It leaves out pages that it cannot make sense of. Where it counts other than `total` pages, nobody knows which
        text belongs where, and it says none.
        """
        if not 0 < number <= self.count() == total:
            return ""
        assert self._pages is not None
        try:
            with _within(PAGE_SECONDS):
                return clean(_text_of(self._pages[number - 1])).strip()
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - broken files lead pdfminer into any exception there is; the page has no text
            return ""

    def _open(self) -> list[Any]:
        from pdfminer.pdfdocument import PDFDocument, PDFPasswordIncorrect
        from pdfminer.pdfpage import PDFPage
        from pdfminer.pdfparser import PDFParser

        pages: list[Any] = []
        try:
            with _within(PAGE_SECONDS):
                self._file = self._path.open("rb")
                document = PDFDocument(PDFParser(self._file))
                for page in PDFPage.create_pages(document):
                    pages.append(page)
                    if len(pages) > MAX_PAGES:
                        break
        except MemoryError:
            raise
        except PDFPasswordIncorrect:
            self.encrypted = True
        except Exception:  # noqa: BLE001, S110 - as above; the pages found so far are there
            pass
        return pages


def _text_of(page: Any) -> str:
    from pdfminer.converter import PDFPageAggregator
    from pdfminer.layout import LAParams, LTTextContainer
    from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager

    resources = PDFResourceManager(caching=False)
    device = PDFPageAggregator(resources, laparams=LAParams())
    PDFPageInterpreter(resources, device).process_page(page)
    return "\n".join(box.get_text() for box in device.get_result() if isinstance(box, LTTextContainer))


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """TimeoutError in what takes longer. By signal, so only in a child's main thread and around Python code."""

    def ring(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
