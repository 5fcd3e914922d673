"""Accuracy of soups for shifted images, data set by data set."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from matplotlib.figure import Figure

from soupmerge.figures import style
from soupmerge.figures.palette import INGREDIENTS
from soupmerge.figures.reading import RunRecord, accuracy_by_set

BEST_INDIVIDUALS = 2
"""Rows after those of the ingredients that repeat an ingredient, and are not drawn."""

MARKS = (
    ("D", "#999999", 0.2),
    ("d", "#666666", 0.2),
    ("s", "#000000", -0.2),
    ("^", "#D55E00", -0.2),
)
"""Marker, colour and distance below the line of the remaining rows: two ensembles, the single
soup, and a soup for each set. The distances keep them from hiding each other."""


def shifts(run: RunRecord) -> Figure | None:
    """Draw a line per data set, with a dot per network (Croce et al. 2023, table 1)."""
    by_set = accuracy_by_set(run)
    if by_set is None:
        return None
    (names, rows), k = by_set, len(run.names)
    figure = style.new_figure(6.4, 1.1 + 0.3 * len(names))
    axes = figure.add_subplot()
    places = list(range(len(names)))
    lows, highs = (list(map(end, *(row for *_, row in rows))) for end in (min, max))
    axes.hlines(places, lows, highs, color="#cccccc", linewidth=1, zorder=1)
    for (name, _, row), shade in zip(rows[:k], cycle(INGREDIENTS), strict=False):
        circle: Any = {"color": "white", "markeredgecolor": shade, "markersize": 5}
        axes.plot(row, places, "o", **circle, label=style.label(name))
    for (name, _, row), (mark, shade, lower) in zip(
        rows[k + BEST_INDIVIDUALS :], MARKS, strict=True
    ):
        level = [place + lower for place in places]
        axes.plot(row, level, mark, color=shade, markersize=4.5, label=name)
    axes.set_yticks(places, [style.label(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axhline(len(names) - 1.5, color="#888888", linewidth=0.6)
    axes.set_xlabel("accuracy on images that were not used to choose")
    style.percent_axes(axes, "x")
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    return figure
