"""What Word prints before a list entry or a numbered heading: the number is in no text, and clauses are cited by it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from docx.oxml.ns import qn

LEVELS = 9
"""Word has that many."""

MAX_LABEL = 40
"""Characters of a label; real ones have a few."""


@dataclass(frozen=True, slots=True)
class _Level:
    kind: str
    """Word's name of the number format: bullet, decimal, lowerLetter, …"""
    pattern: str
    """The label, with %1 for the number of the first level."""
    start: int


class Lists:
    """The lists of one document, and how far each has counted."""

    def __init__(self, numbering: Any | None) -> None:
        """`numbering`: the root of the numbering part, or None where the document has none."""
        self._levels: dict[str, dict[int, _Level]] = {}
        self._counters: dict[str, dict[int, int]] = defaultdict(dict)
        if numbering is None:
            return
        abstract = {
            item.get(qn("w:abstractNumId")): dict(map(_level, item.iterchildren(qn("w:lvl"))))
            for item in numbering.iterchildren(qn("w:abstractNum"))
        }
        for number in numbering.iterchildren(qn("w:num")):
            levels = dict(abstract.get(_value(number, "w:abstractNumId"), {}))
            for override in number.iterchildren(qn("w:lvlOverride")):
                own = override.find(qn("w:lvl"))
                if own is not None:
                    levels.update([_level(own)])
            self._levels[number.get(qn("w:numId"))] = levels

    def label(self, list_id: str, depth: int) -> str:
        """Count one entry at a depth (0-based) and say what stands before it: `- `, `2. `, `4.2 `; "" for no list."""
        levels = self._levels.get(list_id)
        if not levels or list_id == "0":
            return ""
        depth = min(max(depth, 0), LEVELS - 1)
        level = levels.get(depth, _Level("bullet", "", 1))
        counters = self._counters[list_id]
        counters[depth] = counters.get(depth, level.start - 1) + 1
        for deeper in range(depth + 1, LEVELS):
            counters.pop(deeper, None)
        if level.kind == "none":
            return ""
        if level.kind == "bullet":
            return "- "
        label = level.pattern
        for upper in range(depth + 1):
            of = levels.get(upper, level)
            label = label.replace(f"%{upper + 1}", _numeral(counters.get(upper, of.start), of.kind))
        return label[:MAX_LABEL].strip() + " " if label.strip() else ""


def _level(element: Any) -> tuple[int, _Level]:
    start = _value(element, "w:start")
    level = _Level(
        _value(element, "w:numFmt") or "decimal",
        _value(element, "w:lvlText") or "",
        int(start) if start.isdigit() else 1,
    )
    depth = element.get(qn("w:ilvl"), "0")
    return int(depth) if depth.isdigit() else 0, level


def _value(element: Any, child: str) -> str:
    found = element.find(qn(child))
    return found.get(qn("w:val"), "") if found is not None else ""


def _numeral(number: int, kind: str) -> str:
    number = min(number, 99_999)
    if kind in ("lowerLetter", "upperLetter") and number > 0:
        letter = chr(ord("a") + (number - 1) % 26) * min(1 + (number - 1) // 26, 10)
        return letter.upper() if kind == "upperLetter" else letter
    if kind in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        roman = _roman(number)
        return roman if kind == "upperRoman" else roman.lower()
    return f"{number:02d}" if kind == "decimalZero" else str(number)


def _roman(number: int) -> str:
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    signs = ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
    out = ""
    for value, sign in zip(values, signs, strict=True):
        out += sign * (number // value)
        number %= value
    return out
