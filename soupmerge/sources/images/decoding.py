"""Stored images → Pillow's images with 8 bits per channel, grey or RGB.

Grey images stay grey. Every other image becomes RGB as Pillow converts it: palettes are looked up,
CMYK and YCbCr are converted without a colour profile, and alpha is left out. Grey images of 16 bits
are scaled to 8. Orientations that a camera noted (EXIF) are ignored, as torchvision and timm ignore
them in the evaluations that are published.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from soupmerge.errors import InputError

GREY = ("1", "L")
MODES = "P PA LA La RGB RGBA RGBa RGBX CMYK YCbCr LAB HSV"
EIGHT_BITS = {*GREY, *MODES.split()}
"""Pillow's modes of images with at most one byte per channel."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
"""Its modes of grey images with two bytes per pixel."""
MOST_PIXELS = 89_000_000
"""Of one image: Pillow's own limit against decompression bombs."""


def opened(stored: bytes | Image.Image, where: str) -> Image.Image:
    """Return the image in *stored*, of which only the header has been read.

    Raises:
        InputError: it is not an image, or one of too many pixels; *where* names it.
    """
    try:
        image = Image.open(io.BytesIO(stored)) if isinstance(stored, bytes) else stored
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(error, where) from error
    if image.width * image.height > MOST_PIXELS:
        what = f"has {image.width}×{image.height} pixels, which is too many"
        raise InputError(what, where=where)
    return image


def decoded(stored: bytes | Image.Image, where: str) -> Image.Image:
    """Return the image in *stored*, grey (Pillow's mode L) or RGB.

    Raises:
        InputError: it cannot be decoded; *where* names it.
    """
    image = opened(stored, where)
    if image.mode not in (*EIGHT_BITS, *SIXTEEN_BITS):  # Pillow would clip values above 255
        what = f"has pixels of more than 16 bits (Pillow's mode {image.mode})"
        raise InputError(what, where=where, fix="save it with 8 bits per channel")
    try:
        if image.mode in SIXTEEN_BITS:
            return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
        return in_mode(image, "L" if image.mode in GREY else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(error, where) from error


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return *image* decoded and in Pillow's *mode*, without a copy if it has it already."""
    image.load()
    return image if image.mode == mode else image.convert(mode)


def _unreadable(error: Exception, where: str) -> InputError:
    # Pillow names the buffer that the bytes were in, which means nothing to users.
    text = str(error).partition(" <_io.BytesIO")[0]
    return InputError(f"is not a readable image: {text}", where=where)
