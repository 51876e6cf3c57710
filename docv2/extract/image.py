"""Pictures: turned upright, on white, scaled to what a model can use. Of an animation the frames that differ."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageChops, ImageOps
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
"""Frames of an animation that become pages, spread evenly over it."""

MAX_FRAME_WORK = 400_000_000
"""Pixels decoded of an animation, some seconds of work: every frame builds on the ones before it."""

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
        reach = max(1, min(frames, MAX_FRAME_WORK // (picture.width * picture.height)))
        number, before = 0, None
        for index in sorted({round(step * (reach - 1) / (MAX_FRAMES - 1)) for step in range(MAX_FRAMES)}):
            try:
                frame = upright(picture, index)
            except DocumentError:
                if before is None:
                    raise
                break  # The animation is damaged from here on; what came before it is whole.
            if before is not None and ImageChops.difference(frame, before).getbbox() is None:
                continue
            number, before = number + 1, frame
            if number >= first_page:
                reason = f"Frame {index + 1} of {frames} of the animation."
                yield picture_page(folder, number, frame, reason), None


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
        if frame:
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
