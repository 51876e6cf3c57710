"""Word files: everything a person reads in them, in the order they read it."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import docx
import pytest
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml
from PIL import Image

from docv2.documents import Detail, MediaType, PageSource
from docv2.errors import DocumentError
from docv2.extract.base import PAGE_CHARACTERS
from docv2.extract.docx import MAX_COLUMNS
from tests import documents
from tests.reading import ReadPage, read_document

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def read(data: bytes, folder: Path, first_page: int = 1) -> list[ReadPage]:
    return read_document(data, MediaType.DOCX, folder, first_page)


def body(xml: str) -> bytes:
    """A Word file with this body."""
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?><w:document {W} '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
        'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
        'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape">'
        f"<w:body>{xml}</w:body></w:document>"
    )
    return documents.repacked(documents.docx([]), {"word/document.xml": document.encode()})


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{run(text)}</w:p>"


def text_of(data: bytes, folder: Path) -> str:
    [page] = read(data, folder)
    assert page.source is PageSource.TEXT
    return page.text


def test_headings_paragraphs_lists_and_tables_in_order(tmp_path: Path) -> None:
    blocks = [
        "# Survey",
        "First paragraph.",
        "## Findings",
        "- damp cellar",
        "- loose tile",
        "Between the lists.",
        "1. repair",
        "1. paint",
        [["Room", "Cost"], ["Cellar", "1,200"], ["Roof | eaves", "300"]],
        "Last paragraph.",
    ]
    assert text_of(documents.docx(blocks), tmp_path) == (
        "# Survey\n\nFirst paragraph.\n\n## Findings\n\n- damp cellar\n- loose tile\n\nBetween the lists.\n\n"
        "1. repair\n2. paint\n"
        "| Room | Cost |\n| --- | --- |\n| Cellar | 1,200 |\n| Roof / eaves | 300 |\n\nLast paragraph."
    )


def test_headers_and_footers_are_told_once(tmp_path: Path) -> None:
    text = text_of(documents.docx(["Text"], header="Harbour Office", footer="Confidential"), tmp_path)
    assert text == "Header: Harbour Office\n\nText\n\n\nFooter: Confidential"


def test_page_breaks_end_pages(tmp_path: Path) -> None:
    found = read(documents.docx(["One", "---", "Two", "---", "Three"]), tmp_path)
    assert [page.text for page in found] == ["One", "Two", "Three"]
    assert [page.text for page in read(documents.docx(["One", "---", "Two"]), tmp_path, first_page=2)] == ["Two"]


def test_breaks_of_every_kind(tmp_path: Path) -> None:
    found = read(
        body(
            paragraph("one")
            + "<w:p><w:r><w:lastRenderedPageBreak/><w:t>two</w:t></w:r></w:p>"
            + paragraph("three", "<w:pageBreakBefore/>")
            + paragraph("still three", '<w:pageBreakBefore w:val="0"/>')
            + paragraph("end of section", '<w:sectPr><w:type w:val="continuous"/></w:sectPr>')
            + paragraph("end of page", "<w:sectPr/>")
            + paragraph("four")
        ),
        tmp_path,
    )
    assert [page.text.split("\n\n") for page in found] == [
        ["one"],
        ["two"],
        ["three", "still three", "end of section", "end of page"],
        ["four"],
    ]


def test_long_documents_without_breaks_are_cut_at_paragraphs(tmp_path: Path) -> None:
    found = read(documents.docx([f"Clause {number}. " + "Whereas. " * 60 for number in range(30)]), tmp_path)
    assert len(found) > 3
    assert all(page.text.startswith("Clause ") for page in found)


def test_numbers_that_word_makes_are_told(tmp_path: Path) -> None:
    document = docx.Document()
    levels = "".join(
        f'<w:lvl w:ilvl="{level}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{pattern}"/></w:lvl>'
        for level, (kind, pattern) in enumerate(
            [("decimal", "%1."), ("decimal", "%1.%2"), ("lowerLetter", "%3)"), ("upperRoman", "%4.")]
        )
    )
    numbering = document.part.numbering_part.element
    numbering.insert(0, parse_xml(f'<w:abstractNum {W} w:abstractNumId="90">{levels}</w:abstractNum>'))
    numbering.append(parse_xml(f'<w:num {W} w:numId="90"><w:abstractNumId w:val="90"/></w:num>'))

    def clause(text: str, depth: int, style: str | None = None) -> None:
        properties = document.add_paragraph(text, style)._p.get_or_add_pPr()
        properties.append(parse_xml(f'<w:numPr {W}><w:ilvl w:val="{depth}"/><w:numId w:val="90"/></w:numPr>'))

    clause("Term", 0, "Heading 1")
    clause("Begins in May", 1)
    clause("Ends in April", 1)
    clause("unless extended", 2)
    clause("or ended early", 2)
    clause("for cause", 3)
    clause("Rent", 0, "Heading 1")
    clause("Due monthly", 1)
    out = io.BytesIO()
    document.save(out)
    assert text_of(out.getvalue(), tmp_path) == (
        "# 1. Term\n\n  1.1 Begins in May\n  1.2 Ends in April\n    a) unless extended\n    b) or ended early\n"
        "      I. for cause\n\n# 2. Rent\n\n  2.1 Due monthly"
    )


def test_what_is_wrapped_is_found_and_what_was_deleted_is_not(tmp_path: Path) -> None:
    text = text_of(
        body(
            f"<w:sdt><w:sdtPr/><w:sdtContent>{paragraph('in a content control')}</w:sdtContent></w:sdt>"
            f"<w:p><w:ins>{run('inserted ')}</w:ins><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
            f"<w:hyperlink>{run('a link')}</w:hyperlink><w:smartTag>{run(' tagged')}</w:smartTag></w:p>"
            "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r></w:p>"
            '<w:p><w:r><w:fldChar w:fldCharType="begin"/><w:instrText>PAGE</w:instrText></w:r></w:p>'
            f"<w:p><mc:AlternateContent><mc:Choice Requires='wps'><w:r><w:drawing><wps:txbx><w:txbxContent>"
            f"{paragraph('in a text box')}</w:txbxContent></wps:txbx></w:drawing></w:r></mc:Choice>"
            f"<mc:Fallback><w:r><w:pict>{paragraph('in a text box')}</w:pict></w:r></mc:Fallback>"
            "</mc:AlternateContent></w:p>"
            "<w:p><m:oMath><m:r><m:t>E=mc²</m:t></m:r></m:oMath></w:p>"
        ),
        tmp_path,
    )
    assert text.split("\n\n") == [
        "in a content control",
        "inserted a link tagged",
        "a\tb\nc-d",
        "in a text box",
        "E=mc²",
    ]


def test_tables_within_tables_and_merged_cells(tmp_path: Path) -> None:
    def cell(content: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{content}</w:tc>"

    wide, tall, same = '<w:gridSpan w:val="2"/>', '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    row = f"<w:tr>{cell(paragraph('x'))}{cell(paragraph('y'))}</w:tr>"
    inner = f"<w:tbl>{row}{row}</w:tbl>"
    text = text_of(
        body(
            "<w:tbl>"
            f"<w:tr>{cell(paragraph('wide'), wide)}{cell(paragraph('C'))}</w:tr>"
            f"<w:tr>{cell(paragraph('tall'), tall)}{cell(paragraph('1') + paragraph('2'))}{cell(inner)}</w:tr>"
            f"<w:tr>{cell(paragraph('hidden'), same)}{cell(paragraph('3'))}{cell(paragraph('4'))}</w:tr>"
            f'<w:tr><w:trPr><w:gridBefore w:val="2"/></w:trPr>{cell(paragraph("indented"))}</w:tr>'
            "</w:tbl>"
        ),
        tmp_path,
    )
    assert text.splitlines() == [
        "| wide |  | C |",
        "| --- | --- | --- |",
        "| tall | 1 2 | x / y; x / y |",
        "|  | 3 | 4 |",
        "|  |  | indented |",
    ]


def test_a_hostile_span_does_not_widen_the_table_without_end(tmp_path: Path) -> None:
    row = f'<w:tr><w:tc><w:tcPr><w:gridSpan w:val="999999999"/></w:tcPr>{paragraph("x")}</w:tc></w:tr>'
    assert len(text_of(body(f"<w:tbl>{row}</w:tbl>"), tmp_path)) < 2000


def with_part(archive: bytes, kind: str, xml: str) -> bytes:
    """A Word file with another part that its body refers to."""
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        relations = files.read("word/_rels/document.xml.rels").decode()
    source = f"http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}"
    relation = f'<Relationship Id="rId99" Type="{source}" Target="{kind}.xml"/></Relationships>'
    return documents.repacked(
        archive,
        {
            "word/_rels/document.xml.rels": relations.replace("</Relationships>", relation).encode(),
            f"word/{kind}.xml": xml.encode(),
        },
    )


@pytest.mark.parametrize("kind", ["footnote", "endnote"])
def test_notes_follow_their_paragraph(kind: str, tmp_path: Path) -> None:
    archive = body(
        f'<w:p><w:r><w:t>The deposit</w:t></w:r><w:r><w:{kind}Reference w:id="2"/></w:r></w:p>' + paragraph("Next.")
    )
    notes = (
        f'<w:{kind}s {W}><w:{kind} w:id="0">{paragraph("separator")}</w:{kind}>'
        f'<w:{kind} w:id="2">{paragraph("Two months rent.")}</w:{kind}></w:{kind}s>'
    )
    data = with_part(archive, f"{kind}s", notes)
    assert text_of(data, tmp_path) == "The deposit[^2]\n\n[^2]: Two months rent.\n\nNext."


def test_comments_follow_what_they_are_on(tmp_path: Path) -> None:
    on = '<w:commentRangeStart w:id="7"/>' + run("80 euros") + '<w:commentRangeEnd w:id="7"/>'
    mark = '<w:r><w:commentReference w:id="7"/></w:r>'
    cell = f"<w:tc><w:tcPr/><w:p>{on}{mark}</w:p></w:tc>"
    comments = (
        f'<w:comments {W}><w:comment w:id="7" w:author="The tenant">{paragraph("Too")}{paragraph("much.")}</w:comment>'
        "</w:comments>"
    )
    archive = body(f"<w:p>{run('The rent is ')}{on}{mark}{run(' a month.')}</w:p>{paragraph('Next.')}")
    assert text_of(with_part(archive, "comments", comments), tmp_path) == (
        "The rent is 80 euros a month.\n\n[Comment by The tenant: Too much.]\n\nNext."
    )
    archive = body(f"<w:tbl><w:tr>{cell}</w:tr></w:tbl>")
    assert text_of(with_part(archive, "comments", comments), tmp_path).splitlines() == [
        "| 80 euros [Comment by The tenant: Too much.] |",
        "| --- |",
    ]


def test_boxes_that_were_ticked_are_told(tmp_path: Path) -> None:
    def sign(code: str) -> str:
        return f'<w:r><w:sym w:font="Wingdings" w:char="{code}"/></w:r>'

    def box(inner: str) -> str:
        data = f"<w:ffData><w:checkBox>{inner}</w:checkBox></w:ffData>"
        return f'<w:r><w:fldChar w:fldCharType="begin">{data}</w:fldChar></w:r>'

    entries = {
        " heated": sign("F0FE"),
        " furnished": sign("F0A8"),
        " cellar": box("<w:checked/>"),
        " garage": box('<w:default w:val="0"/>'),
        " garden": box('<w:default w:val="1"/><w:checked w:val="0"/>'),
    }
    text = text_of(body("".join(f"<w:p>{mark}{run(text)}</w:p>" for text, mark in entries.items())), tmp_path)
    assert text.split("\n\n") == ["☑ heated", "☐ furnished", "☒ cellar", "☐ garage", "☐ garden"]


def test_lists_within_lists_of_bullets(tmp_path: Path) -> None:
    document = docx.Document()
    for depth, text in [(0, "walls"), (1, "north"), (1, "south"), (2, "window"), (0, "roof")]:
        properties = document.add_paragraph(text, "List Bullet")._p.get_or_add_pPr()
        properties.append(parse_xml(f'<w:numPr {W}><w:ilvl w:val="{depth}"/></w:numPr>'))
    out = io.BytesIO()
    document.save(out)
    assert text_of(out.getvalue(), tmp_path) == "- walls\n  - north\n  - south\n    - window\n- roof"


def test_text_boxes_and_pictures_stand_where_they_were_put(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_paragraph("Before.")
    table = document.add_table(1, 2)
    table.cell(0, 0).text = "Plan"
    plan = io.BytesIO(documents.encoded(Image.new("RGB", (90, 60), "red")))
    table.cell(0, 1).paragraphs[0].add_run().add_picture(plan)
    vml = 'xmlns:v="urn:schemas-microsoft-com:vml"'
    boxed = f"<w:txbxContent>{paragraph('in the box')}</w:txbxContent>"
    document.add_paragraph("Beside ")._p.append(
        parse_xml(f"<w:r {W}><w:pict {vml}><v:shape><v:textbox>{boxed}</v:textbox></v:shape></w:pict></w:r>")
    )
    document.add_paragraph("After.")
    out = io.BytesIO()
    document.save(out)
    text, picture = read(out.getvalue(), tmp_path)
    assert re.sub(r"Picture 1[^\]]*", "Picture 1", text.text).split("\n") == [
        "Before.",
        "",
        "| Plan | [Picture 1] |",
        "| --- | --- |",
        "",
        "Beside ",
        "in the box",
        "",
        "After.",
    ]
    assert picture.source is PageSource.PICTURE


def test_pictures_are_pages_after_the_one_they_stand_on(tmp_path: Path) -> None:
    plan, logo = Image.new("RGB", (300, 200), "red"), Image.new("RGB", (10, 10), "blue")
    found = read(documents.docx(["Plan:", plan, logo, "After.", plan, "---", "End"]), tmp_path)
    assert [page.source for page in found] == [PageSource.TEXT, PageSource.PICTURE, PageSource.TEXT]
    assert found[0].text.count("[Picture 1") == 2  # The same picture again; the ornament is left out.
    assert "Picture 2" not in found[0].text
    assert found[1].picture is not None
    assert found[1].picture.size == (300, 200)
    assert "Picture 1" in found[1].page.reason


@pytest.mark.parametrize("gap", ["word ", "x"])
@pytest.mark.parametrize("title", ["", "a plan of the ground floor"])
def test_a_page_never_ends_within_the_name_of_a_picture(gap: str, title: str, tmp_path: Path) -> None:
    for length in range(PAGE_CHARACTERS - 45, PAGE_CHARACTERS + 2):
        document = docx.Document()
        line = document.add_paragraph()
        line.add_run((gap * length)[: length - 1] + " ")
        line.add_run().add_picture(io.BytesIO(documents.encoded(Image.new("RGB", (60, 60), "red"))))
        line.add_run((" " + gap) * PAGE_CHARACTERS)
        document.element.body.find(".//" + qn("wp:docPr")).set("descr", title)
        out = io.BytesIO()
        document.save(out)
        found = read(out.getvalue(), tmp_path)
        [at] = [at for at, page in enumerate(found) if page.source is PageSource.PICTURE]
        assert f"[Picture 1{': ' if title else ''}{title}]" in found[at - 1].text, length


def test_a_picture_that_no_text_names_comes_last(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(1, MAX_COLUMNS + 1)
    picture = io.BytesIO(documents.encoded(Image.new("RGB", (60, 60), "red")))
    table.cell(0, MAX_COLUMNS).paragraphs[0].add_run().add_picture(picture)
    document.add_paragraph("The end.")
    out = io.BytesIO()
    document.save(out)
    text, last = read(out.getvalue(), tmp_path)
    assert text.text.endswith("The end.")
    assert (last.source, last.page.reason) == (PageSource.PICTURE, "Picture 1 of the document.")
    assert [page.page for page in read(out.getvalue(), tmp_path, first_page=2)] == [last.page]


def test_where_text_alone_is_asked_for_pictures_are_named_as_unread(tmp_path: Path) -> None:
    data = documents.docx(["Plan:", Image.new("RGB", (300, 200), "red")])
    found = read_document(data, MediaType.DOCX, tmp_path, detail=Detail.TEXT)
    assert [page.source for page in found] == [PageSource.TEXT, PageSource.NONE]
    assert "text alone" in found[1].page.reason


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    data = documents.docx(["Drawing:", Image.new("RGB", (300, 200), "red")])
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        [name] = [name for name in files.namelist() if name.startswith("word/media/")]
    broken = documents.repacked(data, {name: b"\x01\0\0\0 EMF" + bytes(100)})
    found = read(broken, tmp_path)
    assert [page.source for page in found] == [PageSource.TEXT, PageSource.NONE]
    assert "cannot be decoded" in found[1].page.reason


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    drawing = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    chart = '<a:graphicData uri="http://schemas.openxmlformats.org/drawingml/2006/chart"/>'
    text = text_of(body(f"<w:p><w:r><w:drawing {drawing}>{chart}</w:drawing></w:r></w:p><w:altChunk/>"), tmp_path)
    assert text.split("\n\n") == [
        "[A chart that is not shown here.]",
        "[A part of the document in another format, which is not read.]",
    ]


def test_an_empty_document_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="empty"):
        read(documents.docx([]), tmp_path)


@pytest.mark.parametrize("levels", [2, 9])
def test_entities_are_refused(levels: int, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="entities" if levels == 2 else "damaged|entities"):
        read(documents.entities_docx(levels), tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        documents.repacked(documents.docx(["x"]), {"word/document.xml": b"<w:document"}),
        documents.repacked(documents.docx(["x"]), {"word/document.xml": b""}),
        documents.repacked(documents.docx(["x"]), {"word/styles.xml": b"no xml"}),
        documents.docx(["x"])[:-1000],
        b"PK\x03\x04" + bytes(100),
        b"",
    ],
)
def test_damaged_files_are_an_error(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DocumentError):
        read(data, tmp_path)


def test_deep_nesting_is_an_error_or_read(tmp_path: Path) -> None:
    deep = "<w:ins>" * 200 + run("deep") + "</w:ins>" * 200
    assert text_of(body(f"<w:p>{deep}</w:p>"), tmp_path) == "deep"
    with pytest.raises(DocumentError):
        read(body("<w:p>" + "<w:ins>" * 5000 + run("x") + "</w:ins>" * 5000 + "</w:p>"), tmp_path)
