"""What reading a document yields: its type and its pages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class MediaType(StrEnum):
    """The document types docv2 reads."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    PNG = "image/png"
    JPEG = "image/jpeg"
    GIF = "image/gif"


EXTENSIONS: dict[str, MediaType] = {
    "pdf": MediaType.PDF,
    "docx": MediaType.DOCX,
    "txt": MediaType.TEXT,
    "md": MediaType.MARKDOWN,
    "png": MediaType.PNG,
    "jpg": MediaType.JPEG,
    "jpeg": MediaType.JPEG,
    "gif": MediaType.GIF,
}
"""File name extension, lower case and without the dot, to the type its contents must have."""


class Detail(StrEnum):
    """How pages are read: what a caller asks for, in the words of the form."""

    AUTO = "auto"
    """Page by page, whichever serves the model best."""
    TEXT = "text"
    """Text alone; a page without any is told as unread."""
    IMAGE = "image"
    """A picture of every page that can be drawn."""


class PageSource(StrEnum):
    """What of a page the model is given."""

    TEXT = "text"
    PICTURE = "picture"
    BOTH = "both"
    NONE = "none"
    """Nothing: the page could not be read, and the answer must say so."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page as read. Its text and picture lie in files of the task's work folder, named by the properties below."""

    number: int
    """1-based, as a person counts."""
    source: PageSource
    reason: str
    """Why this source, in words for the person who asked; for NONE, why the page could not be read."""
    chars: int = 0
    """Characters of text; 0 where there is none."""
    picture_width: int = 0
    """Pixels; 0 where there is no picture."""
    picture_height: int = 0

    def text_path(self, folder: Path) -> Path:
        """Where the page's text lies: UTF-8."""
        return folder / f"{self.number:05d}.txt"

    def picture_path(self, folder: Path) -> Path:
        """Where the page's picture lies: JPEG."""
        return folder / f"{self.number:05d}.jpg"

    @property
    def has_text(self) -> bool:
        """Whether the model gets text of this page."""
        return self.source in (PageSource.TEXT, PageSource.BOTH)

    @property
    def has_picture(self) -> bool:
        """Whether the model gets a picture of this page."""
        return self.source in (PageSource.PICTURE, PageSource.BOTH)

    @property
    def has_content(self) -> bool:
        """Whether there is anything on it to be asked about; a blank page was read, but holds nothing."""
        return self.has_picture or (self.has_text and self.chars > 0)


@dataclass(frozen=True, slots=True)
class PageUse:
    """What one answered call made of a page."""

    number: int
    used: PageSource
    """What the model was given of it."""
    tokens: int
    """Its share of the tokens that the endpoint counted; 0 where it does not count."""


@dataclass(frozen=True, slots=True)
class PageRecord:
    """A page in the ledger: how it was read, and what became of it."""

    number: int
    source: PageSource
    """As it was read."""
    reason: str
    """Why so, or why it could not be read."""
    chars: int
    picture_width: int
    picture_height: int
    used: PageSource | None
    """What a model was given of it; None until one has answered."""
    model: str | None
    attempts: int
    """Calls that it was part of, those that failed included."""
    tokens: int
    finish_reason: str | None
    """How the answer that it went into ended; `length` stays where one of several did."""
