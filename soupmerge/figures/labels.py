"""Names beside dots, placed so that they cover neither dots nor each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from matplotlib.transforms import Bbox

from soupmerge.figures import style

Place = tuple[float, ...]
"""The coordinates of a dot, in units of the axes."""

Named = tuple[str, Place]
"""A text, and the place of its dot."""

SIZE = 7
"""Size of the font, in points; so are all distances."""

AWAY = (6, 14, 24, 36, 50)
"""Distances between a dot and its name, nearest first."""

SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Directions from a dot to its name, best first."""

DOT = 3.0
"""Half the width of a dot."""

FAR = 10
"""A name that is farther from its dot is joined to it by a line."""


def write_names(
    axes: Any,
    names: Sequence[Named],
    dots: Iterable[Place],
    *,
    extras: Sequence[Named] = (),
) -> None:
    """Write each of *names* near its place, and those of *extras* for which there is room nearby.

    Args:
        axes: a panel whose limits and layout are final.
        names: pairs of a text and the place of its dot.
        dots: the places of all dots.
        extras: more pairs, which are left out if their names would have to stand apart.
    """
    scale = axes.figure.dpi / 72
    taken = [_box(axes.transData.transform(dot) / scale, (2 * DOT, 2 * DOT)) for dot in dots]
    frame = axes.get_window_extent()
    frame = Bbox(frame.get_points() / scale)
    for (text, place), essential in (*((n, True) for n in names), *((e, False) for e in extras)):
        at = axes.transData.transform(place) / scale
        found = _room(text, at, taken, frame, AWAY if essential else AWAY[:1])
        if found is None and not essential:
            continue
        offset, box = found or ((AWAY[0], AWAY[0]), None)
        if box is not None:
            taken.append(box)
        _write(axes, text, place, offset)


def _room(
    text: str, at: Any, taken: Sequence[Bbox], frame: Bbox, away: Sequence[float]
) -> tuple[tuple[float, float], Bbox] | None:
    """Return the first offset at which *text* is inside *frame* and covers nothing, and its box."""
    lines = text.split("\n")
    size = (max(map(style.width, lines)) * SIZE, 1.3 * SIZE * len(lines))
    for distance, (x, y) in product(away, SIDES):
        offset = (x * distance, y * distance)
        middle = at + offset + [x * size[0] / 2, y * size[1] / 2]
        box = _box(middle, size)
        inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
        if inside and not box.count_overlaps(taken):
            return offset, box
    return None


def _box(middle: Any, size: tuple[float, float]) -> Bbox:
    (x, y), (width, height) = middle, size
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _write(axes: Any, text: str, place: Place, offset: tuple[float, float]) -> None:
    x, y = offset
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": SIZE, "zorder": 9}
    look |= {"ha": ("center", "left", "right")[int((x > 0) - (x < 0))]}
    look |= {"va": ("center", "bottom", "top")[int((y > 0) - (y < 0))]}
    if max(abs(x), abs(y)) > FAR:
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#666666", "shrinkA": 0, "shrinkB": 3}
        look["arrowprops"] = line
    axes.annotate(
        text, place, offset, annotation_clip=False, path_effects=style.HALO, **look
    ).set_in_layout(False)
