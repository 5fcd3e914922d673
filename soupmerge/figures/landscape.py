"""Loss and accuracy on the plane through three checkpoints, as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from soupmerge.figures import style
from soupmerge.figures.reading import RunRecord

LEVELS = 12

FLATTEST, TALLEST = 0.4, 2.5
"""Limits of a map's height divided by its width. Between them, both axes have the same scale."""

SMALLEST_LOSS = 1e-6
"""Smaller losses are drawn as this one, because the logarithmic scale has no place for 0."""

HOLE: Any = {"facecolor": "#eeeeee", "edgecolor": "#888888", "hatch": "////"}
CHECKPOINT: Any = {"color": "white", "markeredgecolor": "black", "markersize": 10}


def landscape(run: RunRecord) -> Figure | None:
    """Return a column for each metric: a map of the loss, at logarithmic levels, and of accuracy.

    The first three records are the checkpoints, which are numbered; the others form a lattice
    (Garipov et al. 2018, figure 1; Huang 2023, figure 7). Points without a finite loss are hatched.
    """
    if run.manifest["command"] != "landscape":
        return None
    checkpoints, lattice = run.trials[:3], run.trials[3:]
    if len(lattice) < run.manifest["settings"]["points"] ** 2:
        return None
    metrics = list(next((r["metrics"] for r in run.trials if "metrics" in r), ["clean"]))
    xs, ys = (sorted({record[axis] for record in lattice}) for axis in "xy")
    shape = min(max((ys[-1] - ys[0]) / (xs[-1] - xs[0]), FLATTEST), TALLEST)
    key = _key(run.names, holes=any("hole" in record for record in lattice))
    columns = min(len(metrics), 2)
    height = 2 * (3.2 * shape + 0.7) + 0.2 * len(key) / columns
    figure = style.new_figure(4.6 * len(metrics), height, "compressed")
    for column, metric in enumerate(metrics, start=1):
        for row, kind in enumerate(("loss", "accuracy")):
            axes = figure.add_subplot(2, len(metrics), row * len(metrics) + column)
            axes.set_title(f"{style.pretty(metric)}: {kind}", fontsize=10)
            axes.set_box_aspect(shape)
            measured = [record.get("metrics", {}).get(metric, {}) for record in lattice]
            values = [numbers.get(kind, np.nan) for numbers in measured]
            table = np.ma.masked_invalid(np.reshape(values, (len(ys), len(xs))))
            _draw(axes, xs, ys, table, kind)
            _mark(axes, checkpoints)
    place: Any = {"loc": "outside lower center", "ncols": columns}
    figure.legend(list(key.values()), list(key), fontsize=8, frameon=False, **place)
    return figure


def _key(names: Sequence[str], *, holes: bool) -> dict[str, Any]:
    """Return the entries of the legend, with what stands before each."""
    dot = Line2D([], [], marker="o", linestyle="none", **CHECKPOINT)
    key: dict[str, Any] = {
        f"{k}  {style.label(name)}": dot for k, name in enumerate(names, start=1)
    }
    if holes:
        key["hole: no finite loss"] = Patch(linewidth=0, **HOLE)
    return key


def _draw(axes: Any, xs: Sequence[float], ys: Sequence[float], table: Any, kind: str) -> None:
    axes.set_xlim(xs[0], xs[-1])
    axes.set_ylim(ys[0], ys[-1])
    axes.patch.set(**HOLE)
    if not table.count():
        return
    levels: Any
    ticks: Any = MaxNLocator(6)
    tick_format: Any = PercentFormatter(1.0, decimals=None)
    colours: dict[str, Any] = {"cmap": style.COLOUR_MAP}
    if kind == "loss":
        table = table.clip(SMALLEST_LOSS)
        levels = np.geomspace(table.min(), max(table.max(), 1.001 * table.min()), LEVELS + 1)
        # The ends of a geometric sequence are rounded; every value must lie between them.
        levels[[0, -1]] *= 1 - 1e-9, 1 + 1e-9
        ticks, tick_format = levels[::3], "%.3g"
        colours = {"cmap": f"{style.COLOUR_MAP}_r", "norm": LogNorm()}
    else:
        levels = MaxNLocator(LEVELS).tick_values(table.min(), table.max() + 1e-6)
    shades = axes.contourf(xs, ys, table, levels, **colours)
    bar = axes.figure.colorbar(
        shades, ax=axes, ticks=ticks, format=tick_format, pad=0.02, aspect=25
    )
    bar.ax.minorticks_off()


def _mark(axes: Any, checkpoints: Sequence[dict[str, Any]]) -> None:
    """Draw the triangle between the *checkpoints*, and each as a dot that holds its number."""
    places = [(record["x"], record["y"]) for record in checkpoints]
    around = zip(*places, places[0], strict=True)
    axes.plot(*around, color="white", linewidth=0.8, linestyle="--", zorder=3)
    for number, place in enumerate(places, start=1):
        axes.plot(*place, "o", clip_on=False, zorder=4, **CHECKPOINT)
        within = {"ha": "center", "va": "center_baseline", "fontsize": 7, "zorder": 5}
        axes.annotate(f"{number}", place, annotation_clip=False, **within)
    axes.set_xlabel("distance in weights, 1 → 2", fontsize=8)
    axes.set_ylabel("at right angles,\ntowards 3", fontsize=8)
