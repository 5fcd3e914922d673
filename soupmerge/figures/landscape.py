"""Loss and accuracy over the plane through three checkpoints, as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from soupmerge.figures import style
from soupmerge.figures.reading import RunRecord

LEVELS = 12
SHORT, MOST_NAME = 8, 17
"""Characters of a name that is centred above its dot wherever that is, and of any."""

LEAST = 1e-6
"""A loss so small is drawn as if it were this, since a logarithm cannot tell of 0."""


def landscape(run: RunRecord) -> Figure | None:
    """Return a column for each metric: maps of loss, at logarithmic levels, and of accuracy.

    The first three records are the checkpoints, the others a lattice (Garipov et al. 2018,
    figure 1; Huang 2023, figure 7). Where nothing could be measured the map is hatched.
    """
    records, names = run.trials, run.names
    if run.manifest["command"] != "landscape":
        return None
    if len(records) < len(names) + run.manifest["settings"]["points"] ** 2:
        return None
    metrics = list(next((r["metrics"] for r in records if "metrics" in r), ["clean"]))
    xs, ys = (sorted({record[axis] for record in records[3:]}) for axis in "xy")
    tall = min(max((ys[-1] - ys[0]) / (xs[-1] - xs[0]), 0.4), 2.5)
    figure = style.new_figure(4.6 * len(metrics), 2 * (3.2 * tall + 0.9), "compressed")
    for i, metric in enumerate(metrics):
        for row, kind in enumerate(("loss", "accuracy")):
            axes = figure.add_subplot(2, len(metrics), row * len(metrics) + i + 1)
            axes.set_title(f"{style.pretty(metric)}: {kind}", fontsize=10)
            found = [record.get("metrics", {}).get(metric, {}) for record in records[3:]]
            values = [told.get(kind, np.nan) for told in found]
            table = np.ma.masked_invalid(np.reshape(values, (len(ys), len(xs))))
            _draw(axes, xs, ys, table, kind)
            _mark(axes, records[:3], names)
    if any("hole" in record for record in records[3:]):
        key = Patch(facecolor="#eeeeee", edgecolor="#888888", hatch="////", linewidth=0)
        figure.legend([key], ["hole: no finite loss"], loc="outside lower center", fontsize=8)
    return figure


def _draw(axes: Any, xs: Sequence[float], ys: Sequence[float], table: Any, kind: str) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(xs[0], xs[-1])
    axes.set_ylim(ys[0], ys[-1])
    axes.patch.set(facecolor="#eeeeee", edgecolor="#888888", hatch="////")
    if not table.count():
        return
    levels: Any
    ticks: Any = MaxNLocator(6)
    form: Any = PercentFormatter(1.0, decimals=None)
    how: dict[str, Any] = {"cmap": style.COLOUR_MAP}
    if kind == "loss":
        table = table.clip(LEAST)
        levels = np.geomspace(table.min(), max(table.max(), 1.001 * table.min()), LEVELS + 1)
        # The ends of a geometric sequence are rounded: all values shall lie within.
        levels[[0, -1]] *= 1 - 1e-9, 1 + 1e-9
        ticks, form = levels[::3], "%.3g"
        how = {"cmap": f"{style.COLOUR_MAP}_r", "norm": LogNorm()}
    else:
        levels = MaxNLocator(LEVELS).tick_values(table.min(), table.max() + 1e-6)
    shades = axes.contourf(xs, ys, table, levels, **how)
    bar = axes.figure.colorbar(shades, ax=axes, ticks=ticks, format=form, pad=0.02, aspect=25)
    bar.ax.minorticks_off()


def _mark(axes: Any, corners: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    places = [(record["x"], record["y"]) for record in corners]
    around = zip(*places, places[0], strict=True)
    axes.plot(*around, color="white", linewidth=0.8, linestyle="--", zorder=3)
    left, right = axes.get_xlim()
    for place, name in zip(places, names, strict=True):
        axes.plot(*place, "o", color="white", markeredgecolor="black", markersize=6, zorder=4)
        # Names stay within the map: a long one near an edge begins or ends at its dot.
        part = (place[0] - left) / (right - left) if len(name) > SHORT else 1 / 2
        side = "left" if part < 1 / 3 else "right" if part > 2 / 3 else "center"
        # Below the first, if it is long: the second is as high, and its name may reach as far.
        low = len(name) > SHORT and place is places[0]
        how = {
            "xytext": (0, -14 if low else 7),
            "textcoords": "offset points",
            "ha": side,
            "fontsize": 8,
        }
        axes.annotate(style.label(name, MOST_NAME), place, **how, path_effects=style.HALO, zorder=5)
    short = [style.label(name, MOST_NAME) for name in names]
    axes.set_xlabel(f"distance of weights,\n{short[0]} → {short[1]}", fontsize=8)
    axes.set_ylabel(f"at right angles,\ntowards {short[2]}", fontsize=8)
