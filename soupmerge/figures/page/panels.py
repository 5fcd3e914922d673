"""The plots on a page beside the map of all soups, as data for plotly.

Colours are names (``@metric:clean``, ``@ingredient:0``, ``@ink``), which the page replaces by those
of a light or a dark screen. Text from files is escaped, since plotly interprets tags and entities.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from soupmerge.errors import printable
from soupmerge.figures.palette import INGREDIENTS, pretty
from soupmerge.figures.reading import CURVES, RunRecord, accuracy_by_set, chord, coefficients

AT_TOP = {"lenmode": "pixels", "len": 300, "y": 1, "yanchor": "top"}
DASHES = ("solid", "dash", "dot", "dashdot")
SOUPS = (
    ("@ink", "diamond-open"),
    ("@ink", "cross-open"),
    ("@metric:clean", "square"),
    ("@metric:linf", "triangle-up"),
)
"""Colour and symbol of two ensembles, the single soup, and a soup for each set."""


class Panel(NamedTuple):
    """A plot, and its numbers as a table.

    Attributes:
        title: the heading.
        about: a sentence that says what the plot shows.
        data, layout: the plot, as plotly takes it.
        header, rows: the table.
    """

    title: str
    about: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    header: list[str]
    rows: list[list[Any]]


def panels(run: RunRecord) -> list[Panel]:
    """Return the panels whose numbers *run* holds."""
    return [panel for of in PANELS for panel in of(run)]


def _paths(run: RunRecord) -> list[Panel]:
    records = sorted(run.soups, key=lambda record: record["weights"][-1])
    if len(run.names) != 2 or len(records) < 3 or run.front is not None:
        return []
    t = [record["weights"][1] for record in records]
    data, rows = [], [[f"{place:g}"] for place in t]
    for i, metric in enumerate(run.metrics):
        values = [record["metrics"][metric]["accuracy"] for record in records]
        line = chord(t, values)
        data.append(_line(t, values, pretty(metric), f"@metric:{metric}", i))
        data.append(_chord([t[0], t[-1]], [line[0], line[-1]], f"@metric:{metric}"))
        for row, value, level in zip(rows, values, line, strict=True):
            row += [f"{value:.1%}", f"{100 * (value - level):+.1f}"]
    first, second = run.names
    layout = _axes(f"coefficient of {second}", "accuracy", percent=True)
    header = [f"coefficient of {second}"]
    for metric in run.metrics:
        header += [pretty(metric), "over its chord, points"]
    about = f"Accuracy from {first} to {second}; dashed lines are chords between the two."
    return [Panel("Path between two ingredients", about, data, layout, header, rows)]


def _learning(run: RunRecord) -> list[Panel]:
    curves = []
    for key, title in CURVES.items():
        records = [record for record in run.history if key in record]
        if not records:
            continue
        epochs = [record["epoch"] for record in records]
        names, shades, columns = _columns(run, [record[key] for record in records], title)
        lines = enumerate(zip(names, shades, columns, strict=True))
        data = [_line(epochs, column, name, shade, k) for k, (name, shade, column) in lines]
        held_out = [
            (r["epoch"], r["val"]) for r in records if isinstance(r.get("val"), (int, float))
        ]
        if key == "loss" and held_out:
            times, losses = zip(*held_out, strict=True)
            data.append(_line(times, losses, "held out", "@ingredient:1", 1))
        by_epoch = zip(epochs, zip(*columns, strict=True), strict=True)
        rows = [[epoch, *map(_number, line)] for epoch, line in by_epoch]
        heading = title[0].upper() + title[1:]
        about = f"{heading} over {len(records)} epochs of learning."
        curves.append(Panel(heading, about, data, _axes("epoch", title), ["epoch", *names], rows))
    return curves


def _columns(
    run: RunRecord, values: list[Any], title: str
) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
    """Return names, colours and columns: of objectives, of ingredients, or of one number."""
    if isinstance(values[0], dict):
        goals = list(values[0])
        names, shades = [pretty(goal) for goal in goals], [f"@metric:{goal}" for goal in goals]
        return names, shades, [tuple(row[goal] for row in values) for goal in goals]
    if isinstance(values[0], list):
        shades = [_ingredient(k) for k in range(len(run.names))]
        return run.names, shades, list(zip(*values, strict=True))
    return [title], ["@ink"], [tuple(values)]


def _heat_map(run: RunRecord) -> list[Panel]:
    by_group = coefficients(run)
    if by_group is None:
        return []
    groups, rows = by_group
    names = [escape(_cut(name)) for name in run.names]
    texts = [
        [f"{escape(g)}<br>{name}: {w:.4f}" for name, w in zip(names, row, strict=True)]
        for g, row in zip(groups, rows, strict=True)
    ]
    low, high = min(0.0, *map(min, rows)), max(1.0, *map(max, rows))
    data = {
        "type": "heatmap",
        "z": rows,
        "x": [f"{k}" for k in range(len(names))],
        "y": list(range(len(groups))),
        "text": texts,
        "hoverinfo": "text",
        "colorscale": "Cividis",
        "zmin": low,
        "zmax": high,
        "colorbar": {"title": {"text": "coefficient"}, "thickness": 12, **AT_TOP},
    }
    ticks = {"tickvals": list(range(len(groups))), "ticktext": [escape(_cut(g)) for g in groups]}
    layout = {
        "height": 130 + 15 * len(groups),
        "xaxis": {"tickvals": data["x"], "ticktext": names, "type": "category", "side": "top"},
        "yaxis": {"autorange": "reversed", "tickfont": {"size": 10}, "zeroline": False, **ticks},
    }
    about = f"Coefficients of {len(groups)} groups, from the input (top) to the output (bottom)."
    table = [[g, *(f"{w:.4f}" for w in row)] for g, row in zip(groups, rows, strict=True)]
    header = ["group", *run.names]
    return [Panel("Coefficients by depth", about, [data], layout, header, table)]


def _barriers(run: RunRecord) -> list[Panel]:
    result = []
    for pair, barriers in groupby(run.barriers, key=lambda barrier: barrier["pair"]):
        data, rows = [], []
        for i, barrier in enumerate(barriers):
            t = [point["t"] for point in barrier["points"]]
            error = [point["error"] for point in barrier["points"]]
            shade = f"@metric:{barrier['metric']}"
            data.append(_line(t, error, pretty(barrier["metric"]), shade, i))
            data.append(_chord([t[0], t[-1]], [error[0], error[-1]], shade))
            low, high = (100 * float(end) for end in barrier["interval"])
            height = f"{100 * barrier['height']:+.1f} ({low:+.1f} to {high:+.1f})"
            verdict = f"{barrier['verdict']} {barrier.get('reason', '')}".strip()
            rows.append([barrier["metric"], height, barrier["at"], verdict])
        title = f"Barrier from {printable(pair[0])} to {printable(pair[1])}"
        layout = _axes("position from the first to the second", "error", percent=True)
        about = "Error along the straight line between the two; dashed lines are chords."
        header = ["metric", "barrier, points of error", "at", "verdict"]
        result.append(Panel(title, about, data, layout, header, rows))
    return result


def _plane(run: RunRecord) -> list[Panel]:
    if run.manifest["command"] != "landscape" or len(run.trials) < 4:
        return []
    corners, points = run.trials[:3], run.trials[3:]
    metrics = list(next((r["metrics"] for r in run.trials if r.get("metrics")), ()))
    xs, ys = (sorted({record[axis] for record in points}) for axis in "xy")
    maps = []
    for metric in metrics:
        by_place = {(r["x"], r["y"]): r.get("metrics", {}).get(metric, {}) for r in run.trials}
        values = [[by_place.get((x, y), {}).get("accuracy") for x in xs] for y in ys]
        bar: dict[str, Any] = {
            "title": {"text": "accuracy"},
            "thickness": 12,
            "tickformat": ".0%",
            **AT_TOP,
        }
        levels: dict[str, Any] = {"type": "contour", "x": xs, "y": ys, "z": values, "colorbar": bar}
        levels |= {"colorscale": "Cividis", "zhoverformat": ".1%", "name": escape(pretty(metric))}
        named = zip(corners, map(escape, map(_cut, run.names)), strict=True)
        marks = [_mark(record["x"], record["y"], name) for record, name in named]
        layout = {**_axes("distance in weights", "distance in weights"), "height": 420}
        layout["annotations"] = marks
        rows = [
            [_number(x), _number(y), _number(point.get("accuracy")), _number(point.get("loss"))]
            for (x, y), point in by_place.items()
        ]
        about = "Accuracy on the plane through three checkpoints; gaps had no finite loss."
        title = f"Landscape, {pretty(metric)}"
        maps.append(Panel(title, about, [levels], layout, ["x", "y", "accuracy", "loss"], rows))
    return maps


def _mark(x: float, y: float, name: str) -> dict[str, Any]:
    """Return an annotation: a dot and a name that can be read on any colour."""
    ground = {"bgcolor": "white", "bordercolor": "black", "font": {"color": "black", "size": 11}}
    return {"x": x, "y": y, "text": f"● {name}", "showarrow": False, "xanchor": "left", **ground}


def _shifts(run: RunRecord) -> list[Panel]:
    by_set = accuracy_by_set(run)
    if by_set is None:
        return []
    (sets, rows), k = by_set, len(run.names)
    # The two rows of best individuals repeat ingredients, and need no dots of their own.
    looks = [*((_ingredient(i), "circle-open") for i in range(k)), None, None, *SOUPS]
    data = []
    for (name, _, row), look in zip(rows, looks, strict=True):
        if look is not None:
            marker = {"color": look[0], "symbol": look[1], "size": 9}
            dots = {"type": "scatter", "mode": "markers", "name": escape(_cut(name))}
            data.append({**dots, "x": row, "y": [escape(_cut(s)) for s in sets], "marker": marker})
    layout = _axes("accuracy", "")
    layout["xaxis"] |= {"tickformat": ".0%", "hoverformat": ".1%"}
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    layout["height"] = 160 + 26 * len(sets)
    about = "Accuracy on images that were not used to choose, data set by data set."
    table = [[name, passes, *(f"{a:.1%}" for a in row)] for name, passes, row in rows]
    header = ["network", "forward passes", *sets]
    return [Panel("Soups for shifted images", about, data, layout, header, table)]


PANELS: Sequence[Callable[[RunRecord], list[Panel]]] = (
    _paths,
    _learning,
    _heat_map,
    _barriers,
    _plane,
    _shifts,
)
"""Functions that return panels, or an empty list if the run lacks their numbers."""


def escape(text: str) -> str:
    """Return *text* escaped, so that plotly shows it letter by letter."""
    return html.escape(printable(text))


def _ingredient(k: int) -> str:
    return f"@ingredient:{k % len(INGREDIENTS)}"


def _line(x: Sequence[Any], y: Sequence[Any], name: str, shade: str, i: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) < 60 else "lines",
        "x": list(x),
        "y": list(y),
        "name": escape(name),
        "line": {"color": shade, "width": 2, "dash": DASHES[i % len(DASHES)]},
        "marker": {"color": shade, "size": 6, "symbol": i},
    }


def _chord(x: list[Any], y: list[Any], shade: str) -> dict[str, Any]:
    line = {"color": shade, "width": 1, "dash": "dash"}
    quiet = {"showlegend": False, "hoverinfo": "skip"}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, **quiet}


def _axes(x: str, y: str, *, percent: bool = False) -> dict[str, Any]:
    form = {"tickformat": ".0%", "hoverformat": ".1%"} if percent else {}
    return {
        "xaxis": {"title": {"text": escape(x)}, "zeroline": False},
        "yaxis": {"title": {"text": escape(y)}, "zeroline": False, **form},
    }


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _cut(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:18]}…{name[-14:]}"
