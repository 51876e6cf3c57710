"""PDF: text comes in the order in which a person reads it, whatever order it was drawn in."""

from __future__ import annotations

import random
import re
from itertools import product
from pathlib import Path

import pytest

from docv2.documents import MediaType
from docv2.extract.pdflayout import MAX_PIECES
from tests import documents
from tests.reading import read_document

LEFT = [f"Left line {number} says what the left column says" for number in range(1, 11)]
RIGHT = [f"Right line {number} says what the right one says" for number in range(1, 11)]
TITLE = "A title that goes across both of the columns of this page, from its left edge to the right one"

Placed = tuple[int, int, str]


def column(lines: list[str], left: int, top: int = 700, step: int = 14) -> list[Placed]:
    return [(left, top - step * index, line) for index, line in enumerate(lines)]


def text_of(data: bytes, folder: Path) -> str:
    [page] = read_document(data, MediaType.PDF, folder)
    return page.text


TWO = [*column(LEFT, 60), *column(RIGHT, 320)]
ODD_ORDERS = {
    "as read": TWO,
    "right first": [*column(RIGHT, 320), *column(LEFT, 60)],
    "from the bottom": TWO[::-1],
    "shuffled": random.Random(3).sample(TWO, len(TWO)),
}


@pytest.mark.parametrize("drawn", ODD_ORDERS.values(), ids=list(ODD_ORDERS))
def test_columns_are_read_one_after_the_other(drawn: list[Placed], tmp_path: Path) -> None:
    text = text_of(documents.placed_pdf(*drawn), tmp_path)
    assert [line for line in text.splitlines() if line] == LEFT + RIGHT


@pytest.mark.parametrize("first", [True, False])
def test_what_goes_across_the_columns_divides_them(first: bool, tmp_path: Path) -> None:
    across = [(60, 730, TITLE), (60, 540, TITLE.upper()[:70])]
    below = [*column(RIGHT, 320, 510), *column(LEFT, 60, 510)]
    drawn = [*across, *below, *TWO] if first else [*below, *TWO, *across]
    lines = [line for line in text_of(documents.placed_pdf(*drawn), tmp_path).splitlines() if line]
    assert lines == [TITLE, *LEFT, *RIGHT, TITLE.upper()[:70], *LEFT, *RIGHT]


def test_three_columns(tmp_path: Path) -> None:
    columns = [[f"{name} {number} has some words in it" for number in range(8)] for name in ("One", "Two", "Three")]
    placed = [column(lines, 50 + 180 * index) for index, lines in enumerate(columns)]
    text = text_of(documents.placed_pdf(*placed[2], *placed[0], *placed[1]), tmp_path)
    assert [line for line in text.splitlines() if line] == [line for lines in columns for line in lines]


def test_footnotes_that_are_drawn_first_come_last(tmp_path: Path) -> None:
    notes = [(60, 90, "1 The first note at the foot of the page.", 8), (60, 78, "2 The second note.", 8)]
    body = column([f"Line {number} of the body, which the notes are about." for number in range(20)], 60)
    text = text_of(documents.placed_pdf(*notes, (280, 40, "17"), *body), tmp_path)
    lines = [line for line in text.splitlines() if line]
    assert lines == [*(line for _, _, line in body), notes[0][2], notes[1][2], "17"]


CELLS = [["Room", "Area", "Rent"], ["Cellar", "12", "80"], ["Hall", "", "120"], ["Attic under the roof", "31", "200"]]
PLACED = [[(60 + 140 * x, 600 - 20 * y, cell) for x, cell in enumerate(row) if cell] for y, row in enumerate(CELLS)]
BY_ROW = [piece for row in PLACED for piece in row]
TABLES = {
    "row by row": BY_ROW,
    "column by column": sorted(BY_ROW, key=lambda piece: piece[0]),
    "shuffled": random.Random(5).sample(BY_ROW, len(BY_ROW)),
}


@pytest.mark.parametrize("drawn", TABLES.values(), ids=list(TABLES))
def test_a_table_comes_in_rows(drawn: list[Placed], tmp_path: Path) -> None:
    before, after = (60, 700, "What the rooms cost, as agreed between the two sides:"), (60, 500, "All in euros.")
    assert text_of(documents.placed_pdf(before, *drawn, after), tmp_path) == (
        "What the rooms cost, as agreed between the two sides:\n\n"
        "| Room | Area | Rent |\n| --- | --- | --- |\n| Cellar | 12 | 80 |\n| Hall |  | 120 |\n"
        "| Attic under the roof | 31 | 200 |\n\nAll in euros."
    )


def test_a_table_of_numbers_set_to_the_right(tmp_path: Path) -> None:
    rows = [("Turnover", "1,200,000"), ("Costs", "900"), ("Profit", "1,199,100")]
    placed: list[Placed] = []
    for y, (name, value) in enumerate(rows):
        placed += [(60, 600 - 16 * y, name), (300 - 6 * len(value), 600 - 16 * y, value)]
    lines = text_of(documents.placed_pdf(*placed), tmp_path).splitlines()
    assert lines[2:] == ["| Costs | 900 |", "| Profit | 1,199,100 |"]


def test_a_table_in_one_of_two_columns_stays_there(tmp_path: Path) -> None:
    table = [(320 + 90 * x, 560 - 14 * y, f"{y}{x}") for y, x in product(range(4), range(3))]
    text = text_of(documents.placed_pdf(*column(LEFT * 2, 60), *column(RIGHT, 320), *table), tmp_path)
    lines = [line for line in text.splitlines() if line]
    assert lines[:30] == LEFT * 2 + RIGHT
    assert lines[30] == "| 00 | 01 | 02 |"


CLAUSES = [
    ["Obligation and who has to meet it", "Deadline and what it covers"],
    [
        "Payment of the annual rent by\nthe tenant, net of all taxes",
        "The first of January of each\nyear, in advance and in full\nas set out in the annex",
    ],
    ["Insurance of the building, at the\nlandlord's own cost and at its\nvalue anew", "Before the term begins"],
    ["Repair of windows by the tenant", "Fourteen days after being told"],
]


def cell_by_cell(rows: list[list[str]], lefts: tuple[int, ...], top: int = 700) -> list[Placed]:
    """As word processors draw a table: each row's cells from the left, each cell's lines from the top."""
    placed: list[Placed] = []
    for row in rows:
        cells = [cell.split("\n") for cell in row]
        for left, lines in zip(lefts, cells, strict=True):
            placed += column(lines, left, top, 13)
        top -= 13 * max(map(len, cells)) + 6
    return placed


def markdown(rows: list[list[str]]) -> str:
    told = ["| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join([told[0], "|" + " --- |" * len(rows[0]), *told[1:]])


def test_a_table_of_whole_lines_that_was_drawn_row_by_row_keeps_its_rows(tmp_path: Path) -> None:
    rows = [list(pair) for pair in zip(LEFT, RIGHT, strict=True)]
    assert text_of(documents.placed_pdf(*cell_by_cell(rows, (60, 320))), tmp_path) == markdown(rows)


@pytest.mark.parametrize("footer_first", [True, False])
def test_cells_of_several_lines_stay_together(footer_first: bool, tmp_path: Path) -> None:
    table = cell_by_cell(CLAUSES, (60, 320))
    title, before, footer = (60, 750, "Schedule 2", 16), (60, 725, "What is owed:"), (500, 40, "Page 3")
    first, last = ([footer], []) if footer_first else ([], [footer])
    text = text_of(documents.placed_pdf(*first, title, before, *table, *last), tmp_path)
    assert text == f"## Schedule 2\n\nWhat is owed:\n\n{markdown(CLAUSES)}\n\nPage 3"


def test_a_table_of_three_columns_of_whole_lines(tmp_path: Path) -> None:
    rows = [[*row, f"Remark {number} of the surveyor\nwho was there in May"] for number, row in enumerate(CLAUSES)]
    assert text_of(documents.placed_pdf(*cell_by_cell(rows, (40, 230, 410))), tmp_path) == markdown(rows)


def test_a_word_that_is_parted_within_a_cell_is_one(tmp_path: Path) -> None:
    rows = [*CLAUSES, ["The tenant leaves the flat unfur-\nnished and clean", "On the last day of the whole term"]]
    text = text_of(documents.placed_pdf(*cell_by_cell(rows, (60, 320))), tmp_path)
    assert "| The tenant leaves the flat unfurnished and clean | On the last day of the whole term |" in text


def test_columns_of_several_articles_below_one_another_are_no_rows_of_lines(tmp_path: Path) -> None:
    drawn = [piece for top in (700, 500, 300) for piece in [*column(LEFT, 60, top), *column(RIGHT, 320, top)]]
    text = text_of(documents.placed_pdf(*drawn), tmp_path)
    for lines in (LEFT, RIGHT):
        assert " ".join(lines) in " ".join(text.split()), "each column is read from its top to its foot"


def test_a_line_with_a_gap_is_no_table(tmp_path: Path) -> None:
    placed = [(60, 700, "Berlin, in May"), (400, 700, "page 3"), (60, 680, "Dear all,"), (60, 660, "we write to you.")]
    assert text_of(documents.placed_pdf(*placed), tmp_path) == "Berlin, in May page 3\nDear all,\nwe write to you."


def test_headings_are_marked_by_their_size(tmp_path: Path) -> None:
    text = text_of(
        documents.placed_pdf(
            (60, 780, "Annual report", 24),
            (60, 740, "Results", 16),
            (60, 710, "Turnover rose by a tenth, as did the costs of the year."),
            (60, 690, "The board is satisfied with both of them."),
            (60, 660, "In the north", 13),
            (60, 640, "There was snow."),
            (60, 600, "1 A note in small print", 8),
        ),
        tmp_path,
    )
    assert text == (
        "# Annual report\n\n## Results\n\nTurnover rose by a tenth, as did the costs of the year.\n"
        "The board is satisfied with both of them.\n\n### In the north\n\nThere was snow.\n1 A note in small print"
    )


def test_a_heading_of_two_lines_is_one(tmp_path: Path) -> None:
    text = "Some text of the page." * 3
    data = documents.placed_pdf((60, 780, "A report of the", 20), (60, 756, "harbour office", 20), (60, 700, text))
    assert text_of(data, tmp_path) == f"# A report of the harbour office\n\n{text}"


def test_hyphens_at_line_ends_are_taken_out_in_either_column(tmp_path: Path) -> None:
    left = [*LEFT[:9], "and ends with an unfin-", "ished word there."]
    text = text_of(documents.placed_pdf(*column(RIGHT, 320), *column(left, 60)), tmp_path)
    assert "and ends with an unfinished word there." in text
    assert text.index("unfinished") < text.index("Right line 1 ")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("parted", "whole"),
    [
        ("has the number AB-\n1234 of May", "AB-1234 of May"),
        ("signed by Mrs Smith-\nJones in May", "Smith-Jones in May"),
        ("a house for Émile-\nÉdouard and son", "Émile-Édouard and son"),
        ("it says unfin-\nished things", "unfinished things"),
    ],
)
def test_a_hyphen_before_a_capital_or_a_digit_is_part_of_the_word(
    parted: str, whole: str, turned: bool, tmp_path: Path
) -> None:
    data = documents.text_pdf([parted])
    if turned:
        writer = documents.PdfWriter()
        lines = [f"({line}) Tj T*".encode("cp1252") for line in parted.split("\n")]
        writer.page(b"BT /F1 11 Tf 16 TL 0 1 -1 0 100 100 Tm " + b" ".join(lines) + b" ET", documents.HELVETICA)
        data = writer.finish()
    assert text_of(data, tmp_path).strip().endswith(whole)


def test_text_that_goes_upwards_stays_as_it_was_drawn(tmp_path: Path) -> None:
    writer = documents.PdfWriter()
    lines = [f"Line {number} of a table that lies on its side" for number in range(6)]
    content = b"".join(
        b"BT /F1 11 Tf 0 1 -1 0 %d 100 Tm (%s) Tj ET\n" % (100 + 16 * index, line.encode())
        for index, line in enumerate(lines)
    )
    writer.page(content, documents.HELVETICA, entries="/Rotate 90")
    assert text_of(writer.finish(), tmp_path).splitlines() == lines


def test_text_from_right_to_left_stays_as_it_was_drawn(tmp_path: Path) -> None:
    writer = documents.PdfWriter()
    to_unicode = writer.stream(
        b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <ff> endcodespacerange "
        b"1 beginbfrange <61> <7a> <05d0> endbfrange endcmap end"
    )
    font = documents.HELVETICA.replace("/WinAnsiEncoding", f"/WinAnsiEncoding /ToUnicode {to_unicode} 0 R")
    right = documents.text_lines("\n".join(["abcd efgh ijkl mnop qrst uvwx"] * 5), left=320)
    left = documents.text_lines("\n".join(["yyyy zzzz yyyy zzzz yyyy zzzz"] * 5))
    writer.page(right + b"\n" + left, font)
    text = text_of(writer.finish(), tmp_path)
    assert text.rindex("\u05d0") < text.index("\u05e8")  # The right column first: a, then y.


def test_a_page_that_stands_on_its_head_stays_as_it_was_drawn(tmp_path: Path) -> None:
    writer = documents.PdfWriter()
    lines = [f"Line {number} of a page that was turned around" for number in range(4)]
    content = b"".join(
        b"BT /F1 11 Tf -1 0 0 -1 500 %d Tm (%s) Tj ET\n" % (100 + 16 * index, line.encode())
        for index, line in enumerate(lines)
    )
    writer.page(content, documents.HELVETICA, entries="/Rotate 180")
    assert text_of(writer.finish(), tmp_path).splitlines() == lines


def test_of_a_line_that_leaves_the_page_only_what_shows_is_text(tmp_path: Path) -> None:
    data = documents.placed_pdf((60, 700, "It begins on the page and goes on beyond"), entries="/CropBox [0 0 160 842]")
    text = text_of(data, tmp_path)
    assert text.startswith("It begins on the")
    assert "beyond" not in text


def test_a_page_of_very_many_pieces_keeps_all_of_them(tmp_path: Path) -> None:
    numbers = list(range(MAX_PIECES + 500))
    random.Random(7).shuffle(numbers)
    placed = [(20 + 40 * (n % 14), 20 + 2 * (n // 14), f"n{n}", 2) for n in numbers]
    found = re.findall(r"n(\d+)", text_of(documents.placed_pdf(*placed), tmp_path))
    assert sorted(map(int, found)) == sorted(numbers)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_wherever_it_stands(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    placed = [
        (
            chance.randrange(20, 300),
            chance.randrange(20, 800),
            f"w{number} " * chance.randrange(1, 6),
            chance.choice([8, 11, 18]),
        )
        for number in range(chance.randrange(2, 120))
    ]
    wanted = sorted(" ".join(text for _, _, text, _ in placed).split())
    found = sorted(re.findall(r"w\d+", text_of(documents.placed_pdf(*placed), tmp_path)))
    assert found == wanted
