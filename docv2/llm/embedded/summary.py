"""Picking the sentences that stand for a text: TextRank (Mihalcea and Tarau, 2004)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from math import log

from docv2.llm.embedded.passages import Passage, words
from docv2.llm.embedded.search import COMMON, Quote

SENTENCES = 5

_CANDIDATES = 300
"""Sentences that are ranked: time grows with their square, and these take a fifth of a second."""

_SHORTEST, _LONGEST = 5, 60
"""Words that tell something apart from the rest, in a sentence worth quoting."""

_ROUNDS, _DAMPING = 20, 0.85

_ALIKE = 0.5
"""Share of words in common from which two sentences say the same: headers and footers come on every page."""

_WANTED = re.compile(
    r"\b(?:summar(?:y|ies|i[sz])|overview|gist|outline|synopsis|abstract|tl;?dr|analy[sz]e|"
    r"(?:key|main|important|central) (?:point|finding|fact|idea|topic|takeaway|message|content)|"
    r"zusammenfass|fasse .{0,40} zusammen|überblick|résum|resum|riassun|samenvat)"
    r"|\babout\W*$|\bwhat (?:is|are) (?:it|this|that|these|they|the \w+) about\b"
    r"|\bdescribe (?:it|(?:the|this) (?:document|file|page|picture|image|text))\b"
    r"|要約|概要|总结|摘要|總結|요약",
    re.IGNORECASE,
)


def wanted(prompt: str) -> bool:
    """Whether a prompt asks what the whole says rather than for one thing in it."""
    return bool(_WANTED.search(prompt)) or not set(words(prompt)) - COMMON


def summarise(passages: Sequence[Passage]) -> list[Quote]:
    """The sentences that share most with the others, in the order of the document; the first among them has score 1."""
    sentences = _candidates(passages)
    links: list[dict[int, float]] = [{} for _ in sentences]
    holding: dict[str, list[int]] = defaultdict(list)
    for at, (_, found) in enumerate(sentences):
        for word in found:
            holding[word].append(at)
    for holders in holding.values():
        for one in holders:
            for other in holders:
                if one != other:
                    links[one][other] = links[one].get(other, 0.0) + 1.0
    for one, shared in enumerate(links):
        for other in shared:
            shared[other] /= log(len(sentences[one][1])) + log(len(sentences[other][1]))
    sums = [sum(shared.values()) or 1.0 for shared in links]
    ranks = [1.0] * len(sentences)
    for _ in range(_ROUNDS):
        ranks = [
            1 - _DAMPING + _DAMPING * sum(ranks[other] * weight / sums[other] for other, weight in shared.items())
            for shared in links
        ]
    chosen: list[int] = []
    for at in sorted(range(len(sentences)), key=lambda at: -ranks[at]):
        if len(chosen) < SENTENCES and not any(_alike(sentences[at][1], sentences[other][1]) for other in chosen):
            chosen.append(at)
    top = max(ranks, default=1.0)
    return [Quote(p.page, round(ranks[at] / top, 2), p.text) for at in sorted(chosen) for p in [sentences[at][0]]]


def _candidates(passages: Sequence[Passage]) -> list[tuple[Passage, set[str]]]:
    """The sentences to rank with their words; where there is no running text, whatever there is."""
    known = [(passage, set(words(passage.text)) - COMMON) for passage in passages]
    fit = [one for one in known if one[0].sentence and _SHORTEST <= len(one[1]) <= _LONGEST]
    fit = fit or [one for one in known if len(one[1]) > 1]
    if len(fit) <= _CANDIDATES:
        return fit
    holders: dict[str, int] = defaultdict(int)
    for _, found in fit:
        for word in found:
            holders[word] += 1
    # Those made of words that come often have many links, and so the first ranks.
    weights = [sum(log(holders[word]) for word in found) / len(found) for _, found in fit]
    kept = sorted(range(len(fit)), key=lambda at: -weights[at])[:_CANDIDATES]
    return [fit[at] for at in sorted(kept)]


def _alike(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= _ALIKE * min(len(one), len(other))
