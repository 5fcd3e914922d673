"""Clean against robust accuracy: one panel per threat, and one for their union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from soupmerge.choices import MAKERS
from soupmerge.errors import printable
from soupmerge.figures import style
from soupmerge.figures.reading import RunRecord, against, best, ends, front, name_of, point

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
}
"""What made a judged network, as `soupmerge.choices.MAKERS` has it → its mark."""

UNKNOWN = "*"
"""The mark of what is made by something else: a newer soupmerge, say."""

NEAR = (0.1, 0.08)
"""Parts of a panel's width and height within which neighbours share a name."""

IN_A_LINE = 3
"""Numbers that neighbours may have beside each other; more of them go into another line."""

LETTER = 0.07
"""Of the list of names, in inches."""

SHORT, MOST_NAME = 6, 22
"""Characters of a text that stands to the right of its dot wherever that is; and of a name."""


def soups_front(run: RunRecord) -> Figure | None:
    """Return all judged soups of a search, the ingredients named, the front joined."""
    records = run.soups
    if len(records) < 2:
        return None
    figure, panels = panels_of(records[0])
    for axes, metric in panels:
        points = [point(record, metric) for record in records]
        shade, many = style.colour(metric), len(points) > style.MANY
        dots = {"s": 5 if many else 14, "alpha": 0.3 if many else 0.5, "rasterized": many}
        axes.scatter(*zip(*points, strict=True), color=shade, linewidth=0, label="soup", **dots)
        kept = [points[i] for i in front(points)]
        axes.plot(*zip(*kept, strict=True), color=shade, linewidth=1.2, label="front")
        star = points[best(records, metric)]
        how = {"color": "white", "edgecolor": shade, "zorder": 4}
        axes.scatter(*star, s=90, marker="*", label=f"best {star[1]:.1%}", **how)
        alone = [record for record in records if max(record["weights"]) == 1]
        for record in alone:
            place = point(record, metric)
            axes.plot(*place, "o", color="white", markeredgecolor="black", markersize=5)
            name = style.label(run.names[record["weights"].index(1)], MOST_NAME)
            name_beside(axes, name, place)
        axes.legend(fontsize=7)
    return figure


def comparison(run: RunRecord) -> Figure | None:
    """Return judged networks by kind, numbered; learned soups joined, and the grid's chord.

    The chord between the grid's best clean and best robust soup is what a learned soup is measured
    against (Huang 2023, figure 5). Crosses are 95% intervals.
    """
    records = run.judged
    if not records or run.manifest["command"] == "sweep":
        return None
    names = [style.label(name_of(record, records)) for record in records]
    figure, panels = panels_of(records[0], beside=0.4 + LETTER * max(map(len, names)))
    for axes, metric in panels:
        places = [point(record, metric) for record in records]
        for record in records:
            _intervals(axes, record, metric)
        _kinds(axes, records, metric)
        limits = (axes.get_xlim(), axes.get_ylim())
        near = [part * (high - low) for part, (low, high) in zip(NEAR, limits, strict=True)]
        numbers = [str(number) for number in range(1, len(records) + 1)]
        for group, place in grouped(numbers, places, near):
            rows = [group[i : i + IN_A_LINE] for i in range(0, len(group), IN_A_LINE)]
            name_beside(axes, ",\n".join(map(", ".join, rows)), place)
    marks = panels[0][0].get_legend_handles_labels()
    columns = min(len(marks[0]), 3 * len(panels))
    figure.legend(*marks, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
    key = "\n".join(f"{i}  {name}" for i, name in enumerate(names, start=1))
    panels[-1][0].annotate(
        key, (1.04, 1.0), xycoords="axes fraction", va="top", fontsize=8, linespacing=1.5
    )
    return figure


def _kinds(axes: Any, records: Sequence[dict[str, Any]], metric: str) -> None:
    made: dict[str, list[tuple[float, float]]] = {kind: [] for kind in MARKS}
    for record in records:
        kind = str(record.get("made by") or "elsewhere")
        made.setdefault(kind, []).append(point(record, metric))
    for kind, points in made.items():
        if not points:
            continue
        shade = style.colour(metric) if kind == "learn" else "#666666"
        name = style.label(MAKERS.get(kind, printable(kind)))
        how = {"color": shade, "markersize": 6, "linewidth": 1, "label": name}
        line = "-" if kind == "learn" else ""
        axes.plot(*zip(*sorted(points), strict=True), MARKS.get(kind, UNKNOWN) + line, **how)
        if kind == "grid" and len(points) > 1:
            chord_of(axes, points, shade)


def chord_of(axes: Any, points: Sequence[tuple[float, float]], shade: str) -> None:
    """Draw the line between the soups of a grid that are best in either accuracy."""
    how = {"color": shade, "linewidth": 1, "label": "the grid's chord"}
    axes.plot(*zip(*ends(points), strict=True), "--", **how)


def grouped(
    names: Sequence[str], places: Sequence[tuple[float, ...]], near: Sequence[float]
) -> list[tuple[list[str], tuple[float, ...]]]:
    """Return names of neighbours that are too near for a text each, and where one goes."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, place in zip(names, places, strict=True):
        first = (
            there
            for there in groups
            if all(abs(a - b) <= r for a, b, r in zip(place, there, near, strict=True))
        )
        groups.setdefault(next(first, place), []).append(name)
    return [(group, place) for place, group in groups.items()]


def panels_of(
    record: dict[str, Any], *, beside: float = 0.0
) -> tuple[Figure, list[tuple[Any, str]]]:
    """Return a figure with empty axes for each metric of *record* that stands against clean.

    *beside* them is room for so many inches of legend.
    """
    metrics = against(record)
    figure = style.new_figure(4.0 * len(metrics) + beside, 3.6)
    panels = []
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), i + 1)
        axes.set_xlabel("clean accuracy")
        axes.set_ylabel(
            "clean accuracy" if metric == "clean" else f"accuracy under {style.pretty(metric)}"
        )
        axes.margins(0.2)
        style.percent_axes(axes)
        panels.append((axes, metric))
    return figure, panels


def _intervals(axes: Any, record: dict[str, Any], metric: str) -> None:
    x, y = point(record, metric)
    (left, right), (low, high) = (record["metrics"][m]["ci95"] for m in ("clean", metric))
    spread = {"xerr": [[x - left], [right - x]], "yerr": [[y - low], [high - y]]}
    axes.errorbar(x, y, **spread, color="#bbbbbb", elinewidth=0.5, zorder=0)


def name_beside(axes: Any, text: str, place: tuple[float, ...], *, left: bool = False) -> None:
    """Write *text* beside the dot at *place*: above to its right, or to its *left*.

    In the right half of a panel a long text ends at the dot, so that it stays within.
    """
    how = {"textcoords": "offset points", "fontsize": 7, "path_effects": style.HALO, "zorder": 9}
    how |= {"xytext": (-6, 0), "ha": "right", "va": "center"} if left else {"xytext": (4, 4)}
    if not left and len(text) > SHORT and place[0] > sum(axes.get_xlim()) / 2:
        how |= {"xytext": (-4, 4), "ha": "right"}
    axes.annotate(text, place, annotation_clip=False, **how).set_in_layout(False)
