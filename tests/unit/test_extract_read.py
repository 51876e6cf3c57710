"""Reading through the sandbox: what the server makes of children that finish, stumble, blow up or lie."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docv2.documents import Detail, MediaType, Page, PageSource
from docv2.errors import DocumentError, OverLimit, ParserDied
from docv2.extract import base
from docv2.sandbox import Sandbox
from tests import corpus, documents, jobs
from tests.reading import read_document

MIB = 1024**2


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(memory_limit=320 * MIB)
    yield sandbox
    await sandbox.close()


async def read(
    sandbox: Sandbox,
    data: bytes,
    media_type: MediaType,
    folder: Path,
    first_page: int = 1,
    detail: Detail = Detail.AUTO,
) -> list[tuple[Page, int | None]]:
    path = folder / "document"
    path.write_bytes(data)
    reading = base.read(sandbox, path, media_type, folder, first_page, owner="task", detail=detail)
    return [found async for found in reading]


async def test_pages_arrive_with_their_files(sandbox: Sandbox, tmp_path: Path) -> None:
    scan = documents.page_picture("Scan")
    found = await read(sandbox, documents.mixed_pdf(["One", scan]), MediaType.PDF, tmp_path)
    (first, total), (second, _) = found
    assert total == 2
    assert first.text_path(tmp_path).read_text() == "One"
    assert second.picture_path(tmp_path).read_bytes().startswith(b"\xff\xd8\xff")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001.txt", "00002.jpg", "document"]


async def test_reading_goes_on_where_it_was_interrupted(sandbox: Sandbox, tmp_path: Path) -> None:
    data = documents.text_pdf([f"Page {number}" for number in range(1, 8)])
    path = tmp_path / "document"
    path.write_bytes(data)
    async with aclosing(base.read(sandbox, path, MediaType.PDF, tmp_path, owner="task")) as pages:
        kept = [await anext(pages), await anext(pages)]
    assert sandbox.children() == []
    rest = await read(sandbox, data, MediaType.PDF, tmp_path, first_page=3)
    assert [page.number for page, _ in [*kept, *rest]] == list(range(1, 8))
    assert await read(sandbox, data, MediaType.PDF, tmp_path, first_page=8) == []


@pytest.mark.parametrize(
    ("make", "media_type"),
    [
        (documents.huge_page_pdf, MediaType.PDF),
        (lambda: documents.huge_page_pdf(10**7), MediaType.PDF),
        (lambda: documents.huge_picture_pdf(10_000), MediaType.PDF),
        (lambda: documents.many_frames_gif(400), MediaType.GIF),
    ],
)
async def test_bombs_that_end_as_a_bounded_picture(
    sandbox: Sandbox, tmp_path: Path, make: Callable[[], bytes], media_type: MediaType
) -> None:
    found = await read(sandbox, make(), media_type, tmp_path)
    pictures = [page for page, _ in found if "left out" not in page.reason]
    assert 1 <= len(pictures) <= 8
    for page in pictures:
        assert page.source is PageSource.PICTURE
        assert 0 < page.picture_width * page.picture_height <= base.MAX_PIXELS * 1.01


@pytest.mark.parametrize(
    ("make", "media_type", "words"),
    [
        (lambda: documents.nested_flate_pdf(600), MediaType.PDF, "No page of the document could be read: .* memory"),
        (documents.endless_form_pdf, MediaType.PDF, "No page of the document could be read: .* memory"),
        (documents.many_pages_pdf, MediaType.PDF, "more than 20,000 pages"),
        (documents.huge_png, MediaType.PNG, "40 megapixels"),
        (documents.huge_gif, MediaType.GIF, "40 megapixels"),
        (documents.huge_jpeg, MediaType.JPEG, "256 megapixels"),
        (lambda: documents.huge_jpeg(16_000), MediaType.JPEG, "damaged"),
        (lambda: documents.zip_bomb_docx(20), MediaType.DOCX, "more than 100 times its size"),
        (documents.entities_docx, MediaType.DOCX, "damaged|entities"),
        (documents.crowded_docx, MediaType.DOCX, "more than 10,000 files"),
        (documents.dense_docx, MediaType.DOCX, "more memory than allowed"),
    ],
)
async def test_bombs_that_end_as_clean_errors(
    sandbox: Sandbox, tmp_path: Path, make: Callable[[], bytes], media_type: MediaType, words: str
) -> None:
    with pytest.raises(DocumentError, match=words):
        await read(sandbox, make(), media_type, tmp_path)
    assert sandbox.children() == []
    assert len(await read(sandbox, b"Others are read as before.", MediaType.TEXT, tmp_path)) == 1


@pytest.mark.parametrize("progressive", [False, True])
async def test_a_photo_of_very_many_pixels_is_read_within_the_limits(
    sandbox: Sandbox, tmp_path: Path, progressive: bool
) -> None:
    photo = Image.new("L", (8064, 6048), "white")
    photo.paste("black", (0, 0, 8064, 1000))
    data = documents.encoded(photo, "JPEG", progressive=progressive)
    [(page, _)] = await read(sandbox, data, MediaType.JPEG, tmp_path)
    assert page.source is PageSource.PICTURE
    assert 0.9 * base.MAX_PIXELS < page.picture_width * page.picture_height <= base.MAX_PIXELS * 1.01


async def test_a_page_that_takes_too_much_is_lost_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    data = documents.pages_with_a_bomb(["before", None, "after"], 600)
    found = await read(sandbox, data, MediaType.PDF, tmp_path)
    assert [page.source for page, _ in found] == [PageSource.TEXT, PageSource.NONE, PageSource.TEXT]
    assert "more memory than allowed" in found[1][0].reason


async def test_a_document_of_such_pages_is_given_up(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MAX_LOST", 3)
    data = documents.pages_with_a_bomb(["", *[None] * 9, "never read"], 600)
    with pytest.raises(OverLimit):
        await read(sandbox, data, MediaType.PDF, tmp_path)


async def test_several_of_them_in_a_row_do_not_cost_the_others(sandbox: Sandbox, tmp_path: Path) -> None:
    data = documents.pages_with_a_bomb(["first", *[None] * 5, "last"], 600)
    found = await read(sandbox, data, MediaType.PDF, tmp_path)
    assert [page.number for page, _ in found if page.source is PageSource.TEXT] == [1, 7]
    assert all("more memory than allowed" in page.reason for page, _ in found[1:6])


async def test_where_very_many_pages_take_too_much_the_rest_is_named_untried(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MAX_LOST", 2)
    data = documents.pages_with_a_bomb(["read", *[None] * 1000], 600)
    found = [page for page, _ in await read(sandbox, data, MediaType.PDF, tmp_path)]
    assert [page.number for page in found] == list(range(1, 1002))
    assert [page.source for page in found] == [PageSource.TEXT, *[PageSource.NONE] * 1000]
    assert ["more memory than allowed" in page.reason for page in found[1:4]] == [True, True, False]
    assert {page.reason for page in found[3:]} == {base.NOT_TRIED}
    rest = await read(sandbox, data, MediaType.PDF, tmp_path, first_page=500)
    assert [page.number for page, _ in rest] == list(range(500, 1002)), "as after a restart"


async def test_a_document_without_any_readable_page_is_an_error(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="No page of the document could be read"):
        await read(sandbox, documents.damaged_pages_pdf([None, None]), MediaType.PDF, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        documents.blank_pdf(3),
        documents.mixed_pdf(["  \n ", Image.new("RGB", (124, 175), "white")]),
    ],
    ids=["nothing at all", "blanks and white paper"],
)
@pytest.mark.parametrize("detail", list(Detail))
async def test_a_document_of_blank_pages_is_empty(
    sandbox: Sandbox, tmp_path: Path, data: bytes, detail: Detail
) -> None:
    with pytest.raises(DocumentError, match=r"^The document is empty\.$"):
        await read(sandbox, data, MediaType.PDF, tmp_path, detail=detail)


async def test_blank_pages_beside_one_that_is_lost_do_not_count_as_read(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"could be read: The page is damaged\."):
        await read(sandbox, documents.damaged_pages_pdf(["", None, ""]), MediaType.PDF, tmp_path)


def test_a_page_that_a_power_cut_took_is_noticed(tmp_path: Path) -> None:
    data = documents.mixed_pdf(["Grüße", "", documents.page_picture("Scan")])
    pages = [read.page for read in read_document(data, MediaType.PDF, tmp_path)]
    assert all(base.is_whole(page, tmp_path) for page in pages)
    text, blank, picture = pages
    whole = text.text_path(tmp_path).read_bytes()
    for left in (b"", whole[:3], whole[:-1], bytes(len(whole) - 2), bytes([*whole[:-1], 0])):
        text.text_path(tmp_path).write_bytes(left)
        assert not base.is_whole(text, tmp_path)
    blank.text_path(tmp_path).unlink()
    picture.picture_path(tmp_path).unlink()
    assert not base.is_whole(blank, tmp_path)
    assert not base.is_whole(picture, tmp_path)
    assert base.is_whole(Page(1, PageSource.NONE, "damaged"), tmp_path)


PAGE = {"number": 1, "source": "text", "reason": "", "chars": 1, "picture_width": 0, "picture_height": 0}


@pytest.mark.parametrize(
    "records",
    [
        ["page"],
        [{"page": PAGE}],
        [{"page": None, "total": 10**9}],
        [{"page": None, "total": -5}],
        [{"page": None, "total": "many"}],
        [{"page": {**PAGE, "number": 2}, "total": 5}],
        [{"page": {**PAGE, "number": "1"}, "total": 5}],
        [{"page": {**PAGE, "source": "else"}, "total": 5}],
        [{"page": {**PAGE, "chars": -1}, "total": 5}],
        [{"page": {**PAGE, "picture_width": 1.5}, "total": 5}],
        [{"page": PAGE, "total": 1}, {"page": {**PAGE, "number": 2}, "total": 1}],
        [{"page": PAGE, "total": 5}],
    ],
)
async def test_a_child_that_lies_is_not_believed(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[Any]
) -> None:
    def tell(job: object, *args: object, owner: str, needs: object) -> Any:
        return original(jobs.tell, records, owner=owner)

    original = sandbox.run
    monkeypatch.setattr(sandbox, "run", tell)
    with pytest.raises(ParserDied):
        await read(sandbox, b"x", MediaType.TEXT, tmp_path)


async def test_words_of_a_child_are_made_printable(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(job: object, *args: object, owner: str, needs: object) -> Any:
        reason = "\x1b[31m\r\nreason" + "x" * 9000
        return original(jobs.tell, [{"page": {**PAGE, "reason": reason}, "total": 1}], owner=owner)

    original = sandbox.run
    monkeypatch.setattr(sandbox, "run", tell)
    [(page, _)] = await read(sandbox, b"x", MediaType.TEXT, tmp_path)
    assert page.reason.isprintable()
    assert len(page.reason) <= 500


@pytest.mark.parametrize(
    ("name", "data", "failed"),
    [
        ("page.pdf", documents.mixed_pdf(["A page", documents.page_picture("A scan")]), False),
        ("note.txt", b"A note.", False),
        ("broken.pdf", b"%PDF-1.7\n", False),
        ("page.exe", b"MZ", False),
        ("bomb.pdf", documents.pages_with_a_bomb(["A page", None], 1500), True),
    ],
)
async def test_reading_in_bulk_tells_what_fails_from_what_is_refused(
    name: str, data: bytes, failed: bool, tmp_path: Path
) -> None:
    (tmp_path / "whole.txt").write_bytes(b"Another.")
    (tmp_path / name).write_bytes(data)
    tally = await corpus.read_folder(tmp_path)
    assert bool(tally.failed) is failed
    assert tally.read + tally.refused.total() + len(tally.failed) == 2
    assert all(name in failure for failure in tally.failed)


CORPUS = Path(os.environ.get("DOCV2_CORPUS") or Path(__file__).parents[2].parent / "shared" / "corpus")

if CORPUS.is_dir():

    async def test_every_real_document_ends_as_pages_or_a_clean_error() -> None:
        tally = await corpus.read_folder(CORPUS)
        assert tally.failed == []
        assert tally.read > tally.refused.total()
