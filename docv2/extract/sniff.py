"""What a file is, by its contents, and whether that is what its name says.

Looks at its first kilobytes, its end and, of a zip, the table of contents; cheap enough for every upload. It blocks,
so the server calls it in a thread.
"""

from __future__ import annotations

import codecs
import zipfile
import zlib
from typing import IO

from docv2.documents import EXTENSIONS, MediaType
from docv2.errors import UnsupportedType
from docv2.extract.archive import BadArchive, is_archive, open_archive

HEAD = 8192
PDF_HEAD = 1024
"""Bytes within which `%PDF-` stands: what readers accept before it (ISO 32000-1, annex H, note 13)."""

MAGIC: dict[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": MediaType.PNG,
    b"\xff\xd8\xff": MediaType.JPEG,
    b"GIF87a": MediaType.GIF,
    b"GIF89a": MediaType.GIF,
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office document or one that is protected with a password",
    b"{\\rtf": "an RTF document",
    b"%!PS": "a PostScript document",
    b"II*\x00": "a TIFF picture",
    b"MM\x00*": "a TIFF picture",
    b"RIFF": "a RIFF file, such as a WebP picture",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
}
"""First bytes, and what they mean: a type, or words for what docv2 does not read."""

NAMES: dict[str, str] = {
    MediaType.PDF: "a PDF document",
    MediaType.DOCX: "a Word document",
    MediaType.TEXT: "plain text",
    MediaType.PNG: "a PNG picture",
    MediaType.JPEG: "a JPEG picture",
    MediaType.GIF: "a GIF picture",
}

BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_WORD_MAIN = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
_MAX_TYPES = 1024**2
"""Bytes read of the list of types in an Office file; ordinary ones have some thousand."""


def check(file: IO[bytes], filename: str) -> MediaType:
    """The type of an open file; UnsupportedType unless docv2 reads it and the name's extension says the same."""
    extension = filename.rpartition(".")[2].lower() if "." in filename else ""
    expected = EXTENSIONS.get(extension)
    if expected is None:
        shown = f".{extension[:16]}" if extension.isprintable() and extension else "without a known extension"
        raise UnsupportedType(f"Files {shown} are not supported. Supported are: {', '.join(EXTENSIONS)}.")
    head = file.read(HEAD)
    if not head:
        raise UnsupportedType("The file is empty.")
    if expected in (MediaType.TEXT, MediaType.MARKDOWN):
        # A text may speak of other formats, with their magic words; one that is PDF from its first byte is a PDF.
        kinds = {expected} if is_textual(head) and not head.startswith(b"%PDF-") else _kinds(head, file)
    else:
        kinds = _kinds(head, file)
    if kinds == {expected}:
        return expected
    names = " and ".join(sorted(NAMES.get(kind, kind) for kind in kinds))
    raise UnsupportedType(f"The file is named .{extension} but its contents are {names or 'of no known type'}.")


def is_textual(head: bytes) -> bool:
    """Whether the beginning of a file can be that of a text; its encoding is found out when it is read."""
    if head.startswith(BOMS):
        return True
    controls = sum(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in head)
    return 0 not in head and controls * 50 <= len(head)


def _kinds(head: bytes, file: IO[bytes]) -> set[str]:
    """Everything the file can pass for; one that is two things at once is a trap for whoever checks only one."""
    kinds: set[str] = {kind for magic, kind in MAGIC.items() if head.startswith(magic)}
    if b"%PDF-" in head[:PDF_HEAD]:
        kinds.add(MediaType.PDF)
    if head.startswith(b"PK\x03\x04"):
        kinds.add(_kind_of_archive(file))
    elif is_archive(file):
        kinds.add("a zip archive")
    if not kinds and is_textual(head):
        kinds.add(MediaType.TEXT)
    return kinds


def _kind_of_archive(file: IO[bytes]) -> str:
    try:
        with open_archive(file) as archive, archive.open("[Content_Types].xml") as types:
            return MediaType.DOCX if _WORD_MAIN in types.read(_MAX_TYPES) else "a zip archive that is no Word document"
    except BadArchive as error:
        return f"a zip archive that is not opened: {error}"
    except KeyError:
        return "a zip archive that is no Word document"
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError):
        return "a damaged zip archive"
