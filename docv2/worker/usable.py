"""What of a document may be used at all: the pages as the configuration lets them be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from docv2.config import Config
from docv2.documents import Page, PageSource
from docv2.extract.base import check_content

NO_PICTURES = "the server is configured to send no pictures"
NOT_BOTH = "the server is configured to send a page as text or as a picture, not as both"


def usable(pages: Sequence[Page], config: Config) -> list[Page]:
    """All pages, those unread that may not be sent. DocumentError where there is nothing left to ask about."""
    allowed = [_allowed(page, config) for page in pages]
    check_content(allowed)
    return allowed


def _allowed(page: Page, config: Config) -> Page:
    if page.source is PageSource.PICTURE and not config.enable_vision:
        return replace(page, source=PageSource.NONE, reason=NO_PICTURES)
    if page.source is PageSource.BOTH and not (config.enable_vision and config.enable_multimodal):
        return replace(page, source=PageSource.TEXT, reason=NOT_BOTH if config.enable_vision else NO_PICTURES)
    return page
