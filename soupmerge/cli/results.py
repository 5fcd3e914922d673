"""Reports as tables: what each accuracy was measured with stands in its heading."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.errors import printable

if TYPE_CHECKING:
    from soupmerge.soups.judge.entries import AnyEntry


def print_reports(
    names: Sequence[str], reports: Sequence[sm.Report], title: str, *, passes: int = 1
) -> None:
    """Print one row per report, a block per data set, and below it what was measured, on what.

    *passes* is how many forward passes an image costs; one goes without saying.
    """
    columns = {"network": _without_common_folder(names)}
    if passes > 1:
        columns["forward passes"] = [f"×{passes}"] * len(names)
    columns |= _data_columns(reports)
    rows = [
        [*place, *(show.percent(metric) for metric in report.to_metrics().values())]
        for *place, report in zip(*columns.values(), reports, strict=True)
    ]
    show.table([*columns, *reports[0].metrics], _in_blocks(rows, reports), title)
    # With the table, not beside it: an accuracy without its attack says nothing.
    click.echo(printable(caption(reports)))


def _without_common_folder(names: Sequence[str]) -> list[str]:
    """Return *names* without the folder that all of them are in, so that tables stay narrow."""
    common = os.path.commonprefix(names)
    folder = common[: common.rfind("/") + 1]
    return [name.removeprefix(folder) for name in names] if len(names) > 1 else list(names)


def _data_columns(reports: Sequence[sm.Report]) -> dict[str, list[str]]:
    """Return what must be said of each report's data since others were judged on others."""
    from soupmerge.robustness.report import told_apart_by

    keys, columns = told_apart_by(reports), {}
    if "ref" in keys:
        columns["data"] = _without_common_folder([str(r.data["ref"]) for r in reports])
        columns["n"] = [str(r.n) for r in reports]
    if "resolution" in keys:
        columns["resolution"] = [str(r.data.get("resolution", "")) for r in reports]
    return columns


def _in_blocks(rows: Sequence[list[str]], reports: Sequence[sm.Report]) -> list[list[str]]:
    """Return *rows* sorted by data set, in the order in which the sets were given."""
    sets = list(dict.fromkeys(report.data["ref"] for report in reports))
    order = sorted(range(len(rows)), key=lambda i: sets.index(reports[i].data["ref"]))
    return [rows[i] for i in order]


def print_doubts(names: Sequence[str], reports: Sequence[sm.Report]) -> None:
    """Print why the accuracies of some networks should not be believed."""
    for name, report in zip(names, reports, strict=True):
        for doubt in report.notes.get("doubts", ()):
            where = f"(docs/flags.md#{doubt['name']})"
            line = f"doubt: {name}: {doubt['name']}: {doubt['what']}; {doubt['fix']} {where}"
            click.echo(printable(line))


def print_race(told: dict[str, Any], size: int, images: int) -> None:
    """Print how many soups of *size* were dropped, after how many of *images*."""
    dropped = [soup["images"] for soup in told["soups"] if soup["beaten_by"] is not None]
    asked = sum(soup["images"] for soup in told["soups"]) / (size * images)
    what = "the best" if told["goal"] == "best" else "the front or best"
    line = f"{len(dropped)} of {size} soups are not {what} in {told['metric']}"
    after = f", as was seen on {min(dropped)} to {max(dropped)} images" if dropped else ""
    sure = f"with {told['confidence']:.0%} confidence for all of them"
    click.echo(printable(f"{line}{after}, {sure}; {asked:.0%} of all verdicts were needed"))


def caption(reports: Sequence[sm.Report]) -> str:
    """Return how the accuracies of *reports*, judged under the same attacks, were measured."""
    attacks = {_attack(told) for told in reports[0].attacks.values()}
    measured = f"under {'; '.join(sorted(attacks))}" if attacks else "clean only"
    sets = dict.fromkeys(_images(report.data) for report in reports)
    bounds = "95% intervals; accuracies under attack are upper bounds"
    return "; ".join([", ".join(sets), measured, *dict.fromkeys(_rechecks(reports)), bounds])


def _attack(told: Any) -> str:
    brief = told.get("gives up")
    early = f" (hopeless images given up after {brief['after']})" if brief else ""
    first = ", after what fooled the soups before" if told.get("transfer") else ""
    return f"{told['attack']}, {told['steps']} steps{first}{early}"


def _rechecks(reports: Sequence[sm.Report]) -> Iterator[str]:
    """Yield what a cheaper precision may have missed, and in what order threats came."""
    for report in reports:
        for name, told in report.notes.get("float32", {}).items():
            again = f"{told['fell']} of {told['rechecked']} that held fell when attacked in float32"
            yield f"attacked in {told['precision']} ({name}: {again})"
        if "order" in report.notes:
            yield f"threats in the order {', '.join(report.notes['order'])}"


def _images(data: Any) -> str:
    resized = f" resized before the attack ({data['resize']})" if "resolution" in data else ""
    return f"{data['n']} images of {data['ref']} ({data['split']}){resized}"


def cost(reports: Sequence[sm.Report]) -> dict[str, float]:
    """Return what judging cost in all."""
    keys = ("gradient_evaluations", "forward_evaluations", "seconds")
    return {key: round(sum(r.cost.get(key, 0) for r in reports), 3) for key in keys}


def print_learned(trial: Any, ingredients: sm.Ingredients, out: str, *, as_json: bool) -> None:
    """Print a learned soup: its mean coefficients, and how it was judged."""
    from soupmerge.soups.judge.trials import Trials

    if as_json:
        show.dump(Trials((trial,)).summary())
        return
    weights = [f"{w:.4f}" for w in trial.recipe.mean_weights]
    show.table(
        ["ingredient", "mean coefficient"], list(zip(ingredients.names, weights, strict=True))
    )
    if trial.report:
        print_reports([f"{out}/soup.safetensors"], [trial.report], "accuracy")
    show.note(f"written to {out}/soup.safetensors")


def print_sweep(sweep: Any, ingredients: sm.Ingredients, out: str, *, as_json: bool) -> None:
    """Print the soups of a sweep, how all were judged, and the spread of seeds."""
    if as_json:
        show.dump(sweep.summary())
        return
    rows = [
        [name, *(f"{w:.4f}" for w in trial.recipe.mean_weights)]
        for name, trial in zip(sweep.names, sweep.trials, strict=True)
    ]
    show.table(["soup", *ingredients.names], rows, "mean coefficients")
    if sweep.beside:
        reports = [trial.judged() for trial in sweep.trials]
        names = [*sweep.names, *sweep.beside]
        print_reports(names, [*reports, *sweep.beside.values()], "accuracy")
        if len(sweep.seeds) > 1:
            _print_spread(sweep)
    show.note(f"written to {out}/soups")


def _print_spread(sweep: Any) -> None:
    metrics = sweep.trials.metrics
    spreads = [sweep.spread(metric) for metric in metrics]
    rows = [
        [name, *(f"{m:.1%} ({100 * low:.1f}–{100 * high:.1f})" for m, low, high in found)]
        for name, found in ((name, [s[name] for s in spreads]) for name in sweep.objectives)
    ]
    title = f"mean (lowest–highest) of {len(sweep.seeds)} seeds"
    show.table([title, *metrics], rows)


def evaluated(entries: Sequence[AnyEntry], reports: Sequence[sm.Report], passes: int) -> Any:
    """Return *reports* as JSON values: one as itself, several as a list."""
    values: list[dict[str, Any]] = []
    for entry, report in zip(entries, reports, strict=True):
        value: dict[str, Any] = {
            "model": entry.ref,
            "data": dict(report.data),
            "metrics": report.to_metrics(),
            **report.notes,
        }
        if passes > 1:
            members = [checkpoint.ref for checkpoint in entry.checkpoints]
            value |= {"forward_passes": passes, "members": members}
        values.append(value)
    spent = cost(reports)
    return {**values[0], "cost": spent} if len(values) == 1 else {"reports": values, "cost": spent}
