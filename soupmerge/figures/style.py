"""One look for all figures: the same metric has the same colour everywhere."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from soupmerge.figures.palette import colour as colour
from soupmerge.figures.palette import pretty as pretty
from soupmerge.storage import commit

COLOUR_MAP = "cividis"
MOST_NAME = 28
MANY = 1000
"""Soups beyond which their dots are an image within a drawing of lines, which stays small."""

SETTINGS: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",  # opaque: a dark screen shows what a sheet of paper does
    "svg.hashsalt": "soupmerge",
    "pdf.fonttype": 42,  # letters stay letters: publishers refuse type 3
}
PERCENT = FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}%")
HALO = [withStroke(linewidth=2.5, foreground="white")]
"""Around names that stand among dots."""

# No dates and no versions: the same run gives the same bytes.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def new_figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] | None = "constrained"
) -> Figure:
    """Return an empty figure of *width* × *height* inches, without touching global state."""
    with matplotlib.rc_context(SETTINGS):
        return Figure(figsize=(width, height), layout=layout)


def save(figure: Figure, path: Path, formats: Sequence[str] = ("png",)) -> list[str]:
    """Write *figure* to *path* with the suffix of each of *formats*, and return the paths."""
    paths = []
    for form in formats:
        drawn = io.BytesIO()
        with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
            # Names of files may be in scripts that the font does not have: boxes stand for them.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            warnings.filterwarnings("ignore", "Matplotlib currently does not support")
            figure.savefig(drawn, format=form, metadata=METADATA[form])
        paths.append(path.with_suffix(f".{form}"))
        with commit.committed(paths[-1], force=True) as file:
            file.write(drawn.getbuffer())
    return [str(path) for path in paths]


def label(name: str, most: int = MOST_NAME) -> str:
    """Return *name* cut to *most* characters, its dollar signs no formula."""
    tail = most * 2 // 5
    short = name if len(name) <= most else f"{name[: most - tail - 1]}…{name[-tail:]}"
    return short.replace("$", r"\$")


def percent_axes(axes: Any, which: str = "xy") -> None:
    """Write axes of *axes* in percent, with few enough ticks to be read."""
    for axis in (getattr(axes, f"{letter}axis") for letter in which):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(PERCENT)
    axes.grid(alpha=0.25, linewidth=0.5)
