"""How well the reader answers, over documents and questions of our own.

The threshold was chosen on the first three samples (43 questions with an answer, 15 without); the other two (25 and 12)
came afterwards. Measured:

    chosen on  42 of 43 among the three, 40 first; 15 of 15 questions without an answer "not found"
    held out   25 of 25 among the three, 22 first; 10 of 12 questions without an answer "not found"
"""

from __future__ import annotations

import pytest

from docv2.llm.embedded.passages import Passage, passages
from docv2.llm.embedded.search import search
from tests.unit.embedded_samples import INVOICE, LEASE, MINUTES, POLICY, REPORT, Sample


def cut(sample: Sample) -> list[Passage]:
    return [passage for number, page in enumerate(sample.pages, 1) for passage in passages(number, page)]


@pytest.mark.parametrize(("samples", "least"), [((INVOICE, LEASE, REPORT), 0.95), ((POLICY, MINUTES), 0.9)])
def test_the_answer_is_among_the_quotes(samples: tuple[Sample, ...], least: float) -> None:
    missed = [
        question
        for sample in samples
        for question, answer in sample.answered.items()
        if not any(answer in quote.text for quote in search(question, cut(sample)))
    ]
    assert len(missed) <= (1 - least) * sum(len(sample.answered) for sample in samples), missed


@pytest.mark.parametrize(("samples", "least"), [((INVOICE, LEASE, REPORT), 0.95), ((POLICY, MINUTES), 0.8)])
def test_what_is_not_there_is_not_found(samples: tuple[Sample, ...], least: float) -> None:
    invented = [question for sample in samples for question in sample.unanswered if search(question, cut(sample))]
    assert len(invented) <= (1 - least) * sum(len(sample.unanswered) for sample in samples), invented


@pytest.mark.parametrize("sample", [INVOICE, LEASE, REPORT, POLICY, MINUTES], ids=lambda sample: sample.name)
def test_every_quote_is_verbatim_and_says_its_page(sample: Sample) -> None:
    pages = {number: "".join(page.split()) for number, page in enumerate(sample.pages, 1)}
    for question in sample.answered:
        for quote in search(question, cut(sample)):
            assert "".join(quote.text.split()) in pages[quote.page]
            assert 0 < quote.score <= 1
