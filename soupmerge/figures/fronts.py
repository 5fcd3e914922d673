"""Clean against robust accuracy: one panel per threat, and one for their union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from soupmerge.figures import style

MARKS = {"finetune": "o", "elsewhere": "x", "grid": "s", "mix": "D", "learn": "^", "ensemble": "P"}
LEGEND = {
    "finetune": "trained",
    "elsewhere": "from elsewhere",
    "grid": "best of grid",
    "mix": "mixed by hand",
    "learn": "learned",
    "ensemble": "ensemble",
}


def grid_front(records: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """Return all soups of a grid, the ingredients named, the front joined."""
    figure, panels = _panels(records)
    for axes, metric in panels:
        points = [_point(record, metric) for record in records]
        axes.scatter(
            *zip(*points, strict=True), s=14, color=style.colour(metric), alpha=0.5, label="soup"
        )
        front = sorted(
            p for p in points if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)
        )
        axes.plot(*zip(*front, strict=True), color=style.colour(metric), linewidth=1, label="front")
        for record, point in zip(records, points, strict=True):
            if max(record["weights"]) == 1:
                _name(axes, names[record["weights"].index(1)], point)
        axes.legend(fontsize=7)
    return figure


def comparison(records: Sequence[dict[str, Any]]) -> Figure:
    """Return judged networks by kind, numbered; learned soups joined, and the grid's chord.

    The chord between the grid's best clean and best robust soup is what a learned soup is measured
    against (Huang 2023, figure 5). Crosses are 95% intervals.
    """
    figure, panels = _panels(records)
    for axes, metric in panels:
        places: dict[tuple[float, float], list[int]] = {}
        for number, record in enumerate(records, start=1):
            places.setdefault(_point(record, metric), []).append(number)
            _intervals(axes, record, metric)
        for kind, mark in MARKS.items():
            points = sorted(_point(r, metric) for r in records if r.get("made by") == kind)
            if points:
                shade = style.colour(metric) if kind == "learn" else "#666666"
                how = {"color": shade, "markersize": 6, "linewidth": 1, "label": LEGEND[kind]}
                line = "-" if kind == "learn" else ""
                axes.plot(*zip(*points, strict=True), mark + line, **how)
                if kind == "grid":
                    chord = (max(points, key=lambda p: p[1]), max(points))
                    axes.plot(*zip(*chord, strict=True), "--", color=shade, linewidth=1)
        for point, numbers in places.items():
            _name(axes, ", ".join(map(str, numbers)), point)
        axes.legend(fontsize=7)
    key = "\n".join(f"{i}  {record['name']}" for i, record in enumerate(records, start=1))
    panels[-1][0].annotate(
        key, (1.04, 1.0), xycoords="axes fraction", va="top", fontsize=8, linespacing=1.5
    )
    return figure


def _panels(records: Sequence[dict[str, Any]]) -> tuple[Figure, list[tuple[Any, str]]]:
    metrics = [metric for metric in records[0]["metrics"] if metric != "clean"] or ["clean"]
    figure = style.new_figure(4.0 * len(metrics), 3.6)
    panels = []
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), i + 1)
        axes.set_xlabel("clean accuracy")
        axes.set_ylabel(f"accuracy under {style.pretty(metric)}")
        axes.margins(0.2)
        style.percent_axes(axes)
        panels.append((axes, metric))
    return figure, panels


def _point(record: dict[str, Any], metric: str) -> tuple[float, float]:
    return record["metrics"]["clean"]["accuracy"], record["metrics"][metric]["accuracy"]


def _intervals(axes: Any, record: dict[str, Any], metric: str) -> None:
    x, y = _point(record, metric)
    (left, right), (low, high) = (record["metrics"][m]["ci95"] for m in ("clean", metric))
    spread = {"xerr": [[x - left], [right - x]], "yerr": [[y - low], [high - y]]}
    axes.errorbar(x, y, **spread, color="#bbbbbb", elinewidth=0.5, zorder=0)


def _name(axes: Any, name: str, point: tuple[float, float]) -> None:
    axes.annotate(name, point, xytext=(4, 4), textcoords="offset points", fontsize=7)
