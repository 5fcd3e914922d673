"""What the commands that search for a soup share: options, what they are about, what they say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.options import attack, output
from soupmerge.cli.options.attack import SearchAttack
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.ingredients import Ingredients, Policy, ingredients, policy
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.metric import metric
from soupmerge.cli.options.network import Network, network

best = metric("The written soup is the best in this metric", "--best")


@dataclass(frozen=True)
class Search:
    """A search as its options describe it."""

    ingredients: Ingredients
    data: Data
    attack: SearchAttack
    out: str
    policy: Policy
    network: Network
    machine: Machine
    force: bool
    dry_run: bool
    as_json: bool

    def task(self) -> Task:
        """Return what the search is about: the network, the ingredients, the benchmark."""
        device = self.machine.device()
        ingredients = self.ingredients.load(self.policy.base)
        net = self.network.make(like=ingredients)
        benchmark = self.attack.benchmark(self.data.images(), "val", self.machine)
        self.data.warn_of_test("chooses the soup")
        return Task(net, ingredients, benchmark, device, self)


def search(command: F) -> F:
    """Add the options that all searches have."""
    return grouped(
        "search",
        Search,
        ingredients,
        data("val"),
        attack.search_attack,
        output.run,
        policy,
        network,
        machine(256),
        output.force,
        output.dry_run,
        output.as_json,
    )(command)


@dataclass(frozen=True)
class Task:
    """A search that is ready to run."""

    net: Any
    ingredients: sm.Ingredients
    benchmark: sm.Benchmark
    device: Any
    asked: Search

    @property
    def buffers(self) -> sm.Buffers:
        """Where the buffers of every soup come from."""
        return self.asked.policy.of(len(self.ingredients))

    def run(self, progress: show.Progress) -> sm.Run:
        """Return where results go, and on what they are computed."""
        return sm.Run(self.asked.out, self.asked.force, self.device, progress)

    def tell(self, soups: int | None) -> None:
        """Say what there is to do, at most, and what was done before."""
        images, threats = len(self.benchmark.data), len(self.benchmark.attacks)
        what = f"{soups} soups of " if soups else ""
        scope = f"{what}{len(self.ingredients)} ingredients, {images} images, {threats} threats"
        steps = sum(attack.describe()["steps"] for attack in self.benchmark.attacks)
        most = (soups or 0) * images * steps
        show.note(scope + (f"; at most {most:,} gradient evaluations" if most else ""))
        if not self.asked.force and not self.asked.dry_run:
            self._tell_of_resuming()

    def _tell_of_resuming(self) -> None:
        from soupmerge.storage import journal

        out = Path(self.asked.out)
        done = [len(journal.read(out / f"{name}.jsonl")) for name in ("trials", "rounds")]
        if done[0]:
            show.note(f"resuming {out}: {done[0]} soups were judged before")
        elif done[1]:
            show.note(f"resuming {out}: {done[1]} parts of the race were run before")

    def print_trials(self, trials: sm.Trials) -> None:
        """Print one row per soup."""
        names = [weights_of(trial, " ") for trial in trials]
        title = "coefficients of " + ", ".join(self.ingredients.names)
        results.print_reports(names, [trial.judged() for trial in trials], title)

    def tell_of_best(self, trials: sm.Trials, chosen: str | None) -> None:
        """Say which soup was written, and how many are not told apart from it."""
        chosen = chosen or self.benchmark.metrics[-1]
        found = trials.best(chosen)
        results.print_doubts([weights_of(found)], [found.judged()])
        tied = len(trials.tied(chosen)) - 1
        rivals = f"; {tied} others are within the noise of it in {chosen}" if tied else ""
        out = self.asked.out
        show.note(f"best: {weights_of(found)}; written to {out}/soup.safetensors{rivals}")


def weights_of(trial: Any, separator: str = ", ") -> str:
    """Return the coefficients of a soup, averaged over groups."""
    return separator.join(f"{w:.3g}" for w in trial.recipe.mean_weights)
