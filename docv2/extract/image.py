"""Pictures: turned upright, on white, scaled to what a model can use. Of an animation the frames that differ most."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageChops, ImageOps, ImageStat
from PIL.GifImagePlugin import GifImageFile

from docv2.documents import Detail
from docv2.errors import DocumentError
from docv2.extract.base import TEXT_ALONE, Found, fitting, picture_page, unread_page

FORMATS = ("PNG", "JPEG", "GIF")

MAX_DECODED = 40_000_000
"""Pixels that are decoded at all: 160 MB of memory. 20 kB of PNG can hold 169 million."""

MAX_JPEG = 256_000_000
"""Pixels of a JPEG, which is decoded at a half, a quarter or an eighth of its sides; phones take up to 200 million. Of
a progressive one the decoder keeps two to six bytes a pixel all the same, within the limit of the child."""

MAX_FRAMES = 8
"""Frames of an animation that become pages."""

MAX_FRAME_WORK = 400_000_000
"""Pixels of an animation that are looked at, some seconds of work: every frame builds on the ones before it."""

FRAME_WORK = 50_000
"""Pixels that could be decoded in the time that it takes to compare a frame, however small."""

COMPARED = 128
"""Pixels of either side to which frames are scaled to be compared: a line of text still shows."""

LEFT_OUT = "{} of the {} frames of the animation were taken, those that differ most; the others were left out."

Image.MAX_IMAGE_PIXELS = MAX_DECODED
warnings.simplefilter("error", Image.DecompressionBombWarning)


def pages(path: Path, folder: Path, first_page: int, detail: Detail) -> Iterator[Found]:
    """The picture as one page; an animation as several."""
    if detail is Detail.TEXT:
        yield unread_page(1, TEXT_ALONE), 1
        return
    with path.open("rb") as file, open_picture(file) as picture:
        frames = _frames(picture) if isinstance(picture, GifImageFile) else 1
        if frames == 1:
            if first_page == 1:
                yield picture_page(folder, 1, upright(picture), "The document is a picture."), 1
            return
        chosen, is_whole = _choose(picture, frames)
        total = len(chosen) + (not is_whole)
        for number, index in enumerate(chosen, 1):
            if number >= first_page:
                reason = f"Frame {index + 1} of {frames} of the animation."
                yield picture_page(folder, number, upright(picture, index), reason), total
        if not is_whole and total >= first_page:
            yield unread_page(total, LEFT_OUT.format(len(chosen), frames)), total


def _choose(picture: Image.Image, frames: int) -> tuple[list[int], bool]:
    """The frames of an animation that become pages, and whether they are all that differ.

    Where that are too many, the later of the two that are most alike is left out, again and again; so a frame that is
    like no other stays, and so does the first.
    """
    reach = max(1, min(frames, MAX_FRAME_WORK // (picture.width * picture.height + FRAME_WORK)))
    is_whole = reach == frames
    kept: dict[int, Image.Image] = {}
    apart: dict[tuple[int, int], float] = {}
    for index in range(reach):
        try:
            small = upright(picture, index).resize((COMPARED, COMPARED), Image.Resampling.BOX)
        except DocumentError:
            if not kept:
                raise
            break  # The animation is damaged from here on; what came before it is whole.
        distances = {(before, index): _distance(other, small) for before, other in kept.items()}
        if 0.0 in distances.values():
            continue
        kept[index] = small
        apart |= distances
        if len(kept) > MAX_FRAMES:
            _, gone = min(apart, key=apart.__getitem__)
            del kept[gone]
            apart = {pair: distance for pair, distance in apart.items() if gone not in pair}
            is_whole = False
    return list(kept), is_whole


def _distance(one: Image.Image, other: Image.Image) -> float:
    """How much two pictures differ. Squares count, so a few black letters outweigh a ground that is a little darker."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).sum2)


def open_picture(file: IO[bytes], formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """A picture, not decoded yet. DocumentError where it is too large or none of the formats."""
    start = file.read(3)
    file.seek(0)
    most = MAX_JPEG if start == b"\xff\xd8\xff" else MAX_DECODED
    Image.MAX_IMAGE_PIXELS = most
    try:
        picture = Image.open(file, formats=formats)
        scale = fitting(*picture.size)
        wanted = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture.draft(None, wanted)  # JPEG: decode no more, which is less than 16 megapixels.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DocumentError(f"The picture has more than {most // 10**6} megapixels.") from error
    except MemoryError:
        raise
    except Exception as error:  # Broken files lead Pillow into any exception there is.
        raise DocumentError("The picture is damaged.") from error
    finally:
        Image.MAX_IMAGE_PIXELS = MAX_DECODED  # For what an animation grows by.
    return picture


def _frames(picture: GifImageFile) -> int:
    """How many frames an animation has; of one that is cut short, those before the cut."""
    whole = 1
    try:
        return picture.n_frames
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as above; counted one by one, the last before the damage is found
        with suppress(Exception):
            while True:
                picture.seek(whole)
                whole += 1
        picture.seek(0)
        return whole


def upright(picture: Image.Image, frame: int = 0) -> Image.Image:
    """The picture as a person would see it, RGB, within the pixel budget. DocumentError where it is damaged."""
    try:
        picture.seek(frame)
        decoded = ImageOps.exif_transpose(picture)
        decoded = _eight_bit(decoded)
        scale = fitting(*decoded.size)
        if scale < 1:
            size = max(1, round(decoded.width * scale)), max(1, round(decoded.height * scale))
            decoded = decoded.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        if decoded.mode != "RGBA":
            return decoded
        white = Image.new("RGB", decoded.size, "white")
        white.paste(decoded, mask=decoded.getchannel("A"))
    except MemoryError:
        raise
    except Exception as error:  # As above.
        raise DocumentError("The picture is damaged.") from error
    return white


def _eight_bit(picture: Image.Image) -> Image.Image:
    """RGB, or RGBA where parts are transparent. Sixteen bits of grey are scaled down; a plain conversion clips them."""
    if picture.mode.startswith("I;16"):
        picture = picture.convert("I")
    if picture.mode in ("I", "F"):
        _, high = picture.convert("F").getextrema()
        assert isinstance(high, float)
        scale = 1.0 if high <= 255 else 255 / 65_535
        picture = picture.point(lambda value: value * scale + 0).convert("L")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
