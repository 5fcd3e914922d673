"""One look for all figures: the same metric has the same colour everywhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from soupmerge.storage import commit

# Okabe & Ito's palette, told apart by readers of every kind of colour vision.
COLOURS = {
    "clean": "#0072B2",
    "linf": "#D55E00",
    "l2": "#009E73",
    "l1": "#CC79A7",
    "union": "#000000",
}
COLOUR_MAP = "cividis"
SETTINGS: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
}


def colour(metric: str) -> str:
    """Return the colour of *metric*, such as ``clean`` or ``linf:8/255``."""
    return COLOURS.get(metric.partition(":")[0], "#666666")


def pretty(metric: str) -> str:
    """Return *metric* as readers know it, such as ``Linf 8/255``."""
    norm, _, eps = metric.partition(":")
    return f"{norm.capitalize()} {eps}" if eps else norm


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of *width* × *height* inches, without touching global state."""
    with matplotlib.rc_context(SETTINGS):
        return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> str:
    """Write *figure* as PNG to *path*, and return the path."""
    drawn = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        # No creation date: the same run gives the same bytes.
        figure.savefig(drawn, format="png", metadata={"Software": None})
    with commit.committed(path, force=True) as file:
        file.write(drawn.getbuffer())
    return str(path)


def percent_axes(axes: Any) -> None:
    """Write both axes of *axes* in percent, with few enough ticks to be read."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.grid(alpha=0.25, linewidth=0.5)
