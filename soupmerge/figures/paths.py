"""Between two ingredients: accuracy on the path, and the barriers on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure

from soupmerge.errors import printable
from soupmerge.figures import style
from soupmerge.figures.reading import RunRecord, chord

MARKS = "osD^vP"
MOST_NAME, MOST_TITLE = 13, 17
"""Characters of a name at the end of a path, and of one of two in a title."""

MOST_PANELS = 12
"""Pairs whose barriers are drawn: the highest, if there are more."""


def path_lines(run: RunRecord) -> Figure | None:
    """Return accuracy on the path between two ingredients, with each chord and the gain over it.

    The gain is what a soup has over the straight line between its ends (Wortsman 2022, WiSE-FT).
    """
    records = sorted(run.soups, key=lambda record: record["weights"][-1])
    if len(run.names) != 2 or len(records) < 3:
        return None
    metrics = list(records[0]["metrics"])
    figure = style.new_figure(3.0 * len(metrics) + 0.4, 3.2)
    places = [record["weights"][1] for record in records]
    first, second = (style.label(name, MOST_NAME) for name in run.names)
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), i + 1)
        values = [record["metrics"][metric]["accuracy"] for record in records]
        _line_over_chord(axes, places, values, metric, i)
        axes.set_xticks([0, 0.5, 1], [first, "½", second])
        left, _, right = axes.get_xticklabels()
        if places[0] >= 0 and places[-1] <= 1:  # at the edges: names stay within
            left.set_horizontalalignment("left")
            right.set_horizontalalignment("right")
        style.percent_axes(axes, "y")
        axes.set_ylabel("accuracy" if i == 0 else "")
    return figure


def _line_over_chord(
    axes: Any, places: Sequence[float], values: Sequence[float], metric: str, i: int
) -> None:
    shade = style.colour(metric)
    line = chord(places, values)
    axes.plot(places, line, "--", color=shade, linewidth=0.9)
    axes.fill_between(places, line, values, color=shade, alpha=0.15, linewidth=0)
    axes.plot(places, values, f"-{MARKS[i % len(MARKS)]}", color=shade, markersize=4)
    gains = [value - level for value, level in zip(values, line, strict=True)]
    best = max(range(len(gains)), key=gains.__getitem__)
    axes.plot([places[best]] * 2, [line[best], values[best]], ":", color=shade)
    told = f"{style.pretty(metric)}: {100 * gains[best]:+.1f} over the chord"
    axes.set_title(told, fontsize=9)


def barrier_curves(run: RunRecord) -> Figure | None:
    """Return the error between each pair of ingredients, its chord, and the barrier's height."""
    if not run.barriers:
        return None
    pairs = [list(found) for _, found in groupby(run.barriers, key=lambda b: b["pair"])]
    pairs = sorted(pairs, key=lambda found: -max(b["height"] for b in found))[:MOST_PANELS]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = style.new_figure(3.2 * columns + 0.4, 2.7 * rows + 0.3)
    top = None
    for place, found in enumerate(pairs, start=1):
        axes = figure.add_subplot(rows, columns, place, sharey=top)
        top = top or axes
        for i, barrier in enumerate(found):
            _barrier(axes, barrier, i)
        a, b = (style.label(printable(name), MOST_TITLE) for name in found[0]["pair"])
        axes.set_title(f"{a} to {b}", fontsize=9)
        axes.set_xlabel("way from the first to the second")
        axes.set_ylabel("error")
        style.percent_axes(axes, "y")
        axes.margins(y=0.2)
        axes.legend(fontsize=7, loc="best")
    return figure


def _barrier(axes: Any, barrier: dict[str, Any], i: int) -> None:
    t = [point["t"] for point in barrier["points"]]
    error = [point["error"] for point in barrier["points"]]
    shade = style.colour(barrier["metric"])
    told = f"{style.pretty(barrier['metric'])} {100 * barrier['height']:+.1f}: {barrier['verdict']}"
    axes.plot([0, 1], [error[0], error[-1]], "--", color=shade, linewidth=0.8)
    axes.plot(t, error, f"-{MARKS[i % len(MARKS)]}", color=shade, markersize=3.5, label=told)
