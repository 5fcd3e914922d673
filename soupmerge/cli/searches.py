"""What the commands that search for a soup share: options, what they are about, what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

import soupmerge as sm
from soupmerge.cli import meant, options, results, show

T = TypeVar("T")

METRICS = "clean, a threat, union, or a sum such as 0.5*clean+0.5*union"
_thorough = click.option(
    "--thorough",
    is_flag=True,
    help="Attack every image to the last step; without it, APGD gives up images that ten steps "
    "hardly moved, and the table says so.",
)
_transfer = click.option(
    "--transfer",
    is_flag=True,
    help="Try on each image first what fooled the soups before; what is found then depends on "
    "their order.",
)
best = click.option(
    "--best",
    metavar="METRIC",
    help=f"What the written soup is best in: {METRICS} [default: union].",
)


def attack(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the attack that compares soups."""
    return options.attack(_thorough(_transfer(command)))


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all searches have."""
    out = click.option(
        "-o", "--out", required=True, metavar="RUN", help="Run folder; resumes by itself."
    )
    added = (
        *(out, options.selection, options.buffers, options.model),
        *(options.weights_key, options.batch_size(256)),
    )
    for option in reversed(
        (*added, options.machine, options.force, options.dry_run, options.as_json)
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Task:
    """What a search is about, as its options say."""

    net: Any
    pots: sm.Ingredients
    benchmark: sm.Benchmark
    given: dict[str, Any]
    device: Any

    @classmethod
    def of(cls, refs: tuple[str, ...], given: dict[str, Any]) -> Task:
        """Return what the options *given* mean."""
        device = meant.device(given)
        pots = meant.ingredients(refs, given)
        meant.tell(pots, given)
        net = meant.network(given, like=pots)
        benchmark = meant.benchmark(given, "val")
        meant.warn_of_test(given["split"], "chooses the soup")
        benchmark = replace(benchmark, transfer=given["transfer"])
        judge = benchmark if given["thorough"] else benchmark.brief()
        return cls(net, pots, judge, given, device)

    def tell(self, soups: int | None) -> None:
        """Say what there is to do, at most, and what was done before."""
        images, threats = len(self.benchmark.data), len(self.benchmark.attacks)
        what = f"{soups} soups of " if soups else ""
        scope = f"{what}{len(self.pots)} ingredients, {images} images, {threats} threats"
        steps = sum(attack.describe()["steps"] for attack in self.benchmark.attacks)
        most = (soups or 0) * images * steps
        show.note(scope + (f"; at most {most:,} gradient evaluations" if most else ""))
        self._tell_of_resuming()

    def _tell_of_resuming(self) -> None:
        from soupmerge.storage import journal

        out, force = Path(self.given["out"]), self.given["force"]
        if force or self.given.get("dry_run"):
            return
        done = [len(journal.read(out / f"{name}.jsonl")) for name in ("trials", "rounds")]
        if done[0]:
            show.note(f"resuming {out}: {done[0]} soups were judged before")
        elif done[1]:
            show.note(f"resuming {out}: {done[1]} parts of the race were run before")

    def run(self, search: Callable[..., T], progress: show.Progress, **how: Any) -> T:
        """Run *search*, and return what it found."""
        return search(
            self.net,
            self.pots,
            self.benchmark,
            buffers=self.given["buffers"],
            base=meant.index_of_base(self.given, len(self.pots)),
            device=self.device,
            out=self.given["out"],
            force=self.given["force"],
            progress=progress,
            **how,
        )

    def tell_of_best(self, trials: sm.Trials, metric: str | None) -> None:
        """Say which soup was written, and how many are not told apart from it."""
        chosen = metric or self.benchmark.metrics[-1]
        found = trials.best(chosen)
        results.print_doubts([weights_of(found)], [found.judged()])
        tied = len(trials.tied(chosen)) - 1
        rivals = f"; {tied} others are within the noise of it in {chosen}" if tied else ""
        out = self.given["out"]
        show.note(f"best: {weights_of(found)}; written to {out}/soup.safetensors{rivals}")


def weights_of(trial: Any, separator: str = ", ") -> str:
    """Return the coefficients of a soup, averaged over groups."""
    return separator.join(f"{w:.3g}" for w in trial.recipe.mean_weights)


def print_trials(task: Task, trials: sm.Trials) -> None:
    """Print one row per soup."""
    names = [weights_of(trial, " ") for trial in trials]
    title = "coefficients of " + ", ".join(task.pots.names)
    results.print_reports(names, [trial.judged() for trial in trials], title)
