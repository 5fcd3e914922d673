"""What a figure draws, read from its artists."""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

Points = list[tuple[float, float]]


class Drawn(NamedTuple):
    """A line or its marks: where, and how."""

    points: Points
    mark: str
    line: str
    colour: str


def some(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def rounded(points: Any) -> Points:
    return [(round(float(x), 9), round(float(y), 9)) for x, y in points]


def lines(axes: Any) -> dict[str, Drawn]:
    """Return label → line, of lines that are in the legend."""
    found = {}
    for line in axes.get_lines():
        if not line.get_label().startswith("_"):
            look = (line.get_marker(), line.get_linestyle(), line.get_color())
            assert line.get_label() not in found, f"{line.get_label()} is drawn twice"
            found[line.get_label()] = Drawn(rounded(line.get_xydata()), *look)
    return found


def unnamed(axes: Any) -> list[Drawn]:
    """Return the lines that are in no legend, in the order in which they are drawn."""
    return [
        Drawn(rounded(s.get_xydata()), s.get_marker(), s.get_linestyle(), s.get_color())
        for s in axes.get_lines()
        if s.get_label().startswith("_")
    ]


def dots(axes: Any) -> dict[str, PathCollection]:
    """Return label → scattered dots."""
    return {c.get_label(): c for c in axes.collections if isinstance(c, PathCollection)}


def places(dots: PathCollection) -> Points:
    return rounded(np.asarray(dots.get_offsets()))


def crosses(axes: Any) -> set[tuple[Points, ...] | tuple[tuple[float, float], ...]]:
    """Return the bars of all intervals, each as its two ends."""
    found = [c for c in axes.collections if isinstance(c, LineCollection)]
    return {tuple(rounded(segment)) for c in found for segment in c.get_segments()}


def names(axes: Any) -> dict[str, tuple[float, float]]:
    """Return what is written in a panel → the dot it is written at."""
    return {a.get_text(): rounded([a.xy])[0] for a in axes.texts if isinstance(a, Annotation)}


def legend(of: Any) -> list[str]:
    """Return the entries of the legend of a figure or panel."""
    legends = of.legends if isinstance(of, Figure) else [of.get_legend()]
    return [text.get_text() for one in legends for text in one.get_texts()]


def words(figure: Figure) -> list[Text]:
    """Draw *figure*, and return the texts that come onto the paper, each once."""
    seen: dict[int, Text] = {}
    draw = Text.draw

    def noted(text: Text, *args: Any, **keywords: Any) -> None:
        seen[id(text)] = text
        draw(text, *args, **keywords)

    with patch.object(Text, "draw", noted):
        FigureCanvasAgg(figure).draw()
    return [text for text in seen.values() if text.get_visible() and text.get_text().strip()]


def unreadable(figure: Figure) -> list[str]:
    """Return which texts are cut off by the edge, and which are written over each other."""
    found = [(text.get_text(), text.get_window_extent()) for text in words(figure)]
    canvas, problems = figure.bbox, []
    for i, (text, box) in enumerate(found):
        if box.x0 < -1 or box.y0 < -1 or box.x1 > canvas.x1 + 1 or box.y1 > canvas.y1 + 1:
            problems.append(f"{text!r} is cut off")
        for other, there in found[:i]:
            wide = min(box.x1, there.x1) - max(box.x0, there.x0)
            tall = min(box.y1, there.y1) - max(box.y0, there.y0)
            if wide > 2 and tall > 2:
                problems.append(f"{text!r} is written over {other!r}")
    return problems
