"""A front between two objectives: its judged points as a curve, and its coefficients over λ."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from soupmerge.choices import MAKERS
from soupmerge.figures import style
from soupmerge.figures.fronts import (
    MARKS,
    MOST_NAME,
    UNKNOWN,
    draw_intervals,
    name_axes,
)
from soupmerge.figures.history import ROWS, name_rows
from soupmerge.figures.judged_front import (
    INGREDIENT,
    UNIFORM,
    JudgedFront,
    by_depth,
    is_trade_off,
    judged_front,
    name_of_point,
)
from soupmerge.figures.labels import write_names
from soupmerge.figures.reading import RunRecord, point

LOOKS: dict[str, tuple[str, str, str]] = {
    INGREDIENT: ("o", "white", "ingredients"),
    UNIFORM: ("D", "#444444", "uniform soup"),
}
"""Kind of a soup beside a front → mark, colour and entry in the legend; others as in `MARKS`."""

MOST_NAMED = 12
"""Most ingredients that are named beside their dots."""

STEPS = 20
"""Steps of λ in a map of coefficients."""

MOST_PANELS = 6
"""Most ingredients with a map of coefficients; of more, those with the largest on average."""

MOST_TITLE = 13
"""Length of a name above a map of coefficients."""


def trade_off(run: RunRecord) -> Figure | None:
    """Draw the curve of a front between two objectives, with intervals, and the soups beside it."""
    judged = judged_front(run)
    if judged is None or not is_trade_off(run):
        return None
    x, y = judged.axes
    figure = style.new_figure(5.8, 3.9)
    axes = figure.add_subplot()
    name_axes(axes, x, y)
    shade = style.colour(y)
    places = [point(record, y, x) for record in judged.points]
    for record in judged.beside.values():
        draw_intervals(axes, record, (x, y))
    for record in judged.points:
        draw_intervals(axes, record, (x, y), shade)
    axes.plot(*zip(*places, strict=True), "-o", color=shade, markersize=3.5, label="front")
    _draw_beside(axes, judged)
    title = f"λ is the share of {style.pretty(judged.front.objectives[1])}"
    look: Any = {"fontsize": 7, "title_fontsize": 7, "frameon": False, "alignment": "left"}
    figure.legend(loc="outside right upper", title=title, **look)
    figure.draw_without_rendering()  # lays it out, so that names can be placed
    _write_names(axes, judged)
    return figure


def _draw_beside(axes: Any, judged: JudgedFront) -> None:
    x, y = judged.axes
    kinds: dict[str, list[tuple[float, float]]] = {}
    for name, record in judged.beside.items():
        kinds.setdefault(judged.kind(name), []).append(point(record, y, x))
    for kind, places in kinds.items():
        usual = (MARKS.get(kind, UNKNOWN), "#888888", MAKERS.get(kind, kind))
        mark, shade, label = LOOKS.get(kind, usual)
        edge = {"markeredgecolor": "black" if shade == "white" else shade}
        axes.plot(
            *zip(*places, strict=True), mark, color=shade, markersize=5.5, label=label, **edge
        )


def _write_names(axes: Any, judged: JudgedFront) -> None:
    """Write the names of ingredients and of both ends, and λ at other points if there is room."""
    x, y = judged.axes
    beside = {name: point(record, y, x) for name, record in judged.beside.items()}
    alone = [
        (style.label(name, MOST_NAME), beside[name])
        for name in judged.ingredients
        if name in beside
    ]
    if len(alone) > MOST_NAMED:
        alone = []
    points = [
        (name_of_point(judged.shares(record)), point(record, y, x)) for record in judged.points
    ]
    dots = [*beside.values(), *(place for _, place in points)]
    last = len(points) - 1
    inner = dict.fromkeys(round(last * quarter / 4) for quarter in (2, 1, 3))
    extras = [points[i] for i in inner if 0 < i < last]
    write_names(axes, [points[0], points[-1], *alone], dots, extras=extras)


def coefficients_over(run: RunRecord) -> Figure | None:
    """Draw a map of the coefficients of each ingredient: λ from left to right, depth downwards.

    Coefficients of a single group are one map, with a row for each ingredient.
    """
    if run.front is None or not is_trade_off(run):
        return None
    tables = [by_depth(run.front, step / STEPS) for step in range(STEPS + 1)]
    rows, weights = tables[0][0], np.array([table for _, table in tables])  # (λ, G, K)
    if len(rows) == 1:
        rows, maps = run.names, {"": weights[:, 0].T}
    else:
        largest = np.argsort(-weights.mean((0, 1)), kind="stable")[:MOST_PANELS]
        maps = {run.names[k]: weights[:, :, k].T for k in sorted(largest)}
    height = 1.3 + 0.135 * min(len(rows), ROWS)
    figure = style.new_figure(2.3 + 1.5 * len(maps), max(height, 2.2))
    look: Any = {"vmin": min(0.0, weights.min()), "vmax": max(1.0, weights.max())}
    look |= {"aspect": "auto", "interpolation": "nearest", "cmap": style.COLOUR_MAP}
    half = 0.5 / STEPS  # the first and the last column are centred on 0 and 1
    look["extent"] = (-half, 1 + half, len(rows) - 0.5, -0.5)
    panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, (name, table) in zip(panels, maps.items(), strict=True):
        image = axes.imshow(table, **look)
        axes.set_title(style.label(name, MOST_TITLE), fontsize=8)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"], fontsize=7)
        axes.tick_params(length=0)
    name_rows(panels[0], rows, -(-len(rows) // ROWS))
    figure.supxlabel(f"λ, share of {style.pretty(run.front.objectives[1])}", fontsize=8)
    bar = figure.colorbar(image, ax=[*panels], shrink=0.8, aspect=25, pad=0.02)
    bar.set_label("coefficient", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure
