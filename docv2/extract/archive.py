"""Opening a zip archive that may be a bomb."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from typing import IO

MAX_ENTRIES = 10_000
MAX_DIRECTORY = 4 * 1024**2
"""Bytes of the table of contents: 400 for each of the entries."""
MAX_TOTAL = 512 * 1024**2
"""Bytes of everything unpacked."""
MAX_RATIO = 100
"""Times that an entry may grow; text and XML grow tenfold."""
RATIO_FROM = 1024**2
"""Bytes unpacked from which the ratio counts; a small run of blanks may grow more."""

_TAIL = 65_535 + 22
"""Bytes at the end within which the end record lies: itself and the longest comment."""


class BadArchive(Exception):
    """No zip archive, or one that is not opened; says why."""


def is_archive(file: IO[bytes]) -> bool:
    """Whether a zip ends exactly where the file does, whatever it begins with."""
    record = _end_record(file)
    return record is not None and record.left_over == 0


def open_archive(file: IO[bytes]) -> zipfile.ZipFile:
    """The archive, once its table of contents keeps to the limits; reads nothing else. Raises BadArchive.

    What the table promises holds: zipfile unpacks no entry beyond the size given there. The limits are those of
    Apache Tika's OutputLimits.
    """
    record = _end_record(file)
    if record is None or record.left_over < 0:
        raise BadArchive("its table of contents is missing")
    # zipfile would believe a second, 64-bit record over this one. No document needs it.
    if record.before.startswith(b"PK\x06\x07") or record.entries > MAX_ENTRIES or record.directory > MAX_DIRECTORY:
        raise BadArchive(f"it holds more than {MAX_ENTRIES:,} files")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise BadArchive("its table of contents is damaged") from error
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise BadArchive(f"it holds more than {MAX_ENTRIES:,} files")
    if sum(info.file_size for info in infos) > MAX_TOTAL:
        raise BadArchive(f"it unpacks to more than {MAX_TOTAL >> 20} MB")
    if any(info.file_size > max(RATIO_FROM, info.compress_size * MAX_RATIO) for info in infos):
        raise BadArchive(f"it unpacks to more than {MAX_RATIO} times its size")
    if any(info.flag_bits & 1 for info in infos):
        raise BadArchive("it is encrypted")
    return archive


@dataclass(frozen=True, slots=True)
class _EndRecord:
    before: bytes
    """The 20 bytes in front of it, where a 64-bit archive says so."""
    entries: int
    directory: int
    """Bytes of the table of contents."""
    left_over: int
    """Bytes between the archive's end and the file's; negative where the file was cut."""


def _end_record(file: IO[bytes]) -> _EndRecord | None:
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL - 20))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06", 0, len(tail) - 18)
    if at < 0:
        return None
    _, _, _, entries, directory, _, comment = struct.unpack_from("<HHHHIIH", tail, at + 4)
    return _EndRecord(tail[max(0, at - 20) : at], entries, directory, len(tail) - at - 22 - comment)
