"""Clean against robust accuracy: one panel per threat, and one for their union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from soupmerge.choices import MAKERS
from soupmerge.errors import printable
from soupmerge.figures import style
from soupmerge.figures.judged_front import is_trade_off
from soupmerge.figures.labels import Named, write_names
from soupmerge.figures.reading import RunRecord, best, ends, name_of, plotted_metrics, point
from soupmerge.pareto import front

MARKS = {
    "finetune": "o",
    "elsewhere": "x",
    "ensemble": "P",
    "mix": "D",
    "grid": "s",
    "greedy": "p",
    "path": "v",
    "search": "h",
    "adapt": "<",
    "learn": "^",
    "front": ">",
}
"""What made a judged network, a key of `soupmerge.choices.MAKERS` → its marker."""

JOINED = ("learn", "front")
"""What is joined by a line: soups that were learned for different objectives."""

UNKNOWN = "*"
"""The marker of networks made by anything else, such as a newer soupmerge."""

NEAR = (0.1, 0.08)
"""Neighbours within these fractions of a panel's width and height share a label."""

PER_LINE = 3
"""Most numbers on one line of a shared label."""

LETTER, LINE = 0.07, 0.17
"""Width of a letter in the list of names, and height of a line of it, in inches."""

HEIGHT, PER_PANEL = 3.6, 3
"""Height of a figure, in inches, and columns of the legend below each of its panels."""

SHORT, MOST_NAME = 6, 22
"""Length up to which a label stands to the right of every dot; and the most of a name."""


def soups_front(run: RunRecord) -> Figure | None:
    """Draw all judged soups of a search, with their front, the best one and the ingredients."""
    records = run.soups
    if len(records) < 2 or is_trade_off(run):
        return None
    figure, panels = panels_of(records[0])
    for axes, metric in panels:
        points = [point(record, metric) for record in records]
        shade, many = style.colour(metric), len(points) > style.MANY
        size = {"s": 5 if many else 14, "alpha": 0.3 if many else 0.5, "rasterized": many}
        axes.scatter(*zip(*points, strict=True), color=shade, linewidth=0, label="soup", **size)
        line = [points[i] for i in front(points)]
        axes.plot(*zip(*line, strict=True), color=shade, linewidth=1.2, label="front")
        star = points[best(records, metric)]
        hollow = {"color": "white", "edgecolor": shade, "zorder": 4}
        axes.scatter(*star, s=90, marker="*", label=f"best {star[1]:.1%}", **hollow)
        for record, place in zip(records, points, strict=True):
            if max(record["weights"]) == 1:
                axes.plot(*place, "o", color="white", markeredgecolor="black", markersize=5)
                name = style.label(run.names[record["weights"].index(1)], MOST_NAME)
                write_beside(axes, name, place)
        axes.legend(fontsize=7)
    return figure


def comparison(run: RunRecord) -> Figure | None:
    """Draw the judged networks, numbered and marked by what made them, with 95% intervals.

    Learned soups are joined, and so are points of a front. They are to be compared with the chord
    between the grid's best clean and best robust soup (Huang 2023, figure 5).
    """
    records = run.judged
    if not records or run.manifest["command"] == "sweep":
        return None
    names = [style.label(name_of(record, records)) for record in records]
    entries = len({record.get("made by") for record in records}) + 1  # and the chord
    rows = -(-entries // (PER_PANEL * len(plotted_metrics(records[0]))))
    height = max(HEIGHT, LINE * (len(names) + rows + 2))
    beside = 0.4 + LETTER * max(map(len, names))
    figure, panels = panels_of(records[0], beside=beside, height=height)
    for axes, metric in panels:
        for record in records:
            draw_intervals(axes, record, ("clean", metric))
        _draw_by_maker(axes, records, metric)
    handles = panels[0][0].get_legend_handles_labels()
    columns = min(len(handles[0]), PER_PANEL * len(panels))
    figure.legend(*handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
    key = "\n".join(f"{i}  {name}" for i, name in enumerate(names, start=1))
    panels[-1][0].annotate(
        key, (1.04, 1.0), xycoords="axes fraction", va="top", fontsize=8, linespacing=1.5
    )
    figure.draw_without_rendering()  # lays it out, so that numbers can be placed
    for axes, metric in panels:
        _write_numbers(axes, [point(record, metric) for record in records])
    return figure


def _write_numbers(axes: Any, places: Sequence[tuple[float, float]]) -> None:
    """Write the number of each network, counted from 1, near it; neighbours share a label."""
    limits = (axes.get_xlim(), axes.get_ylim())
    near = [part * (high - low) for part, (low, high) in zip(NEAR, limits, strict=True)]
    numbers = [str(number) for number in range(1, len(places) + 1)]
    labels: list[Named] = []
    for group, place in group_neighbours(numbers, places, near):
        rows = [group[i : i + PER_LINE] for i in range(0, len(group), PER_LINE)]
        labels.append((",\n".join(map(", ".join, rows)), place))
    write_names(axes, labels, places)


def _draw_by_maker(axes: Any, records: Sequence[dict[str, Any]], metric: str) -> None:
    by_maker: dict[str, list[tuple[float, float]]] = {maker: [] for maker in MARKS}
    for record in records:
        maker = str(record.get("made by") or "elsewhere")
        by_maker.setdefault(maker, []).append(point(record, metric))
    for maker, points in by_maker.items():
        if not points:
            continue
        shade = style.colour(metric) if maker in JOINED else "#666666"
        name = style.label(MAKERS.get(maker, printable(maker)))
        look = {"color": shade, "markersize": 6, "linewidth": 1, "label": name}
        line = "-" if maker in JOINED else ""
        axes.plot(*zip(*sorted(points), strict=True), MARKS.get(maker, UNKNOWN) + line, **look)
        if maker == "grid" and len(points) > 1:
            draw_chord(axes, points, shade)


def draw_chord(axes: Any, points: Sequence[tuple[float, float]], shade: str) -> None:
    """Draw the line between a grid's best clean and best robust soup."""
    look = {"color": shade, "linewidth": 1, "label": "the grid's chord"}
    axes.plot(*zip(*ends(points), strict=True), "--", **look)


def group_neighbours(
    names: Sequence[str], places: Sequence[tuple[float, ...]], near: Sequence[float]
) -> list[tuple[list[str], tuple[float, ...]]]:
    """Return groups of *names* whose places are too close for a label each, and each label's place.

    A name joins the first group whose place is at most *near* away in every coordinate.
    """
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, place in zip(names, places, strict=True):
        close = (
            other
            for other in groups
            if all(abs(a - b) <= r for a, b, r in zip(place, other, near, strict=True))
        )
        groups.setdefault(next(close, place), []).append(name)
    return [(group, place) for place, group in groups.items()]


def panels_of(
    record: dict[str, Any], *, beside: float = 0.0, height: float = HEIGHT
) -> tuple[Figure, list[tuple[Any, str]]]:
    """Return a figure with axes for each metric that is plotted against clean accuracy.

    To their right, *beside* inches are left for a legend.
    """
    metrics = plotted_metrics(record)
    figure = style.new_figure(4.0 * len(metrics) + beside, height)
    panels = []
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), i + 1)
        name_axes(axes, "clean", metric)
        panels.append((axes, metric))
    return figure, panels


def name_axes(axes: Any, x: str, y: str) -> None:
    """Name the axes of *axes* after the metrics *x* and *y*, in percent, with room for names."""
    axes.set_xlabel(_accuracy(x))
    axes.set_ylabel(_accuracy(y))
    axes.margins(0.2)
    style.percent_axes(axes)


def _accuracy(metric: str) -> str:
    return "clean accuracy" if metric == "clean" else f"accuracy under {style.pretty(metric)}"


def draw_intervals(
    axes: Any, record: dict[str, Any], metrics: tuple[str, str], shade: str = "#bbbbbb"
) -> None:
    """Draw the 95% intervals of *record* in the *metrics* of both axes."""
    (x, (left, right)), (y, (low, high)) = (
        (record["metrics"][metric]["accuracy"], record["metrics"][metric]["ci95"])
        for metric in metrics
    )
    spread = {"xerr": [[x - left], [right - x]], "yerr": [[y - low], [high - y]]}
    axes.errorbar(x, y, **spread, color=shade, elinewidth=0.5, alpha=0.7, zorder=0)


def write_beside(axes: Any, text: str, place: tuple[float, ...], *, left: bool = False) -> None:
    """Write *text* above and to the right of the dot at *place*, or to its *left*.

    A long text begins at a dot in the left half of the panel and ends at one in the right half, so
    that it stays inside. The limits of *axes* must therefore be final.
    """
    if len(text) > SHORT:
        left = place[0] > sum(axes.get_xlim()) / 2
    look = {"textcoords": "offset points", "fontsize": 7, "path_effects": style.HALO, "zorder": 9}
    look |= {"xytext": (-4, 4), "ha": "right"} if left else {"xytext": (4, 4)}
    axes.annotate(text, place, annotation_clip=False, **look).set_in_layout(False)
