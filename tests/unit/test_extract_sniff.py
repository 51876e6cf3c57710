"""Uploads are what their names say, or they are refused with words that tell why."""

from __future__ import annotations

import io
import zipfile

import pytest
from PIL import Image

from docv2.documents import MediaType
from docv2.errors import UnsupportedType
from docv2.extract.sniff import check
from tests import documents

PDF = documents.text_pdf(["x"])
DOCX = documents.docx(["x"])
PICTURE = Image.new("RGB", (8, 8), "red")
PNG, JPEG, GIF = (documents.encoded(PICTURE, kind) for kind in ("PNG", "JPEG", "GIF"))
TEXT = b"# Minutes\n\nThe meeting began at nine.\n"


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as writing:
        for name, data in files.items():
            writing.writestr(name, data)
    return out.getvalue()


def checked(data: bytes, name: str) -> MediaType:
    return check(io.BytesIO(data), name)


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (PDF, "lease.pdf", MediaType.PDF),
        (b"\r\njunk before the header\n" + PDF, "lease.PDF", MediaType.PDF),
        (DOCX, "lease.docx", MediaType.DOCX),
        (DOCX + b"\n", "lease.docx", MediaType.DOCX),
        (PNG, "a.b.png", MediaType.PNG),
        (JPEG, "photo.jpg", MediaType.JPEG),
        (JPEG, "photo.JPEG", MediaType.JPEG),
        (GIF, "moving.gif", MediaType.GIF),
        (TEXT, "notes.txt", MediaType.TEXT),
        (TEXT, "notes.md", MediaType.MARKDOWN),
        ("Übergröße".encode("cp1252") * 50, "notes.txt", MediaType.TEXT),
        ("Übergröße".encode("utf-16"), "notes.txt", MediaType.TEXT),
        ("Übergröße".encode("utf-32"), "notes.md", MediaType.MARKDOWN),
        (b"A PDF begins with %PDF-1.7, a program with MZ.", "notes.txt", MediaType.TEXT),
        (b"MZ is how the letter begins", "letter.txt", MediaType.TEXT),
        (b"GIF89a is the newer of the two", "formats.md", MediaType.MARKDOWN),
    ],
)
def test_what_is_as_named_is_accepted(data: bytes, name: str, kind: MediaType) -> None:
    assert checked(data, name) is kind


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"", "empty.pdf", "empty"),
        (PDF, "lease", "without a known extension are not supported. Supported are: pdf, docx, txt"),
        (PDF, "lease.exe", r"Files \.exe are not supported"),
        (PDF, "lease.e\x00\r\nx", "without a known extension"),
        (PDF, "lease." + "x" * 4000, r"Files \.xxxxxxxxxxxxxxxx are"),
        (PNG, "a.pdf", r"named \.pdf but its contents are a PNG picture"),
        (PNG, "a.jpg", "a PNG picture"),
        (JPEG, "a.png", "a JPEG picture"),
        (PDF, "a.txt", "a PDF document"),
        (TEXT, "a.pdf", "plain text"),
        (TEXT, "a.docx", "plain text"),
        (PNG, "a.txt", "a PNG picture"),
        (bytes(range(256)) * 4, "a.txt", "of no known type"),
        (b"a\0b" * 100, "a.md", "of no known type"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a.docx", "old Office document or one that is protected"),
        (archive(a=b"1"), "a.docx", "a zip archive that is no Word document"),
        (archive(a=b"1"), "a.pdf", "a zip archive"),
        (DOCX[:-40], "a.docx", "table of contents is missing"),
        (DOCX[:2000], "a.docx", "table of contents is missing"),
        (DOCX, "a.pdf", "a Word document"),
        (archive(**{"[Content_Types].xml": b"spreadsheetml.sheet.main+xml"}), "a.docx", "no Word document"),
    ],
)
def test_what_is_not_as_named_is_refused(data: bytes, name: str, words: str) -> None:
    with pytest.raises(UnsupportedType, match=words) as caught:
        checked(data, name)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("name", ["a.pdf", "a.png", "a.jpg", "a.gif", "a.docx", "a.txt"])
@pytest.mark.parametrize(
    "data",
    [
        GIF + PDF,
        PNG + DOCX,
        PDF + DOCX,
        JPEG + archive(a=b"1"),
        TEXT + archive(a=b"1"),
        b"MZ\x90\0" + PDF,
        b"\x7fELF\x02\x01\x01\0" + PDF,
    ],
)  # fmt: skip
def test_what_is_two_things_at_once_is_refused(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedType):
        checked(data, name)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (documents.crowded_docx, "more than 10,000 files"),
        (lambda: documents.zip_bomb_docx(513), "more than 512 MB"),
        (lambda: documents.zip_bomb_docx(20), "more than 100 times"),
        (documents.lying_zip, "more than 10,000 files"),
        (documents.sixty_four_bit_zip, "more than 10,000 files"),
    ],
)
def test_bombs_are_refused_by_their_table_of_contents(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(UnsupportedType, match=words):
        checked(make(), "a.docx")
