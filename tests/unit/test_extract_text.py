"""Text in whatever encoding, in pages that end where sense does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docv2.documents import MediaType, PageSource
from docv2.errors import DocumentError
from docv2.extract.base import PAGE_CHARACTERS, clean
from docv2.extract.text import paged
from tests.reading import ReadPage, read_document

GERMAN = (
    "Der Mieter zahlt eine Kaution von 2.400 Euro für die Wohnung in München; die Schlüssel übergibt der Verwalter."
)


def read(data: bytes, folder: Path, first_page: int = 1) -> list[ReadPage]:
    return read_document(data, MediaType.TEXT, folder, first_page)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"),
        (GERMAN, "utf-8-sig"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-16-be-bom"),
        (GERMAN, "utf-32"),
        (GERMAN, "cp1252"),
        ("The tenant’s deposit is £1,200 — payable “at once”. Café included…", "cp1252"),
        ("Le locataire s'engage à payer le loyer; la durée du bail est fixée à trois années.", "cp1252"),
        ("Nájemce je povinen platit nájemné vždy do pátého dne měsíce. Žluťoučký kůň.", "cp1250"),
        ("Арендатор обязуется вносить плату не позднее пятого числа каждого месяца.", "cp1251"),
        ("Арендатор обязуется вносить плату не позднее пятого числа каждого месяца.", "koi8_r"),
        ("賃借人は毎月末日までに翌月分の賃料を支払うものとする。", "shift_jis"),
        ("承租人应于每月五日前支付租金。合同期限为一年。", "gb18030"),
        ("임차인은 매월 말일까지 임대료를 지불하여야 한다.", "euc_kr"),
    ],
)
def test_encodings(text: str, encoding: str, tmp_path: Path) -> None:
    data = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    [page] = read(data, tmp_path)
    assert page.source is PageSource.TEXT
    assert page.text == text


def test_a_slip_does_not_change_the_encoding(tmp_path: Path) -> None:
    data = (GERMAN * 20).encode() + b" \xff " + GERMAN.encode()
    [page] = read(data, tmp_path)
    assert page.text == GERMAN * 20 + " \ufffd " + GERMAN


def test_a_legacy_encoding_shows_late_in_a_long_file(tmp_path: Path) -> None:
    data = b"Plain words without anything special in them.\n" * 5000 + GERMAN.encode("cp1252")
    assert read(data, tmp_path)[-1].text.endswith(GERMAN)


def test_characters_may_lie_across_the_blocks_that_are_read(tmp_path: Path) -> None:
    text = "a" + "ü" * 200_000
    assert "".join(page.text for page in read(text.encode(), tmp_path)) == text


def test_long_text_is_cut_at_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number}. " + "Words follow words. " * 20 for number in range(100)]
    found = read("\n\n".join(paragraphs).encode(), tmp_path)
    assert len(found) > 10
    assert all(page.text.startswith("Paragraph ") for page in found)
    assert all(PAGE_CHARACTERS / 2 <= len(page.text) <= PAGE_CHARACTERS for page in found[:-1])
    assert "\n\n".join(page.text for page in found).split() == "\n\n".join(paragraphs).split()


def test_form_feeds_end_pages(tmp_path: Path) -> None:
    found = read(b"First\f\fThird, the second being empty\n\f Fourth \f", tmp_path)
    assert [page.text for page in found] == ["First", "Third, the second being empty", " Fourth"]


def test_reading_goes_on_from_any_page(tmp_path: Path) -> None:
    data = b"one\ftwo\fthree"
    assert [page.text for page in read(data, tmp_path, first_page=3)] == ["three"]
    assert read(data, tmp_path, first_page=4) == []


def test_line_ends_and_control_characters(tmp_path: Path) -> None:
    [page] = read(b"dos\r\nmac\runix\nbell\x07 escape\x1b[0m end of a rather longer text than that", tmp_path)
    assert page.text == "dos\nmac\nunix\nbell escape[0m end of a rather longer text than that"


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n ", "\ufeff".encode(), "\ufeff \n".encode("utf-16-le"), b"\f\f"])
def test_an_empty_file_is_an_error(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="empty"):
        read(data, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"text at first" * 1000 + bytes(10),
        b"\x01\x02\x03\x04\x05\x06\x07\x08" * 100,
        b"\xff\xfe\0\0" + b"\xff" * 400,
    ],
)
def test_binary_is_an_error(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="binary"):
        read(data, tmp_path)


@settings(deadline=None)
@given(st.lists(st.text(max_size=9000), max_size=6))
def test_no_character_is_lost_between_pages(blocks: list[str]) -> None:
    def solid(text: str) -> str:
        return "".join(clean(text).split())

    sheets = list(paged(blocks))
    assert solid("".join(sheets)) == solid("".join(blocks))
    assert all(sheet.strip() and len(sheet) <= 2 * PAGE_CHARACTERS for sheet in sheets)
