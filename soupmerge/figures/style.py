"""The common look of all figures: sizes, colours, labels, and how they are saved."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from soupmerge.figures.palette import colour as colour
from soupmerge.figures.palette import pretty as pretty
from soupmerge.storage import commit

COLOUR_MAP = "cividis"
MOST_NAME = 28
DIGIT = 0.64
"""Width of a digit, in font sizes; most letters are as wide or narrower."""

MANY = 1000
"""Number of soups beyond which their dots are rasterised, so that vector figures stay small."""

SETTINGS: Any = {
    "font.size": 9,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",  # opaque, so that dark screens show it as paper does
    "svg.hashsalt": "soupmerge",
    "pdf.fonttype": 42,  # TrueType: publishers refuse type 3 fonts
}
PERCENT = FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}%")
HALO = [withStroke(linewidth=2.5, foreground="white")]
"""A white outline for names that stand among dots."""

# Without dates and versions, the same run gives the same bytes.
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


def say_outputs(figure: Figure, outputs: Sequence[str]) -> None:
    """Write above *figure* which *outputs* its accuracies are of, if they are not all."""
    if outputs:
        text = textwrap.fill("; ".join(outputs), width=16 * int(figure.get_figwidth()))
        figure.suptitle(text.replace("$", r"\$"), fontsize=7, color="#444444")


def save(figure: Figure, path: Path, formats: Sequence[str] = ("png",)) -> list[str]:
    """Write *figure* to *path* with the suffix of each of *formats*, and return the paths."""
    paths = []
    for suffix in formats:
        buffer = io.BytesIO()
        with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
            # Names of files may be in scripts that the font lacks: they become boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            warnings.filterwarnings("ignore", "Matplotlib currently does not support")
            figure.savefig(buffer, format=suffix, metadata=METADATA[suffix])
        paths.append(path.with_suffix(f".{suffix}"))
        with commit.committed(paths[-1], force=True) as file:
            file.write(buffer.getbuffer())
    return [str(path) for path in paths]


def label(name: str, most: int = MOST_NAME) -> str:
    """Return *name*, cut in the middle if it is longer or wider than *most* digits.

    Dollar signs are escaped, so that matplotlib reads no formula.
    """
    for length in range(most, 2, -1):
        tail = length * 2 // 5
        text = name if len(name) <= length else f"{name[: length - tail - 1]}…{name[-tail:]}"
        if width(text) <= most * DIGIT:
            break
    return text.replace("$", r"\$")


def width(text: str) -> float:
    """Return the width of *text* at a font size of 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that the font does not have
        found, _, _ = text_to_path.get_text_width_height_descent(
            text, FontProperties(size=1), False
        )
    return float(found)


def percent_axes(axes: Any, which: str = "xy") -> None:
    """Label the axes of *axes* that *which* names in percent, with at most five intervals."""
    for axis in (getattr(axes, f"{letter}axis") for letter in which):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(PERCENT)
    axes.grid(alpha=0.25, linewidth=0.5)
