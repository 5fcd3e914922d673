"""The part that all searches share: judging soups of one set of ingredients by one benchmark."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from torch import nn

from soupmerge.binding import bind, load_into, ref_of
from soupmerge.errors import OutputError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.doubts import CHEAP, doubts
from soupmerge.robustness.judge import Ledger
from soupmerge.robustness.report import Report
from soupmerge.run import Run
from soupmerge.soups.judge import verdicts
from soupmerge.soups.judge.estimate import Estimate
from soupmerge.soups.judge.kept_adversarials import KeptAdversarials
from soupmerge.soups.judge.trials import Trial, Trials, identity
from soupmerge.soups.judge.verdicts import Verdicts
from soupmerge.storage import commit, reading
from soupmerge.storage.names import DOUBTS, PLAN, RECIPE, SOUP, TRIALS
from soupmerge.storage.replay import Replay
from soupmerge.storage.run_folder import RunFolder
from soupmerge.weights import classes, ledger, mixing, saving
from soupmerge.weights.buffers import Buffers
from soupmerge.weights.in_memory import in_memory
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.recipe_files import read_recipe


class Evaluator:
    """Judges soups one by one, each only once, and never again what the journal already holds.

    A deterministic search asks for the same soups in the same order when it is started again. It
    is therefore resumed by running it: the journal answers first, then the benchmark.

    Attributes:
        ingredients: the ingredients.
        benchmark: judges the soups.
        folder: the run folder, if results are kept.
        trials: all soups judged so far, in the order in which they were first asked for.
        at_most: the number of soups that the search may ask for, if known; for progress only.
        estimate: what the soups cost so far.
    """

    def __init__(
        self,
        net: nn.Module,
        ingredients: Ingredients,
        benchmark: Benchmark,
        make_recipe: Callable[[Sequence[float]], Recipe],
        folder: RunFolder | None,
        seen: Mapping[str, Any],
        at_most: int | None,
        run: Run,
    ) -> None:
        self.ingredients, self.benchmark, self.recipe = ingredients, benchmark, make_recipe
        self.folder, self.model_ref, self.progress = folder, ref_of(net), run.progress
        self.seen, self.at_most = seen, at_most
        self.trials: list[Trial] = []
        self.estimate = Estimate()
        self._cache = KeptAdversarials(folder) if benchmark.transfer else None
        self._replay = Replay(folder.journal(TRIALS) if folder else None)
        self._description = benchmark.describe()
        self._places: dict[Hashable, int] = {}
        self._stacked = in_memory(ingredients)
        self._bound = bind(net, ingredients.alone(0), device=run.device)

    def soup(self, weights: Sequence[float]) -> Trial:
        """Return the trial of the soup that mixes all groups alike by *weights* ``(K,)``."""
        return self.trial(self.recipe(weights))

    def trial(self, recipe: Recipe, report: Report | None = None) -> Trial:
        """Return the trial of *recipe*: known already, read from the journal, or judged now.

        Args:
            report: the verdicts on the soup, if they are known already.
        """
        key = identity(recipe)
        if key in self._places:
            return self.trials[self._places[key]]
        is_new = not self._replay.is_known
        trial = self._replay.piece(
            lambda: Trial(recipe, report or self._judge(recipe)),
            read=lambda record: Trial.from_record(record, recipe, self._description),
            write=Trial.to_record,
        )
        if is_new and self.folder:
            verdicts.clear(self.folder)
        self._places[key] = len(self.trials)
        self.trials.append(trial)
        return trial

    def _judge(self, recipe: Recipe) -> Report:
        self._show_progress()
        return self.report(recipe, ledger=self.ledger(len(self.trials)))

    def ledger(self, number: int) -> Verdicts | None:
        """Return the ledger that keeps the verdicts of evaluation *number* until it is done."""
        return Verdicts(self.folder, number) if self.folder else None

    def report(
        self, recipe: Recipe, *, by: Benchmark | None = None, ledger: Ledger | None = None
    ) -> Report:
        """Return the report of the benchmark, or of the one given *by*, on the soup of *recipe*."""
        network = self.network(recipe)
        judge = self.benchmark if by is None else by
        report = judge(network, progress=self._on_images, ledger=ledger, cache=self._cache)
        self.estimate.add(report)
        if self._cache:
            self._cache.save()
        return report

    def _on_images(self, what: str, done: int, total: int, note: str = "") -> None:
        self.progress(f"images {what}", done, total, note)

    def network(self, recipe: Recipe) -> nn.Module:
        """Return the network with the soup of *recipe* loaded into it; every call changes it."""
        load_into(self._bound, mixing.mix(self._stacked, recipe))
        return self._bound

    def _show_progress(self) -> None:
        """Report how many soups are judged, of how many, and the time that the others may take."""
        done, total = len(self.trials), self.at_most or len(self.trials) + 1
        self.progress("soups", done, total, self.estimate.note(total - done))

    def all(self) -> Trials:
        """Return all trials so far.

        Raises:
            InputError: the journal holds more trials than the search has asked for.
        """
        self._replay.require_at_most(len(self.trials), "soups")
        if self.folder:  # a kill may have left the verdicts of the last soup
            verdicts.clear(self.folder)
        self.progress("soups", len(self.trials), len(self.trials))
        return Trials(tuple(self.trials))

    def choose(self, chosen: Trial, trials: Trials) -> tuple[Trial, Trials]:
        """Write the soup *chosen* among *trials*, and the best recipe by every metric.

        Returns:
            The chosen trial, its report now noting any doubts that cheap checks raise, and all
            trials with it in its place.
        """
        if self._cache:
            self._cache.clear()
        place = trials.trials.index(chosen)
        chosen = self._with_doubts(chosen)
        if self.folder is not None:
            for metric in trials.metrics:
                best = replace(trials.best(metric).recipe, seen=(self.seen,))
                commit.write_json(self.folder.best(metric), best.to_json(), force=True)
            recipe = replace(chosen.recipe, seen=(self.seen,))
            write_choice(self.folder, self.ingredients, recipe, self.model_ref)
        return chosen, Trials((*trials[:place], chosen, *trials[place + 1 :]))

    def _with_doubts(self, trial: Trial) -> Trial:
        """Return *trial*, its report noting reasons to doubt it, if there are any."""
        file, report = self.folder.file(DOUBTS) if self.folder else None, trial.judged()
        if file and file.exists():
            records = reading.read_json(file)
        else:
            soup, progress = self.network(trial.recipe), self.progress
            raised = doubts(soup, self.benchmark, report, checks=CHEAP, progress=progress)
            records = [asdict(doubt) for doubt in raised]
            if file:
                commit.write_json(file, records)
        if not records:
            return trial
        return replace(trial, report=replace(report, notes={**report.notes, "doubts": records}))


@contextlib.contextmanager
def evaluating(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    command: str,
    settings: Mapping[str, Any],
    *,
    buffers: Buffers,
    run: Run,
    affine: bool = False,
    soups: int | None = None,
) -> Iterator[Evaluator]:
    """Open the run folder, if any, for the search *command*, and yield its `Evaluator`.

    Args:
        net: the network of the ingredients.
        ingredients: the ingredients.
        benchmark: judges the soups.
        command: name of the search, for the manifest and as the recipes' origin.
        settings: everything that affects which soups are asked for; part of the manifest.
        buffers: where the buffers of every soup come from.
        run: run folder and device.
        affine: whether coefficients may lie outside [0, 1].
        soups: the number of soups that the search will ask for, if known.
    """
    classes.require_same(ingredients, benchmark.data)
    behind = ledger.behind(ingredients)
    ledger.warn_of_leaks(behind, benchmark.data, ledger.CHOSEN, stacklevel=5)
    manifest = {
        "command": command,
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "benchmark": benchmark.describe(),
        "settings": {**settings, "buffers": buffers.policy, "base": buffers.base},
        "device": run.device_type,
    }
    make_recipe = partial(
        Recipe.of,
        ingredients,
        buffers=buffers.policy,
        base=buffers.base,
        origin=command,
        affine=affine,
    )
    seen = ledger.entry(command, benchmark.data, ledger.CHOSEN)
    with run.opened(
        manifest, inputs=ingredients.files, room=ingredients.bytes, images=benchmark.data
    ) as folder:
        if folder:
            plan = {"soups": soups, "seen": [seen]}
            commit.write_json(folder.file(PLAN), plan, force=True)
        yield Evaluator(net, ingredients, benchmark, make_recipe, folder, seen, soups, run)


def write_choice(
    folder: RunFolder, ingredients: Ingredients, recipe: Recipe, model: str | None
) -> None:
    """Write ``recipe.json`` and ``soup.safetensors`` into a run folder.

    Raises:
        OutputError: the run has already chosen another soup, by another metric.
    """
    file = folder.file(RECIPE)
    if file.exists() and read_recipe(file).weights != recipe.weights:
        what = "already holds another chosen soup"
        fix = "choose another soup of the run with soupmerge select, or start over with --force"
        raise OutputError(what, where=folder.path, fix=fix)
    commit.write_json(file, recipe.to_json(), force=True)
    saving.mix_to_file(folder.file(SOUP), ingredients, recipe, model=model, force=True)
