"""Cutting pages into passages worth quoting, and passages into words that compare."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

LONGEST_PASSAGE = 400
"""Characters of one quote: what is read at a glance."""

_SHORT_LINE = 9
"""Words up to which a line without a full stop is a heading, a label or a value, not running text."""

_LABEL = 5
"""Words of a label at most."""

_FULL_LINE = 0.7
"""A line that fills this much of the widest one was wrapped and goes on in the next."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts written without spaces between words; Korean, whose particles stick to its words, is treated alike."""

_SIGNS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
"""Vowel signs and accents that belong to the word they stand in (Python does not count them as letters)."""

_RUN = re.compile(f"[{_UNSPACED}]+")
_GRAMMAR = re.compile("[\u3040-\u309f]{2}")
"""Hiragana alone: endings and particles of Japanese."""

_WORD = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[^\W_]|[{_SIGNS}])+")

_SENTENCE_END = re.compile(r"(?<![.!?…।])[.!?…।]++[\"'”’)\]]*+\s++|(?<![。！？])[。！？]++[”』」）]*+\s*+")

_FIGURE = re.compile(r"(?:\S{1,3} )?[\d(+-].{0,25}")
"""A date, a number, an amount with its currency."""

_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:\w|\d{1,2}|mr|mrs|ms|dr|prof|st|no|nr|art|sec|fig|inc|ltd|co|corp|vs|approx|ca|pp|e\.g|i\.e|z\.b)\.$",
    re.IGNORECASE,
)

_ENDINGS = (
    "s es ies ed ing ings ly y e er ers or ors al ally ate ates ated ating ator ators ation ations ion ions ment ments "
    "ance ence able ible ity ive ful"
)
_SUFFIXES = sorted(_ENDINGS.split(), key=len, reverse=True)

_FORMS = """
began:begin begun:begin bore:bear bought:buy built:build chose:choose chosen:choose fell:fall fallen:fall felt:feel
found:find gave:give given:give gone:go went:go grew:grow grown:grow held:hold kept:keep knew:know known:know laid:lay
led:lead left:leave lent:lend lost:lose made:make meant:mean met:meet paid:pay ran:run risen:rise rose:rise said:say
saw:see seen:see sent:send shown:show sold:sell spent:spend spoke:speak stood:stand taken:take took:take taught:teach
told:tell thought:think won:win wrote:write written:write women:woman men:man children:child people:person
phone:telephone tel:telephone
"""
_SAME: dict[str, str] = dict(pair.split(":") for pair in _FORMS.split())
"""Irregular forms in documents and questions about them, which no ending tells."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence, a table row, or a label with its value."""

    page: int
    text: str
    """As the page has it, save that line ends and runs of spaces are one space each."""
    context: str = ""
    """The heading or table header it stands under: helps to find it and is not quoted."""
    sentence: bool = False
    """Running text: what summaries are made of."""


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    after_gap: bool
    row: bool

    @property
    def short(self) -> bool:
        return len(self.text) <= 80 and self.text.count(" ") < _SHORT_LINE and self.text[-1] not in ".!?。！？"

    def labels(self, value: _Line) -> bool:
        """Whether `value` is what this line names: `Invoice number` and, below it, `INV-7`."""
        if value.after_gap or len(value.text) > 80:
            return False
        return self.text.endswith(":") or (
            self.text.count(" ") < _LABEL
            and not any(map(str.isdigit, self.text))
            and (bool(_FIGURE.fullmatch(value.text)) if value.row else value.short)
        )

    @property
    def heads(self) -> bool:
        """Whether it may name what follows: no figures but a number in front."""
        return not any(map(str.isdigit, "".join(self.text.split()[2:])))


def passages(page: int, text: str) -> Iterator[Passage]:
    """Every passage of a page in order; nothing of the text is left out."""
    lines = _unwrap(text)
    heading, is_value = "", False
    for line, following in pairwise([*lines, _Line("", after_gap=True, row=False)]):
        if not line.row and not line.short:
            for sentence in _sentences(line.text):
                yield from _cut(page, sentence, heading, sentence=True)
            is_value = False
        elif not line.row and line.labels(following):
            yield Passage(page, f"{line.text} {following.text}", heading)
            is_value = True
        else:
            if not is_value:
                yield from _cut(page, line.text, heading, sentence=False)
                if not line.row and line.heads:
                    heading = line.text
            is_value = False


def words(text: str) -> list[str]:
    """The words of a text in the form that compares: folded and stemmed, unspaced scripts as pairs of letters."""
    folded = re.sub("['’]s\\b", "", text.casefold()).replace("e-mail", "email")
    if not folded.isascii():
        folded = unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", folded)))
    found = ["email"] if "@" in folded else []
    for word in _WORD.findall(folded):
        if word.isascii():
            found.append(stem(word))
        elif _RUN.match(word):
            pairs = [word[at : at + 2] for at in range(max(1, len(word) - 1))]
            found.extend(pair for pair in pairs if not _GRAMMAR.fullmatch(pair))
        else:
            found.append(word)
    return found


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """An English word without up to two endings: `deliveries`, `delivered` and `delivery` are `deliv`.

    Coarser than Porter's rules and a tenth of their length. What it merges wrongly it merges on both sides.
    """
    word = _SAME.get(word, word)
    for _ in range(2):
        for suffix in _SUFFIXES:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
                word = word.removesuffix(suffix)
                break
        else:
            break
    return word


def _unwrap(text: str) -> list[_Line]:
    """The lines of a page, those that were wrapped joined again."""
    raw = [line.strip() for line in re.sub(r"\r\n?|[\f\v\u2028\u2029]", "\n", text).split("\n")]
    full = max(20, _FULL_LINE * max(map(len, raw)))
    lines: list[_Line] = []
    parts: list[str] = []
    """Of the last line."""
    gap, wrapped = True, False
    for line in raw:
        if not line:
            gap = True
            continue
        row, clean = _is_row(line), " ".join(line.split())
        if lines and not gap and not row and not lines[-1].row and (wrapped or clean[0].islower()):
            hyphenated = parts[-1].endswith("-") and parts[-1][-2:-1].isalpha() and clean[0].islower()
            if not hyphenated and not (_RUN.match(parts[-1][-1]) and _RUN.match(clean)):
                parts.append(" ")
            parts.append(clean)
        else:
            if lines:
                lines[-1] = replace(lines[-1], text="".join(parts))
            lines.append(_Line("", gap, row))
            parts = [clean]
        gap, wrapped = False, len(line) >= full and line[-1] not in ".:;!?。！？"
    if lines:
        lines[-1] = replace(lines[-1], text="".join(parts))
    return lines


def _is_row(line: str) -> bool:
    """Whether a line is a table's: cells set apart, or a third of its words figures."""
    if "\t" in line or "   " in line or line.startswith("|"):
        return True
    parts = line.split()[1:]
    return bool(parts) and 3 * sum(any(map(str.isdigit, part)) for part in parts) > len(parts)


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(text):
        following = text[end.end() : end.end() + 1]
        if following.islower() or _ABBREVIATION.search(text, max(start, end.start() - 8), end.start() + 1):
            continue
        yield text[start : end.end()].strip()
        start = end.end()
    if rest := text[start:].strip():
        yield rest


def _cut(page: int, text: str, context: str, *, sentence: bool) -> Iterator[Passage]:
    """A passage, or several where it is too long to quote: cut at a space where there is one."""
    while len(text) > LONGEST_PASSAGE:
        at = text.rfind(" ", LONGEST_PASSAGE // 2, LONGEST_PASSAGE)
        at = at if at > 0 else LONGEST_PASSAGE
        yield Passage(page, text[:at].rstrip(), context, sentence)
        text = text[at:].lstrip()
    if text:
        yield Passage(page, text, context, sentence)
