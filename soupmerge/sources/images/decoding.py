"""Image files → pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from soupmerge.errors import InputError

GREY = ("1", "L")
MODES = "P PA LA La RGB RGBA RGBa RGBX CMYK YCbCr LAB HSV"
EIGHT_BITS = {*GREY, *MODES.split()}
"""Pillow's modes of images with at most one byte per channel."""
MOST_PIXELS = 89_000_000
"""Of one image: Pillow's own limit against decompression bombs."""


def decode_all(files: Sequence[Path], root: Path) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return the pixels of *files*.

    Raises:
        InputError: some cannot be read; all of them are listed.
    """
    arrays, problems = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for decoded in pool.map(_decode, files):
            if isinstance(decoded, InputError):
                problems.append(decoded)
            else:
                arrays.append(decoded)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        what = f"{len(problems)} of {len(files)} images cannot be read"
        raise InputError(what, problems=[str(p) for p in problems], where=root)
    return arrays


def _decode(file: Path) -> np.ndarray[Any, np.dtype[np.uint8]] | InputError:
    """Return the pixels of *file*, or why it cannot be read."""
    try:
        with Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                what = f"has {image.width}×{image.height} pixels, which is too many"
                return InputError(what, where=file)
            if image.mode not in EIGHT_BITS:  # Pillow would clip values above 255
                what = f"has pixels of more than 8 bits (Pillow's mode {image.mode})"
                return InputError(what, where=file, fix="save it with 8 bits per channel")
            pixels = np.array(image.convert("L" if image.mode in GREY else "RGB"))
            return pixels.reshape(*pixels.shape[:2], -1)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return InputError(f"is not a readable image: {error}", where=file)
