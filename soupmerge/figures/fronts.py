"""Clean against robust accuracy: one panel per threat, and one for their union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from soupmerge.figures import style
from soupmerge.figures.palette import MADE_BY
from soupmerge.figures.reading import Run, against, front, name_of, point

MARKS = {"finetune": "o", "elsewhere": "x", "grid": "s", "mix": "D", "learn": "^", "ensemble": "P"}


def soups_front(run: Run) -> Figure | None:
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
        best = max(points, key=lambda p: (p[1], p[0]))
        how = {"color": "white", "edgecolor": shade, "zorder": 4}
        axes.scatter(*best, s=90, marker="*", label=f"best {best[1]:.1%}", **how)
        for record, place in zip(records, points, strict=True):
            if max(record["weights"]) == 1:
                axes.plot(*place, "o", color="white", markeredgecolor="black", markersize=5)
                name_beside(axes, run.names[record["weights"].index(1)], place)
        axes.legend(fontsize=7)
    return figure


def comparison(run: Run) -> Figure | None:
    """Return judged networks by kind, numbered; learned soups joined, and the grid's chord.

    The chord between the grid's best clean and best robust soup is what a learned soup is measured
    against (Huang 2023, figure 5). Crosses are 95% intervals.
    """
    records = run.judged
    if not records or run.manifest["command"] == "sweep":
        return None
    figure, panels = panels_of(records[0])
    for axes, metric in panels:
        places: dict[tuple[float, float], list[int]] = {}
        for number, record in enumerate(records, start=1):
            places.setdefault(point(record, metric), []).append(number)
            _intervals(axes, record, metric)
        _kinds(axes, records, metric)
        for place, numbers in places.items():
            name_beside(axes, ", ".join(map(str, numbers)), place)
        axes.legend(fontsize=7)
    names = (style.label(name_of(record, records)) for record in records)
    key = "\n".join(f"{i}  {name}" for i, name in enumerate(names, start=1))
    panels[-1][0].annotate(
        key, (1.04, 1.0), xycoords="axes fraction", va="top", fontsize=8, linespacing=1.5
    )
    return figure


def _kinds(axes: Any, records: Sequence[dict[str, Any]], metric: str) -> None:
    for kind, mark in MARKS.items():
        points = sorted(
            point(r, metric) for r in records if (r.get("made by") or "elsewhere") == kind
        )
        if not points:
            continue
        shade = style.colour(metric) if kind == "learn" else "#666666"
        how = {"color": shade, "markersize": 6, "linewidth": 1, "label": MADE_BY[kind]}
        line = "-" if kind == "learn" else ""
        axes.plot(*zip(*points, strict=True), mark + line, **how)
        if kind == "grid" and len(points) > 1:
            chord = (max(points, key=lambda p: p[1]), max(points))
            axes.plot(*zip(*chord, strict=True), "--", color=shade, linewidth=1, label="its chord")


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
        axes.set_ylabel(f"accuracy under {style.pretty(metric)}")
        axes.margins(0.2)
        style.percent_axes(axes)
        panels.append((axes, metric))
    return figure, panels


def _intervals(axes: Any, record: dict[str, Any], metric: str) -> None:
    x, y = point(record, metric)
    (left, right), (low, high) = (record["metrics"][m]["ci95"] for m in ("clean", metric))
    spread = {"xerr": [[x - left], [right - x]], "yerr": [[y - low], [high - y]]}
    axes.errorbar(x, y, **spread, color="#bbbbbb", elinewidth=0.5, zorder=0)


def name_beside(axes: Any, name: str, place: tuple[float, ...], *, left: bool = False) -> None:
    """Write *name* beside the dot at *place*: above to its right, or to its *left*."""
    how = {"textcoords": "offset points", "fontsize": 7, "path_effects": style.HALO, "zorder": 9}
    how |= {"xytext": (-6, 0), "ha": "right", "va": "center"} if left else {"xytext": (4, 4)}
    axes.annotate(style.label(name), place, **how)
