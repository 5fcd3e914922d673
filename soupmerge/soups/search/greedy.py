"""The greedy soup: ingredients are added one by one, and stay if the soup gets no worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.run import Run
from soupmerge.schedule import order
from soupmerge.soups.judge.evaluator import Evaluator, evaluating
from soupmerge.soups.judge.metrics import Metric, paired
from soupmerge.soups.judge.trials import Trial, Trials
from soupmerge.soups.search.checks import metric_of, require_several
from soupmerge.storage import commit
from soupmerge.storage.names import DECISIONS
from soupmerge.weights.buffers import Buffers
from soupmerge.weights.ingredients import Ingredients

ADD, DROP = "add", "drop"


@dataclass(frozen=True)
class Decision:
    """Why an ingredient was added, left out, or removed again.

    Attributes:
        order: the pass over the ingredients; pass 0 goes from the best alone to the worst.
        action: the change that was tried, ``add`` or ``drop``.
        ingredient: the index of the ingredient.
        before, after: the metric of the soup before and after the change, from 0 to 1.
        accepted: whether the change was made.
        reason: the difference and its interval, compared image by image.
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
    """The result of a greedy search.

    Attributes:
        trial: the greedy soup.
        decisions: all changes that were tried, accepted or not, in order.
        trials: all soups that were judged.
    """

    trial: Trial
    decisions: tuple[Decision, ...]
    trials: Trials

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "best": self.trials.trials.index(self.trial),
            "decisions": [asdict(decision) for decision in self.decisions],
        }


def greedy(  # as many settings as `grid`, and what a greedy search adds to them
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    metric: str | None = None,
    orders: int = 0,
    prune: bool = False,
    seed: int = 0,
    buffers: Buffers = Buffers(),
    run: Run = Run(),
) -> Greedy:
    """Return the greedy soup by *metric* (Wortsman et al. 2022, "Model soups", recipe 1).

    From the best ingredient alone to the worst, each is averaged in, with equal coefficients, and
    stays if the metric does not fall.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: judges the soups. Its images choose the soup, so they must not judge it later.
        metric: the metric that must not fall: ``clean``, a threat, ``union``, or a sum such as
            ``0.5*clean+0.5*union``; by default ``union``, or ``clean`` without threats.
        orders: number of random orders to try as well; the best soup of all orders is taken.
        prune: try to remove each ingredient again, in the order in which they were added, and
            accept this if the metric does not fall.
        seed: seed for the random orders.
        buffers: where the buffers of every soup come from.
        run: run folder, which journals one line for each soup, and device.

    Raises:
        UsageError: K < 2, an unknown metric, or the run folder holds another run.

    Example:
        >>> result = sm.greedy(net, ingredients, val)
        >>> [decision.action for decision in result.decisions], result.trial in result.trials
        (['add'], True)
    """
    require_several(ingredients, "a greedy soup")
    metric = metric_of(benchmark, metric)
    if orders < 0:
        raise UsageError(f"{orders} random orders", where="orders", fix="give 0 or more")
    settings = {"metric": metric, "orders": orders, "prune": prune, "seed": seed}
    with evaluating(
        net, ingredients, benchmark, "greedy", settings, buffers=buffers, run=run
    ) as evaluator:
        search = _Greedy(evaluator, Metric.parse(metric), len(ingredients))
        soups = [search.soup(i, row, prune) for i, row in enumerate(search.orders(orders, seed))]
        best = Trials(tuple(map(search.trial, soups))).best(metric)
        if evaluator.folder:
            decisions = [asdict(decision) for decision in search.decisions]
            commit.write_json(evaluator.folder.file(DECISIONS), decisions, force=True)
        best, trials = evaluator.choose(best, evaluator.all())
    return Greedy(best, tuple(search.decisions), trials)


class _Greedy:
    def __init__(self, evaluator: Evaluator, metric: Metric, k: int) -> None:
        self.evaluator, self.metric, self.k = evaluator, metric, k
        self.decisions: list[Decision] = []

    def trial(self, members: Sequence[int]) -> Trial:
        """Return the trial of the uniform soup of *members*."""
        row = [float(i in members) / len(members) for i in range(self.k)]
        return self.evaluator.soup(row)

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
            if self._accepts(number, ADD, k, members, [*members, k]):
                members.append(k)
        for k in list(members) if prune else ():
            rest = [member for member in members if member != k]
            if rest and self._accepts(number, DROP, k, members, rest):
                members = rest
        return members

    def _accepts(
        self, number: int, action: str, k: int, old: Sequence[int], new: Sequence[int]
    ) -> bool:
        """Return whether the soup of *new* is no worse than that of *old*; record the decision."""
        before, after = self.value(old), self.value(new)
        gap = paired(self.trial(new).judged(), self.trial(old).judged(), self.metric)
        accepted = bool(after >= before)
        sure = "surely" if gap.low > 0 or gap.high < 0 else "perhaps by chance"
        verdict = "as good" if after == before else f"{'better' if accepted else 'worse'}, {sure}"
        values = float(before), float(after)
        self.decisions.append(Decision(number, action, k, *values, accepted, f"{verdict}: {gap}"))
        return accepted
