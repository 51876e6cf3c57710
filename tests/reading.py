"""Reading a document in the test's own process: the same job that children run, without the child."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from docv2.documents import Detail, MediaType, Page, PageSource
from docv2.extract.base import read_pages


@dataclass(frozen=True)
class ReadPage:
    """A page with what it left in the folder."""

    page: Page
    total: int | None
    text: str
    picture: Image.Image | None

    @property
    def source(self) -> PageSource:
        return self.page.source


def read_document(
    data: bytes, media_type: MediaType, folder: Path, first_page: int = 1, detail: Detail = Detail.AUTO
) -> list[ReadPage]:
    """Every page of a document, which lies in the folder beside them."""
    path = folder / "document"
    path.write_bytes(data)
    found = []
    for record in read_pages(str(path), media_type, str(folder), first_page, detail):
        if record["page"] is not None:
            page = Page(**record["page"])
            text = page.text_path(folder).read_bytes().decode() if page.has_text else ""
            picture = None
            if page.has_picture:
                with Image.open(page.picture_path(folder), formats=["JPEG"]) as opened:
                    opened.load()
                    picture = opened
                assert picture.size == (page.picture_width, page.picture_height)
                assert picture.mode == "RGB"
            assert page.chars == len(text)
            found.append(ReadPage(page, record["total"], text, picture))
    assert [read.page.number for read in found] == list(range(first_page, first_page + len(found)))
    assert not list(folder.glob("*.part"))
    return found
