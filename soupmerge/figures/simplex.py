"""Accuracy over the simplex of three ingredients: a ternary map per metric."""

from __future__ import annotations

from typing import Any

import mpltern  # noqa: F401 - registers the ternary projection
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soupmerge.figures import style
from soupmerge.figures.reading import RunRecord, best

FEW = 300
"""Most soups that are drawn as dots on a shaded ground; of more, each is a coloured patch."""

MOST_NAME = 17
"""Length of a name, so that the two at the lower corners stay apart."""

CORNERS = (((0.5, 1), "center", 8), ((0, 0), "left", -26), ((1, 0), "right", -26))
"""Corners in the order of the axes: place, alignment of the name, and its offset up, in points."""

TICKS = (0.2, 0.4, 0.6, 0.8)

SIDE, EDGE, HALF_LETTER = 150.0, 30.0, 2.5
"""In points: the side of a map, how far lower names may reach beyond it, half a letter's width."""


def ternary_maps(run: RunRecord) -> Figure | None:
    """Draw a ternary map per metric (Huang 2023, figures 2 and 3); each dot is a judged soup."""
    records = run.soups
    corners = {tuple(r["weights"]) for r in records if max(r["weights"]) == 1}
    if len(run.names) != 3 or len(corners) < 3:  # a race drops some of them
        return None
    metrics = run.metrics
    # Fixed places: fitting these axes to their labels would take longer than drawing them.
    figure = style.new_figure(3.2 * len(metrics), 3.5, layout=None)
    weights = np.array([record["weights"] for record in records], dtype=float)
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
        for (corner, side, above), name in zip(CORNERS, run.names, strict=True):
            _write_name(axes, style.label(name, MOST_NAME), corner, side, above)
        below = figure.add_axes((left + 0.2 * width, 0.14, 0.6 * width, 0.025))
        bar = figure.colorbar(shades, cax=below, orientation="horizontal")
        bar.set_label(f"{style.pretty(metric)}: best {max(values):.1%}", fontsize=10)
        bar.locator, bar.formatter = MaxNLocator(3), style.PERCENT
        bar.update_ticks()
    return figure


def _write_name(axes: Any, name: str, corner: tuple[float, float], side: str, above: float) -> None:
    """Write *name* at a *corner*, centred if it is short, and otherwise within reach of its map."""
    half = min(EDGE, HALF_LETTER * len(name))
    beyond = {"left": -half, "center": 0.0, "right": half}[side]
    where = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(name, corner, (beyond, above), ha=side, fontsize=9, **where)


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
