"""A contact sheet: some images of each class, under the names of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from soupmerge.figures import style
from soupmerge.sources.images.image_set import Images

MOST_CLASSES = 24
ACROSS = 6
"""Images of each class."""
TALL = 8
"""Classes in one column; more stand in two columns."""

SIDE, GAP = 0.68, 0.04
"""Side of the square that an image is in, and the gap to the next, in inches."""
NAME, TITLE, MARGIN = 1.5, 0.4, 0.1
"""Width of the names, height of the title and of the lower margin, in inches."""
PIXELS = 160
"""Longest side of a drawn image; larger ones are made smaller."""


def contact_sheet(images: Images) -> Figure:
    """Draw some images of each class of *images*, or of `MOST_CLASSES` of its classes.

    Classes, and the images of a class, are spread evenly over the set, so that the same set always
    gives the same sheet. Images keep their shape.

    Raises:
        InputError: an image is stored, and cannot be read or decoded.
    """
    present = torch.bincount(images.labels, minlength=images.classes).nonzero().flatten().tolist()
    shown = _spread(present, MOST_CLASSES)
    columns = 1 if len(shown) <= TALL else 2
    rows = ceil(len(shown) / columns)
    width, height = NAME + ACROSS * (SIDE + GAP) + 2 * MARGIN, SIDE + 2 * GAP
    figure = style.new_figure(columns * width, TITLE + rows * height + MARGIN, layout=None)
    some = "" if len(shown) == len(present) else f"; {len(shown)} of {len(present):,} classes"
    title = f"{style.label(images.ref, 60)} ({images.split}): {len(images):,} images{some}"
    figure.text(*_part(figure, MARGIN, TITLE / 2), title, va="center")
    for place, label in enumerate(shown):
        column, row = divmod(place, rows)
        left, top = column * width + NAME, TITLE + row * height
        name = images.class_names[label] if images.class_names else f"class {label}"
        middle = _part(figure, left - MARGIN, top + SIDE / 2)
        figure.text(*middle, style.label(name, 20), ha="right", va="center", fontsize=8)
        for i, index in enumerate(_spread(_members(images, label), ACROSS)):
            corner = _part(figure, left + i * (SIDE + GAP), top + SIDE)
            axes = figure.add_axes((*corner, *(SIDE / figure.get_size_inches())))
            axes.imshow(_drawable(images, index), cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
    return figure


def _part(figure: Figure, left: float, top: float) -> tuple[float, float]:
    """Return a place, in inches from the upper left corner, as fractions from the lower left."""
    width, height = figure.get_size_inches()
    return left / width, 1 - top / height


def _spread(values: Sequence[int], most: int) -> list[int]:
    """Return up to *most* of *values*, evenly spread."""
    places = np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int)
    return [values[place] for place in places]


def _members(images: Images, label: int) -> list[int]:
    members: list[int] = (images.labels == label).nonzero().flatten().tolist()
    return members


def _drawable(images: Images, index: int) -> NDArray[np.uint8]:
    """Return one image, ``(H, W, 3)``, or ``(H, W)`` if it is grey, of at most `PIXELS` a side."""
    pixels = images.image(index).mul(255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((PIXELS, PIXELS))
    return np.asarray(image)
