"""Pictures on the page that are not the map of all soups: drawn by plotly from these values.

Colours are names (``@metric:clean``, ``@ingredient:0``, ``@ink``) that the page turns into those of
a light or a dark screen. What a file says is escaped: plotly reads tags and entities in its texts.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from soupmerge.errors import printable
from soupmerge.figures.palette import pretty
from soupmerge.figures.reading import CURVES, RunRecord, adapted, chord, coefficients

AT_TOP = {"lenmode": "pixels", "len": 300, "y": 1, "yanchor": "top"}
DASHES = ("solid", "dash", "dot", "dashdot")
SOUPS = (
    ("@ink", "diamond-open"),
    ("@ink", "cross-open"),
    ("@metric:clean", "square"),
    ("@metric:linf", "triangle-up"),
)
"""Two ensembles, the single soup, a soup for each set: colour and symbol."""


class Panel(NamedTuple):
    """One picture, and the numbers it shows, as a table.

    Attributes:
        title: its heading.
        about: what is to be seen, in a sentence.
        data, layout: for plotly.
        header, rows: the same numbers.
    """

    title: str
    about: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    header: list[str]
    rows: list[list[Any]]


def panels(run: RunRecord) -> list[Panel]:
    """Return every panel whose numbers *run* holds."""
    return [panel for of in PANELS for panel in of(run)]


def _paths(run: RunRecord) -> list[Panel]:
    records = sorted(run.soups, key=lambda record: record["weights"][-1])
    if len(run.names) != 2 or len(records) < 3:
        return []
    places = [record["weights"][1] for record in records]
    data, rows = [], [[f"{place:g}"] for place in places]
    for i, metric in enumerate(records[0]["metrics"]):
        values = [record["metrics"][metric]["accuracy"] for record in records]
        data.append(_line(places, values, pretty(metric), f"@metric:{metric}", i))
        line = chord(places, values)
        ends = [places[0], places[-1]], [line[0], line[-1]]
        data.append(_chord(*ends, f"@metric:{metric}"))
        for row, value, level in zip(rows, values, line, strict=True):
            row += [f"{value:.1%}", f"{100 * (value - level):+.1f}"]
    first, second = run.names
    layout = _axes(f"coefficient of {second}", "accuracy", percent=True)
    header = [f"coefficient of {second}"]
    for metric in records[0]["metrics"]:
        header += [pretty(metric), "over its chord, points"]
    about = f"Accuracy from {first} to {second}; dashed lines are the chords between them."
    return [Panel("Path between two ingredients", about, data, layout, header, rows)]


def _learning(run: RunRecord) -> list[Panel]:
    found = []
    for key, title in CURVES.items():
        known = [record for record in run.history if key in record]
        if not known:
            continue
        epochs = [record["epoch"] for record in known]
        if key == "weights":
            columns = list(zip(*(record[key] for record in known), strict=True))
            names = run.names
        else:
            columns, names = [tuple(record[key] for record in known)], [title]
        data = [
            _line(epochs, column, name, f"@ingredient:{k}" if key == "weights" else "@ink", k)
            for k, (name, column) in enumerate(zip(names, columns, strict=True))
        ]
        held = [(r["epoch"], r["val"]) for r in known if isinstance(r.get("val"), (int, float))]
        if key == "loss" and held:
            when, losses = zip(*held, strict=True)
            data.append(_line(when, losses, "held out", "@ingredient:1", 1))
        lines = zip(*columns, strict=True)
        rows = [[e, *map(_number, line)] for e, line in zip(epochs, lines, strict=True)]
        about = f"{title.capitalize()} over {len(known)} epochs of learning."
        layout = _axes("epoch", title)
        found.append(Panel(title.capitalize(), about, data, layout, ["epoch", *names], rows))
    return found


def _heat_map(run: RunRecord) -> list[Panel]:
    found = coefficients(run)
    if found is None:
        return []
    groups, rows = found
    names = [shown(_cut(name)) for name in run.names]
    texts = [
        [f"{shown(g)}<br>{name}: {w:.4f}" for name, w in zip(names, row, strict=True)]
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
    ticks = {"tickvals": list(range(len(groups))), "ticktext": [shown(_cut(g)) for g in groups]}
    layout = {
        "height": 130 + 15 * len(groups),
        "xaxis": {"tickvals": data["x"], "ticktext": names, "type": "category", "side": "top"},
        "yaxis": {"autorange": "reversed", "tickfont": {"size": 10}, "zeroline": False, **ticks},
    }
    about = f"Coefficients of {len(groups)} groups, from the input above to the output below."
    table = [[g, *(f"{w:.4f}" for w in row)] for g, row in zip(groups, rows, strict=True)]
    header = ["group", *run.names]
    return [Panel("Coefficients by depth", about, [data], layout, header, table)]


def _barriers(run: RunRecord) -> list[Panel]:
    found = []
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
            told = [barrier["verdict"], barrier.get("reason", "")]
            rows.append([barrier["metric"], height, barrier["at"], " ".join(told).strip()])
        title = f"Barrier from {printable(pair[0])} to {printable(pair[1])}"
        layout = _axes("way from the first to the second", "error", percent=True)
        about = "Error on the straight line between them; dashed lines are the chords."
        header = ["metric", "barrier, points of error", "at", "verdict"]
        found.append(Panel(title, about, data, layout, header, rows))
    return found


def _plane(run: RunRecord) -> list[Panel]:
    if run.manifest["command"] != "landscape" or len(run.trials) < 4:
        return []
    corners, points = run.trials[:3], run.trials[3:]
    metrics = list(next((r["metrics"] for r in run.trials if r.get("metrics")), ()))
    xs, ys = (sorted({record[axis] for record in points}) for axis in "xy")
    found = []
    for metric in metrics:
        known = {(r["x"], r["y"]): r.get("metrics", {}).get(metric, {}) for r in run.trials}
        values = [[known.get((x, y), {}).get("accuracy") for x in xs] for y in ys]
        bar: dict[str, Any] = {
            "title": {"text": "accuracy"},
            "thickness": 12,
            "tickformat": ".0%",
            **AT_TOP,
        }
        levels: dict[str, Any] = {"type": "contour", "x": xs, "y": ys, "z": values, "colorbar": bar}
        levels |= {"colorscale": "Cividis", "zhoverformat": ".1%", "name": shown(pretty(metric))}
        ends = zip(corners, map(shown, map(_cut, run.names)), strict=True)
        marks = [_mark(record["x"], record["y"], name) for record, name in ends]
        layout = {**_axes("distance in weights", "distance in weights"), "height": 420}
        layout["annotations"] = marks
        rows = [
            [_number(x), _number(y), _number(told.get("accuracy")), _number(told.get("loss"))]
            for (x, y), told in known.items()
        ]
        about = "Accuracy on the plane through three checkpoints; a gap could not be measured."
        title = f"Landscape, {pretty(metric)}"
        found.append(Panel(title, about, [levels], layout, ["x", "y", "accuracy", "loss"], rows))
    return found


def _mark(x: float, y: float, name: str) -> dict[str, Any]:
    """Return a name beside its dot, legible on any colour."""
    ground = {"bgcolor": "white", "bordercolor": "black", "font": {"color": "black", "size": 11}}
    return {"x": x, "y": y, "text": f"● {name}", "showarrow": False, "xanchor": "left", **ground}


def _shifts(run: RunRecord) -> list[Panel]:
    if run.adapted is None:
        return []
    (sets, rows), k = adapted(run), len(run.names)
    # The best individuals are ingredients, and need no dots of their own.
    shown_rows = [*((f"@ingredient:{i % 8}", "circle-open") for i in range(k)), None, None, *SOUPS]
    data = []
    for (name, _, row), look in zip(rows, shown_rows, strict=True):
        if look is not None:
            marker = {"color": look[0], "symbol": look[1], "size": 9}
            dots = {"type": "scatter", "mode": "markers", "name": shown(_cut(name))}
            data.append({**dots, "x": row, "y": [shown(_cut(s)) for s in sets], "marker": marker})
    layout = _axes("accuracy", "")
    layout["xaxis"] |= {"tickformat": ".0%", "hoverformat": ".1%"}
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    layout["height"] = 160 + 26 * len(sets)
    about = "Accuracy on images that chose nothing, data set by data set."
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
"""What draws panels, or returns none if the run does not hold its numbers."""


def shown(text: str) -> str:
    """Return *text* as plotly shows it letter by letter."""
    return html.escape(printable(text))


def _line(x: Sequence[Any], y: Sequence[Any], name: str, shade: str, i: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) < 60 else "lines",
        "x": list(x),
        "y": list(y),
        "name": shown(name),
        "line": {"color": shade, "width": 2, "dash": DASHES[i % 4]},
        "marker": {"color": shade, "size": 6, "symbol": i},
    }


def _chord(x: list[Any], y: list[Any], shade: str) -> dict[str, Any]:
    line = {"color": shade, "width": 1, "dash": "dash"}
    quiet = {"showlegend": False, "hoverinfo": "skip"}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, **quiet}


def _axes(x: str, y: str, *, percent: bool = False) -> dict[str, Any]:
    form = {"tickformat": ".0%", "hoverformat": ".1%"} if percent else {}
    return {
        "xaxis": {"title": {"text": shown(x)}, "zeroline": False},
        "yaxis": {"title": {"text": shown(y)}, "zeroline": False, **form},
    }


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _cut(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:18]}…{name[-14:]}"
