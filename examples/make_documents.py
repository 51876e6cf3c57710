"""Makes the documents of this folder: a lease as PDF, an invoice as it comes from a scanner, minutes as a Word file.

They are kept beside this script; run it after a change to it. Every company, place and figure in them is made up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import docx
from pdfminer.fontmetrics import FONT_METRICS
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).parent

LEASE = """\
# Lease of Workshop Premises
between Kestrel Wharf Estates, as landlord, and Copperfield Bicycle Works, as tenant.

This lease is made for the ground floor of the former ropery at 14 Tannery Lane. It replaces all earlier agreements on \
the same premises, and changes to it must be made in writing.

## 1. The premises
1.1 The premises consist of a workshop of 184 square metres, an office of 22 square metres, two storage rooms in the \
cellar, and the loading ramp on the north side of the building.

1.2 The tenant may use the courtyard for deliveries between 6:00 and 20:00. Vehicles of more than 7.5 tonnes may not \
enter the courtyard, since the vault beneath it does not bear them.

1.3 The tenant receives six keys to the main door and two keys to the loading ramp. The loss of a key is reported to \
the landlord within one day.

## 2. Use
2.1 The premises are let for the repair, building and sale of bicycles. Any other trade needs the landlord's consent.

2.2 Work that can be heard outside the building is done on weekdays between 7:00 and 19:00.

2.3 Paint and solvents are kept in the fire-proof cabinet of the north storage room, never in the workshop itself.
---
## 3. Term and notice
3.1 The lease begins on 1 March 2026 and runs for five years, until 28 February 2031.

3.2 It is extended by two years at a time unless one side gives notice of six months before the end of a term.

3.3 Either side may end the lease at once for good cause, in particular if the rent has not been paid for two months \
in a row, or if the premises cannot be used for more than thirty days.

3.4 The tenant has the right of first refusal should the landlord sell the ground floor separately. The right lapses \
if it is not used within eight weeks of the landlord's written offer.

## 4. Rent
4.1 The monthly rent is 2,150 euros plus value added tax. It is due on the third working day of each month.

4.2 The rent follows the consumer price index once a year, on 1 March, for the first time in 2027. An increase of more \
than four percent in one year is spread over two years.

4.3 For the first two months no rent is due, because the tenant renews the floor of the workshop at its own expense.
---
## 5. Deposit
5.1 The tenant pays a deposit of 6,450 euros, which is three months' rent, before the keys are handed over.

5.2 The landlord keeps the deposit in an account of its own and returns it with interest within three months of the \
end of the lease, less any sum that the tenant still owes.

## 6. Running costs
6.1 The tenant pays 310 euros a month in advance for heating, water, sewage, waste, chimney sweep and insurance of the \
building. The landlord sends the yearly statement by the end of June.

6.2 Electricity is metered separately and contracted by the tenant. The meter carries the number 4471-0926.

6.3 Heating is provided from 1 October to 30 April at no less than 19 degrees in the office and 16 degrees in the \
workshop during working hours.

6.4 Objections to a yearly statement are raised within twelve months of its receipt.
---
## 7. Upkeep and repairs
7.1 The landlord keeps the roof, the outer walls, the windows, the lift and the heating system in repair.

7.2 The tenant bears minor repairs of up to 180 euros each, and no more than 900 euros in one year.

7.3 The lift is inspected every two years, next in September 2027. The tenant makes room for the inspection after \
notice of one week.

7.4 Damage by water is reported at once by telephone and within two days in writing, with pictures where possible.

## 8. Alterations
8.1 The tenant may put up shelves and benches that can be removed without a trace. Walls, ceilings and pipes are \
altered only with the landlord's written consent.

8.2 The sign above the main door may be up to 3.2 metres wide and 60 centimetres high and must not be lit after 22:00.
---
## 9. Insurance and liability
9.1 The tenant insures itself against claims of third parties for at least 3 million euros and shows proof of it every \
January.

9.2 The landlord insures the building against fire, storm and burst pipes. The tenant's goods are not covered.

9.3 Customers' bicycles in the workshop are in the tenant's care; the landlord is not liable for their theft.

## 10. Subletting
10.1 The tenant may sublet one of the two storage rooms without asking. Subletting any other part needs consent, \
which the landlord may withhold only for good reason.

## 11. End of the lease
11.1 The tenant returns the premises cleaned, with all keys, and with the walls painted white. The new floor of the \
workshop stays and is not paid for.

11.2 Both sides walk through the premises together and sign a record of their state.
---
# Annex: handover record of 27 February 2026
The record was taken by both sides in daylight, with the heating running.

Main door: sound; lock replaced in January 2026. Loading ramp: hinge on the left leaf worn, to be replaced by the \
landlord before 15 March 2026.

Workshop: floor of 1962, cracked along the east wall, to be renewed by the tenant. Four windows, one pane cracked.

Office: walls painted, radiator tested, telephone socket in working order. Cellar: dry; the sump pump was tested.

Readings on the day: electricity 30,412 kilowatt hours; water 1,187 cubic metres; heating 8,905 units.

Keys handed over: six for the main door, two for the loading ramp, one for the cellar.

For Kestrel Wharf Estates: the estate office. For Copperfield Bicycle Works: the workshop management.
"""

INVOICE = """\
ALDERBROOK PRINTING
8 Mill Rise, Alderbrook


To: Fernhill Community Library
2 Orchard Square, Fernhill


INVOICE No. 2026-0417                 Date: 9 April 2026


Reading cards, 2,000 pieces                       460.00
Posters for the summer programme, 150 pieces      322.50
Leaflets, folded, 5,000 pieces                    395.00
Delivery on 2 April                                38.00

Sum                                             1,215.50
Value added tax, 7 percent                         85.09

Total amount due: 1,300.59 euros


Please pay within 14 days, by 23 April 2026, to account
number 3009 4471 22 and give the number of the invoice.

For payment within 7 days we grant a discount of
2 percent.

Thank you for your order. Spoiled posters are replaced
free of charge until the end of May.
"""

MINUTES = [
    ("Title", "Minutes of the Riverside Allotment Association"),
    ("", "Meeting of the board on 12 May 2026 in the tool shed, from 18:30 to 20:10. Five of seven seats were filled."),
    ("Heading 1", "Responsibilities"),
    ("", "The finance committee is responsible for the budget. It reports to the board every quarter, next in July."),
    ("", "The grounds committee is responsible for paths, fences and the well."),
    ("Heading 1", "Decisions"),
    ("List Number", "The yearly fee rises from 140 to 155 euros for a plot of 200 square metres, from January 2027."),
    ("List Number", "The well is dug out to a depth of 11 metres. The cheaper of two offers, 4,380 euros, is taken."),
    ("List Number", "Bonfires are forbidden from 1 June to 30 September."),
    ("Heading 1", "Accounts"),
    ("", "Income and spending of the first four months, in euros:"),
    (
        "table",
        [
            ("Item", "Planned", "Actual"),
            ("Fees", "9,800", "9,240"),
            ("Sale of seedlings", "600", "745"),
            ("Water", "1,100", "1,310"),
            ("Repairs", "800", "215"),
        ],
    ),
    ("", "Water cost more than planned because the main valve leaked until March. It has been replaced."),
    ("Heading 1", "Open points"),
    ("List Bullet", "Plots 17 and 31 have been empty since autumn; the waiting list has 22 names."),
    ("List Bullet", "The bee-keepers ask for three more places along the south hedge."),
    ("List Bullet", "The next meeting is on 14 July 2026 at 18:30."),
]


def main() -> None:
    """Write all three."""
    (HERE / "lease.pdf").write_bytes(lease())
    scan(INVOICE).save(HERE / "invoice.pdf", "PDF", resolution=200, quality=70)
    minutes().save(str(HERE / "minutes.docx"))


# -- the lease: text in the fonts that every reader has ---------------------------------------------------------------
def lease() -> bytes:
    """Six pages of A4."""
    pages = LEASE.split("---\n")
    contents = [_page(text, f"Lease of Workshop Premises, page {n} of {len(pages)}") for n, text in enumerate(pages, 1)]
    kids = " ".join(f"{5 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
    ]
    for n, content in enumerate(contents):
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {6 + 2 * n} 0 R "
            "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>".encode(),
            f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream",
        ]
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for n, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{n} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"trailer\n<< /Size {len(offsets) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return bytes(out) + f"xref\n0 {len(offsets) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def _page(text: str, footer: str) -> bytes:
    """The content of one page: headings, paragraphs, and a line at its foot."""
    top, out = 770.0, []
    for paragraph in filter(None, text.split("\n")):
        marks, _, words = paragraph.rpartition("# ")
        font, size = ("Helvetica-Bold", 16 - 3 * len(marks)) if paragraph.startswith("#") else ("Helvetica", 10.5)
        top -= 10 if paragraph.startswith("#") else 0
        for line in _lines(words, font, size):
            out.append(_line(line, font, size, top))
            top -= size * 1.4
        top -= 7
    return "\n".join([*out, _line(footer, "Helvetica", 8, 40)]).encode("cp1252")


def _line(text: str, font: str, size: float, top: float) -> str:
    shown = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{'F2' if font.endswith('Bold') else 'F1'} {size} Tf 72 {top:.1f} Td ({shown}) Tj ET"


def _lines(text: str, font: str, size: float, width: float = 451) -> Iterator[str]:
    """Words as lines of a width in points."""
    widths = FONT_METRICS[font][1]
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if sum(widths.get(letter, 556) for letter in longer) * size / 1000 > width:
            yield line
            longer = word
        line = longer
    yield line


# -- the invoice: paper that went through a scanner -------------------------------------------------------------------
def scan(text: str) -> Image.Image:
    """A4 at 200 dots an inch, laid on the glass a little askew, with the dust and blur of a real machine."""
    paper = Image.new("L", (1654, 2339), 248)
    draw = ImageDraw.Draw(paper)
    font = ImageFont.load_default(34)
    top = 220
    for line in text.split("\n"):
        label, gap, amount = line.partition("    ")
        draw.text((190, top), label, fill=25, font=font)
        if gap:
            draw.text((1450, top), amount.strip(), fill=25, font=font, anchor="ra")
        top += 56
    noise = Image.effect_noise(paper.size, 18).point(lambda value: min(255, value + 118))
    paper = Image.blend(paper.rotate(0.8, Image.Resampling.BICUBIC, fillcolor=248), noise, 0.15)
    dust = ImageDraw.Draw(paper)
    source = random.Random(7)
    for _ in range(140):
        x, y = source.randrange(paper.width), source.randrange(paper.height)
        dust.point((x, y), fill=source.randrange(60, 160))
    return paper.filter(ImageFilter.GaussianBlur(0.6))


# -- the minutes ------------------------------------------------------------------------------------------------------
def minutes() -> docx.document.Document:
    """Headings, lists and a table."""
    document = docx.Document()
    document.core_properties.title = "Minutes"
    document.core_properties.author = "docv2"
    document.sections[0].header.paragraphs[0].text = "Riverside Allotment Association"
    document.sections[0].footer.paragraphs[0].text = "To be confirmed at the next meeting"
    for style, content in MINUTES:
        if isinstance(content, str):
            document.add_paragraph(content, style or None)
        else:
            table = document.add_table(0, len(content[0]), "Table Grid")
            for row in content:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
    return document


if __name__ == "__main__":
    main()
