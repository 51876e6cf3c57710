"""Documents for the tests, made on the spot: ordinary ones, awkward ones and bombs, as the bytes of a file."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

import docx as python_docx
from docx.enum.text import WD_BREAK
from PIL import Image, ImageDraw, ImageFont

A4 = (595, 842)
"""Points."""


# -- PDF --------------------------------------------------------------------------------------------------------------
class PdfWriter:
    """Just enough of a PDF writer: numbered objects, pages, and RC4 encryption of streams."""

    def __init__(self, password: str | None = None) -> None:
        """`password` opens the file, the empty one without being asked for; None leaves it unencrypted."""
        self._objects: list[bytes | None] = []
        self._kids: list[int] = []
        self.tree = self.reserve()
        self._key = None if password is None else self._prepare_key(password)

    def reserve(self) -> int:
        """The number of an object that is written later."""
        self._objects.append(None)
        return len(self._objects)

    def add(self, body: str | bytes, number: int | None = None) -> int:
        number = number or self.reserve()
        self._objects[number - 1] = body if isinstance(body, bytes) else body.encode("latin-1")
        return number

    def stream(self, data: bytes, entries: str = "") -> int:
        number = self.reserve()
        if self._key is not None:
            data = _rc4(hashlib.md5(self._key + struct.pack("<I", number)[:3] + b"\0\0").digest(), data)
        return self.add(f"<< /Length {len(data)} {entries} >>\nstream\n".encode() + data + b"\nendstream", number)

    def page(
        self, content: bytes = b"", resources: str = "", *, size: tuple[float, float] = A4, entries: str = ""
    ) -> int:
        contents = self.stream(content)
        body = f"/MediaBox [0 0 {size[0]} {size[1]}] /Contents {contents} 0 R /Resources << {resources} >> {entries}"
        number = self.add(f"<< /Type /Page /Parent {self.tree} 0 R {body} >>")
        self._kids.append(number)
        return number

    def finish(self, catalog: str = "") -> bytes:
        kids = " ".join(f"{kid} 0 R" for kid in self._kids)
        self.add(f"<< /Type /Pages /Kids [{kids}] /Count {len(self._kids)} >>", self.tree)
        root = self.add(f"<< /Type /Catalog /Pages {self.tree} 0 R {catalog} >>")
        out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        offsets = []
        for number, body in enumerate(self._objects, 1):
            assert body is not None
            offsets.append(len(out))
            out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
        table = len(out)
        out += f"xref\n0 {len(offsets) + 1}\n0000000000 65535 f \n".encode()
        out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
        encryption = self._encryption if self._key is not None else ""
        out += f"trailer\n<< /Size {len(offsets) + 1} /Root {root} 0 R {encryption} >>\n".encode()
        return bytes(out) + f"startxref\n{table}\n%%EOF\n".encode()

    def _prepare_key(self, password: str) -> bytes:
        """Key and entries of the standard security handler, revision 3, 128 bits (ISO 32000-1, 7.6.3)."""
        padding = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
        identity, permissions = b"docv2-test-file!", -4
        padded = (password.encode() + padding)[:32]
        owner_key = hashlib.md5(padded).digest()
        for _ in range(50):
            owner_key = hashlib.md5(owner_key).digest()
        owner = _rc4_many(owner_key, padded)
        key = hashlib.md5(padded + owner + struct.pack("<i", permissions) + identity).digest()
        for _ in range(50):
            key = hashlib.md5(key).digest()
        user = _rc4_many(key, hashlib.md5(padding + identity).digest()) + bytes(16)
        self._encryption = (
            f"/Encrypt << /Filter /Standard /V 2 /R 3 /Length 128 /P {permissions} "
            f"/O <{owner.hex()}> /U <{user.hex()}> >> /ID [<{identity.hex()}> <{identity.hex()}>]"
        )
        return key


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def _rc4_many(key: bytes, data: bytes) -> bytes:
    for turn in range(20):
        data = _rc4(bytes(byte ^ turn for byte in key), data)
    return data


HELVETICA = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >> >>"


def text_lines(text: str, size: int = 11, left: int = 60, top: int = 780) -> bytes:
    """Content that shows lines of Latin text from the top."""
    lines = []
    for line in text.split("\n"):
        shown = line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        lines.append(b"(" + shown + b") Tj T*")
    return f"BT /F1 {size} Tf {size * 1.3:.1f} TL {left} {top} Td\n".encode() + b"\n".join(lines) + b"\nET"


def placed_pdf(*placed: tuple[int, int, str] | tuple[int, int, str, int], entries: str = "") -> bytes:
    """One page of texts, drawn in this order: points from the left and the bottom, the text, its size (else 11)."""
    pdf = PdfWriter()
    content = [text_lines(text, (*size, 11)[0], left, bottom) for left, bottom, text, *size in placed]
    pdf.page(b"\n".join(content), HELVETICA, entries=entries)
    return pdf.finish()


def text_pdf(pages: Sequence[str], *, password: str | None = None, rotate: int = 0) -> bytes:
    """Pages of Latin text in a font that is not embedded."""
    pdf = PdfWriter(password)
    for text in pages:
        pdf.page(text_lines(text), HELVETICA, entries=f"/Rotate {rotate}" if rotate else "")
    return pdf.finish()


def _picture_page(pdf: PdfWriter, picture: Image.Image, *, entries: str = "", over: bytes = b"") -> None:
    """A page that one JPEG covers; `over` is content on top of it."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=80)
    space = {"L": "/DeviceGray", "RGB": "/DeviceRGB", "CMYK": "/DeviceCMYK"}[picture.mode]
    turned = "/Decode [1 0 1 0 1 0 1 0]" if picture.mode == "CMYK" else ""  # Such JPEGs say how much ink is missing.
    image = pdf.stream(
        jpeg.getvalue(),
        f"/Type /XObject /Subtype /Image /Width {picture.width} /Height {picture.height} "
        f"/ColorSpace {space} {turned} /BitsPerComponent 8 /Filter /DCTDecode",
    )
    content = f"q {A4[0]} 0 0 {A4[1]} 0 0 cm /Im0 Do Q\n".encode() + over
    pdf.page(content, f"/XObject << /Im0 {image} 0 R >> {HELVETICA}", entries=entries)


def scanned_pdf(pages: Sequence[Image.Image], *, rotate: int = 0) -> bytes:
    """Pages that are one picture each, as a scanner writes them."""
    pdf = PdfWriter()
    for picture in pages:
        _picture_page(pdf, picture, entries=f"/Rotate {rotate}" if rotate else "")
    return pdf.finish()


def scanned_pdf_with_text(picture: Image.Image, text: str) -> bytes:
    """A scan with invisible text over it, as OCR software writes it."""
    pdf = PdfWriter()
    _picture_page(pdf, picture, over=b"3 Tr " + text_lines(text))
    return pdf.finish()


def mixed_pdf(pages: Sequence[str | Image.Image]) -> bytes:
    """Text pages and scanned pages in one file."""
    pdf = PdfWriter()
    for page in pages:
        if isinstance(page, str):
            pdf.page(text_lines(page), HELVETICA)
        else:
            _picture_page(pdf, page)
    return pdf.finish()


def encrypted_pdf(password: str, pages: Sequence[str] = ("A page nobody may read.",)) -> bytes:
    """Encrypted; the empty password opens for everyone."""
    return text_pdf(pages, password=password)


def cjk_pdf(text: str = "契約書 第一条 賃料は月額八万円とする。") -> bytes:
    """Japanese in a font that is not embedded, by one of the character maps that every reader brings along."""
    pdf = PdfWriter()
    font = (
        "/Font << /F1 << /Type /Font /Subtype /Type0 /BaseFont /HeiseiMin-W3 /Encoding /UniJIS-UCS2-H "
        "/DescendantFonts [ << /Type /Font /Subtype /CIDFontType0 /BaseFont /HeiseiMin-W3 "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >> /FontDescriptor "
        "<< /Type /FontDescriptor /FontName /HeiseiMin-W3 /Flags 4 /FontBBox [-123 -257 1001 910] /ItalicAngle 0 "
        "/Ascent 723 /Descent -241 /CapHeight 709 /StemV 69 >> >> ] >> >>"
    )
    pdf.page(f"BT /F1 14 Tf 60 760 Td <{text.encode('utf-16-be').hex()}> Tj ET".encode(), font)
    return pdf.finish()


def undecodable_pdf(characters: int = 400) -> bytes:
    """Text whose font says nothing of what its glyphs mean: a reader gets numbers, a person would see letters."""
    pdf = PdfWriter()
    font = (
        "/Font << /F1 << /Type /Font /Subtype /Type0 /BaseFont /AAAAAA+Own /Encoding /Identity-H "
        "/DescendantFonts [ << /Type /Font /Subtype /CIDFontType2 /BaseFont /AAAAAA+Own "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >> ] >> >>"
    )
    glyphs = "".join(f"{3 + 7 * number % 90:04x}" for number in range(characters))
    pdf.page(f"BT /F1 11 Tf 60 760 Td <{glyphs}> Tj ET".encode(), font)
    return pdf.finish()


def form_pdf(label: str, value: str) -> bytes:
    """A form with one field that somebody filled in."""
    pdf = PdfWriter()
    resources = f"/Resources << {HELVETICA} >>"
    appearance = pdf.stream(
        text_lines(value, left=2, top=5), f"/Type /XObject /Subtype /Form /BBox [0 0 200 20] {resources}"
    )
    field = pdf.add(
        f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (amount) /V ({value}) /Rect [200 770 400 790] /F 4 "
        f"/DA (/F1 11 Tf) /AP << /N {appearance} 0 R >> >>"
    )
    pdf.page(text_lines(label), HELVETICA, entries=f"/Annots [{field} 0 R]")
    return pdf.finish(f"/AcroForm << /Fields [{field} 0 R] /DR << {HELVETICA} >> /DA (/F1 11 Tf) >>")


def blank_pdf(pages: int = 1) -> bytes:
    """Pages with nothing on them."""
    return text_pdf([""] * pages)


def damaged_pages_pdf(pages: Sequence[str | None]) -> bytes:
    """Text pages, and for each None a page that is no page."""
    pdf = PdfWriter()
    for text in pages:
        if text is None:
            pdf._kids.append(pdf.add("(no page)"))
        else:
            pdf.page(text_lines(text), HELVETICA)
    return pdf.finish()


# -- pictures ---------------------------------------------------------------------------------------------------------
def page_picture(text: str, size: tuple[int, int] = (1240, 1754), *, mode: str = "RGB", scale: int = 28) -> Image.Image:
    """A page of print as a picture: A4 at 150 dpi unless told otherwise."""
    picture = Image.new("L", size, 255)
    ImageDraw.Draw(picture).multiline_text(
        (size[0] // 10, size[1] // 12), text, fill=0, font=ImageFont.load_default(scale), spacing=scale // 3
    )
    return picture.convert(mode)


def noisy_picture(size: tuple[int, int] = (1700, 2200), spread: int = 40) -> Image.Image:
    """A picture that does not compress: what a camera makes of paper."""
    return Image.merge("RGB", [Image.effect_noise(size, spread) for _ in range(3)])


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture's file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def turned_jpeg(picture: Image.Image, orientation: int = 6) -> bytes:
    """A JPEG that is stored on its side, with the EXIF note that says how to hold it (6: turn clockwise)."""
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture.transpose(turns[orientation]), "JPEG", exif=exif)


def animated_gif(frames: Sequence[Image.Image], duration: int = 200) -> bytes:
    """One file with all the frames."""
    return encoded(frames[0], "GIF", save_all=True, append_images=list(frames[1:]), duration=duration, loop=0)


# -- Word and text ----------------------------------------------------------------------------------------------------
def docx(
    blocks: Sequence[str | Sequence[Sequence[str]] | Image.Image],
    *,
    header: str = "",
    footer: str = "",
) -> bytes:
    """A Word file. A block is a table (rows of cells), a picture, or text.

    Text that begins with `#` is a heading of that level, with `- ` or `1. ` an entry of a list; `---` is a page break.
    """
    document = python_docx.Document()
    for block in blocks:
        if isinstance(block, Image.Image):
            document.add_picture(io.BytesIO(encoded(block)))
        elif not isinstance(block, str):
            table = document.add_table(len(block), len(block[0]))
            for row, cells in zip(table.rows, block, strict=True):
                for cell, text in zip(row.cells, cells, strict=True):
                    cell.text = text
        elif block == "---":
            document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)
        elif block.startswith("#"):
            marks, _, text = block.partition(" ")
            document.add_heading(text, len(marks))
        elif block.startswith("- "):
            document.add_paragraph(block[2:], "List Bullet")
        elif block.startswith("1. "):
            document.add_paragraph(block[3:], "List Number")
        else:
            document.add_paragraph(block)
    document.sections[0].header.paragraphs[0].text = header
    document.sections[0].footer.paragraphs[0].text = footer
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def repacked(archive: bytes, replaced: Mapping[str, bytes]) -> bytes:
    """A zip with some of its files replaced, and others added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, replaced.get(name, old.read(name)))
        for name in replaced.keys() - set(old.namelist()):
            new.writestr(name, replaced[name])
    return out.getvalue()


# -- bombs ------------------------------------------------------------------------------------------------------------
def huge_page_pdf(side: int = 14_400) -> bytes:
    """A few hundred bytes; drawn at 200 dpi a page of this many points each way takes gigabytes."""
    pdf = PdfWriter()
    pdf.page(b"0 0 1 rg 100 100 5000 5000 re f", size=(side, side))
    return pdf.finish()


def pages_with_a_bomb(pages: Sequence[str | None], mebibytes: int = 1000) -> bytes:
    """Text pages, and for each None one whose content was compressed twice: kilobytes that become gigabytes."""
    packer = zlib.compressobj(9)
    inner = b"".join(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)) + packer.flush()
    pdf = PdfWriter()
    content = pdf.stream(zlib.compress(inner, 9), "/Filter [/FlateDecode /FlateDecode]")
    for text in pages:
        if text is None:
            page = f"<< /Type /Page /Parent {pdf.tree} 0 R /MediaBox [0 0 595 842] /Contents {content} 0 R >>"
            pdf._kids.append(pdf.add(page))
        else:
            pdf.page(text_lines(text), HELVETICA)
    return pdf.finish()


def nested_flate_pdf(mebibytes: int = 3000) -> bytes:
    """A page that takes gigabytes, and nothing else."""
    return pages_with_a_bomb([None], mebibytes)


def huge_picture_pdf(side: int = 30_000) -> bytes:
    """A page that shows a picture of very many pixels, all alike."""
    pdf = PdfWriter()
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    image = pdf.stream(
        data,
        f"/Type /XObject /Subtype /Image /Width {side} /Height {side} /ColorSpace /DeviceGray /BitsPerComponent 8 "
        "/Filter /FlateDecode",
    )
    pdf.page(b"q 595 0 0 842 0 0 cm /Im0 Do Q", f"/XObject << /Im0 {image} 0 R >>")
    return pdf.finish()


def many_pages_pdf(claimed: int = 1_000_000) -> bytes:
    """One page that claims to be a million."""
    return text_pdf(["one"]).replace(b"/Count 1 ", f"/Count {claimed} ".encode())


def endless_form_pdf(depth: int = 24) -> bytes:
    """Forms that draw the next one twice: as many drawings as 2 to the depth."""
    pdf = PdfWriter()
    numbers = [pdf.reserve() for _ in range(depth)]
    for number, following in pairwise(numbers):
        body = b"/X Do /X Do"
        entries = f"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X {following} 0 R >> >>"
        pdf.add(f"<< {entries} /Length {len(body)} >>\nstream\n".encode() + body + b"\nendstream", number)
    body = b"0 0 1 1 re f"
    pdf.add(
        f"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Length {len(body)} >>\nstream\n".encode()
        + body
        + b"\nendstream",
        numbers[-1],
    )
    pdf.page(b"/X Do", f"/XObject << /X {numbers[0]} 0 R >>")
    return pdf.finish()


def huge_png(side: int = 13_000) -> bytes:
    """20 kB that are 169 megapixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def huge_jpeg(side: int = 65_000, kept: int = 2000) -> bytes:
    """A JPEG that says it has billions of pixels."""
    small = bytearray(encoded(noisy_picture((200, 200)), "JPEG"))
    at = small.index(b"\xff\xc0") + 5  # The frame's header: length and depth come before its height and width.
    small[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(small[:kept])


def huge_gif(side: int = 60_000) -> bytes:
    """A GIF whose canvas has billions of pixels."""
    small = encoded(Image.new("P", (1, 1)), "GIF")
    return small[:6] + struct.pack("<HH", side, side) + small[10:]


def many_frames_gif(frames: int = 3000) -> bytes:
    """A GIF of very many frames, all different."""
    colours = [Image.new("L", (64, 64), number % 256) for number in range(frames)]
    return animated_gif(colours, duration=20)


def zip_bomb_docx(mebibytes: int = 600) -> bytes:
    """A Word file whose text is one very long run of the same letter."""
    body = (
        b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><w:document xmlns:w="http://schemas.openxmlformats.org/'
        b'wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>' + b"a" * (mebibytes << 20)
    )
    body += b"</w:t></w:r></w:p></w:body></w:document>"
    return repacked(docx(["x"]), {"word/document.xml": body})


def entities_docx(levels: int = 9) -> bytes:
    """A Word file whose XML defines entities by one another: a billion laughs."""
    names = [f"e{level}" for level in range(levels)]
    entities = '<!ENTITY e0 "ha">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in pairwise(names)
    )
    body = (
        f'<?xml version="1.0"?><!DOCTYPE d [{entities}]><w:document xmlns:w="http://schemas.openxmlformats.org/'
        f'wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>&{names[-1]};</w:t></w:r></w:p></w:body></w:document>'
    )
    return repacked(docx(["x"]), {"word/document.xml": body.encode()})


def crowded_docx(entries: int = 20_000) -> bytes:
    """A Word file with very many files in it."""
    return repacked(docx(["x"]), {f"x{number}": b"" for number in range(entries)})


def dense_docx(elements: int = 500_000) -> bytes:
    """A Word file that keeps to every rule on sizes and whose XML takes many times its size once it is a tree."""
    marks = random.Random(1).randbytes(4 * elements).hex()
    body = "".join(f'<w:p w:rsidR="{marks[at : at + 8]}"><w:r><w:t/></w:r></w:p>' for at in range(0, 8 * elements, 8))
    document = (
        '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        f"<w:body>{body}</w:body></w:document>"
    )
    return repacked(docx(["x"]), {"word/document.xml": document.encode()})


def lying_zip() -> bytes:
    """A zip that counts two files and whose table of contents claims a gigabyte."""
    data = bytearray(docx(["x"]))
    at = data.rfind(b"PK\x05\x06")
    data[at + 12 : at + 16] = struct.pack("<I", 1 << 30)
    return bytes(data)


def sixty_four_bit_zip() -> bytes:
    """A zip with a second end record, a 64-bit one that readers believe over the first."""
    data = docx(["x"])
    at = data.rfind(b"PK\x05\x06")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 40, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    return data[:at] + record + locator + data[at:]
