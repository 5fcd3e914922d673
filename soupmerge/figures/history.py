"""The curves of learning, epoch by epoch, and the coefficients of each group."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soupmerge.figures import style
from soupmerge.figures.palette import INGREDIENTS
from soupmerge.figures.reading import CURVES, RunRecord, coefficients

LINES = ("-", "--", ":", "-.")
ROWS, BLOCKS = 50, 5
"""Rows of a heat map in one block, and the most blocks; with more groups, some are unlabelled."""

MOST_NAME = 17
"""Length of the upright names below a heat map."""


def learning(run: RunRecord) -> Figure | None:
    """Draw losses, gaps, mean coefficients, their entropy and movement over the epochs."""
    records = run.history
    keys = [key for key in CURVES if any(key in record for record in records)]
    if not keys:
        return None
    columns = 2 if len(keys) == 4 else min(len(keys), 3)
    rows = -(-len(keys) // columns)
    figure = style.new_figure(3.6 * columns, 2.6 * rows)
    for place, key in enumerate(keys, start=1):
        axes = figure.add_subplot(rows, columns, place)
        epochs = [record["epoch"] for record in records if key in record]
        values = [record[key] for record in records if key in record]
        if key == "weights":
            _draw_coefficients(axes, epochs, values, run.names)
        elif isinstance(values[0], dict):
            _draw_objectives(axes, epochs, values)
        else:
            look: Any = {"color": "#333333", "linewidth": 1.2, "label": "training"}
            axes.plot(epochs, values, marker="." if len(epochs) < 60 else None, **look)
        if key == "loss":
            _draw_validation(axes, [r for r in records if r.get("val") is not None])
        axes.set_xlabel("epoch")
        axes.set_ylabel(CURVES[key])
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(alpha=0.25, linewidth=0.5)
    return figure


def _draw_coefficients(axes: Any, epochs: list[int], rows: list[Any], names: list[str]) -> None:
    for k, name in enumerate(names):
        shade, line = INGREDIENTS[k % len(INGREDIENTS)], LINES[k % len(LINES)]
        column = [row[k] for row in rows]
        axes.plot(epochs, column, line, color=shade, label=style.label(name))
    axes.set_ylim(min(0, *(min(row) for row in rows)), max(1, *(max(row) for row in rows)))
    axes.legend(fontsize=7)


def _draw_objectives(axes: Any, epochs: list[int], rows: list[dict[str, float | None]]) -> None:
    """Draw a line for each objective, with gaps where no step has counted it."""
    for t, name in enumerate(rows[0]):
        values = [float("nan") if row[name] is None else row[name] for row in rows]
        look: Any = {"color": style.colour(name), "linewidth": 1.2, "label": style.pretty(name)}
        marker = "." if len(epochs) < 60 else None
        axes.plot(epochs, values, LINES[t % len(LINES)], marker=marker, **look)
    axes.legend(fontsize=7)


def _draw_validation(axes: Any, records: list[dict[str, Any]]) -> None:
    """Draw the loss on held-out images, unless some epoch has an infinite one."""
    values = [r["val"] for r in records if isinstance(r["val"], (int, float))]
    if values and len(values) == len(records):
        epochs = [record["epoch"] for record in records]
        axes.plot(epochs, values, "--", color="#AA4499", linewidth=1.2, label="held out")
        axes.legend(fontsize=7)


def heat_map(run: RunRecord) -> Figure | None:
    """Draw W as a map: a row per group in order of depth, a column per ingredient."""
    by_group = coefficients(run)
    if by_group is None:
        return None
    groups, rows = by_group
    blocks = -(-len(groups) // ROWS) if len(groups) <= ROWS * BLOCKS else BLOCKS
    length = -(-len(groups) // blocks)
    every = -(-length // ROWS)
    k = len(run.names)
    figure = style.new_figure((1.9 + 0.42 * k) * blocks, 1.5 + 0.135 * min(length, ROWS))
    low = min(0.0, *(min(row) for row in rows))
    high = max(1.0, *(max(row) for row in rows))
    panels = []
    for block in range(blocks):
        axes = figure.add_subplot(1, blocks, block + 1)
        part = slice(block * length, (block + 1) * length)
        table = rows[part] + [[float("nan")] * k] * (length - len(rows[part]))
        look: Any = {"aspect": "auto", "interpolation": "nearest", "vmin": low, "vmax": high}
        image = axes.imshow(table, cmap=style.COLOUR_MAP, **look)
        name_rows(axes, groups[part], every)
        axes.set_xticks(range(k), [style.label(name, MOST_NAME) for name in run.names], rotation=90)
        axes.tick_params(length=0, labelsize=6.5)
        for side in axes.spines.values():
            side.set_visible(False)
        panels.append(axes)
    bar = figure.colorbar(image, ax=panels, shrink=0.6, aspect=25, pad=0.02)
    bar.set_label("coefficient")
    return figure


def name_rows(axes: Any, groups: list[str], every: int) -> None:
    """Write the name of one row of a map in *every* so many beside it."""
    names = [style.label(group) for group in groups]
    axes.set_yticks(range(0, len(names), every), names[::every], fontsize=6.5)
