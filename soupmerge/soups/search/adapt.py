"""Soups for shifted images: a few labelled ones choose, the rest judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from soupmerge.binding import probe, ref_of
from soupmerge.errors import UsageError
from soupmerge.numbers import exact
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.ensembles import AVERAGES
from soupmerge.robustness.report import CLEAN, Report
from soupmerge.run import Run
from soupmerge.soups.judge.subset import Subset
from soupmerge.soups.search.candidates import Candidate, Candidates
from soupmerge.soups.search.evaluator import write_choice
from soupmerge.soups.search.grid import plan
from soupmerge.soups.search.shots import draw, short_names
from soupmerge.storage import commit
from soupmerge.storage.names import ADAPTED, CONTENDERS, IMAGES, TRIALS
from soupmerge.storage.run_folder import RunFolder
from soupmerge.storage.tables import csv_text
from soupmerge.types import Examples
from soupmerge.weights import classes, ledger
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe

SINGLE, SPECIFIC = "single soup", "a soup for each set"


@dataclass(frozen=True)
class Row:
    """One line of the table: a classifier, or one chosen for each data set.

    Attributes:
        name: what it is called.
        passes: forward passes that an image costs.
        reports: one for each data set, on the images that chose nothing.
    """

    name: str
    passes: int
    reports: tuple[Report, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracy on each data set."""
        return tuple(report.accuracy(CLEAN) for report in self.reports)

    @property
    def mean(self) -> float:
        """Mean of the accuracies: every data set counts alike."""
        return sum(self.accuracies) / len(self.reports)

    def to_json(self, sets: Sequence[str]) -> dict[str, Any]:
        """Return the row as JSON values, *sets* being names of the data sets."""
        named = zip(sets, self.reports, strict=True)
        metrics = {name: report.to_metrics()[CLEAN] for name, report in named}
        return {"name": self.name, "passes": self.passes, "sets": metrics, "mean": self.mean}


@dataclass(frozen=True)
class Adaptation:
    """Which soups were chosen, and how they and others do on images that chose nothing.

    Attributes:
        sets: a short name for each data set.
        recipes: the soups that were tried.
        choosing: for each of them, a report for each data set, on the choosing images.
        single: the soup that is best on all data sets together.
        specific: for each data set, the soup that is best on it.
        rows: the table, on the judging images.
    """

    sets: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    choosing: tuple[tuple[Report, ...], ...]
    single: Recipe
    specific: tuple[Recipe, ...]
    rows: tuple[Row, ...]

    def summary(self) -> dict[str, Any]:
        """Return what was found, as JSON values."""
        chose, judged = self.choosing[0], self.rows[0].reports
        return {
            "sets": {
                name: {"chosen on": dict(a.data), "judged on": dict(b.data)}
                for name, a, b in zip(self.sets, chose, judged, strict=True)
            },
            "soups": len(self.recipes),
            "single": self.single.to_json(),
            "specific": {n: r.to_json() for n, r in zip(self.sets, self.specific, strict=True)},
            "rows": [row.to_json(self.sets) for row in self.rows],
        }


def adapt(
    net: nn.Module,
    ingredients: Ingredients,
    sets: Sequence[Examples],
    *,
    shots: int = 1000,
    step: float | str = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    run: Run = Run(),
) -> Adaptation:
    """Choose soups for shifted images by *shots* labelled ones, and judge them on the others.

    Every soup of the lattice is asked about the choosing images (Croce 2023, "Seasoning Model
    Soups"). One soup is chosen for all data sets together, each counting alike, and one for each;
    beside them are judged the ingredients, the best of them by the same images, and ensembles of
    all of them. Accuracy is clean: the shift is the adversary. Batch-norm statistics are averaged.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        sets: data sets; corruptions of the same images share their choosing images.
        shots: images of each set that choose.
        step: between coefficients; divides 1.
        seed: draws the choosing images.
        batch_size: images at a time; it changes speed, not verdicts.
        run: run folder and device. The folder journals a line for each soup and each judgement, and
            receives the table, the single soup, and the recipe for each set in ``best/``.

    Raises:
        UsageError: K < 2, *step* does not divide 1, there is no set, or one twice, *shots* leave
            none to judge, or *out* holds a run with other settings.
        InputError: the network cannot take the images of a set.
    """
    recipes = tuple(
        Recipe.of(ingredients, row, origin="adapt") for row in plan(ingredients, step)[1]
    )
    _require_distinct(sets)
    parts = [draw(data, shots, seed) for data in sets]
    names = short_names([data.ref for data in sets])
    candidates = Candidates(net, ingredients, recipes, run)
    for data in sets:
        probe(candidates.bound, data, torch.device(run.device))
        classes.require_same(ingredients, data)
    manifest = {
        "command": "adapt",
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "chosen on": [some.fingerprint() for some, _ in parts],
        "judged on": [others.fingerprint() for _, others in parts],
        "settings": {"step": str(exact(str(step), "step")), "shots": shots, "seed": seed},
        "device": run.device_type,
    }
    with run.opened(manifest, inputs=ingredients.files, room=ingredients.bytes) as folder:
        if folder is not None:
            commit.write_text(folder.file(IMAGES), _roles(names, parts), force=True)
        found = _adapted(candidates, names, parts, batch_size, folder)
        if folder is not None:
            commit.write_json(folder.file(ADAPTED), found.summary(), force=True)
            seen = tuple(ledger.entry("adapt", some, ledger.CHOSEN) for some, _ in parts)
            for name, recipe, entry in zip(names, found.specific, seen, strict=True):
                own = replace(recipe, seen=(entry,))
                commit.write_json(folder.best(name), own.to_json(), force=True)
            write_choice(folder, ingredients, replace(found.single, seen=seen), ref_of(net))
    return found


def _require_distinct(sets: Sequence[Examples]) -> None:
    if not sets:
        raise UsageError("no data set to adapt to", where="data", fix="give one or more")
    hashes = [data.fingerprint()["sha256"] for data in sets]
    for data, digest in zip(sets, hashes, strict=True):
        if hashes.count(digest) > 1:
            what = f"{data.ref} is given more than once"
            raise UsageError(what, where="data", fix="give each once")


def _roles(names: Sequence[str], parts: Sequence[tuple[Subset, Subset]]) -> str:
    """Return as CSV which image of which set chooses, and which judges."""
    rows = [
        (name, id, label, part.role)
        for name, both in zip(names, parts, strict=True)
        for part in both
        for id, label in zip(part.ids, part.labels.tolist(), strict=True)
    ]
    return csv_text(["set", "id", "label", "role"], rows)


def _adapted(
    candidates: Candidates,
    names: tuple[str, ...],
    parts: Sequence[tuple[Subset, Subset]],
    batch_size: int,
    folder: RunFolder | None,
) -> Adaptation:
    to_choose, to_judge = (
        {
            name: Benchmark(part, name=part.role, batch_size=batch_size)
            for name, part in zip(names, column, strict=True)
        }
        for column in zip(*parts, strict=True)
    )
    recipes = candidates.recipes
    soups: dict[Candidate, dict[str, Benchmark]] = dict.fromkeys(range(len(recipes)), to_choose)
    answers = candidates.judged(soups, folder.journal(TRIALS) if folder else None).values()
    choosing = tuple(tuple(reports.values()) for reports in answers)
    single, specific = best_of(choosing, range(len(choosing)))
    contenders = list(_contenders(candidates, choosing))
    wanted: dict[Candidate, dict[str, Benchmark]] = {}
    for contender in contenders:
        for name, candidate in zip(names, contender.candidates, strict=True):
            wanted.setdefault(candidate, {})[name] = to_judge[name]
    judged = candidates.judged(wanted, folder.journal(CONTENDERS) if folder else None)
    rows = []
    for contender in contenders:
        on_each = zip(names, contender.candidates, strict=True)
        reports = tuple(judged[candidate][name] for name, candidate in on_each)
        rows.append(Row(contender.name, contender.passes, reports))
    chosen = tuple(recipes[i] for i in specific)
    return Adaptation(names, recipes, choosing, recipes[single], chosen, tuple(rows))


def best_of(
    choosing: Sequence[Sequence[Report]], among: Iterable[int]
) -> tuple[int, tuple[int, ...]]:
    """Return which of the soups *among* is best on all sets together, and which on each.

    As many images of each set choose, so that counts can be summed. Of soups that are equal on a
    set, the one that is better on all together is taken; then the first.
    """
    right = {i: [report.correct(CLEAN) for report in choosing[i]] for i in among}
    single = max(right, key=lambda i: sum(right[i]))
    sets = range(len(right[single]))
    return single, tuple(max(right, key=lambda i: (right[i][s], sum(right[i]))) for s in sets)


class Contender(NamedTuple):
    """A row of the table before it is judged: a candidate for each data set."""

    name: str
    passes: int
    candidates: tuple[Candidate, ...]


def _contenders(
    candidates: Candidates, choosing: Sequence[Sequence[Report]]
) -> Iterator[Contender]:
    """Yield what is judged: ingredients, the best of them, ensembles, and the chosen soups."""
    names, n = candidates.ingredients.names, len(choosing[0])
    rows = [recipe.weights[0] for recipe in candidates.recipes]
    pure = [next(i for i, row in enumerate(rows) if row[k] == 1) for k in range(len(names))]
    for name, i in zip(names, pure, strict=True):
        yield Contender(name, 1, (i,) * n)
    best, best_of_each = best_of(choosing, pure)
    yield Contender(f"best individual, {names[pure.index(best)]}", 1, (best,) * n)
    yield Contender("best individual for each set", 1, best_of_each)
    for average in AVERAGES:
        yield Contender(f"{average} ensemble", len(names), (average,) * n)
    single, specific = best_of(choosing, range(len(choosing)))
    yield Contender(SINGLE, 1, (single,) * n)
    yield Contender(SPECIFIC, 1, specific)
