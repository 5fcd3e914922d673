"""Colours that are distinct for every kind of colour vision, on paper and on dark screens."""

from __future__ import annotations

COLOURS = {
    "clean": "#0072B2",
    "linf": "#D55E00",
    "l2": "#009E73",
    "l1": "#CC79A7",
    "union": "#000000",
}
"""Norm or metric → colour, after the palette of Okabe and Ito."""

DARK = {
    "clean": "#56B4E9",
    "linf": "#FF8A3D",
    "l2": "#2FC79A",
    "l1": "#E060C0",
    "union": "#FFFFFF",
}
"""The same on a dark background."""

OTHER, OTHER_DARK = "#595959", "#B0B0B0"

INGREDIENTS = (
    "#332288", "#CC6677", "#117733", "#DDAA33", "#44AA99", "#882255", "#88CCEE", "#999933",
)  # fmt: skip
"""Colours of ingredients, after Tol's muted palette; none is the colour of a metric."""

INGREDIENTS_DARK = (
    "#9A8CF0", "#F08A9B", "#5FBF77", "#EBCB5A", "#6FD6C5", "#D77AA8", "#A9DDF5", "#C9C96A",
)  # fmt: skip
"""The same on a dark background."""


def colour(metric: str, *, dark: bool = False) -> str:
    """Return the colour of *metric*, such as ``clean`` or ``linf:8/255``."""
    colours, other = (DARK, OTHER_DARK) if dark else (COLOURS, OTHER)
    return colours.get(metric.partition(":")[0], other)


def pretty(metric: str) -> str:
    """Return *metric* as it is written for readers, such as ``Linf 8/255``."""
    norm, _, eps = metric.partition(":")
    return f"{norm.capitalize()} {eps}" if eps else norm
