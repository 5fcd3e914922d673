"""Accuracy along the path between two ingredients, and the barriers between pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure

from soupmerge.errors import printable
from soupmerge.figures import style
from soupmerge.figures.reading import RunRecord, chord

MARKS = "osD^vP"
MOST_NAME, MOST_TITLE = 11, 17
"""Length of a name at an end of a path, and of each of the two names in a title."""

MOST_PANELS = 12
"""Most pairs whose barriers are drawn; of more, those with the highest barriers."""


def path_lines(run: RunRecord) -> Figure | None:
    """Draw accuracy along the path between two ingredients, its chord and the largest gain over it.

    The gain is a soup's height above the straight line between the ends (WiSE-FT, Wortsman et al.
    2022).
    """
    records = sorted(run.soups, key=lambda record: record["weights"][-1])
    if len(run.names) != 2 or len(records) < 3 or run.front is not None:
        return None
    figure = style.new_figure(3.0 * len(run.metrics) + 0.4, 3.2)
    t = [record["weights"][1] for record in records]
    first, second = (style.label(name, MOST_NAME) for name in run.names)
    for i, metric in enumerate(run.metrics):
        axes = figure.add_subplot(1, len(run.metrics), i + 1)
        values = [record["metrics"][metric]["accuracy"] for record in records]
        _draw_path(axes, t, values, metric, MARKS[i % len(MARKS)])
        axes.set_xticks([0, 0.5, 1], [first, "½", second])
        left, _, right = axes.get_xticklabels()
        if t[0] >= 0 and t[-1] <= 1:  # at the edges, where centred names would reach beyond
            left.set_horizontalalignment("left")
            right.set_horizontalalignment("right")
        style.percent_axes(axes, "y")
        axes.set_ylabel("accuracy" if i == 0 else "")
    return figure


def _draw_path(
    axes: Any, t: Sequence[float], values: Sequence[float], metric: str, mark: str
) -> None:
    shade = style.colour(metric)
    line = chord(t, values)
    axes.plot(t, line, "--", color=shade, linewidth=0.9)
    axes.fill_between(t, line, values, color=shade, alpha=0.15, linewidth=0)
    axes.plot(t, values, f"-{mark}", color=shade, markersize=4)
    gains = [value - level for value, level in zip(values, line, strict=True)]
    best = max(range(len(gains)), key=gains.__getitem__)
    axes.plot([t[best]] * 2, [line[best], values[best]], ":", color=shade)
    axes.set_title(f"{style.pretty(metric)}: {100 * gains[best]:+.1f} over the chord", fontsize=9)


def barrier_curves(run: RunRecord) -> Figure | None:
    """Draw the error between each pair of ingredients, its chord and the barrier's height."""
    if not run.barriers:
        return None
    pairs = [list(group) for _, group in groupby(run.barriers, key=lambda b: b["pair"])]
    pairs = sorted(pairs, key=lambda group: -max(b["height"] for b in group))[:MOST_PANELS]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = style.new_figure(3.2 * columns + 0.4, 2.7 * rows + 0.3)
    first = None
    for place, group in enumerate(pairs, start=1):
        axes = figure.add_subplot(rows, columns, place, sharey=first)
        first = first or axes
        for i, barrier in enumerate(group):
            _draw_barrier(axes, barrier, MARKS[i % len(MARKS)])
        a, b = (style.label(printable(name), MOST_TITLE) for name in group[0]["pair"])
        axes.set_title(f"{a} to {b}", fontsize=9)
        axes.set_xlabel("position from the first to the second")
        axes.set_ylabel("error")
        style.percent_axes(axes, "y")
        axes.margins(y=0.2)
        axes.legend(fontsize=7, loc="best")
    return figure


def _draw_barrier(axes: Any, barrier: dict[str, Any], mark: str) -> None:
    t = [point["t"] for point in barrier["points"]]
    error = [point["error"] for point in barrier["points"]]
    shade = style.colour(barrier["metric"])
    name = f"{style.pretty(barrier['metric'])} {100 * barrier['height']:+.1f}: {barrier['verdict']}"
    axes.plot([0, 1], [error[0], error[-1]], "--", color=shade, linewidth=0.8)
    axes.plot(t, error, f"-{mark}", color=shade, markersize=3.5, label=name)
