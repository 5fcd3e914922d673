"""Printing of reports: tables, with a caption that says how accuracies were measured, and costs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.corruption_refs import CorruptionRef
from soupmerge.label_spaces.outputs import in_words

if TYPE_CHECKING:
    from soupmerge.soups.judge.columns import Row
    from soupmerge.soups.judge.entries import AnyEntry
    from soupmerge.soups.judge.trials import Trial
    from soupmerge.soups.learn.front import LearnedFront
    from soupmerge.soups.learn.sweep import Sweep

COSTS = ("gradient_evaluations", "forward_evaluations", "seconds")


def print_reports(
    names: Sequence[str], reports: Sequence[sm.Report], title: str, *, passes: int = 1
) -> None:
    """Print one row per report, grouped by data set, and a caption.

    Args:
        names: names of the judged networks.
        reports: their reports, under the same attacks.
        title: title of the table on a terminal.
        passes: forward passes per image; shown if there are several.
    """
    columns = {"network": without_common_folder(names)}
    if passes > 1:
        columns["forward passes"] = [f"×{passes}"] * len(names)
    columns |= _data_columns(reports)
    rows = [
        [*cells, *(show.percent(metric) for metric in report.to_metrics().values())]
        for *cells, report in zip(*columns.values(), reports, strict=True)
    ]
    show.table([*columns, *reports[0].metrics], _by_data_set(rows, reports), title)
    # On standard output like the table: an accuracy means nothing without its attack.
    show.line(caption(reports))


def print_columns(rows: Sequence[Row], sets: Sequence[str]) -> None:
    """Print a table for each metric, with a column for each of *sets*, and a caption.

    Args:
        rows: the networks; nothing is printed if there are none.
        sets: names of the data sets.
    """
    if not rows:
        return
    reports = [report for row in rows for report in row.reports if report is not None]
    names = without_common_folder([row.name for row in rows])
    for metric in reports[0].metrics:
        cells = [
            [name, f"×{row.passes}", *map(_cell, row.accuracies(metric))]
            for name, row in zip(names, rows, strict=True)
        ]
        show.table(["network", "#FP", *sets, "MEAN"], cells, f"{metric} accuracy, %")
    show.line(f"{caption(reports)}; #FP: forward passes")


def _cell(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.2f}"


def without_common_folder(names: Sequence[str]) -> list[str]:
    """Return *names* without the folder that all of them are in, to keep tables narrow."""
    common = os.path.commonprefix(names)
    folder = common[: common.rfind("/") + 1]
    return [name.removeprefix(folder) for name in names] if len(names) > 1 else list(names)


def _data_columns(reports: Sequence[sm.Report]) -> dict[str, list[str]]:
    """Return the columns that tell the data of *reports* apart, none if they are the same."""
    from soupmerge.robustness.report import told_apart_by

    keys, columns = told_apart_by(reports), {}
    if "ref" in keys:
        columns["data"] = without_common_folder([str(r.data["ref"]) for r in reports])
        columns["n"] = [str(r.n) for r in reports]
    if "resolution" in keys:
        columns["resolution"] = [str(r.data.get("resolution", "")) for r in reports]
    return columns


def _by_data_set(rows: Sequence[list[str]], reports: Sequence[sm.Report]) -> list[list[str]]:
    """Return *rows* sorted by data set, in the order in which the sets were given."""
    sets = list(dict.fromkeys(report.data["ref"] for report in reports))
    order = sorted(range(len(rows)), key=lambda i: sets.index(reports[i].data["ref"]))
    return [rows[i] for i in order]


def print_doubts(names: Sequence[str], reports: Sequence[sm.Report]) -> None:
    """Print the reasons to doubt the accuracies of networks."""
    for name, report in zip(names, reports, strict=True):
        for doubt in report.notes.get("doubts", ()):
            section = f"(docs/flags.md#{doubt['name']})"
            show.line(f"doubt: {name}: {doubt['name']}: {doubt['what']}; {doubt['fix']} {section}")


def print_outputs(sets: Iterable[Mapping[str, Any]]) -> None:
    """Print what counts as right on the data *sets*, given by their fingerprints, if unusual."""
    for data in sets:
        if words := in_words(data):
            show.line(f"{data['ref']}: {words}")


def print_race(race: Mapping[str, Any], size: int, images: int) -> None:
    """Print how many of *size* soups a race dropped, and after how many of *images*."""
    dropped = [soup["images"] for soup in race["soups"] if soup["beaten_by"] is not None]
    share = sum(soup["images"] for soup in race["soups"]) / (size * images)
    needed = f"{share:.0%} of all verdicts were needed"
    if not dropped:
        show.line(f"none of {show.counted(size, 'soup')} was dropped; {needed}")
        return
    if race["goal"] == "best":
        reason = f"as not the best in {race['metric']}"
    else:
        reason = f"as neither the best in {race['metric']} nor on its front with clean accuracy"
    low, high = min(dropped), max(dropped)
    after = f"{low} to {high} images" if low < high else show.counted(low, "image")
    were = "was" if len(dropped) == 1 else "were"
    sure = f"{race['confidence']:.0%} confidence for all of them together"
    who = f"{len(dropped)} of {show.counted(size, 'soup')} {were} dropped"
    show.line(f"{who} {reason}, after {after} and with {sure}; {needed}")


def caption(reports: Sequence[sm.Report]) -> str:
    """Return how the accuracies of *reports*, judged under the same attacks, were measured."""
    attacks = sorted({_describe_attack(attack) for attack in reports[0].attacks.values()})
    parts = [
        ", ".join(_describe_sets(reports)),
        f"under {'; '.join(attacks)}" if attacks else "clean only",
    ]
    parts += [*dict.fromkeys(_remarks(reports)), "95% intervals"]
    parts += ["accuracies under attack are upper bounds"] if attacks else []
    return "; ".join(parts)


def _describe_attack(attack: Any) -> str:
    limit = attack.get("gives up")
    early = f" (images that resist are given up after {limit['after']})" if limit else ""
    first = ", after the adversarial images of earlier soups" if attack.get("transfer") else ""
    return f"{attack['attack']}, {show.counted(attack['steps'], 'step')}{first}{early}"


def _remarks(reports: Sequence[sm.Report]) -> Iterator[str]:
    """Yield what a lower precision may have missed, and the order of threats."""
    for report in reports:
        for name, check in report.notes.get("float32", {}).items():
            fell = f"{check['fell']} of {check['rechecked']} survivors fell"
            yield f"attacked in {check['precision']} ({name}: {fell} in float32)"
        if "order" in report.notes:
            yield f"threats in the order {', '.join(report.notes['order'])}"


def _describe_sets(reports: Sequence[sm.Report]) -> Iterator[str]:
    """Yield what each data set holds; several corruptions of one set are only counted."""
    found: dict[tuple[str, bool], dict[str, Any]] = {}
    for report in reports:
        ref = str(report.data["ref"])
        corruption = CorruptionRef.of(ref)
        plain = {**report.data, "ref": corruption.data} if corruption else report.data
        found.setdefault((_describe_images(plain), bool(corruption)), {})[ref] = report.data
    for (words, corrupted), sets in found.items():
        if corrupted and len(sets) > 1:
            yield f"{words} under {len(sets)} corruptions"
        else:
            yield from map(_describe_images, sets.values())


def _describe_images(data: Any) -> str:
    resized = f" resized before the attack ({data['resize']})" if "resolution" in data else ""
    outputs = f", {words}" if (words := in_words(data)) else ""
    images = f"{show.counted(data['n'], 'image')} of {data['ref']} ({data['split']})"
    return images + resized + outputs


def cost(reports: Sequence[sm.Report]) -> dict[str, float]:
    """Return the total cost of *reports*; what was resumed from a run folder costs nothing."""
    return {key: round(sum(r.cost.get(key, 0) for r in reports), 3) for key in COSTS}


def cost_of_trials(trials: sm.Trials) -> dict[str, float]:
    """Return the total cost of judging *trials*, as `cost`."""
    return cost([trial.judged() for trial in trials])


def print_cost(cost: Mapping[str, float]) -> None:
    """Print a *cost*, as `cost` returns it."""
    gradients, forwards, seconds = (cost.get(key, 0) for key in COSTS)
    show.line(
        f"cost of this run: {show.counted(int(gradients), 'gradient evaluation')}, "
        f"{show.counted(int(forwards), 'forward evaluation')}, {seconds:,.1f} s"
    )


def print_learned(trial: Trial, ingredients: sm.Ingredients, out: str, *, as_json: bool) -> None:
    """Print a learned soup: its mean coefficients, and its evaluation if there is one."""
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


def print_sweep(sweep: Sweep, ingredients: sm.Ingredients, out: str, *, as_json: bool) -> None:
    """Print the soups of a sweep, their evaluation, and the spread over seeds."""
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


def print_front(learned: LearnedFront, others: Sequence[str], out: str, *, as_json: bool) -> None:
    """Print the judged points of a front, what is beside it, and how their hypervolumes compare."""
    gap = learned.hypervolume(others) if others else None
    reports = [trial.judged() for trial in (*learned.points, *learned.beside.values())]
    if as_json:
        volumes = {"hypervolume": gap.to_json()} if gap else {}
        show.dump({**learned.summary(), **volumes, "cost": cost(reports)})
        return
    if learned.points:
        names = [_preference(trial) for trial in learned.points]
        print_reports([*names, *learned.beside], reports, "points of the front, and others")
        print_cost(cost(reports))
    if gap:
        show.line(f"hypervolume above the worst ingredient: {gap}")
    first, last = learned.front.objectives[0], learned.front.objectives[-1]
    show.note(f"written to {out}/front.json; its points lie between {first} and {last}")


def _preference(trial: Trial) -> str:
    """Return the preference at which *trial* is a point of a front, in words."""
    shares = (trial.recipe.front or {})["at"].values()
    words = [f"{share:.3g}" for share in shares]
    return "at " + (words[1] if len(words) == 2 else ",".join(words))


def _print_spread(sweep: Sweep) -> None:
    metrics = sweep.trials.metrics
    spreads = [sweep.spread(metric) for metric in metrics]
    rows = [
        [name, *(f"{mean:.1%} ({100 * low:.1f}–{100 * high:.1f})" for mean, low, high in cells)]
        for name, cells in ((name, [s[name] for s in spreads]) for name in sweep.objectives)
    ]
    title = f"mean (lowest–highest) of {len(sweep.seeds)} seeds"
    show.table([title, *metrics], rows)


def to_json(entries: Sequence[AnyEntry], reports: Sequence[sm.Report], passes: int) -> Any:
    """Return *reports* as JSON values: one by itself, several as a list; and their cost.

    Errors on corruptions of one data set are listed beside them, if there are any.
    """
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
    total = cost(reports)
    if len(values) == 1:
        return {**values[0], "cost": total}
    found = sm.corruption_errors([entry.ref for entry in entries], reports)
    beside = {"corruptions": [each.to_json() for each in found]} if found else {}
    return {"reports": values, **beside, "cost": total}
