"""Run folders → the soups that were tried in them, and the one that is wanted."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, UsageError
from soupmerge.soups.judge.metrics import Condition, Gap, Metric, paired
from soupmerge.soups.judge.trials import Trial, Trials, recorded
from soupmerge.storage import journal
from soupmerge.storage.names import PLAN, RECIPE, TRIALS
from soupmerge.storage.reading import read_json
from soupmerge.storage.run_folder import essence, read_manifest
from soupmerge.weights import ledger
from soupmerge.weights.recipe import Recipe, read_recipe

NAMELESS = "take runs of grid, greedy, path, search or learn"


@dataclass(frozen=True)
class Tried:
    """The trials of some run folders.

    Attributes:
        trials: all of them; the same soup in several runs is there once.
        homes: the run folder of each.
        model: the network's written form, if the runs name one.
        unfinished: run folder → how far it is, in words, of those that have not chosen yet.
    """

    trials: Trials
    homes: tuple[Path, ...]
    model: str | None
    unfinished: Mapping[Path, str] = field(default_factory=dict)

    def home(self, trial: Trial) -> Path:
        """Return the run folder that *trial* is from."""
        return next(h for t, h in zip(self.trials, self.homes, strict=True) if t is trial)


@dataclass(frozen=True)
class Choice:
    """The soup that was chosen.

    Attributes:
        trial: the soup.
        home: the run folder it is from.
        rivals: trials that meet the conditions and are not told apart from it, with how far the
            chosen one is above them, image by image; the nearest first.
    """

    trial: Trial
    home: Path
    rivals: tuple[tuple[Trial, Gap], ...]


def tried(runs: Sequence[Path | str]) -> Tried:
    """Return what was tried in the folders *runs*, all judged by one benchmark.

    Raises:
        InputError: one is no run folder, is damaged, or holds no judged recipe.
        UsageError: they were judged by different benchmarks, or made for different networks.
    """
    manifests = {Path(run): read_manifest(run) for run in runs}
    _require_alike(manifests, "benchmark")
    _require_alike(manifests, "model")
    found: dict[Any, tuple[Trial, Path]] = {}
    unfinished = {}
    with _no_collector():
        for home, manifest in manifests.items():
            trials_here = _trials(home, manifest)
            if not (home / RECIPE).exists():
                unfinished[home] = _progress(home, len(trials_here))
            for trial in trials_here:
                key = (trial.recipe.sources, trial.recipe.weights, trial.recipe.by)
                found.setdefault(key, (trial, home))
    trials, homes = zip(*found.values(), strict=True)
    model = next(iter(manifests.values())).get("model")
    return Tried(Trials(trials), homes, model if isinstance(model, str) else None, unfinished)


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python from looking for garbage: among 10,000 recipes that takes half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def choose(seen: Tried, metric: str | None, conditions: Sequence[str], x: str, y: str) -> Choice:
    """Return the best soup by *metric* of those that meet *conditions*; of none, the knee.

    Args:
        metric: what is highest; None takes the knee of the front of *x* and *y*.

    Raises:
        UsageError: a metric or condition cannot be read.
        InputError: no soup meets the conditions, or a metric was not judged.
    """
    for text in (metric, x, y) if metric else (x, y):
        Metric.parse(text).require(seen.trials.metrics, "--metric, --x, --y")
    left = seen.trials.where(*conditions)
    if not left:
        best = "; ".join(_best(seen.trials, text) for text in conditions)
        what = f"no soup of {len(seen.trials)} meets {' and '.join(conditions)}"
        raise InputError(f"{what} ({best})", where="--where", fix="loosen the condition")
    trial = left.best(metric) if metric else left.knee(x, y)
    asked = Metric.parse(metric or y)
    near = _near(trial, left, asked)
    gaps = ((other, paired(trial.judged(), other.judged(), asked)) for other in near)
    rivals = [(o, gap) for o, gap in gaps if o is not trial and gap.low <= 0 <= gap.high]
    nearest = sorted(rivals, key=lambda rival: rival[1].mean)
    home = seen.home(trial)
    told = replace(trial.recipe, seen=trial.recipe.seen or _seen(home))
    return Choice(replace(trial, recipe=told), home, tuple(nearest))


def _near(trial: Trial, left: Trials, asked: Metric) -> list[Trial]:
    """Return which of *left* could be tied with *trial*, whatever the images are that differ.

    Differences of an image are within ± Σ |weights|, and so is their deviation.
    """
    own, n = asked.value(trial.judged()), trial.judged().n
    most = 2 * sum(abs(float(weight)) for _, weight in asked.terms) / n**0.5
    return [other for other in left if abs(float(own - asked.value(other.judged()))) <= most]


def _best(trials: Trials, condition: str) -> str:
    metric = Condition.parse(condition).metric
    values = [float(metric.value(trial.judged())) for trial in trials]
    return f"{condition}: from {min(values):.4g} to {max(values):.4g}"


def _trials(home: Path, manifest: Mapping[str, Any]) -> list[Trial]:
    told, file = manifest.get("benchmark"), home / TRIALS
    records = journal.read(file)
    if not records:
        raise InputError("holds no finished soup", where=home, fix="let the run go on")
    if "recipe" not in records[0] or not isinstance(told, dict):
        what = f"holds no judged recipes: it is a run of {manifest.get('command')}"
        raise InputError(what, where=home, fix=NAMELESS)
    return [
        Trial(Recipe.from_json(record.get("recipe"), where=file), recorded(record, told))
        for record in records
    ]


def _progress(home: Path, judged: int) -> str:
    """Return how many soups of the run *home* are judged, of how many."""
    planned = _plan(home).get("soups")
    return f"{judged} of {planned} soups are judged" if planned else f"{judged} soups are judged"


def _seen(home: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the images that judge soups in the run *home*, and so choose.

    The plan of the run has them from its first moment on; runs of earlier versions have them in
    the recipe that they end with.
    """
    file = home / RECIPE
    if seen := _plan(home).get(ledger.SEEN):
        return tuple(seen)
    return read_recipe(file).seen if file.exists() else ()


def _plan(home: Path) -> Mapping[str, Any]:
    """Return what the search *home* set out to do, empty if it does not say."""
    file = home / PLAN
    plan = read_json(file) if file.exists() else {}
    if not isinstance(plan, dict) or not isinstance(plan.get(ledger.SEEN, []), list):
        raise InputError("is not the plan of a search", where=file, fix="start over with --force")
    return plan


def _require_alike(manifests: Mapping[Path, Mapping[str, Any]], key: str) -> None:
    (first, one), *others = manifests.items()
    for path, manifest in others:
        if essence(manifest.get(key)) != essence(one.get(key)):
            what = f"has another {key} than {first}, so that their soups cannot be compared"
            raise UsageError(what, where=path, fix="name runs of one benchmark")
