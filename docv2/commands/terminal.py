"""Text for terminals: made harmless, cut to width, and a block of lines that is redrawn in place."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import TextIO

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
    # C0 without tab and line feed, C1, line separators, what turns the direction of text, half characters
)

BAR_CELLS = 12
NAME_CELLS = 20


def harmless(text: str) -> str:
    """With everything visible that a terminal would act upon: answers and file names are strangers' text."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same, on one line."""
    return " ".join(harmless(text).split())


def fit(text: str, cells: int) -> str:
    """Cut or filled with blanks to so many columns of a terminal."""
    kept, width = "", 0
    for char in text:
        wide = _cells(char)
        if width + wide > cells:
            while width + 1 > cells:
                width -= _cells(kept[-1])
                kept = kept[:-1]
            kept, width = kept + "…", width + 1
            break
        kept, width = kept + char, width + wide
    return kept + " " * (cells - width)


def duration(seconds: float) -> str:
    """As a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def abandon(stream: TextIO) -> None:
    """Let what could not be written go nowhere: else Python tries again at its exit, and its exit status is 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Screen:
    """Lines at the lower end of a terminal that are redrawn in place. On anything but a terminal it stays silent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: list[str] = []
        self._plain = "NO_COLOR" in os.environ
        self._bar = _encodable("━", stream)
        self.live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def line(self, name: str, percent: float | None, text: str) -> str:
        """One line: a name, a bar where there is a percentage, and words."""
        bar = "" if percent is None else f"{self._filled(percent)} {percent:3.0f} %  "
        return f"{fit(one_line(name), NAME_CELLS)}  {bar}{one_line(text)}"

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines in place of the last ones."""
        if not self.live:
            return
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except OSError:  # it was closed
            self.live = False
            return
        # A line that wraps, or a block taller than the window, could not be drawn over. 0: the terminal does not know.
        lines = [fit(line, (columns or 80) - 1).rstrip() for line in lines[: (rows or 24) - 1]]
        if lines != self._shown:
            text = "".join(f"\x1b[2K{self._coloured(line)}\n" for line in lines)
            self._write(f"{self._back()}{text}\x1b[J")
            self._shown = lines

    def clear(self) -> None:
        """Take the lines away, so that something else can be printed."""
        if self._shown:
            self._write(f"{self._back()}\x1b[J")
            self._shown = []

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal was closed
            self.live = False
            abandon(self._stream)

    def _back(self) -> str:
        return f"\x1b[{len(self._shown)}F" if self._shown else ""

    def _filled(self, percent: float) -> str:
        full = round(max(0.0, min(100.0, percent)) / 100 * BAR_CELLS)
        return ("━" * full + "╌" * (BAR_CELLS - full)) if self._bar else ("#" * full + "." * (BAR_CELLS - full))

    def _coloured(self, line: str) -> str:
        return (
            line if self._plain else re.sub("━+", "\x1b[32m\\g<0>\x1b[0m", re.sub("╌+", "\x1b[2m\\g<0>\x1b[0m", line))
        )


def _cells(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _encodable(char: str, stream: TextIO) -> bool:
    try:
        char.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
