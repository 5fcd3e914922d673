"""The data of a page, as JSON values: the soups of its runs, judges, commands and colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from soupmerge.choices import MAKERS
from soupmerge.errors import printable
from soupmerge.figures import palette
from soupmerge.figures.page.commands import mix_command
from soupmerge.figures.page.front_section import front_data, names_of_soups
from soupmerge.figures.page.panels import panels
from soupmerge.figures.reading import RunRecord, name_of
from soupmerge.label_spaces.outputs import in_words


def contents(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return the data that the script of the page works on, with every text made printable.

    Soups are numbered from 1 across all runs; their commands use these numbers.
    """
    tails: dict[str, int] = {}
    judges: dict[str, int] = {}
    metrics: dict[str, int] = {}
    soups, recipes = [], {}
    named, places = [names_of_soups(run) for run in runs], {}
    for number, (r, record) in enumerate(_judged_records(runs), start=1):
        run, command = runs[r], mix_command(record, runs[r], number)
        soup = {
            "run": r,
            **_identity(record, run),
            **named[r].get(id(record), {}),
            "number": number,
        }
        places[id(record)] = number - 1
        soup["judge"] = judges.setdefault(judge(record, run), len(judges))
        soup["metrics"] = {
            str(metrics.setdefault(metric, len(metrics))): _numbers(measured)
            for metric, measured in record["metrics"].items()
        }
        if command is not None:
            soup["make"] = [command.head, tails.setdefault(command.tail, len(tails))]
            if command.recipe is not None:
                recipes[str(number)] = command.recipe
        if notes := record.get("notes"):
            soup["notes"] = [printable(line) for line in note_lines(notes)]
        soups.append(soup)
    fronts = (front_data(run, r, places, metrics) for r, run in enumerate(runs))
    return {
        "runs": [{"title": run.title, "ingredients": run.names} for run in runs],
        "soups": soups,
        "metrics": [{"key": printable(m), "name": printable(palette.pretty(m))} for m in metrics],
        "judges": list(judges),
        "tails": list(tails),
        "recipes": recipes,
        "fronts": [front for front in fronts if front is not None],
        "panels": [
            {"data": panel.data, "layout": panel.layout} for run in runs for panel in panels(run)
        ],
        "palette": {"light": _palette(dark=False), "dark": _palette(dark=True)},
    }


def judge(record: dict[str, Any], run: RunRecord) -> str:
    """Return a line that names the images and the attacks by which *record* was judged."""
    benchmark = run.manifest.get("benchmark") or {}
    data = record.get("data") or benchmark.get("data") or {}
    size = f" at {data['resolution']}" if "resolution" in data else ""
    digest = str(data.get("sha256", "unknown"))[:12]
    n = next(iter(record["metrics"].values()))["n"]
    outputs = f", {words}" if (words := in_words(data)) else ""
    images = f"{n} images of {data.get('ref', 'unknown')} ({data.get('split', '')}){size}{outputs}"
    attacks = [
        f"{metric} by {measured['attack']}, {measured.get('steps', '?')} steps"
        for metric, measured in record["metrics"].items()
        if "attack" in measured
    ]
    return printable("; ".join([f"{images}, sha256 {digest}", *attacks]))


def note_lines(notes: dict[str, Any]) -> Iterator[str]:
    """Yield the *notes* on a judged network as lines of text, doubts first."""
    for doubt in notes.get("doubts", ()):
        where = f"docs/flags.md#{doubt['name']}"
        yield f"doubt, {doubt['name']}: {doubt['what']}; {doubt['fix']} ({where})"
    for name, note in notes.items():
        if name != "doubts":
            yield f"{name}: {note}"


def _judged_records(runs: Sequence[RunRecord]) -> Iterator[tuple[int, dict[str, Any]]]:
    for r, run in enumerate(runs):
        for record in (*run.soups, *run.judged):
            yield r, record


def _identity(record: dict[str, Any], run: RunRecord) -> dict[str, Any]:
    """Return the name and kind of a judged network, and of a soup its coefficients."""
    if "weights" not in record:
        maker = str(record.get("made by") or "elsewhere")
        kind = printable(MAKERS.get(maker, maker))
        return {"name": name_of(record, run.judged), "kind": kind}
    weights = [float(w) for w in record["weights"]]
    recipe = record.get("recipe") or {}
    groups = len(recipe.get("weights", ()))
    alone = max(weights) == 1 and groups < 2
    mixed = " + ".join(f"{w:.3g} {name}" for w, name in zip(weights, run.names, strict=True) if w)
    name = run.names[weights.index(1)] if alone else mixed
    kind = "ingredient" if alone else str(recipe.get("origin", run.manifest["command"]))
    return {"name": name, "kind": printable(kind), "weights": weights, "groups": groups}


def _numbers(measured: dict[str, Any]) -> list[float]:
    """Return accuracy, both ends of its interval, the correct images and all images."""
    low, high = measured["ci95"]
    counts = int(measured["correct"]), measured["n"]
    return [float(measured["accuracy"]), float(low), float(high), *counts]


def _palette(*, dark: bool) -> dict[str, str]:
    ingredients = palette.INGREDIENTS_DARK if dark else palette.INGREDIENTS
    shades = {f"@metric:{norm}": palette.colour(norm, dark=dark) for norm in palette.COLOURS}
    return shades | {f"@ingredient:{k}": shade for k, shade in enumerate(ingredients)}
