"""Documents whose answers are known, to try the embedded reader on, and pictures of them as a scanner makes them."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont

MARK = "0123456789abcdef"


@dataclass(frozen=True)
class Sample:
    """A document, questions with a word of the right passage, and questions that it does not answer."""

    name: str
    pages: Sequence[str]
    answered: dict[str, str]
    unanswered: Sequence[str]


INVOICE = Sample(
    "invoice",
    [
        """Northwind Paper Supplies Ltd
14 Harbour Street, Bristol BS1 4RT
INVOICE
Invoice number INV-2024-0187
Invoice date 12 March 2024
Due date 11 April 2024
Customer Greenfield Academy
Purchase order PO-7741

Description Quantity Unit price Amount
Copy paper A4 80 g 120 3.95 474.00
Laser toner black 6 64.50 387.00
Delivery 1 18.00 18.00

Subtotal 879.00
VAT 20 % 175.80
Total due EUR 1,054.80

Payment within 30 days by bank transfer to IBAN GB29 NWBK 6016 1331 9268 19.
Late payments bear interest of 8 % a year. Goods remain our property until paid in full.
Questions: accounts@northwind-paper.example, telephone 0117 496 0000.
"""
    ],
    {
        "What is the invoice number?": "INV-2024-0187",
        "When is the invoice due?": "11 April 2024",
        "What is the total amount due?": "1,054.80",
        "Who is the customer?": "Greenfield Academy",
        "How much VAT is charged?": "175.80",
        "What is the unit price of the laser toner?": "64.50",
        "How many packs of copy paper were ordered?": "120",
        "What does delivery cost?": "18.00",
        "Which bank account (IBAN) should be used for payment?": "GB29 NWBK",
        "What interest is charged on late payments?": "8 %",
        "What is the supplier's telephone number?": "0117 496 0000",
        "What is the purchase order number?": "PO-7741",
        "On what date was the invoice issued?": "12 March 2024",
        "What is the subtotal before tax?": "879.00",
    },
    [
        "What is the name of the chief executive?",
        "Which shipping company carried the goods?",
        "What warranty do the printers have?",
        "What is the fax number of the supplier?",
        "What discount applies to early settlement?",
    ],
)

LEASE = Sample(
    "lease",
    [
        """RESIDENTIAL LEASE AGREEMENT

This lease is made on 3 January 2023 between Margaret Hollis (the landlord) and Daniel
Okafor (the tenant).

1. Premises
The landlord lets to the tenant the flat on the second floor of 27 Wharf Lane, Leeds,
with the cellar room and one parking space in the yard.

2. Term
The lease begins on 1 February 2023 and runs for twenty-four months. It is then renewed
from year to year unless either party gives notice.

3. Rent
The tenant shall pay a monthly rent of 1,150 pounds, in advance, on the first working
day of each month. Heating and water are not included and are settled once a year.
""",
        """4. Deposit
A deposit of 2,300 pounds is paid before the keys are handed over. It is returned within
six weeks of the end of the lease, less the cost of damage that goes beyond fair wear
and tear.

5. Pets
No dog may be kept on the premises. Other animals need the written consent of the
landlord, which may be withdrawn.

6. Repairs
The landlord keeps the roof, the outer walls and the boiler in repair. The tenant bears
small repairs up to 75 pounds in each case.

7. Termination
Either party may end the lease after its term with three months' written notice to the
end of a quarter. The landlord may end it at once if the rent is more than two months in
arrears.

8. Subletting
The tenant may not sublet the flat or any part of it without written permission.
""",
    ],
    {
        "Who is the landlord?": "Margaret Hollis",
        "How high is the monthly rent?": "1,150",
        "When does the lease begin?": "1 February 2023",
        "How much is the deposit?": "2,300",
        "When is the deposit returned?": "six weeks",
        "Are dogs allowed?": "No dog",
        "What notice period applies to terminate the lease?": "three months",
        "Who pays for small repairs?": "75 pounds",
        "Is the tenant allowed to sublet?": "may not sublet",
        "Is heating included in the rent?": "not included",
        "Where is the flat?": "27 Wharf Lane",
        "Who repairs the boiler?": "landlord keeps the roof",
        "How long does the lease run?": "twenty-four months",
        "When is the rent to be paid?": "first working day",
    },
    [
        "Who insures the building against fire?",
        "What is the landlord's bank account?",
        "May the tenant smoke on the balcony?",
        "How much is the broadband subscription?",
        "Which court has jurisdiction over disputes?",
    ],
)

REPORT = Sample(
    "report",
    [
        """Annual Report of the Valley Water Board 2023

Summary
The board met nine times during the year. It supplied 61,400 households and lost 11
percent of its water to leaks, two points less than in the year before. The northern dam
was inspected in May and must be repaired before the winter of 2025.

Rainfall and reservoirs
Rainfall was below the average in every month except October. The level of Lake Arden
fell by four metres, and the emergency pumps ran for eleven weeks. No household was cut
off.

Staff
The board employs 148 people, of whom 23 are apprentices. Helen Marsh succeeded Peter
Dunn as chief engineer on 1 September.
""",
        """Finances in million euros

Item 2022 2023
Income from charges 41.2 43.9
Grants 3.1 2.4
Operating costs 33.0 35.8
Investment in pipes 7.5 9.2
Debt at year end 52.4 50.1

The charge for a cubic metre rose from 1.82 to 1.94 euros in April. The auditors Brandt
and Lowe raised no objections. The board will spend 14 million euros on the northern dam
in the next two years, half of it from the regional fund.

Outlook
A second pumping station at Kell Bridge is to open in 2026. Customers will be able to
read their meters online from next summer.
""",
    ],
    {
        "How many households are supplied?": "61,400",
        "How much water is lost to leaks?": "11 percent",
        "By how much did the level of Lake Arden fall?": "four metres",
        "Who is the chief engineer?": "Helen Marsh",
        "How many apprentices are there?": "23",
        "What were the operating costs in 2023?": "35.8",
        "What was the debt at the end of the year?": "50.1",
        "How much was invested in pipes?": "9.2",
        "Who are the auditors?": "Brandt and Lowe",
        "What is the charge for a cubic metre of water?": "1.94",
        "When does the pumping station at Kell Bridge open?": "2026",
        "When must the northern dam be repaired?": "2025",
        "How often did the board meet?": "nine times",
        "How long did the emergency pumps run?": "eleven weeks",
        "What will be spent on the dam?": "14 million",
    },
    [
        "What is the chairman's salary?",
        "How many accidents happened at work?",
        "Which software is used for billing?",
        "What is the pH value of the drinking water?",
        "When was the company founded?",
    ],
)

POLICY = Sample(
    "policy",
    [
        """HOUSEHOLD INSURANCE POLICY
Policy no. HX 552 901
Insured: Ruth Adeyemi, 8 Mill Road, Norwich
Period of cover: 1 July 2024 to 30 June 2025
Annual premium: 312.40 pounds including insurance tax

What is covered
Household goods are covered against fire, burst pipes, storm and burglary up to 60,000
pounds. Bicycles are covered up to 900 pounds each if they were locked. Jewellery and
cash are covered up to 2,500 pounds, in a safe up to 10,000 pounds.

What is not covered
Damage by war, nuclear energy or intent is excluded. Flooding by groundwater is not
insured. Theft from an unlocked room is not burglary.
""",
        """Your duties
Report every claim within seven days by telephone on 01603 555 0142 or at claims@hearth-
mutual.example. Burglary must also be reported to the police at once. Keep damaged
things until an assessor has seen them.

Excess
You bear the first 150 pounds of each claim. For storm damage it is 400 pounds.

Cancellation
Either side may cancel the policy one month before the end of the period of cover. After
a claim both may cancel within four weeks of the payment.
""",
    ],
    {
        "What is the policy number?": "552 901",
        "Who is the insured person?": "Ruth Adeyemi",
        "How much is the yearly premium?": "312.40",
        "When does the cover end?": "30 June 2025",
        "Up to what amount are bicycles insured?": "900",
        "Is flooding by groundwater covered?": "not insured",
        "Within how many days must a claim be reported?": "seven days",
        "What is the excess for storm damage?": "400",
        "What e-mail address should claims be sent to?": "claims@hearth",
        "How can the policy be cancelled?": "one month before",
        "How much jewellery is covered in a safe?": "10,000",
        "What must be done after a burglary?": "police",
    },
    [
        "What is the no-claims bonus?",
        "Does the policy cover pets?",
        "Which broker sold the contract?",
        "Is legal advice included?",
        "What is the interest rate of the loan?",
        "Who is the beneficiary of the life insurance?",
    ],
)

MINUTES = Sample(
    "minutes",
    [
        """MINUTES
Garden Club of Eastfield, committee meeting
Date: Tuesday 14 May 2024, 19:30 to 21:05
Place: Library, room 2
Present: Anna Lindqvist (chair), Tom Reyes (treasurer), Priya Nair (secretary), George Bell
Apologies: Mo Farouk

1. Accounts
Tom reported a balance of 4,218 pounds, 310 more than a year ago. The tool shed fund
stands at 1,050 pounds. The accounts were approved unanimously.

2. Summer fair
The fair takes place on 22 June in the church yard. Priya books the band; the fee must
not exceed 250 pounds. George will borrow twenty tables from the school.
""",
        """3. Water
The council raised the water charge to 3.10 pounds a cubic metre from July. Two rain
barrels will be bought for each of the 36 plots.

4. New members
Seven applications were received and five accepted. The waiting list now has eleven
names. The membership fee stays at 48 pounds.

5. Any other business
A fox has been seen near the compost heap. Dogs are to be kept on a lead.

Next meeting: 9 July 2024, 19:30
""",
    ],
    {
        "Where did the meeting take place?": "Library",
        "Who is the treasurer?": "Tom Reyes",
        "Who sent apologies?": "Mo Farouk",
        "What is the balance of the accounts?": "4,218",
        "When is the summer fair?": "22 June",
        "Who will book the band?": "Priya",
        "How many tables are to be borrowed?": "twenty",
        "What does water cost from July?": "3.10",
        "How many plots does the garden have?": "36",
        "How many applications were accepted?": "five accepted",
        "What is the membership fee?": "48",
        "When is the next meeting?": "9 July",
        "How long is the waiting list?": "eleven",
    },
    [
        "Who was elected president of the federation?",
        "What is the club's bank account number?",
        "Which pesticide was recommended?",
        "How high is the electricity bill?",
        "When will the greenhouse be painted?",
        "What did the lawyer advise?",
    ],
)


# -- messages ---------------------------------------------------------------------------------------------------------
def block(label: str, text: str) -> str:
    return f"=== {label} {MARK} ===\n{text}\n=== end {MARK} ==="


def messages(prompt: str, pages: Sequence[str | bytes]) -> list[dict[str, Any]]:
    """A prompt and pages, as text or as the bytes of a picture, in the form that docv2 sends."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": block("request", prompt)}]
    for number, page in enumerate(pages, 1):
        if isinstance(page, str):
            parts.append({"type": "text", "text": block(f"page {number}", page)})
        else:
            url = "data:image/png;base64," + base64.b64encode(page).decode()
            parts.append({"type": "text", "text": f"=== picture of page {number} {MARK} ==="})
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return [{"role": "system", "content": "Answer."}, {"role": "user", "content": parts}]


# -- pictures ---------------------------------------------------------------------------------------------------------
def picture(page: str, columns: Sequence[str] = ()) -> Image.Image:
    """A page of print at 150 dpi. Lines that begin with one of `columns` are set in cells: the last words, one each."""
    sheet = Image.new("L", (1240, 1754), 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(24)
    for row, line in enumerate(page.splitlines()):
        cells = [line]
        for start in columns:
            if line.startswith(start):
                cells = [start, *line.removeprefix(start).split(" ")[1:]]
        lefts = [100, *range(1120 - 170 * (len(cells) - 1), 1120, 170)]
        for left, cell in zip(lefts, cells, strict=False):
            draw.text((left, 100 + 40 * row), cell, font=font, fill=0)
    return sheet


def scanned(sheet: Image.Image, specks: float = 0.02) -> Image.Image:
    """The page as a poor scanner sees it: askew by 1.2 degrees, blurred, speckled, in a hard JPEG."""
    chance = random.Random(7)
    blurred = sheet.rotate(1.2, fillcolor=255, resample=Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(0.8))
    for _ in range(int(sheet.width * sheet.height * specks)):
        place = chance.randrange(sheet.width), chance.randrange(sheet.height)
        blurred.putpixel(place, chance.choice((0, 255)))
    return Image.open(io.BytesIO(encoded(blurred, "JPEG", quality=55)))


def encoded(sheet: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    sheet.save(out, kind, **options)
    return out.getvalue()
