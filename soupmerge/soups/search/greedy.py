"""The greedy soup: ingredients are put in one by one, and stay where the soup is no worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.schedule import order
from soupmerge.soups.judge.metrics import Metric, paired
from soupmerge.soups.judge.trials import Trial, Trials
from soupmerge.soups.search.evaluator import Evaluator, evaluating, metric_of, require_several
from soupmerge.storage import commit
from soupmerge.types import Progress, quiet
from soupmerge.weights.ingredients import Ingredients

ADD, DROP = "add", "drop"
DECISIONS = "decisions.json"


@dataclass(frozen=True)
class Decision:
    """Why an ingredient was put in, left out, or taken out again.

    Attributes:
        order: the pass over the ingredients, 0 being from the best alone to the worst.
        action: ``add`` or ``drop``: what was tried.
        ingredient: its place among the ingredients.
        before, after: the metric of the soup without and with what was tried.
        accepted: whether it was done.
        reason: what was seen, with the interval of the difference, image by image.
    """

    order: int
    action: str
    ingredient: int
    before: float
    after: float
    accepted: bool
    reason: str


@dataclass(frozen=True)
class Greedy:
    """What a greedy search found.

    Attributes:
        trial: the soup.
        decisions: all acceptances and refusals, in order.
        trials: all soups that were judged.
    """

    trial: Trial
    decisions: tuple[Decision, ...]
    trials: Trials

    def to_json(self) -> dict[str, Any]:
        """Return what was found, as JSON values."""
        return {
            "best": self.trials.trials.index(self.trial),
            "decisions": [asdict(decision) for decision in self.decisions],
        }


def greedy(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    metric: str | None = None,
    orders: int = 0,
    prune: bool = False,
    buffers: str = "average",
    base: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> Greedy:
    """Return the greedy soup by *metric* (Wortsman et al. 2022, "Model soups", recipe 1).

    From the best ingredient alone to the worst, each is averaged in, with equal coefficients, and
    stays if the metric is no lower than before.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: judges; its data choose the soup, so they must not judge it.
        metric: what must not fall: ``clean``, a threat, ``union``, or a sum such as
            ``0.5*clean+0.5*union``; default ``union``, or ``clean`` without threats.
        orders: random orders that are tried as well; the best soup of all is taken.
        prune: take ingredients out again, the first put in first, while the metric does not fall.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: the ingredient that counters (and ``base`` statistics) come from.
        seed: of the random orders.
        device: where to judge.
        out: run folder; journals one line a soup, resumes, and receives the soup.
        force: start over if *out* holds another run.
        progress: is told of soups.

    Raises:
        UsageError: K < 2, an unknown metric, or *out* holds a run with other settings.
    """
    require_several(ingredients, "a greedy soup")
    chosen = metric_of(benchmark, metric, "metric")
    if orders < 0:
        raise UsageError(f"{orders} random orders", where="orders", fix="give 0 or more")
    settings = {"metric": chosen, "orders": orders, "prune": prune, "seed": seed}
    how = {"buffers": buffers, "base": base, "origin": "greedy"}
    opened = evaluating(
        net,
        ingredients,
        benchmark,
        "greedy",
        settings,
        how,
        device=device,
        out=out,
        force=force,
        progress=progress,
    )
    with opened as evaluator:
        search = _Greedy(evaluator, Metric.parse(chosen), len(ingredients))
        soups = [search.soup(i, row, prune) for i, row in enumerate(search.orders(orders, seed))]
        best = Trials(tuple(map(search.trial, soups))).best(chosen)
        told = [asdict(decision) for decision in search.decisions]
        if evaluator.folder:
            commit.write_json(evaluator.folder.file(DECISIONS), told, force=True)
        best, trials = evaluator.choose(best, evaluator.all())
    return Greedy(best, tuple(search.decisions), trials)


class _Greedy:
    def __init__(self, evaluator: Evaluator, metric: Metric, k: int) -> None:
        self.evaluator, self.metric, self.k = evaluator, metric, k
        self.decisions: list[Decision] = []

    def trial(self, members: Sequence[int]) -> Trial:
        """Return the trial of the uniform soup of *members*."""
        row = [float(i in members) / len(members) for i in range(self.k)]
        return self.evaluator.trial(self.evaluator.recipe(row))

    def value(self, members: Sequence[int]) -> Any:
        """Return the metric of that soup."""
        return self.metric.value(self.trial(members).judged())

    def orders(self, count: int, seed: int) -> list[list[int]]:
        """Return the ingredients from the best alone to the worst, then *count* random orders."""
        self.evaluator.at_most = self.k
        ranked = sorted(range(self.k), key=lambda i: -self.value([i]))
        self.evaluator.at_most = None
        return [ranked, *(order(self.k, seed, i).tolist() for i in range(count))]

    def soup(self, number: int, row: Sequence[int], prune: bool) -> list[int]:
        """Return the members of the greedy soup that takes ingredients in the order *row*."""
        members = [row[0]]
        for k in row[1:]:
            if self._tried(number, ADD, k, members, [*members, k]):
                members.append(k)
        for k in list(members) if prune else ():
            rest = [member for member in members if member != k]
            if rest and self._tried(number, DROP, k, members, rest):
                members = rest
        return members

    def _tried(
        self, number: int, action: str, k: int, old: Sequence[int], new: Sequence[int]
    ) -> bool:
        """Return whether the soup of *new* is no worse than that of *old*, and note why."""
        before, after = self.value(old), self.value(new)
        gap = paired(self.trial(new).judged(), self.trial(old).judged(), self.metric)
        accepted = bool(after >= before)
        sure = "surely" if gap.low > 0 or gap.high < 0 else "perhaps by chance"
        how = "as good" if after == before else f"{'better' if accepted else 'worse'}, {sure}"
        reason = f"{how}: {gap}"
        found = (float(before), float(after), accepted, reason)
        self.decisions.append(Decision(number, action, k, *found))
        return accepted
