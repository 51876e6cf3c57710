"""Pictures: upright, on white, not too large; and the frames of an animation that differ."""

from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from docv2.documents import Detail, MediaType, PageSource
from docv2.errors import DocumentError
from docv2.extract.base import MAX_PIXELS
from tests import documents
from tests.reading import ReadPage, read_document

KINDS = {"PNG": MediaType.PNG, "JPEG": MediaType.JPEG, "GIF": MediaType.GIF}


def read(data: bytes, folder: Path, kind: str = "PNG", first_page: int = 1) -> list[ReadPage]:
    return read_document(data, KINDS[kind], folder, first_page)


def only(found: list[ReadPage]) -> Image.Image:
    [page] = found
    assert page.source is PageSource.PICTURE
    assert page.total == 1
    assert page.picture is not None
    return page.picture


def near(picture: Image.Image, at: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    pixel = picture.getpixel(at)
    assert isinstance(pixel, tuple)
    return all(abs(one - other) <= 12 for one, other in zip(pixel, colour, strict=True))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    picture = Image.new("RGB", (300, 200), "white")
    picture.paste("blue", (0, 0, 300, 40))  # The sky is above.
    turned = only(read(documents.turned_jpeg(picture, orientation), tmp_path, "JPEG"))
    assert turned.size == (300, 200)
    assert near(turned, (150, 15), (0, 0, 255))
    assert near(turned, (150, 180), (255, 255, 255))


def png(depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG of 32 by 32 pixels."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 32, 32, depth, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def grey16(value: int) -> bytes:
    """A PNG of 16-bit grey, one value throughout."""
    return png(16, 0, b"".join(b"\0" + struct.pack(">H", value) * 32 for _ in range(32)))


def rgb16(red: int, green: int, blue: int) -> bytes:
    """The same in colour."""
    rows = b"".join(b"\0" + struct.pack(">HHH", red, green, blue) * 32 for _ in range(32))
    return png(16, 2, rows)


def see_through(mode: str) -> Image.Image:
    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    picture.paste((200, 30, 30, 255), (0, 0, 16, 32))
    if mode == "P":
        return picture.quantize(4)
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("data", "kind", "left", "right"),
    [
        (documents.encoded(see_through("RGBA")), "PNG", (200, 30, 30), (255, 255, 255)),
        (documents.encoded(see_through("P")), "PNG", (200, 30, 30), (255, 255, 255)),
        (documents.encoded(see_through("LA")), "PNG", (81, 81, 81), (255, 255, 255)),
        (documents.encoded(see_through("RGBA"), "GIF"), "GIF", (200, 30, 30), (255, 255, 255)),
        (documents.encoded(Image.new("1", (32, 32), 1)), "PNG", (255, 255, 255), (255, 255, 255)),
        (documents.encoded(Image.new("L", (32, 32), 90)), "PNG", (90, 90, 90), (90, 90, 90)),
        (grey16(0), "PNG", (0, 0, 0), (0, 0, 0)),
        (grey16(0x8000), "PNG", (128, 128, 128), (128, 128, 128)),
        (grey16(0xFFFF), "PNG", (255, 255, 255), (255, 255, 255)),
        (rgb16(0xFFFF, 0x8000, 0), "PNG", (255, 128, 0), (255, 128, 0)),
        (documents.encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG"), "JPEG", (254, 0, 0), (254, 0, 0)),
        (documents.encoded(Image.new("L", (32, 32), 90), "JPEG"), "JPEG", (90, 90, 90), (90, 90, 90)),
    ],
)
def test_every_kind_of_pixel_comes_out_as_a_person_sees_it(
    data: bytes, kind: str, left: tuple[int, int, int], right: tuple[int, int, int], tmp_path: Path
) -> None:
    picture = only(read(data, tmp_path, kind))
    assert near(picture, (4, 16), left)
    assert near(picture, (28, 16), right)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(5000, 4000), (20_000, 100), (2, 30_000), (60_000, 1)])
def test_large_pictures_are_scaled_down(size: tuple[int, int], kind: str, tmp_path: Path) -> None:
    picture = only(read(documents.encoded(Image.new("L", size, 255), kind), tmp_path, kind))
    assert picture.width * picture.height <= MAX_PIXELS * 1.01
    assert max(picture.size) <= 8000
    if min(size) > 100:
        assert abs(picture.width / picture.height - size[0] / size[1]) < 0.01


def test_where_text_alone_is_asked_for_a_picture_is_unread(tmp_path: Path) -> None:
    [page] = read_document(documents.encoded(Image.new("L", (9, 9))), MediaType.PNG, tmp_path, detail=Detail.TEXT)
    assert page.source is PageSource.NONE
    assert "text alone" in page.page.reason


def test_small_pictures_are_left_as_they_are(tmp_path: Path) -> None:
    assert only(read(documents.encoded(Image.new("RGB", (64, 48))), tmp_path)).size == (64, 48)


def frames(number: int) -> list[Image.Image]:
    shades = random.Random(1).sample(range(256), number)
    return [Image.new("L", (40, 30), shade) for shade in shades]


def test_an_animation_gives_the_frames_that_differ(tmp_path: Path) -> None:
    first, second, third = frames(3)
    found = read(documents.animated_gif([first, second, third]), tmp_path, "GIF")
    assert len(found) == 3
    assert "Frame 2 of 3" in found[1].page.reason
    means = [ImageStat.Stat(page.picture).mean[0] for page in found if page.picture]
    assert means == pytest.approx([ImageStat.Stat(frame).mean[0] for frame in (first, second, third)], abs=3)


def test_of_an_animated_png_the_first_picture_is_read(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    data = documents.encoded(first, save_all=True, append_images=[second], duration=100)
    assert near(only(read(data, tmp_path)), (20, 15), (254, 0, 0))


LEFT_OUT = "8 of the {} frames of the animation were taken, those that differ most; the others were left out."


def test_of_a_long_animation_the_frames_that_differ_most_are_taken_and_the_others_named(tmp_path: Path) -> None:
    data = documents.animated_gif(frames(200))
    *found, last = read(data, tmp_path, "GIF")
    assert len(found) == 8
    assert "Frame 1 of 200" in found[0].page.reason
    assert (last.source, last.page.reason) == (PageSource.NONE, LEFT_OUT.format(200))
    shades = sorted(ImageStat.Stat(page.picture).mean[0] for page in found if page.picture)
    assert shades[0] < 20
    assert shades[-1] > 235
    assert min(after - before for before, after in pairwise(shades)) > 15, "spread over all shades that there are"
    again = read(data, tmp_path, "GIF", first_page=7)
    assert [page.page for page in again] == [page.page for page in [*found[6:], last]]


@pytest.mark.parametrize("at", [1, 50, 98])
def test_the_only_frame_with_text_is_among_those_taken(at: int, tmp_path: Path) -> None:
    shown = [Image.new("L", (300, 200), 216 + number % 40) for number in range(99)]
    text = documents.page_picture("4711", (300, 200), mode="L", scale=14)
    shown[at] = text
    found = read(documents.animated_gif(shown), tmp_path, "GIF")
    [page] = [page for page in found if f"Frame {at + 1} of 99" in page.page.reason]
    assert page.picture is not None
    assert ImageStat.Stat(ImageChops.difference(page.picture.convert("L"), text)).extrema[0][1] < 60
    assert found[-1].page.reason == LEFT_OUT.format(99)


def test_an_animation_that_repeats_itself_leaves_nothing_out(tmp_path: Path) -> None:
    found = read(documents.animated_gif(frames(8) * 6), tmp_path, "GIF")
    assert [page.page.reason for page in found] == [f"Frame {n} of 48 of the animation." for n in range(1, 9)]


def test_an_animation_that_is_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    data = documents.animated_gif([documents.noisy_picture((80, 80)) for _ in range(6)])
    assert 1 <= len(read(data[: len(data) // 2], tmp_path, "GIF")) < 6


def test_an_animation_may_be_cut_anywhere(tmp_path: Path) -> None:
    data = documents.animated_gif([Image.effect_noise((8, 8), 90).convert("1") for _ in range(3)])
    for length in range(14, len(data)):
        with suppress(DocumentError):
            read(data[:length], tmp_path, "GIF")


def test_an_animation_that_grows_beyond_all_bounds_gives_what_came_before(tmp_path: Path) -> None:
    data = bytearray(documents.animated_gif(frames(2)))
    at = data.rindex(b"\x2c")  # The second frame: its place and size follow.
    data[at + 1 : at + 9] = struct.pack("<HHHH", 60_000, 60_000, 5000, 5000)
    found = read(bytes(data), tmp_path, "GIF")
    assert [page.page.reason for page in found] == ["Frame 1 of 2 of the animation."]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_damaged_pictures_are_an_error(kind: str, tmp_path: Path) -> None:
    whole = documents.encoded(documents.noisy_picture((200, 200)), kind)
    for length in (12, 40, len(whole) // 2):
        with pytest.raises(DocumentError, match="damaged"):
            read(whole[:length], tmp_path, kind)


def test_what_is_another_format_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(DocumentError):
        read(documents.encoded(Image.new("RGB", (9, 9)), "TIFF"), tmp_path)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (documents.huge_png(), "PNG"),
        (documents.encoded(Image.new("1", (7000, 6000))), "PNG"),
        (documents.huge_gif(), "GIF"),
        (documents.encoded(Image.new("1", (7000, 6000)), "GIF"), "GIF"),
        (documents.huge_jpeg(), "JPEG"),
    ],
)
def test_too_many_pixels_are_an_error(data: bytes, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="megapixels"):
        read(data, tmp_path, kind)
