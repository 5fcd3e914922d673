"""Ternary maps: accuracy over the simplex of three ingredients, or of three objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpltern  # noqa: F401 - registers the ternary projection
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soupmerge.figures import style
from soupmerge.figures.judged_front import judged_front
from soupmerge.figures.reading import RunRecord, best

FEW = 300
"""Most soups that are drawn as dots on a shaded ground; of more, each is a coloured patch."""

MOST_NAME, MOST_LINE = 28, 14
"""Length of a name, and of one that is written on a single line."""

CORNERS = (
    ((0.5, 1), "center", "bottom", 8),
    ((0, 0), "left", "top", -19),
    ((1, 0), "right", "top", -19),
)
"""Corners in the order of the axes: place, alignments of the name, and its offset, in points."""

TICKS = (0.2, 0.4, 0.6, 0.8)

SIDE, EDGE, HALF_LETTER = 150.0, 30.0, 2.5
"""In points: the side of a map, how far lower names may reach beyond it, half a letter's width."""


def ternary_maps(run: RunRecord) -> Figure | None:
    """Draw a ternary map per metric (Huang 2023, figures 2 and 3); each dot is a judged soup."""
    records = run.soups
    corners = {tuple(r["weights"]) for r in records if max(r["weights"]) == 1}
    if run.front is not None or len(run.names) != 3 or len(corners) < 3:  # a race drops some
        return None
    return _maps(records, [record["weights"] for record in records], run.names)


def preference_maps(run: RunRecord) -> Figure | None:
    """Draw a ternary map per metric over the preferences between three objectives."""
    judged = judged_front(run)
    if judged is None or len(judged.front.objectives) != 3 or len(judged.points) < 3:
        return None
    names = [style.pretty(name) for name in judged.front.objectives]
    return _maps(judged.points, [judged.shares(record) for record in judged.points], names)


def _maps(
    records: Sequence[dict[str, Any]], rows: Sequence[Sequence[float]], names: Sequence[str]
) -> Figure:
    """Draw a map for each metric of *records*, which lie at *rows* between corners of *names*."""
    metrics = list(records[0]["metrics"])
    # Fixed places: fitting these axes to their labels would take longer than drawing them.
    figure = style.new_figure(3.2 * len(metrics), 3.7, layout=None)
    weights = np.array(rows, dtype=float)
    for i, metric in enumerate(metrics):
        values = [record["metrics"][metric]["accuracy"] for record in records]
        left, width = i / len(metrics), 1 / len(metrics)
        place = (left + 0.18 * width, 0.3, 0.64 * width, 0.56)
        axes: Any = figure.add_axes(place, projection="ternary")
        shades = _shaded(axes, weights, values)
        star = weights[best(records, metric), :, None]
        mark = {"color": "white", "edgecolor": "black", "clip_on": False}
        axes.scatter(*star, s=110, marker="*", zorder=4, **mark)
        for axis in (axes.taxis, axes.laxis, axes.raxis):
            axis.set_ticks(TICKS)
        axes.tick_params(labelsize=7)
        for corner, name in zip(CORNERS, names, strict=True):
            _write_name(axes, two_lines(style.label(name, MOST_NAME)), *corner)
        below = figure.add_axes((left + 0.2 * width, 0.13, 0.6 * width, 0.025))
        bar = figure.colorbar(shades, cax=below, orientation="horizontal")
        bar.set_label(f"{style.pretty(metric)}: best {max(values):.1%}", fontsize=10)
        bar.locator, bar.formatter = MaxNLocator(3), style.PERCENT
        bar.update_ticks()
    return figure


def _write_name(
    axes: Any, name: str, corner: tuple[float, float], side: str, upright: str, above: float
) -> None:
    """Write *name* at a *corner*, centred if it is short, and otherwise within reach of its map."""
    half = min(EDGE, HALF_LETTER * max(map(len, name.split("\n"))))
    beyond = {"left": -half, "center": 0.0, "right": half}[side]
    where = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8.5}
    lines = {"ha": side, "va": upright, "multialignment": "center"}
    axes.annotate(name, corner, (beyond, above), **where, **lines)


def two_lines(name: str) -> str:
    """Return *name* in two lines if it is long, broken after a separator near its middle.

    Example:
        >>> print(two_lines("resnet18_linf_8_255_epoch_200"))
        resnet18_linf_
        8_255_epoch_200
    """
    if len(name) <= MOST_LINE:
        return name
    middle = len(name) // 2
    near = sorted(range(middle - 3, middle + 4), key=lambda place: abs(place - middle))
    cut = next((place for place in near if name[place - 1] in "_-. /"), middle)
    cut -= name[cut - 1] == "\\"  # keeps an escaped dollar whole
    return f"{name[:cut]}\n{name[cut:]}"


def _shaded(axes: Any, weights: Any, values: list[float]) -> Any:
    """Draw the soups, and shade the simplex between them if they are few and span a triangle."""
    dots = {"edgecolor": "black", "linewidth": 0.4, "clip_on": False, "zorder": 3}
    if len(values) > FEW:
        patch = {"marker": "h", "s": 2.6 * SIDE**2 / len(values), "linewidth": 0}
        shade = {"c": values, "cmap": style.COLOUR_MAP, "rasterized": True}
        return axes.scatter(*weights.T, clip_on=False, **patch, **shade)
    if np.linalg.matrix_rank(weights - weights[0], tol=1e-6) < 2:
        return axes.scatter(*weights.T, c=values, cmap=style.COLOUR_MAP, s=30, **dots)
    shades = axes.tripcolor(*weights.T, values, cmap=style.COLOUR_MAP, shading="gouraud")
    axes.scatter(*weights.T, s=8, color="white", **dots)
    return shades
