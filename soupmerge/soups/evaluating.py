"""The room that all searches share: soups of some ingredients before one benchmark."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.binding import bind, pour, ref_of
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.judging import Ledger
from soupmerge.robustness.report import Report
from soupmerge.soups import verdicts
from soupmerge.soups.comparing import images_table
from soupmerge.soups.estimating import Estimate
from soupmerge.soups.metrics import Metric
from soupmerge.soups.transferring import KeptFooling
from soupmerge.soups.trials import START_OVER, Trial, Trials
from soupmerge.soups.verdicts import Verdicts
from soupmerge.storage import commit, run
from soupmerge.storage.journal import Journal
from soupmerge.types import Progress
from soupmerge.weights import ledger, mixing
from soupmerge.weights.holding import held
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe


class Evaluator:
    """Judges soups one by one, each once; what a journal already holds is not judged again.

    A search that is deterministic asks for the same soups in the same order when it is started
    again, and so is resumed by being run: the journal answers first, then the benchmark does.

    Attributes:
        pots: the ingredients.
        benchmark: judges.
        trials: what was judged so far, in the order in which it was first asked for.
        at_most: how many soups the search may ask for, if that is known; for progress alone.
    """

    def __init__(
        self,
        net: nn.Module,
        pots: Ingredients,
        benchmark: Benchmark,
        how: Mapping[str, Any],
        folder: run.RunFolder | None,
        device: torch.device | str,
        progress: Progress,
    ) -> None:
        self.pots, self.benchmark, self.how = pots, benchmark, how
        self.folder, self.model_ref, self.progress = folder, ref_of(net), progress
        self.trials: list[Trial] = []
        self.at_most: int | None = None
        self.estimate = Estimate()
        self._fooling = KeptFooling(folder) if benchmark.transfer else None
        self._journal: Journal | None = folder.journal("trials") if folder else None
        self._known = list(self._journal.records) if self._journal else []
        self._told = benchmark.describe()
        self._places: dict[tuple[tuple[float, ...], ...], int] = {}
        self._stacked = held(pots)
        self._bound = bind(net, pots[0], device=device)

    def recipe(self, weights: Sequence[float], **more: Any) -> Recipe:
        """Return the recipe that mixes all groups alike by *weights* ``(K,)``."""
        return Recipe.of(self.pots, weights, **{**self.how, **more})

    def trial(self, recipe: Recipe, report: Report | None = None) -> Trial:
        """Return the trial of *recipe*: judged before, found in the journal, or judged now.

        *report* is what was found out already, if it was.
        """
        if recipe.weights in self._places:
            return self.trials[self._places[recipe.weights]]
        i = len(self.trials)
        if i < len(self._known):
            trial = Trial.from_record(self._known[i], recipe, self._told)
        else:
            trial = self._judged(i, recipe, report)
        self._places[recipe.weights] = i
        self.trials.append(trial)
        return trial

    def _judged(self, i: int, recipe: Recipe, report: Report | None) -> Trial:
        if report is None:
            self.told()
            report = self.report(recipe, ledger=self.ledger(i))
        trial = Trial(recipe, report)
        if self.folder and self._journal:
            self._journal.append(trial.to_record())
            verdicts.forget(self.folder)
        return trial

    def ledger(self, number: int) -> Verdicts | None:
        """Return what keeps the verdicts of evaluation *number* until it is done."""
        return Verdicts(self.folder, number) if self.folder else None

    def report(
        self, recipe: Recipe, *, by: Benchmark | None = None, ledger: Ledger | None = None
    ) -> Report:
        """Return what the benchmark, or the one given *by*, says of the soup of *recipe*."""
        self.pour(recipe)
        judge = self.benchmark if by is None else by
        how: Any = {"progress": self._of_images, "ledger": ledger, "fooling": self._fooling}
        report = judge(self._bound, **how)
        self.estimate.add(report)
        if self._fooling:
            self._fooling.save()
        return report

    def _of_images(self, what: str, done: int, total: int, note: str = "") -> None:
        self.progress(f"images {what}", done, total, note)

    def pour(self, recipe: Recipe) -> nn.Module:
        """Return the network with the weights of *recipe*'s soup, which are changed in place."""
        pour(self._bound, mixing.mix(self._stacked, recipe))
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
        if len(self._known) > len(self.trials):
            what = f"holds {len(self._known)} records of {len(self.trials)} soups"
            raise InputError(what, where="trials.jsonl", fix=START_OVER)
        self.progress("soups", len(self.trials), len(self.trials))
        return Trials(tuple(self.trials))

    def choose(self, recipe: Recipe, trials: Trials) -> None:
        """Write the chosen soup, and the best recipe of every metric, into the run folder."""
        if self._fooling:
            self._fooling.clear()
        if self.folder is None:
            return
        seen = (ledger.entry(str(self.how["origin"]), self.benchmark.data),)
        for metric in trials.metrics:
            best = replace(trials.best(metric).recipe, seen=seen)
            commit.write_json(self.folder.best(metric), best.to_json(), force=True)
        write_choice(self.folder, self.pots, replace(recipe, seen=seen), self.model_ref)


@contextlib.contextmanager
def evaluating(
    net: nn.Module,
    pots: Ingredients,
    benchmark: Benchmark,
    command: str,
    settings: Mapping[str, Any],
    how: Mapping[str, Any],
    *,
    device: torch.device | str,
    out: Path | str | None,
    force: bool,
    progress: Progress,
) -> Iterator[Evaluator]:
    """Open the run folder *out*, if any, for the search *command*, and hold it while it is used.

    Args:
        settings: all that changes which soups are asked for, for the manifest.
        how: policy of every recipe: ``buffers``, ``base``, ``origin``, ``affine``.
    """
    manifest = {
        "command": command,
        "model": ref_of(net),
        "inputs": pots.fingerprint(),
        "benchmark": benchmark.describe(),
        "settings": {**settings, "buffers": how["buffers"], "base": how["base"]},
        "device": torch.device(device).type,
    }
    with contextlib.ExitStack() as stack:
        folder = None
        if out is not None:
            opened = run.opened(out, manifest, inputs=pots.files, force=force)
            folder = stack.enter_context(opened)
            commit.write_text(folder.file("images.csv"), images_table(benchmark.data), force=True)
        yield Evaluator(net, pots, benchmark, how, folder, device, progress)


def require_several(pots: Ingredients, what: str, *, exactly: int | None = None) -> None:
    """Refuse too few ingredients, or, with *exactly*, another number of them.

    Raises:
        UsageError: as it says; *what* names the search.
    """
    if exactly is not None and len(pots) != exactly:
        fix = f"name {exactly} checkpoints"
        raise UsageError(f"{what} has {exactly} ends, not {len(pots)}", where="REF", fix=fix)
    if len(pots) < 2:
        fix = "name more checkpoints"
        raise UsageError(
            f"{what} needs two or more ingredients, not {len(pots)}", where="REF", fix=fix
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
    folder: run.RunFolder, pots: Ingredients, recipe: Recipe, model: str | None
) -> None:
    """Put ``recipe.json`` and ``soup.safetensors`` into a run folder."""
    commit.write_json(folder.file("recipe.json"), recipe.to_json(), force=True)
    mixing.mix_to_file(folder.file("soup.safetensors"), pots, recipe, model=model, force=True)
