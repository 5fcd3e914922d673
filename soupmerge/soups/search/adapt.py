"""Soups for shifted images: a few labelled images choose a soup, the others judge it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from soupmerge.asking import probe
from soupmerge.binding import ref_of
from soupmerge.choices import AVERAGES
from soupmerge.errors import UsageError
from soupmerge.numbers import exact
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import CLEAN, Report
from soupmerge.run import Run
from soupmerge.soups.judge.evaluator import write_choice
from soupmerge.soups.judge.subset import Subset
from soupmerge.soups.search.adaptation import Adaptation, Row
from soupmerge.soups.search.candidates import Candidate, Candidates
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


def adapt(
    net: nn.Module,
    ingredients: Ingredients,
    sets: Sequence[Examples] | Mapping[str, Examples],
    *,
    shots: int = 1000,
    step: float | str = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    run: Run = Run(),
) -> Adaptation:
    """Choose soups for shifted images on *shots* labelled images, and judge them on the others.

    Every soup of the lattice is judged on the choosing images (Croce et al. 2023, "Seasoning Model
    Soups"). One soup is chosen for all data sets together, with equal weights, and one for each
    set. They are compared with the ingredients, the ingredient that is best on the choosing images,
    and ensembles of all ingredients. Accuracies are clean, because the shift takes the place of the
    attack. Batch-norm statistics are averaged.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        sets: data sets, with or without a name for each that is usable as a file name; corruptions
            of the same images share their choosing images.
        shots: number of choosing images in each set.
        step: spacing of the coefficients; must divide 1.
        seed: seed for the draw of the choosing images.
        batch_size: images per batch; it affects speed, not verdicts.
        run: run folder, which journals one line for each soup and each comparison and receives the
            table, the single soup, and the recipe for each set in ``best/``; and device.

    Raises:
        UsageError: K < 2, *step* does not divide 1, there is no data set or one is given twice,
            *shots* leaves no images to judge, or the run folder holds another run.
        InputError: the network cannot take the images of a set.

    Example:
        >>> sets = [sm.data(f"{name}:digits", limit=40) for name in ("low_contrast-3", "noise-2")]
        >>> result = sm.adapt(net, ingredients, sets, shots=20, step=0.5)
        >>> result.sets, [row.name for row in result.rows][-2:]
        (('low_contrast-3', 'noise-2'), ['single soup', 'a soup for each set'])
    """
    rows = plan(ingredients, step)[1]
    recipes = tuple(Recipe.of(ingredients, row, origin="adapt") for row in rows)
    if isinstance(sets, Mapping):
        names, sets = tuple(sets), tuple(sets.values())
    else:
        names = short_names([data.ref for data in sets])
    _require_distinct(sets)
    splits = [draw(data, shots, seed) for data in sets]
    candidates = Candidates(net, ingredients, recipes, run)
    for data in sets:
        probe(candidates.bound, data, torch.device(run.device))
        classes.require_same(ingredients, data)
    manifest = {
        "command": "adapt",
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "chosen on": [choosing.fingerprint() for choosing, _ in splits],
        "judged on": [judging.fingerprint() for _, judging in splits],
        "settings": {"step": str(exact(str(step), "step")), "shots": shots, "seed": seed},
        "device": run.device_type,
    }
    with run.opened(manifest, inputs=ingredients.files, room=ingredients.bytes) as folder:
        if folder is not None:
            commit.write_text(folder.file(IMAGES), _roles_table(names, splits), force=True)
        result = _choose_and_judge(candidates, names, splits, batch_size, folder)
        if folder is not None:
            commit.write_json(folder.file(ADAPTED), result.summary(), force=True)
            seen = tuple(ledger.entry("adapt", part, ledger.CHOSEN) for part, _ in splits)
            for name, recipe, entry in zip(names, result.specific, seen, strict=True):
                specific = replace(recipe, seen=(entry,))
                commit.write_json(folder.best(name), specific.to_json(), force=True)
            write_choice(folder, ingredients, replace(result.single, seen=seen), ref_of(net))
    return result


def _require_distinct(sets: Sequence[Examples]) -> None:
    if not sets:
        raise UsageError("no data set to adapt to", where="data", fix="give at least one")
    hashes = [data.fingerprint()["sha256"] for data in sets]
    for data, digest in zip(sets, hashes, strict=True):
        if hashes.count(digest) > 1:
            what = f"{data.ref} is given more than once"
            raise UsageError(what, where="data", fix="give each data set once")


def _roles_table(names: Sequence[str], splits: Sequence[tuple[Subset, Subset]]) -> str:
    """Return the role of each image of each set, to choose or to judge, as CSV."""
    rows = [
        (name, id, label, part.role)
        for name, split in zip(names, splits, strict=True)
        for part in split
        for id, label in zip(part.ids, part.labels.tolist(), strict=True)
    ]
    return csv_text(["set", "id", "label", "role"], rows)


def _choose_and_judge(
    candidates: Candidates,
    names: tuple[str, ...],
    splits: Sequence[tuple[Subset, Subset]],
    batch_size: int,
    folder: RunFolder | None,
) -> Adaptation:
    to_choose, to_judge = (
        {
            name: Benchmark(part, name=part.role, batch_size=batch_size)
            for name, part in zip(names, column, strict=True)
        }
        for column in zip(*splits, strict=True)
    )
    recipes = candidates.recipes
    soups: dict[Candidate, dict[str, Benchmark]] = dict.fromkeys(range(len(recipes)), to_choose)
    on_choosing = candidates.judge(soups, folder.journal(TRIALS) if folder else None)
    choosing = tuple(tuple(reports.values()) for reports in on_choosing.values())
    single, specific = best_of(choosing, range(len(choosing)))
    contenders = list(_contenders(candidates, choosing))
    due: dict[Candidate, dict[str, Benchmark]] = {}
    for contender in contenders:
        for name, candidate in zip(names, contender.candidates, strict=True):
            due.setdefault(candidate, {})[name] = to_judge[name]
    on_judging = candidates.judge(due, folder.journal(CONTENDERS) if folder else None)
    rows = []
    for contender in contenders:
        by_set = zip(names, contender.candidates, strict=True)
        reports = tuple(on_judging[candidate][name] for name, candidate in by_set)
        rows.append(Row(contender.name, contender.passes, reports))
    chosen = tuple(recipes[i] for i in specific)
    return Adaptation(names, recipes, choosing, recipes[single], chosen, tuple(rows))


def best_of(
    choosing: Sequence[Sequence[Report]], among: Iterable[int]
) -> tuple[int, tuple[int, ...]]:
    """Return which of the soups *among* is best on all sets together, and which on each set.

    Every set has the same number of choosing images, so counts can be summed. Ties on a set go to
    the soup that is better on all sets together, then to the first.
    """
    right = {i: [report.correct(CLEAN) for report in choosing[i]] for i in among}
    single = max(right, key=lambda i: sum(right[i]))
    sets = range(len(right[single]))
    return single, tuple(max(right, key=lambda i: (right[i][s], sum(right[i]))) for s in sets)


class Contender(NamedTuple):
    """A row of the table before it is judged: one candidate for each data set."""

    name: str
    passes: int
    candidates: tuple[Candidate, ...]


def _contenders(
    candidates: Candidates, choosing: Sequence[Sequence[Report]]
) -> Iterator[Contender]:
    """Yield the rows to judge: ingredients, the best of them, ensembles, and the chosen soups."""
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
