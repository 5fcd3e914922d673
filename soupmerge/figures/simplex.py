"""Accuracy over the simplex: a ternary map per metric for K = 3, lines for K = 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpltern  # noqa: F401 - registers the ternary projection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from soupmerge.figures import style


def ternary_maps(records: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """Return one ternary map per metric (Huang 2023, figures 2 and 3): a dot is a judged soup."""
    metrics = list(records[0]["metrics"])
    figure = style.new_figure(3.2 * len(metrics), 3.8)
    weights = list(zip(*(record["weights"] for record in records), strict=True))
    for i, metric in enumerate(metrics):
        values = [record["metrics"][metric]["accuracy"] for record in records]
        axes: Any = figure.add_subplot(1, len(metrics), i + 1, projection="ternary")
        shades = axes.tripcolor(*weights, values, cmap=style.COLOUR_MAP, shading="gouraud")
        dots = {"color": "white", "edgecolor": "black", "clip_on": False}
        axes.scatter(*weights, s=8, linewidth=0.4, zorder=3, **dots)
        best = values.index(max(values))
        axes.scatter(*([column[best]] for column in weights), s=100, marker="*", zorder=4, **dots)
        for setter, name in zip(
            (axes.set_tlabel, axes.set_llabel, axes.set_rlabel), names, strict=True
        ):
            setter(name)
        bar = figure.colorbar(shades, ax=axes, location="bottom", shrink=0.8, pad=0.2)
        bar.set_label(f"{style.pretty(metric)}: best {max(values):.1%}", fontsize=10)
        bar.locator, bar.formatter = MaxNLocator(3), PercentFormatter(1.0, decimals=None)
        bar.update_ticks()
    return figure


def path_lines(records: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """Return accuracy along the path between two ingredients, with each metric's chord."""
    figure = style.new_figure(4.6, 3.4)
    axes = figure.add_subplot()
    ordered = sorted(records, key=lambda record: record["weights"][1])
    places = [record["weights"][1] for record in ordered]
    for metric in ordered[0]["metrics"]:
        values = [record["metrics"][metric]["accuracy"] for record in ordered]
        shade = style.colour(metric)
        axes.plot(places, values, "o-", color=shade, markersize=4, label=style.pretty(metric))
        axes.plot([0, 1], [values[0], values[-1]], "--", color=shade, linewidth=0.7)
    axes.set_xlabel(f"{names[0]}  ←  coefficient of {names[1]}  →  {names[1]}")
    axes.set_ylabel("accuracy")
    style.percent_axes(axes)
    axes.legend(fontsize=8)
    return figure
