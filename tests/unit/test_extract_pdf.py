"""PDF: which pages become text, which pictures, and what is made of those that are neither."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageStat

from docv2.documents import Detail, MediaType, PageSource
from docv2.errors import DocumentError
from docv2.extract import pdf
from docv2.extract.base import MAX_PIXELS, MAX_SIDE, clean, fitting
from docv2.extract.pdfchoice import Drawing, Measures, choose, figure_share
from tests import documents
from tests.reading import ReadPage, read_document


def read(data: bytes, folder: Path, first_page: int = 1) -> list[ReadPage]:
    return read_document(data, MediaType.PDF, folder, first_page)


def test_text_is_taken_as_text(tmp_path: Path) -> None:
    found = read(documents.text_pdf(["The rent is 800 euros.\nIt is due on the third.", "Second page"]), tmp_path)
    assert [page.source for page in found] == [PageSource.TEXT] * 2
    assert found[0].text == "The rent is 800 euros.\nIt is due on the third."
    assert [page.total for page in found] == [2, 2]


def test_reading_goes_on_from_any_page(tmp_path: Path) -> None:
    data = documents.text_pdf(["one", "two", "three"])
    assert [page.text for page in read(data, tmp_path, first_page=2)] == ["two", "three"]
    assert read(data, tmp_path, first_page=4) == []


def test_a_scan_becomes_a_picture(tmp_path: Path) -> None:
    [page] = read(documents.scanned_pdf([documents.page_picture("Scanned letter")]), tmp_path)
    assert page.source is PageSource.PICTURE
    assert page.picture is not None
    assert page.picture.size == (1240, 1755)  # A4 at 150 dots an inch.
    assert ImageStat.Stat(page.picture).extrema[0][0] < 50  # There is ink on it.


def test_a_scan_in_the_colours_of_a_printing_press(tmp_path: Path) -> None:
    [page] = read(documents.scanned_pdf([Image.new("CMYK", (400, 600), (0, 255, 255, 0))]), tmp_path)
    assert page.picture is not None
    red, green, blue = ImageStat.Stat(page.picture).mean
    assert red > 200
    assert max(green, blue) < 80


def test_each_page_is_decided_for_itself(tmp_path: Path) -> None:
    scan = documents.page_picture("Signed")
    found = read(documents.mixed_pdf(["First clause.", scan, "Last clause."]), tmp_path)
    assert [page.source for page in found] == [PageSource.TEXT, PageSource.PICTURE, PageSource.TEXT]


def test_a_scan_with_a_text_layer_is_given_as_both(tmp_path: Path) -> None:
    text = "Recognised text of the letter. " * 4
    [page] = read(documents.scanned_pdf_with_text(documents.page_picture("Letter"), text), tmp_path)
    assert page.source is PageSource.BOTH
    assert "Recognised text" in page.text


def test_a_picture_within_a_drawing_counts_where_it_ends_up(tmp_path: Path) -> None:
    def page(scale: float) -> bytes:
        writer = documents.PdfWriter()
        jpeg = documents.encoded(Image.new("RGB", (64, 64), "red"), "JPEG")
        image = writer.stream(
            jpeg, "/Type /XObject /Subtype /Image /Width 64 /Height 64 /ColorSpace /DeviceRGB /BitsPerComponent 8 "
            "/Filter /DCTDecode",
        )  # fmt: skip
        form = writer.stream(
            b"q 500 0 0 500 0 0 cm /Im0 Do Q",
            f"/Type /XObject /Subtype /Form /BBox [0 0 500 500] /Resources << /XObject << /Im0 {image} 0 R >> >>",
        )
        content = b"BT /F1 11 Tf 60 780 Td (A page of text with a picture, larger or smaller.) Tj ET "
        content += f"q {scale} 0 0 {scale} 50 50 cm /Fm0 Do Q".encode()
        writer.page(content, f"{documents.HELVETICA} /XObject << /Fm0 {form} 0 R >>")
        return writer.finish()

    assert read(page(0.9), tmp_path)[0].source is PageSource.BOTH
    assert read(page(0.1), tmp_path)[0].source is PageSource.TEXT


def test_text_that_cannot_be_decoded_is_not_given(tmp_path: Path) -> None:
    [page] = read(documents.undecodable_pdf(), tmp_path)
    assert page.source is PageSource.PICTURE
    assert "cannot be decoded" in page.page.reason


def test_a_filled_form_is_given_as_both(tmp_path: Path) -> None:
    [page] = read(documents.form_pdf("Amount in euros:", "1234.50"), tmp_path)
    assert page.source is PageSource.BOTH
    assert page.picture is not None
    value = page.picture.crop((int(200 * 150 / 72), int(50 * 150 / 72), int(400 * 150 / 72), int(72 * 150 / 72)))
    assert ImageStat.Stat(value).extrema[0][0] < 128  # What was filled in is drawn.


def test_a_blank_page_is_read_as_blank(tmp_path: Path) -> None:
    found = read(documents.mixed_pdf(["Text", "", Image.new("RGB", (1240, 1754), "white")]), tmp_path)
    assert [(page.source, page.text) for page in found] == [
        (PageSource.TEXT, "Text"),
        (PageSource.TEXT, ""),
        (PageSource.TEXT, ""),
    ]
    assert "blank" in found[1].page.reason


def test_a_picture_that_cannot_be_decoded_is_not_taken_for_a_blank_page(tmp_path: Path) -> None:
    data = documents.scanned_pdf([documents.page_picture("Lost")])
    at = data.index(b"\xff\xd8\xff")
    [page] = read(data[:at] + bytes(300) + data[at + 300 :], tmp_path)
    assert page.source is PageSource.NONE


def test_what_is_rotated_is_turned_upright(tmp_path: Path) -> None:
    half = Image.new("RGB", (400, 600), "white")
    half.paste("black", (0, 0, 400, 100))  # Dark at the top.
    [page] = read(documents.scanned_pdf([half], rotate=90), tmp_path)
    assert page.picture is not None
    assert page.picture.width > page.picture.height
    right = page.picture.crop((page.picture.width - 50, 100, page.picture.width - 10, page.picture.height - 100))
    assert ImageStat.Stat(right).mean[0] < 50  # Turned clockwise, the top is on the right.
    [text] = read(documents.text_pdf(["Turned text"], rotate=90), tmp_path)
    assert text.text == "Turned text"


def test_other_scripts_and_fonts_that_are_not_embedded(tmp_path: Path) -> None:
    [page] = read(documents.cjk_pdf("契約書 第一条 賃料は月額八万円とする。"), tmp_path)
    assert page.source is PageSource.TEXT
    assert page.text == "契約書 第一条 賃料は月額八万円とする。"


def test_only_what_the_page_shows_is_its_text(tmp_path: Path) -> None:
    writer = documents.PdfWriter()
    content = b"BT /F1 11 Tf 60 780 Td (Within the page.) Tj ET BT /F1 11 Tf 60 -200 Td (Beyond its edge.) Tj ET"
    writer.page(content, documents.HELVETICA)
    [page] = read(writer.finish(), tmp_path)
    assert page.text == "Within the page."


def test_the_empty_password_opens(tmp_path: Path) -> None:
    [page] = read(documents.encrypted_pdf("", ["Anybody may read this."]), tmp_path)
    assert page.text == "Anybody may read this."


def test_any_other_password_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="encrypted"):
        read(documents.encrypted_pdf("secret"), tmp_path)


def test_a_damaged_page_is_lost_alone(tmp_path: Path) -> None:
    found = read(documents.damaged_pages_pdf(["one", None, "three"]), tmp_path)
    assert [(page.source, page.text) for page in found] == [
        (PageSource.TEXT, "one"),
        (PageSource.NONE, ""),
        (PageSource.TEXT, "three"),
    ]
    assert "damaged" in found[1].page.reason


def test_the_second_reader_opens_what_the_first_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise pdfium.PdfiumError("Failed to load document.", err_code=3)

    monkeypatch.setattr("docv2.extract.pdf._open", refuse)
    scan = documents.page_picture("x")
    found = read(documents.mixed_pdf(["Read by the second reader.", scan]), tmp_path)
    assert [page.source for page in found] == [PageSource.TEXT, PageSource.NONE]
    assert found[0].text == "Read by the second reader."
    with pytest.raises(DocumentError, match="encrypted"):
        read(documents.encrypted_pdf("secret"), tmp_path)


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n"])
def test_what_no_reader_opens_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DocumentError, match="damaged"):
        read(data, tmp_path)


def test_a_file_is_opened_anew_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = pdf._open

    def count(path: Path) -> object:
        opened.append(path)
        return original(path)

    held = iter(range(0, 10**12, pdf.MAX_GROWTH // 4))
    monkeypatch.setattr(pdf, "_open", count)
    monkeypatch.setattr(pdf, "_resident", lambda: next(held))
    found = read(documents.text_pdf([f"Page {number}" for number in range(1, 21)]), tmp_path)
    assert [page.text for page in found] == [f"Page {number}" for number in range(1, 21)]
    assert 3 <= len(opened) <= 5


@pytest.mark.parametrize(
    ("detail", "sources"),
    [
        (Detail.AUTO, [PageSource.TEXT, PageSource.PICTURE, PageSource.TEXT]),
        (Detail.TEXT, [PageSource.TEXT, PageSource.NONE, PageSource.TEXT]),
        (Detail.IMAGE, [PageSource.PICTURE, PageSource.PICTURE, PageSource.TEXT]),
    ],
)
def test_the_caller_may_ask_for_text_or_pictures_alone(
    detail: Detail, sources: list[PageSource], tmp_path: Path
) -> None:
    data = documents.mixed_pdf(["A page of text.", documents.page_picture("A scan"), ""])
    found = read_document(data, MediaType.PDF, tmp_path, detail=detail)
    assert [page.source for page in found] == sources


def test_where_text_alone_is_asked_for_a_title_on_a_picture_is_text(tmp_path: Path) -> None:
    data = documents.scanned_pdf_with_text(Image.new("RGB", (600, 800), "navy"), "Revenue 2025: 4.2 million")
    [page] = read_document(data, MediaType.PDF, tmp_path, detail=Detail.TEXT)
    assert (page.source, page.text) == (PageSource.TEXT, "Revenue 2025: 4.2 million")
    assert page.page.reason == "Most of the page is a picture. Text alone was asked for."


SOME_TEXT = documents.text_lines("Turnover rose in every quarter of the year, as the figure shows.\n" * 6)


@pytest.mark.parametrize(
    ("drawn", "source"),
    [
        pytest.param(
            b"".join(b"%d 300 30 %d re f\n" % (100 + 50 * bar, 40 + 30 * bar) for bar in range(6)),
            PageSource.BOTH,
            id="bars",
        ),
        pytest.param(b"100 300 m 200 450 l 300 380 l 400 500 l 450 350 l 480 420 l S", PageSource.BOTH, id="line"),
        pytest.param(b"200 300 m 400 300 400 500 200 500 c 100 450 100 350 200 300 c f", PageSource.BOTH, id="pie"),
        pytest.param(
            b"".join(b"%d %d 120 18 re S\n" % (60 + 120 * x, 300 + 18 * y) for x in range(4) for y in range(9)),
            PageSource.TEXT,
            id="table",
        ),
        pytest.param(b"60 700 m 540 700 l S 60 100 m 540 100 l S", PageSource.TEXT, id="rules"),
        pytest.param(b"60 800 m 80 800 80 830 60 830 c 50 820 50 810 60 800 c f", PageSource.TEXT, id="logo"),
        pytest.param(b"0.9 g 0 0 595 842 re f 0 g", PageSource.TEXT, id="ground"),
    ],
)
def test_a_drawn_figure_is_shown_and_a_table_is_not(drawn: bytes, source: PageSource, tmp_path: Path) -> None:
    writer = documents.PdfWriter()
    writer.page(drawn + b"\n" + SOME_TEXT, documents.HELVETICA)
    assert read(writer.finish(), tmp_path)[0].source is source


@settings(deadline=None)
@given(
    st.lists(st.builds(Drawing, st.tuples(*[st.floats()] * 4), st.integers(0, 100)), max_size=20),
    st.tuples(*[st.floats(-1e6, 1e6)] * 4),
)
def test_the_share_of_figures_is_a_share(drawings: list[Drawing], page: tuple[float, float, float, float]) -> None:
    assert 0 <= figure_share(drawings, page) <= 1


# -- the rule ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("page", "source"),
    [
        (Measures(0), PageSource.PICTURE),
        (Measures(2000), PageSource.TEXT),
        (Measures(2000, odd=0.05), PageSource.TEXT),
        (Measures(2000, odd=0.2), PageSource.PICTURE),
        (Measures(2000, odd=0.02, unmapped=0.9), PageSource.PICTURE),
        (Measures(2000, unmapped=0.9), PageSource.BOTH),
        (Measures(2000, pictures=0.05), PageSource.TEXT),
        (Measures(2000, pictures=0.3), PageSource.BOTH),
        (Measures(20, pictures=0.9), PageSource.PICTURE),
        (Measures(2000, marks=True), PageSource.BOTH),
        (Measures(40, drawings=5), PageSource.TEXT),
        (Measures(40, drawings=500), PageSource.BOTH),
        (Measures(2000, drawings=500), PageSource.TEXT),
        (Measures(2000, figures=0.03), PageSource.TEXT),
        (Measures(2000, figures=0.1), PageSource.BOTH),
    ],
)
def test_the_rule(page: Measures, source: PageSource) -> None:
    assert choose(page)[0] is source


@pytest.mark.parametrize(
    ("page", "source"),
    [
        (Measures(0), PageSource.NONE),
        (Measures(0, pictures=0.9), PageSource.NONE),
        (Measures(2000, odd=0.2), PageSource.NONE),
        (Measures(2000, odd=0.02, unmapped=0.9), PageSource.NONE),
        (Measures(1, pictures=1.0), PageSource.TEXT),
        (Measures(2000, unmapped=0.9), PageSource.TEXT),
        (Measures(2000, pictures=0.3, marks=True), PageSource.TEXT),
        (Measures(2000), PageSource.TEXT),
    ],
)
def test_where_text_alone_is_asked_for_whatever_text_there_is_is_given(page: Measures, source: PageSource) -> None:
    assert choose(page, Detail.TEXT)[0] is source


@settings(deadline=None)
@given(
    st.builds(
        Measures, st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5000),
        st.floats(0, 1), st.booleans(),
    )
)  # fmt: skip
def test_the_rule_always_gives_something_and_a_reason(page: Measures) -> None:
    source, reason = choose(page)
    assert source is not PageSource.NONE
    assert reason
    if page.characters == 0:
        assert source is PageSource.PICTURE


@settings(deadline=None)
@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0.01, 10))
def test_no_picture_goes_beyond_the_pixel_budget(width: float, height: float, scale: float) -> None:
    fitted = fitting(width, height, scale)
    assert 0 < fitted <= scale
    assert width * fitted * height * fitted <= MAX_PIXELS * 1.01
    assert max(width, height) * fitted <= MAX_SIDE * 1.01


@settings(deadline=None)
@given(st.text())
def test_clean_text_can_be_stored_and_shown(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert all(unicodedata.category(character) not in ("Cc", "Cs") or character in "\n\t" for character in cleaned)
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb\rc\nd\x0be\x0cf\u2028g", "a\nb\nc\nd\ne\nf\ng"),
        ("nul\0, bell\a, escape\x1b[2J, tab\t", "nul, bell, escape[2J, tab\t"),
        ("half \ud83d of a character", "half \ufffd of a character"),
        ("adip\x02iscing", "adipiscing"),
        ("\ufeffmark", "mark"),
        ("äöü 契約 🙂", "äöü 契約 🙂"),
    ],
)
def test_clean_text_examples(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
