"""Cutting pages into passages and words."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docv2.llm.embedded.passages import LONGEST_PASSAGE, passages, stem, words

CJK_LEASE = "契約書\n第一条　賃料は月額八万円とする。\n第二条　契約期間は二年間とし、更新することができる。"


def texts(page: str) -> list[str]:
    return [passage.text for passage in passages(1, page)]


def test_wrapped_lines_are_one_text_and_its_sentences_are_apart() -> None:
    page = "The tenant pays the rent in advance, on the first day of\neach month. It includes the well-\nknown garden."
    assert texts(page) == [
        "The tenant pays the rent in advance, on the first day of each month.",
        "It includes the well-known garden.",
    ]


def test_abbreviations_and_numbers_end_no_sentence() -> None:
    page = "Dr. Adams met Mr. Bell at no. 5 on 3. May and paid 3.50 pounds, e.g. for tea. Then he left the house."
    assert texts(page) == [
        "Dr. Adams met Mr. Bell at no. 5 on 3. May and paid 3.50 pounds, e.g. for tea.",
        "Then he left the house.",
    ]


def test_a_label_goes_with_the_value_below_it() -> None:
    assert texts("Invoice number:\nINV-7\nDue date\n3 May 2024\n") == ["Invoice number: INV-7", "Due date 3 May 2024"]


def test_table_rows_stay_apart_and_know_their_header() -> None:
    found = list(passages(1, "Item Price Amount\nCopy paper 3.95 474.00\nToner 64.50 387.00\n"))
    assert [(passage.text, passage.context) for passage in found[1:]] == [
        ("Copy paper 3.95 474.00", "Item Price Amount"),
        ("Toner 64.50 387.00", "Item Price Amount"),
    ]


def test_sentences_know_their_heading() -> None:
    found = list(passages(4, "4. Deposit\n\nIt is returned within six weeks of the end.\n"))
    assert found[-1].context == "4. Deposit"
    assert found[-1].page == 4
    assert found[-1].sentence


def test_scripts_without_spaces_are_cut_at_their_own_full_stops() -> None:
    assert texts(CJK_LEASE)[1] == "第一条 賃料は月額八万円とする。"


@pytest.mark.parametrize("line", ["\r\n", "\r", "\f", "\u2028"])
def test_every_kind_of_line_end_counts(line: str) -> None:
    assert texts(f"Due date:{line}3 May 2024") == ["Due date: 3 May 2024"]


@given(st.text(st.sampled_from("ab Z19.:-!?\n\t\"'。漢é\u0301")))
def test_nothing_is_left_out(page: str) -> None:
    found = Counter("".join(texts(page)))
    assert not Counter("".join(page.split())) - found


def test_no_passage_is_longer_than_a_quote() -> None:
    page = "word " * 1000 + "\n\n" + "漢" * 1000 + "\n\n" + "Label " * 3 + ":\n" + "v" * 79
    assert max(map(len, texts(page))) <= LONGEST_PASSAGE


@pytest.mark.parametrize(
    "page",
    ["a\n" * 200_000, "." * 400_000, '."' * 200_000, ". " * 100_000, "a-\n" * 150_000, " \t" * 200_000, "。" * 200_000],
)
def test_time_grows_with_the_text_alone(page: str) -> None:
    began = time.process_time()
    for passage in passages(1, page):
        words(passage.text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "group",
    [
        "deliver delivers delivered delivery deliveries",
        "terminate termination terminates terminating",
        "pay pays paid paying payment payments",
        "invoice invoices invoicing",
        "rent rents rental rented",
        "party parties",
        "insure insurance insured",
        "meet meets met meetings",
    ],
)
def test_forms_of_a_word_compare(group: str) -> None:
    assert len({stem(word) for word in group.split()}) == 1


def test_words_of_every_script_compare() -> None:
    assert words("RÉSUMÉ") == words("résumé") == words("re\u0301sume\u0301")
    assert words("Ｐａｙ") == words("pay")
    assert words("賃料は") == ["賃料", "料は"]
    assert words("किराया") == ["किराया"]
    assert words("Straße") == words("STRASSE")
    assert words("the landlord's e-mail") == words("the landlord email")
