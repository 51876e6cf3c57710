"""Finding the passages that answer a question: BM25 (Robertson and Zaragoza, 2009), as a share of a full match."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from math import log

from docv2.llm.embedded.passages import Passage, words

QUOTES = 3
"""Passages in an answer: enough that the right one is among them, few enough to read."""

FOUND = 0.25
"""Score from which a passage is taken to answer the question. tests/unit/test_embedded_quality.py holds the figures."""

FOUND_FOREIGN = 0.12
"""The same for a question in another language, whose `what` and `the` count as words that were not found."""

_K1, _B = 0.4, 0.5
"""How soon a repeated word stops to count, and how much length does: less than usual, as passages are short."""

_FEW = 30
"""Passages from which on rarity says something: in a note of two lines every word is in half of them."""

_CONTEXT = 0.5
"""What a word counts that stands in the passage's heading."""

_UNLIKELY = 0.75
"""Of the score of a passage that does not look like an answer: no name for `who`, no figure for `how many`."""

_QUESTIONS = 8
"""Questions in one prompt that are looked for; the rest of a prompt of 4,000 characters is hardly a question."""

_COMMON_WORDS = """
a about according after all also am an and any are as at be been before by can could did do does for from had has
have how i if in into is it its list may me my no not of on or our please shall should so such than that the their
them there these they this those to under was we were what when where which who whom whose why will with within
would you your answer ask contain describe detail document documents explain extract file find give identify mention
name page provide question report say says show specify specified state stated tell text word much many
"""
COMMON = frozenset(words(_COMMON_WORDS))
"""Words of English, and of asking about a document, that tell nothing of what is asked."""

_ENGLISH = frozenset(words("the what which who whose how when where why does did is are"))
"""One of these is in nearly every English question, and hardly in one of another language."""

_EXPECTED = [
    (re.compile(asked, re.IGNORECASE), re.compile(holds))
    for asked, holds in (
        (r"\b(?:who|whose|whom)\b", r"[A-Z][a-z'’-]+\.? [A-Z]|\b(?:Mr|Mrs|Ms|Dr)\b"),
        (r"\be-?mail\b", r"@"),
        (
            r"\b(?:how (?:much|many|long|old|often|high|large|far)|when|number|amount|price|total|sum|fee|date|"
            r"percent\w*)\b",
            r"(?i)\d|\b(?:once|twice|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand)\b",
        ),
    )
]
"""What a question of a kind asks for, and how a passage looks that holds it."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A passage, word for word, and how well it fits: 0 not at all, 1 every word of the question."""

    page: int
    score: float
    text: str


class Index:
    """Passages by the words in them."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.lengths: list[int] = []
        self.counts: dict[str, dict[int, float]] = defaultdict(dict)
        """How often each word is in each passage that has it."""
        self.contexts: dict[str, list[int]] = defaultdict(list)
        """The passages whose heading has the word, though they have not."""
        for at, passage in enumerate(passages):
            counts = Counter(words(passage.text))
            self.lengths.append(counts.total())
            for word, count in counts.items():
                self.counts[word][at] = count
            for word in set(words(passage.context)) - counts.keys():
                self.contexts[word].append(at)
        self.mean_length = sum(self.lengths) / max(1, len(self.lengths)) or 1.0

    def weight(self, word: str) -> float:
        """The inverse document frequency, in Lucene's form that is never negative."""
        found = len(self.counts.get(word, ()))
        return log(1 + (max(len(self.passages), _FEW) - found + 0.5) / (found + 0.5))

    def ranked(self, question: str) -> list[Quote]:
        """The passages that share a word with the question and fit well enough, best first."""
        asked = set(words(question))
        sought = (asked - COMMON) or asked
        weights = {word: self.weight(word) for word in sought}
        scores: dict[int, float] = {}
        for word, weight in weights.items():
            holders = self.counts.get(word, {}) | dict.fromkeys(self.contexts.get(word, ()), _CONTEXT)
            for at, count in holders.items():
                damping = _K1 * (1 - _B + _B * self.lengths[at] / self.mean_length)
                scores[at] = scores.get(at, 0.0) + weight * count / (count + damping)
        best = sum(weights.values()) / (1 + _K1 * (1 - _B))
        holds = [holds for asks, holds in _EXPECTED if asks.search(question)]
        found = []
        for at, score in scores.items():
            passage = self.passages[at]
            likely = all(pattern.search(passage.text) for pattern in holds)
            found.append(Quote(passage.page, min(1.0, score / best) * (1.0 if likely else _UNLIKELY), passage.text))
        least = FOUND if asked & _ENGLISH else FOUND_FOREIGN
        return sorted((quote for quote in found if quote.score >= least), key=lambda quote: -quote.score)


def search(prompt: str, passages: Sequence[Passage]) -> list[Quote]:
    """The best quotes for a prompt, best first; empty where nothing fits well enough.

    Of several questions in one prompt each gets its best quote before any gets its second.
    """
    index = Index(passages)
    rounds = zip_longest(*(index.ranked(question) for question in questions(prompt)))
    return best(quote for quote in chain.from_iterable(rounds) if quote)


def best(quotes: Iterator[Quote], limit: int = QUOTES) -> list[Quote]:
    """The first `limit` that say something of their own; of two, one within the other, the longer says more."""
    chosen: list[Quote] = []
    for quote in quotes:
        within = next((at for at, other in enumerate(chosen) if other.text in quote.text), None)
        if within is not None:
            chosen[within] = replace(quote, score=max(quote.score, chosen[within].score))
        elif not any(quote.text in other.text for other in chosen):
            if len(chosen) == limit:
                break
            chosen.append(quote)
    return sorted(chosen, key=lambda quote: -quote.score)


def questions(prompt: str) -> list[str]:
    """What a prompt asks, one by one: what ends in a question mark, else its lines; those that ask for something."""
    asked = re.findall(r"(?<![^.!?？。\n])[^.!?？。\n]++[?？]", prompt) or prompt.splitlines()
    return [part for part in asked if set(words(part)) - COMMON][:_QUESTIONS] or [prompt]
