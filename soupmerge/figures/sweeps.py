"""Clean against robust accuracy of the soups of a sweep, beside the best soups of a grid."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from soupmerge.figures import style
from soupmerge.figures.fronts import (
    MOST_NAME,
    draw_chord,
    group_neighbours,
    panels_of,
)
from soupmerge.figures.labels import Named, write_names
from soupmerge.figures.reading import RunRecord, point

NEAR = 0.1
"""Neighbours within this fraction of the range of the points share a label."""


def curves(run: RunRecord) -> Figure | None:
    """Draw the curve of learned soups, a point per objective (Huang 2023, figures 5 and 6).

    A point is the mean over seeds; its cross reaches from the lowest to the highest. Squares are
    the grid's best soups; the dashed line is the chord between the best clean and the best robust.
    """
    if run.manifest["command"] != "sweep":
        return None
    records = {_network_name(record): record for record in run.judged}
    seeds = run.manifest["seeds"]
    goals = {
        goal: [records.pop(_soup_name(goal, seed, seeds), None) for seed in seeds]
        for goal in run.manifest["objectives"]
    }
    if not records or any(None in soups for soups in goals.values()):
        return None
    figure, panels = panels_of(next(iter(records.values())), beside=1.6)
    named = []
    for axes, metric in panels:
        learned = {goal: [point(r, metric) for r in rs if r] for goal, rs in goals.items()}
        others = {name: point(record, metric) for name, record in records.items()}
        columns = zip(*others.values(), *(p for ps in learned.values() for p in ps), strict=True)
        near = [NEAR * (max(axis) - min(axis)) for axis in columns]
        means = _draw_learned(axes, learned, metric)
        groups = group_neighbours(distinct_parts(list(goals)), means, near)
        labels: list[Named] = [(", ".join(map(style.label, g)), place) for g, place in groups]
        named.append((labels + _draw_others(axes, others), [*means, *others.values()]))
    entries = panels[0][0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside right upper", fontsize=7, frameon=False)
    figure.draw_without_rendering()  # lays it out, so that names can be placed
    for (axes, _), (labels, dots) in zip(panels, named, strict=True):
        write_names(axes, labels, dots)
    return figure


def _draw_learned(
    axes: Any, goals: dict[str, list[tuple[float, float]]], metric: str
) -> list[tuple[float, ...]]:
    """Draw the curve of the learned soups, and return the means over seeds on it."""
    means = [
        tuple(sum(axis) / len(points) for axis in zip(*points, strict=True))
        for points in goals.values()
    ]
    shade = style.colour(metric)
    for (x, y), points in zip(means, goals.values(), strict=True):
        xs, ys = zip(*points, strict=True)
        spread = {"xerr": [[x - min(xs)], [max(xs) - x]], "yerr": [[y - min(ys)], [max(ys) - y]]}
        axes.errorbar(x, y, **spread, color=shade, elinewidth=0.8, alpha=0.6, zorder=1)
    seeds = len(next(iter(goals.values())))
    name = f"learned, mean of {seeds} seeds" if seeds > 1 else "learned"
    axes.plot(*zip(*means, strict=True), "^-", color=shade, markersize=6, linewidth=1, label=name)
    return means


def _draw_others(axes: Any, others: dict[str, tuple[float, float]]) -> list[Named]:
    """Draw the soups and ingredients beside the curve, and return names and places to write."""
    grid = [place for name, place in others.items() if name.startswith("grid-")]
    uniform = [place for name, place in others.items() if name == "uniform"]
    rest = {n: p for n, p in others.items() if not n.startswith("grid-") and n != "uniform"}
    for mark, label, places in (("s", "best of grid", grid), ("D", "uniform", uniform)):
        if places:
            axes.plot(*zip(*places, strict=True), mark, color="#444444", markersize=6, label=label)
    if len(grid) > 1:
        draw_chord(axes, grid, "#444444")
    if rest:
        look = {"color": "white", "markeredgecolor": "black", "markersize": 5, "zorder": 2}
        axes.plot(*zip(*rest.values(), strict=True), "o", label="ingredients", **look)
    apart = {name: place for name, place in rest.items() if place not in (*grid, *uniform)}
    return [(style.label(name, MOST_NAME), place) for name, place in apart.items()]


def distinct_parts(names: Sequence[str]) -> list[str]:
    """Return *names* without the words they all begin with, and with fractions written as such.

    Example:
        >>> distinct_parts(["linf-0", "linf-2-255"])
        ['0', '2/255']
    """
    common = os.path.commonprefix([*names]) if len(names) > 1 else ""
    cut = common.rfind("-") + 1
    return [re.sub(r"\b(\d+)-(\d+)\b", r"\1/\2", name[cut:]) for name in names]


def _network_name(record: dict[str, Any]) -> str:
    """Return the name of the run folder if *record* is of a run's soup, and else of the file."""
    path = Path(record["ref"])
    return path.parent.name if path.stem == "soup" else path.stem


def _soup_name(goal: str, seed: int, seeds: Sequence[int]) -> str:
    return goal if len(seeds) == 1 else f"{goal}-seed{seed}"
