"""Reading pictures, with the real Tesseract."""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from docv2.llm.embedded import ocr, tesseract
from docv2.llm.embedded.passages import passages
from docv2.llm.embedded.search import search
from tests.documents import huge_png, turned_jpeg
from tests.programs import missing
from tests.unit.embedded_samples import INVOICE, REPORT, encoded, picture, scanned

COLUMNS = ("Invoice number", "Copy paper A4 80 g", "Laser toner black", "Subtotal")
"""Lines of the invoice that are set in cells."""


@pytest.fixture(scope="module")
def engine() -> tesseract.Engine:
    return tesseract.engine()


def recall(text: str, page: str) -> float:
    """The share of a page's words that were read."""
    wanted = set(page.split())
    return len(wanted & set(text.split())) / len(wanted)


def test_a_clean_page_is_read(engine: tesseract.Engine) -> None:
    text = ocr.read(engine, encoded(picture(REPORT.pages[0])))
    assert recall(text, REPORT.pages[0]) >= 0.97


def test_a_noisy_scan_is_smoothed_first(engine: tesseract.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    page = encoded(scanned(picture(INVOICE.pages[0])))
    monkeypatch.setattr(ocr, "_smooth", lambda picture: picture)
    rough = ocr.read(engine, page)
    monkeypatch.undo()
    smooth = ocr.read(engine, page)
    assert recall(rough, INVOICE.pages[0]) < 0.85
    assert recall(smooth, INVOICE.pages[0]) >= 0.92


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_that_lies_on_its_side_is_turned(engine: tesseract.Engine, degrees: int) -> None:
    text = ocr.read(engine, encoded(picture(REPORT.pages[0]).rotate(degrees, expand=True)))
    assert recall(text, REPORT.pages[0]) >= 0.95


def test_the_note_of_a_camera_is_followed(engine: tesseract.Engine) -> None:
    assert recall(ocr.read(engine, turned_jpeg(picture(REPORT.pages[0]))), REPORT.pages[0]) >= 0.95


def test_cells_of_a_row_are_read_together(engine: tesseract.Engine) -> None:
    lines = ocr.read(engine, encoded(picture(INVOICE.pages[0], COLUMNS))).splitlines()
    rows = ["".join(line.split()) for line in lines]
    assert "InvoicenumberINV-2024-0187" in rows
    assert "Lasertonerblack664.50387.00" in rows


def test_columns_of_prose_are_read_one_after_the_other(engine: tesseract.Engine) -> None:
    sheet, font = Image.new("L", (1240, 1000), 255), ImageFont.load_default(24)
    left = "The board of the valley met nine times\nand talked about the older reservoirs\nand the northern dam.\n"
    right = "Rainfall was below the average in all\nmonths but one, so that the lake fell\nby four metres in winter.\n"
    ImageDraw.Draw(sheet).multiline_text((90, 100), left * 4, font=font, fill=0, spacing=12)
    ImageDraw.Draw(sheet).multiline_text((680, 100), right * 4, font=font, fill=0, spacing=12)
    text = " ".join(ocr.read(engine, encoded(sheet)).split())
    assert "met nine times and talked about the older reservoirs" in text
    assert "below the average in all months but one" in text


def test_a_small_picture_is_read(engine: tesseract.Engine) -> None:
    sheet = picture(REPORT.pages[0])
    sheet.thumbnail((620, 877))  # 75 dpi
    assert recall(ocr.read(engine, encoded(sheet)), REPORT.pages[0]) >= 0.9


def test_transparency_is_white(engine: tesseract.Engine) -> None:
    ink = picture("Harbour dues are paid in March").point(lambda grey: 255 - grey)
    sheet = Image.merge("LA", (Image.new("L", ink.size, 0), ink))
    assert "Harbour dues are paid in March" in ocr.read(engine, encoded(sheet))


@pytest.mark.parametrize(
    "sheet",
    [
        Image.new("L", (1240, 1754), 255),
        Image.new("RGB", (1, 1)),
        Image.new("L", (60_000, 1), 0),
        Image.new("L", (1, 60_000), 0),
        Image.radial_gradient("L").resize((600, 600)),
        Image.effect_noise((400, 400), 90),
    ],
    ids=["blank", "dot", "line", "upright line", "gradient", "noise"],
)
def test_nothing_is_made_up(engine: tesseract.Engine, sheet: Image.Image) -> None:
    assert ocr.read(engine, encoded(sheet)) == ""


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(50), b"BM" + bytes(60)])
def test_what_is_no_picture_is_said_to_be_none(engine: tesseract.Engine, data: bytes) -> None:
    with pytest.raises(tesseract.UnreadableError, match="not a picture"):
        ocr.read(engine, data)


def test_a_cut_picture_is_refused(engine: tesseract.Engine) -> None:
    whole = encoded(picture(REPORT.pages[0]), "JPEG")
    with pytest.raises(tesseract.UnreadableError):
        ocr.read(engine, whole[: len(whole) // 2])


def test_a_giant_picture_is_refused_before_it_is_decoded(engine: tesseract.Engine) -> None:
    data = huge_png()
    began = time.process_time()
    with pytest.raises(tesseract.UnreadableError, match="million pixels"):
        ocr.read(engine, data)
    assert time.process_time() - began < 0.1


def test_specks_do_not_keep_it_busy(engine: tesseract.Engine) -> None:
    sheet = Image.effect_noise((2000, 2000), 110).point(lambda grey: 0 if grey < 20 else 255)
    began = time.process_time()
    ocr.read(engine, encoded(sheet))
    assert time.process_time() - began < 20


def test_the_library_of_the_system_reads_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        ctypes.CDLL("libtesseract.so.5")
    except OSError:
        missing("needs the library libtesseract.so.5 (Debian: libtesseract5)")
    monkeypatch.setitem(sys.modules, "tesserocr", None)
    text = ocr.read(tesseract.engine(), encoded(picture(REPORT.pages[0])))
    assert recall(text, REPORT.pages[0]) >= 0.97


def test_without_any_tesseract_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setitem(sys.modules, "tesserocr", None)
    monkeypatch.setattr(ctypes, "CDLL", nowhere)
    assert list(tesseract.probe()) == [False]


def test_the_languages_are_those_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deu", "eng", "osd"):
        (tmp_path / f"{name}.traineddata").touch()
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    assert tesseract.language_data() == (str(tmp_path), "eng+deu")


def test_questions_about_a_noisy_scan_are_answered(engine: tesseract.Engine) -> None:
    found = list(passages(1, ocr.read(engine, encoded(scanned(picture(INVOICE.pages[0]))))))
    right = [
        question
        for question, answer in INVOICE.answered.items()
        if any(answer in quote.text for quote in search(question, found))
    ]
    assert len(right) >= 0.8 * len(INVOICE.answered)
