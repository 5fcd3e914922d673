"""Runs → what their page says, as JSON values: soups in a list, judges, commands, colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from soupmerge.choices import MAKERS
from soupmerge.errors import printable
from soupmerge.figures import palette
from soupmerge.figures.page.making import making
from soupmerge.figures.page.panels import panels
from soupmerge.figures.reading import RunRecord, name_of


def contents(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what the script of the page works on; all that files say is printable.

    Soups are numbered from 1 through all runs, as their commands have it.
    """
    tails: dict[str, int] = {}
    judges: dict[str, int] = {}
    metrics: dict[str, int] = {}
    soups, recipes = [], {}
    for number, (r, record) in enumerate(_judged(runs), start=1):
        run, made = runs[r], making(record, runs[r], number)
        soup = {"run": r, **_named(record, run), "number": number}
        soup["judge"] = judges.setdefault(judge(record, run), len(judges))
        for metric in record["metrics"]:
            metrics.setdefault(metric, len(metrics))
        told = record["metrics"].items()
        soup["metrics"] = {str(metrics[metric]): _measured(found) for metric, found in told}
        if made is not None:
            soup["make"] = [made.head, tails.setdefault(made.tail, len(tails))]
            if made.recipe is not None:
                recipes[str(number)] = made.recipe
        if notes := record.get("notes"):
            soup["notes"] = [printable(line) for line in told_notes(notes)]
        soups.append(soup)
    return {
        "runs": [{"title": run.title, "ingredients": run.names} for run in runs],
        "soups": soups,
        "metrics": [{"key": printable(m), "name": printable(palette.pretty(m))} for m in metrics],
        "judges": list(judges),
        "tails": list(tails),
        "recipes": recipes,
        "panels": [
            {"data": panel.data, "layout": panel.layout} for run in runs for panel in panels(run)
        ],
        "palette": {"light": _palette(dark=False), "dark": _palette(dark=True)},
    }


def judge(record: dict[str, Any], run: RunRecord) -> str:
    """Return on what images, and by what attacks, *record* was judged, in a line."""
    benchmark = run.manifest.get("benchmark") or {}
    data = record.get("data") or benchmark.get("data") or {}
    size = f" at {data['resolution']}" if "resolution" in data else ""
    digest = str(data.get("sha256", "unknown"))[:12]
    n = next(iter(record["metrics"].values()))["n"]
    images = f"{n} images of {data.get('ref', 'unknown')} ({data.get('split', '')}){size}"
    attacks = [
        f"{metric} by {found['attack']}, {found.get('steps', '?')} steps"
        for metric, found in record["metrics"].items()
        if "attack" in found
    ]
    return printable("; ".join([f"{images}, sha256 {digest}", *attacks]))


def told_notes(notes: dict[str, Any]) -> Iterator[str]:
    """Yield what a reader must know of a judged network, doubts first."""
    for doubt in notes.get("doubts", ()):
        where = f"docs/flags.md#{doubt['name']}"
        yield f"doubt, {doubt['name']}: {doubt['what']}; {doubt['fix']} ({where})"
    for name, told in notes.items():
        if name != "doubts":
            yield f"{name}: {told}"


def _judged(runs: Sequence[RunRecord]) -> Iterator[tuple[int, dict[str, Any]]]:
    for r, run in enumerate(runs):
        for record in (*run.soups, *run.judged):
            yield r, record


def _named(record: dict[str, Any], run: RunRecord) -> dict[str, Any]:
    if "weights" not in record:
        made = str(record.get("made by") or "elsewhere")
        kind = printable(MAKERS.get(made, made))
        return {"name": name_of(record, run.judged), "kind": kind}
    weights = [float(w) for w in record["weights"]]
    recipe = record.get("recipe") or {}
    alone = max(weights) == 1 and len(recipe.get("weights", ())) < 2
    mixed = " + ".join(f"{w:.3g} {name}" for w, name in zip(weights, run.names, strict=True) if w)
    named = run.names[weights.index(1)] if alone else mixed
    kind = "ingredient" if alone else str(recipe.get("origin", run.manifest["command"]))
    groups = len(recipe.get("weights", ()))
    return {"name": named, "kind": printable(kind), "weights": weights, "groups": groups}


def _measured(found: dict[str, Any]) -> list[float]:
    """Return accuracy, both ends of its interval, and how many of how many are right."""
    low, high = found["ci95"]
    return [float(found["accuracy"]), float(low), float(high), int(found["correct"]), found["n"]]


def _palette(*, dark: bool) -> dict[str, str]:
    ingredients = palette.INGREDIENTS_DARK if dark else palette.INGREDIENTS
    shades = {f"@metric:{norm}": palette.colour(norm, dark=dark) for norm in palette.COLOURS}
    return shades | {f"@ingredient:{k}": shade for k, shade in enumerate(ingredients)}
