"""What the commands that search for a soup share: options, preparation and printing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.notes import note_image_size
from soupmerge.cli.options import attack, output
from soupmerge.cli.options.attack import SearchAttack
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.ingredients import BufferPolicy, Ingredients, ingredients, policy
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.metric import metric
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.output import RunOutput

best = metric("Write the soup that is best in this metric", "--best")


@dataclass(frozen=True)
class Search:
    """The options of a search."""

    ingredients: Ingredients
    data: Data
    attack: SearchAttack
    output: RunOutput
    policy: BufferPolicy
    network: Network
    machine: Machine
    as_json: bool

    def task(self) -> Task:
        """Return the search with its network, ingredients and benchmark loaded."""
        device = self.machine.device()
        ingredients = self.ingredients.load(self.policy.base)
        net = self.network.make(like=ingredients)
        images = self.data.seen_by(net, ingredients).images()
        note_image_size(net, images)
        benchmark = self.attack.benchmark(images, "val", self.machine)
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
        output.run(),
        policy,
        network,
        machine(256),
        output.as_json,
    )(command)


@dataclass(frozen=True)
class Task:
    """A search that is ready to run."""

    net: Any
    ingredients: sm.Ingredients
    benchmark: sm.Benchmark
    device: Any
    search: Search

    @property
    def buffers(self) -> sm.Buffers:
        """The buffer policy of every soup."""
        return self.search.policy.of(len(self.ingredients))

    def run(self, progress: show.Progress) -> sm.Run:
        """Return the run folder and the device, as the library takes them."""
        return self.search.output.run(self.device, progress)

    def print_plan(self, soups: int) -> None:
        """Print how much work *soups* soups are at most, and what is already done."""
        images, attacks = len(self.benchmark.data), self.benchmark.attacks
        plan = (
            f"{show.counted(soups, 'soup')} of {show.counted(len(self.ingredients), 'ingredient')}"
            f", {show.counted(images, 'image')}, {show.counted(len(attacks), 'threat')}"
        )
        most = soups * images * sum(attack.describe()["steps"] for attack in attacks)
        show.note(plan + (f"; at most {most:,} gradient evaluations" if most else ""))
        if not self.search.output.force and not self.search.output.dry_run:
            self._print_resuming()

    def _print_resuming(self) -> None:
        from soupmerge.storage import journal

        out = Path(self.search.output.out)
        trials, rounds = (len(journal.read(out / f"{n}.jsonl")) for n in ("trials", "rounds"))
        if trials:
            show.note(f"resuming {out}: {show.counted(trials, 'soup')} already judged")
        elif rounds:
            show.note(f"resuming {out}: {show.counted(rounds, 'part')} of the race already run")

    def print_trials(self, trials: sm.Trials) -> None:
        """Print one row per soup."""
        names = [weights_of(trial, " ") for trial in trials]
        title = "coefficients of " + ", ".join(self.ingredients.names)
        results.print_reports(names, [trial.judged() for trial in trials], title)

    def print_best(self, trials: sm.Trials, metric: str | None, cost: Mapping[str, float]) -> None:
        """Print the cost, the soup that was written, and how many others are as good."""
        metric = metric or self.benchmark.metrics[-1]
        trial = trials.best(metric)
        results.print_cost(cost)
        results.print_doubts([weights_of(trial)], [trial.judged()])
        tied = len(trials.tied(metric)) - 1
        are = "is" if tied == 1 else "are"
        rivals = f"; {show.counted(tied, 'other')} {are} within the noise of it in {metric}"
        written = f"written to {self.search.output.out}/soup.safetensors"
        show.note(f"best: {weights_of(trial)}; {written}{rivals if tied else ''}")


def weights_of(trial: Any, separator: str = ", ") -> str:
    """Return the coefficients of a soup, averaged over groups, as text."""
    return separator.join(f"{w:.3g}" for w in trial.recipe.mean_weights)
