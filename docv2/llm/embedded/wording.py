"""How the reader words its answers, and reads them back where answers to parts of a document are to be merged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from docv2.llm.embedded.search import Quote

NOTICE = (
    "Found by docv2's built-in text reader, which is not a language model: it quotes the document word for word "
    "and adds nothing."
)
NOTHING = "Not found: no passage of the pages read fits the request well enough."
OF_ANSWER = "The passages that fit the request best, with a score from 0 to 1:"
OF_SUMMARY = "The sentences that share most with the rest of the text, with a score from 0 to 1:"

_QUOTE = re.compile(r"^\d+\. Page (\d{1,9}) \(score (\d\.\d\d)\): “(.*)”$", re.MULTILINE)
_UNREAD = re.compile(r"^No readable text found on pages? ([\d, –]{1,99999}?)(?:: (.+))?\.$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Findings:
    """What an answer says."""

    quotes: list[Quote]
    unread: Mapping[int, str] = field(default_factory=dict)
    """Pages without readable text, each with the reason; "" where there simply is none."""


def compose(findings: Findings, *, summary: bool) -> str:
    """The answer as text. The quotes are one line each, so none of them can pass for anything of ours."""
    blocks = [NOTICE]
    if findings.quotes:
        lines = [
            f"{at}. Page {quote.page} (score {quote.score:.2f}): “{quote.text}”"
            for at, quote in enumerate(findings.quotes, 1)
        ]
        blocks += [OF_SUMMARY if summary else OF_ANSWER, "\n".join(lines)]
    else:
        blocks.append(NOTHING)
    reasons: dict[str, list[int]] = {}
    for page, reason in findings.unread.items():
        reasons.setdefault(reason, []).append(page)
    blocks += [
        f"No readable text found on page{'s' * (len(pages) > 1)} {_ranges(pages)}{reason and ': '}{reason}."
        for reason, pages in reasons.items()
    ]
    return "\n\n".join(blocks)


def parse(answer: str) -> Findings:
    """What `compose` was given, as far as the answer still holds it: it may have been cut at its end."""
    quotes = [Quote(int(page), float(score), text) for page, score, text in _QUOTE.findall(answer)]
    unread = {page: reason for pages, reason in _UNREAD.findall(answer) for page in _numbers(pages)}
    return Findings(quotes, unread)


def merge(answers: Iterable[Findings]) -> Findings:
    """All of several answers in one."""
    quotes: list[Quote] = []
    unread: dict[int, str] = {}
    for answer in answers:
        quotes += answer.quotes
        unread |= answer.unread
    return Findings(quotes, unread)


def _ranges(pages: Iterable[int]) -> str:
    """`1, 3–5` of 1, 3, 4 and 5."""
    runs: list[list[int]] = []
    for page in sorted(pages):
        if runs and page == runs[-1][-1] + 1:
            runs[-1].append(page)
        else:
            runs.append([page])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _numbers(ranges: str) -> Iterator[int]:
    for part in ranges.split(", "):
        first, _, last = part.partition("–")
        if first.isdecimal() and (last or first).isdecimal():
            yield from range(int(first), min(int(last or first), int(first) + 99_999) + 1)
