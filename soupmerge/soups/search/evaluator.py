"""The room that all searches share: soups of some ingredients before one benchmark."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.binding import bind, load_into, ref_of
from soupmerge.errors import OutputError, UsageError, itemised
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.doubts import CHEAP, doubts
from soupmerge.robustness.judging import Ledger
from soupmerge.robustness.report import Report
from soupmerge.sketch import Sketch
from soupmerge.soups.files import DOUBTS, PLAN, RECIPE
from soupmerge.soups.judge import verdicts
from soupmerge.soups.judge.metrics import Metric
from soupmerge.soups.judge.trials import Trial, Trials
from soupmerge.soups.judge.verdicts import Verdicts
from soupmerge.soups.search.estimate import Estimate
from soupmerge.soups.search.kept_adversarials import KeptAdversarials
from soupmerge.storage import commit, reading, run
from soupmerge.storage.replay import Replay
from soupmerge.storage.tables import images_table
from soupmerge.types import Progress
from soupmerge.weights import classes, ledger, mixing
from soupmerge.weights.in_memory import held
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe, read_recipe


class Evaluator:
    """Judges soups one by one, each once; what a journal already holds is not judged again.

    A search that is deterministic asks for the same soups in the same order when it is started
    again, and so is resumed by being run: the journal answers first, then the benchmark does.

    Attributes:
        ingredients: the ingredients.
        benchmark: judges.
        trials: what was judged so far, in the order in which it was first asked for.
        seen: the ledger's entry on the images that choose.
        at_most: how many soups the search may ask for, if that is known; for progress alone.
    """

    def __init__(
        self,
        net: nn.Module,
        ingredients: Ingredients,
        benchmark: Benchmark,
        how: Mapping[str, Any],
        folder: run.RunFolder | None,
        seen: Mapping[str, Any],
        at_most: int | None,
        device: torch.device | str,
        progress: Progress,
    ) -> None:
        self.ingredients, self.benchmark, self.how = ingredients, benchmark, how
        self.folder, self.model_ref, self.progress = folder, ref_of(net), progress
        self.seen, self.at_most = seen, at_most
        self.trials: list[Trial] = []
        self.estimate = Estimate()
        self._fooling = KeptAdversarials(folder) if benchmark.transfer else None
        self._replay = Replay(folder.journal("trials") if folder else None)
        self._told = benchmark.describe()
        self._places: dict[tuple[tuple[float, ...], ...], int] = {}
        self._stacked = held(ingredients)
        self._bound = bind(net, ingredients.alone(0), device=device)

    def recipe(self, weights: Sequence[float], **more: Any) -> Recipe:
        """Return the recipe that mixes all groups alike by *weights* ``(K,)``."""
        return Recipe.of(self.ingredients, weights, **{**self.how, **more})

    def trial(self, recipe: Recipe, report: Report | None = None) -> Trial:
        """Return the trial of *recipe*: judged before, found in the journal, or judged now.

        *report* is what was found out already, if it was.
        """
        if recipe.weights in self._places:
            return self.trials[self._places[recipe.weights]]
        made = not self._replay.is_known
        trial = self._replay.piece(
            lambda: Trial(recipe, report or self._judged(recipe)),
            read=lambda record: Trial.from_record(record, recipe, self._told),
            write=Trial.to_record,
        )
        if made and self.folder:
            verdicts.forget(self.folder)
        self._places[recipe.weights] = len(self.trials)
        self.trials.append(trial)
        return trial

    def _judged(self, recipe: Recipe) -> Report:
        self.told()
        return self.report(recipe, ledger=self.ledger(len(self.trials)))

    def ledger(self, number: int) -> Verdicts | None:
        """Return what keeps the verdicts of evaluation *number* until it is done."""
        return Verdicts(self.folder, number) if self.folder else None

    def report(
        self, recipe: Recipe, *, by: Benchmark | None = None, ledger: Ledger | None = None
    ) -> Report:
        """Return what the benchmark, or the one given *by*, says of the soup of *recipe*."""
        self.load_into(recipe)
        judge = self.benchmark if by is None else by
        how: Any = {"progress": self._of_images, "ledger": ledger, "fooling": self._fooling}
        report = judge(self._bound, **how)
        self.estimate.add(report)
        if self._fooling:
            self._fooling.save()
        return report

    def _of_images(self, what: str, done: int, total: int, note: str = "") -> None:
        self.progress(f"images {what}", done, total, note)

    def load_into(self, recipe: Recipe) -> nn.Module:
        """Return the network with the weights of *recipe*'s soup, which are changed in place."""
        load_into(self._bound, mixing.mix(self._stacked, recipe))
        return self._bound

    def told(self) -> None:
        """Tell how many soups are done, of how many, and what the rest may take."""
        done, total = len(self.trials), self.at_most or len(self.trials) + 1
        self.progress("soups", done, total, self.estimate.note(total - done))

    def all(self) -> Trials:
        """Return all trials so far.

        Raises:
            InputError: the journal holds more of them than the search has asked for.
        """
        self._replay.require_room(len(self.trials), "soups")
        self.progress("soups", len(self.trials), len(self.trials))
        return Trials(tuple(self.trials))

    def choose(self, chosen: Trial, trials: Trials) -> tuple[Trial, Trials]:
        """Write the soup *chosen* of *trials*, and the best recipe of every metric.

        Returns:
            The chosen trial and all trials; its report notes the doubts that cheap checks raise.
        """
        if self._fooling:
            self._fooling.clear()
        place = trials.trials.index(chosen)
        chosen = self._doubted(chosen)
        if self.folder is not None:
            for metric in trials.metrics:
                best = replace(trials.best(metric).recipe, seen=(self.seen,))
                commit.write_json(self.folder.best(metric), best.to_json(), force=True)
            recipe = replace(chosen.recipe, seen=(self.seen,))
            write_choice(self.folder, self.ingredients, recipe, self.model_ref)
        return chosen, Trials((*trials[:place], chosen, *trials[place + 1 :]))

    def _doubted(self, trial: Trial) -> Trial:
        """Return *trial*, its report noting reasons to doubt it, if there are any."""
        file = self.folder.file(DOUBTS) if self.folder else None
        if file and file.exists():
            found = reading.read_json(file)
        else:
            soup, report = self.load_into(trial.recipe), trial.judged()
            how: Any = {"checks": CHEAP, "progress": self.progress}
            found = [asdict(doubt) for doubt in doubts(soup, self.benchmark, report, **how)]
            if file:
                commit.write_json(file, found)
        if not found:
            return trial
        report = trial.judged()
        return replace(trial, report=replace(report, notes={**report.notes, "doubts": found}))


@contextlib.contextmanager
def evaluating(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    command: str,
    settings: Mapping[str, Any],
    how: Mapping[str, Any],
    *,
    soups: int | None = None,
    device: torch.device | str,
    out: Path | str | None,
    force: bool,
    progress: Progress,
) -> Iterator[Evaluator]:
    """Open the run folder *out*, if any, for the search *command*, and hold it while it is used.

    Args:
        settings: all that changes which soups are asked for, for the manifest.
        how: policy of every recipe: ``buffers``, ``base``, ``origin``, ``affine``.
        soups: how many the search will ask for, if that is known.
    """
    classes.require_same(ingredients, benchmark.data)
    _warn_of_trained(ingredients, benchmark)
    manifest = {
        "command": command,
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "benchmark": benchmark.describe(),
        "settings": {**settings, "buffers": how["buffers"], "base": how["base"]},
        "device": torch.device(device).type,
    }
    seen = ledger.entry(str(how["origin"]), benchmark.data, ledger.CHOSEN)
    with contextlib.ExitStack() as stack:
        folder = None
        if out is not None:
            opened = run.opened(
                out, manifest, inputs=ingredients.files, force=force, room=ingredients.bytes
            )
            folder = stack.enter_context(opened)
            commit.write_text(folder.file("images.csv"), images_table(benchmark.data), force=True)
            plan = {"soups": soups, "seen": [seen]}
            commit.write_json(folder.file(PLAN), plan, force=True)
        yield Evaluator(net, ingredients, benchmark, how, folder, seen, soups, device, progress)


def _warn_of_trained(ingredients: Ingredients, benchmark: Benchmark) -> None:
    """Warn of ingredients that were trained on the images that are to choose a soup of them."""
    sketch = Sketch.of(benchmark.data)
    problems = [
        f"{ingredient.ref} was {line}"
        for ingredient in ingredients
        for line in ledger.leaks(ledger.ledger_of(ingredient), sketch, ledger.CHOSEN)
    ]
    if problems:
        what = "ingredients were trained on images that choose, and look better on them"
        warnings.warn(f"{what}: {itemised(problems)}", stacklevel=4)


def require_several(ingredients: Ingredients, what: str, *, exactly: int | None = None) -> None:
    """Refuse too few ingredients, or, with *exactly*, another number of them.

    Raises:
        UsageError: as it says; *what* names the search.
    """
    if exactly is not None and len(ingredients) != exactly:
        fix = f"name {exactly} checkpoints"
        raise UsageError(f"{what} has {exactly} ends, not {len(ingredients)}", where="REF", fix=fix)
    if len(ingredients) < 2:
        fix = "name more checkpoints"
        raise UsageError(
            f"{what} needs two or more ingredients, not {len(ingredients)}", where="REF", fix=fix
        )


def metric_of(benchmark: Benchmark, choose: str | None, where: str = "best") -> str:
    """Return *choose*, or what chooses if nothing is named: the union, or clean without threats.

    Raises:
        UsageError: *benchmark* does not judge it.
    """
    text = choose or benchmark.metrics[-1]
    Metric.parse(text).require(benchmark.metrics, where)
    return text


def write_choice(
    folder: run.RunFolder, ingredients: Ingredients, recipe: Recipe, model: str | None
) -> None:
    """Put ``recipe.json`` and ``soup.safetensors`` into a run folder.

    Raises:
        OutputError: the run has chosen another soup before, by another metric.
    """
    file = folder.file(RECIPE)
    if file.exists() and read_recipe(file).weights != recipe.weights:
        what = "holds the finished soup of another choice"
        fix = "pick other soups of the run by soupmerge select, or start over with --force"
        raise OutputError(what, where=folder.path, fix=fix)
    commit.write_json(file, recipe.to_json(), force=True)
    mixing.mix_to_file(
        folder.file("soup.safetensors"), ingredients, recipe, model=model, force=True
    )
