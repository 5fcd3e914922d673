"""Read the soups that were tried in run folders, and choose one of them."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, UsageError
from soupmerge.soups.judge.metrics import Condition, Gap, Metric, paired
from soupmerge.soups.judge.trials import Trial, Trials, identity, report_from
from soupmerge.storage import journal
from soupmerge.storage.names import PLAN, RECIPE, TRIALS
from soupmerge.storage.reading import read_json
from soupmerge.storage.run_folder import essence, read_manifest
from soupmerge.weights import ledger
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.recipe_files import read_recipe

TAKE_SEARCHES = "give runs of grid, greedy, path, search or learn"


@dataclass(frozen=True)
class Tried:
    """The trials in several run folders.

    Attributes:
        trials: all trials; a soup that several runs have tried is listed once.
        homes: the run folder of each trial.
        model: the reference of the network, if the runs name one.
        unfinished: run folder → its progress in words, for runs that have not chosen a soup yet.
    """

    trials: Trials
    homes: tuple[Path, ...]
    model: str | None
    unfinished: Mapping[Path, str] = field(default_factory=dict)

    def home(self, trial: Trial) -> Path:
        """Return the run folder of *trial*."""
        return next(h for t, h in zip(self.trials, self.homes, strict=True) if t is trial)

    def recipe(self, trial: Trial) -> Recipe:
        """Return the recipe of *trial*, whose ledger names the images that choose in its run."""
        known, chose = trial.recipe.seen, _seen(self.home(trial))
        return replace(trial.recipe, seen=(*known, *(e for e in chose if e not in known)))


@dataclass(frozen=True)
class Choice:
    """The chosen soup.

    Attributes:
        trial: the soup.
        home: its run folder.
        rivals: trials that meet the conditions and do not differ from it by more than noise, each
            with the lead of the chosen soup, compared image by image; the closest first.
    """

    trial: Trial
    home: Path
    rivals: tuple[tuple[Trial, Gap], ...]


def tried(runs: Sequence[Path | str]) -> Tried:
    """Return the trials in the run folders *runs*, which must share one benchmark and network.

    Raises:
        InputError: one is not a run folder, is damaged, or holds no judged recipe.
        UsageError: the runs have different benchmarks or networks.
    """
    manifests = {Path(run): read_manifest(run) for run in runs}
    _require_alike(manifests, "benchmark")
    _require_alike(manifests, "model")
    distinct: dict[Any, tuple[Trial, Path]] = {}
    unfinished = {}
    with _no_collector():
        for home, manifest in manifests.items():
            trials_here = _trials(home, manifest)
            if not _is_finished(home, manifest, len(trials_here)):
                unfinished[home] = _progress(home, len(trials_here))
            for trial in trials_here:
                key = (trial.recipe.sources, identity(trial.recipe))
                distinct.setdefault(key, (trial, home))
    trials, homes = zip(*distinct.values(), strict=True)
    model = next(iter(manifests.values())).get("model")
    return Tried(Trials(trials), homes, model if isinstance(model, str) else None, unfinished)


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Suspend garbage collection, which takes half of the time to read 10,000 recipes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def choose(seen: Tried, metric: str | None, conditions: Sequence[str], x: str, y: str) -> Choice:
    """Return the soup that is best in *metric* among those that meet *conditions*.

    Args:
        seen: the trials of the runs.
        metric: the metric to maximise; None takes the knee of the front of *x* and *y*.
        conditions: comparisons such as ``clean>=0.85``; see `Trials.where`.
        x: the metric along the first axis of the front.
        y: the metric along the second axis of the front.

    Raises:
        UsageError: a metric or condition cannot be parsed, or a metric was not judged.
        InputError: no soup meets the conditions.
    """
    for text in (metric, x, y) if metric else (x, y):
        Metric.parse(text).require(seen.trials.metrics, "--metric, --x, --y")
    eligible = seen.trials.where(*conditions)
    if not eligible:
        ranges = "; ".join(_range(seen.trials, text) for text in conditions)
        what = f"no soup of {len(seen.trials)} meets {' and '.join(conditions)}"
        raise InputError(f"{what} ({ranges})", where="--where", fix="loosen the condition")
    trial = eligible.best(metric) if metric else eligible.knee(x, y)
    goal = Metric.parse(metric or y)
    near = _near(trial, eligible, goal)
    gaps = ((other, paired(trial.judged(), other.judged(), goal)) for other in near)
    rivals = [(o, gap) for o, gap in gaps if o is not trial and gap.low <= 0 <= gap.high]
    closest = sorted(rivals, key=lambda rival: rival[1].mean)
    chosen = replace(trial, recipe=seen.recipe(trial))
    return Choice(chosen, seen.home(trial), tuple(closest))


def _near(trial: Trial, others: Trials, metric: Metric) -> list[Trial]:
    """Return which *others* are close enough to *trial* that they could be tied with it.

    A difference on an image is within ± Σ |weights|, so their deviation is, too. This spares most
    comparisons image by image.
    """
    value, n = metric.value(trial.judged()), trial.judged().n
    bound = 2 * sum(abs(float(weight)) for _, weight in metric.terms) / n**0.5
    return [o for o in others if abs(float(value - metric.value(o.judged()))) <= bound]


def _range(trials: Trials, condition: str) -> str:
    """Return the range of the condition's metric over *trials*, in words."""
    metric = Condition.parse(condition).metric
    values = [float(metric.value(trial.judged())) for trial in trials]
    return f"{condition}: from {min(values):.4g} to {max(values):.4g}"


def _trials(home: Path, manifest: Mapping[str, Any]) -> list[Trial]:
    benchmark, file = manifest.get("benchmark"), home / TRIALS
    records = journal.read(file)
    if not records:
        raise InputError("holds no judged soup yet", where=home, fix="resume the run")
    if "recipe" not in records[0] or not isinstance(benchmark, dict):
        what = f"holds no judged recipes: it is a run of {manifest.get('command')}"
        raise InputError(what, where=home, fix=TAKE_SEARCHES)
    return [
        Trial(Recipe.from_json(record.get("recipe"), where=file), report_from(record, benchmark))
        for record in records
    ]


def _is_finished(home: Path, manifest: Mapping[str, Any], judged: int) -> bool:
    """Return whether the run *home*, with *judged* soups, has judged all; searches choose last."""
    if manifest.get("command") == "front":
        return judged >= (_plan(home).get("soups") or 0)
    return (home / RECIPE).exists()


def _progress(home: Path, judged: int) -> str:
    """Return how many soups of the run *home* are judged, and of how many, in words."""
    planned = _plan(home).get("soups")
    return f"{judged} of {planned} soups are judged" if planned else f"{judged} soups are judged"


def _seen(home: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the ledger entries of the images that judge, and so choose, soups in the run *home*.

    They are in its plan from the start; runs of earlier versions wrote them to the final recipe.
    """
    file = home / RECIPE
    if seen := _plan(home).get(ledger.SEEN):
        return tuple(seen)
    return read_recipe(file).seen if file.exists() else ()


def _plan(home: Path) -> Mapping[str, Any]:
    """Return the plan of the search *home*, empty if it wrote none."""
    file = home / PLAN
    plan = read_json(file) if file.exists() else {}
    if not isinstance(plan, dict) or not isinstance(plan.get(ledger.SEEN, []), list):
        raise InputError("is not the plan of a search", where=file, fix="start over with --force")
    return plan


def _require_alike(manifests: Mapping[Path, Mapping[str, Any]], key: str) -> None:
    (first, one), *others = manifests.items()
    for path, manifest in others:
        if essence(manifest.get(key)) != essence(one.get(key)):
            what = f"has another {key} than {first}, so their soups cannot be compared"
            raise UsageError(what, where=path, fix=f"give runs of one {key}")
