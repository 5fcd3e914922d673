"""Trials: recipes that were tried, with what they did, and the ways to choose among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, overload

from soupmerge import pareto
from soupmerge.errors import InputError
from soupmerge.robustness.report import Report
from soupmerge.soups.judge.metrics import Condition, Metric, paired
from soupmerge.storage.names import TRIALS
from soupmerge.storage.replay import START_OVER, require_same
from soupmerge.weights.recipe import Recipe


@dataclass(frozen=True)
class Trial:
    """A recipe, and the report on its soup, if it was judged."""

    recipe: Recipe
    report: Report | None = None

    def judged(self) -> Report:
        """Return the report.

        Raises:
            InputError: the soup was not judged.
        """
        if self.report is None:
            raise InputError("this soup was not judged", fix="give a benchmark")
        return self.report

    def to_record(self) -> dict[str, Any]:
        """Return the trial as JSON values, as a journal keeps it."""
        weights = [round(w, 6) for w in self.recipe.mean_weights]
        judged = {"metrics": {}} if self.report is None else self.report.to_record()
        return {"weights": weights, "recipe": self.recipe.to_json(), **judged}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], recipe: Recipe, benchmark: Mapping[str, Any] | None
    ) -> Trial:
        """Return the trial of *recipe* that `to_record` wrote, judged by *benchmark* as described.

        Raises:
            InputError: the record is of another recipe, or lacks something.
        """
        require_same(record, {"recipe": recipe.to_json()}, "soup", TRIALS)
        if benchmark is None:
            return cls(recipe)
        return cls(recipe, recorded(record, benchmark))


def recorded(record: Mapping[str, Any], benchmark: Mapping[str, Any]) -> Report:
    """Return the report in *record*, judged by *benchmark* as described.

    Raises:
        InputError: the record lacks something.
    """
    try:
        return Report.from_record(record, benchmark["data"], benchmark["attacks"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"a record holds no report ({error!r})"
        raise InputError(what, where=TRIALS, fix=START_OVER) from error


def preferred(reports: Sequence[Report]) -> int:
    """Return which of *reports*, equal in what was asked for, is best in all metrics together.

    That is the highest sum of accuracies, then the first. What dominates another in some metric and
    is no worse in the others has the higher sum, so a dominated soup is never taken.
    """
    sums = [sum(report.correct(metric) for metric in report.metrics) for report in reports]
    return sums.index(max(sums))


def pareto(points: Sequence[tuple[Any, Any]]) -> list[int]:
    """Return the indices of the Pareto front of *points* ``(x, y)``, by rising x.

    The front holds the points that no other dominates: none is at least as high in both x and y,
    and higher in one. Equal points stand together, in the order of *points*.

    Example:
        >>> pareto([(0, 1), (1, 0), (0, 0), (0.5, 0.5)])
        [0, 3, 1]
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=points.__getitem__, reverse=True):
        if not front or points[i][1] > points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return sorted(front, key=lambda i: (points[i], i))


@dataclass(frozen=True)
class Trials(Sequence[Trial]):
    """Trials in the order in which they were made."""

    trials: tuple[Trial, ...]

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> Trials: ...
    def __getitem__(self, index: int | slice) -> Trial | Trials:
        """Return one trial, or some of them."""
        if isinstance(index, slice):
            return Trials(self.trials[index])
        return self.trials[index]

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that every trial has."""
        return self.trials[0].judged().metrics

    def best(self, metric: str = "union") -> Trial:
        """Return the trial of the highest *metric*, which may be a sum.

        Of trials that are equal in it, `preferred` decides: never one that another dominates.
        Example: ``trials.best("0.5*clean+0.5*union")``.

        Raises:
            UsageError: *metric* cannot be read.
            InputError: there are no trials, or they were not judged by *metric*.
        """
        return self.trials[self._values(metric)[0]]

    def _values(self, metric: str) -> tuple[int, list[Fraction]]:
        """Return the place of the best trial by *metric*, and all values."""
        if not self.trials:
            raise InputError("no trial to choose from", fix="loosen the condition")
        asked = Metric.parse(metric)
        values = [asked.value(trial.judged()) for trial in self.trials]
        highest = max(values)
        return self._preferred([i for i, value in enumerate(values) if value == highest]), values

    def _preferred(self, equals: Sequence[int]) -> int:
        """Return which of the trials *equals* is taken."""
        return equals[preferred([self.trials[i].judged() for i in equals])]

    def front(self, x: str, y: str) -> tuple[int, ...]:
        """Return the trials that no other beats in both metrics *x* and *y*, by rising *x*."""
        if not self.trials:
            return ()
        return tuple(pareto(list(zip(self._values(x)[1], self._values(y)[1], strict=True))))

    def knee(self, x: str = "clean", y: str = "union") -> Trial:
        """Return the trial of the front that is highest above the chord between the front's ends.

        Which one that is does not depend on the scales of *x* and *y* (Das 1999, "On
        characterizing the 'knee' of the Pareto curve"). Of a front that is nowhere above its
        chord, that is the end that is best in *y*.

        Raises:
            InputError: there are no trials, or they were not judged by *x* and *y*.
        """
        (_, xs), (_, ys) = self._values(x), self._values(y)
        front = self.front(x, y)
        first, last = front[0], front[-1]
        width, fall = xs[last] - xs[first], ys[first] - ys[last]
        # The height above the chord, times its width.
        heights = [width * (ys[i] - ys[first]) + fall * (xs[i] - xs[first]) for i in front]
        knee = front[heights.index(max(heights))]
        same = [i for i in front if (xs[i], ys[i]) == (xs[knee], ys[knee])]
        return self.trials[self._preferred(same)]

    def where(self, *conditions: str, **named: str) -> Trials:
        """Return the trials that meet every condition.

        A condition is written whole, ``where("linf:8/255>0.4", "0.5*clean+0.5*union>=0.6")``, or
        by name, ``where(clean=">=0.85")``.

        Raises:
            UsageError: a condition is not a comparison with a number.
        """
        written = [*conditions, *(f"{metric}{text}" for metric, text in named.items())]
        tests = [Condition.parse(text) for text in written]
        kept = (t for t in self.trials if all(test.met(t.judged()) for test in tests))
        return Trials(tuple(kept))

    def tied(self, metric: str = "union") -> tuple[int, ...]:
        """Return the trials that are not told apart from the best, itself among them.

        Those whose 95% interval of the difference, image by image, holds 0 (`metrics.paired`).
        """
        top, asked = self._values(metric)[0], Metric.parse(metric)
        best = self.trials[top].judged()
        found = (paired(best, trial.judged(), asked) for trial in self.trials)
        return tuple(i for i, gap in enumerate(found) if i == top or gap.low <= 0)

    def summary(self) -> dict[str, Any]:
        """Return what was found, as JSON values: trials, best by each metric, front, baselines."""
        records = [trial.to_record() for trial in self.trials]
        for record in records:
            record.pop("flags", None)
        if not self.trials or self.trials[0].report is None:
            return {"trials": records, "best": {}, "front": [], "baselines": {}}
        best = {m: self.trials.index(self.best(m)) for m in self.metrics}
        robust = self.metrics[-1]
        return {
            "trials": records,
            "best": best,
            "front": list(self.front("clean", robust)),
            "baselines": {"ingredients": self._ingredients()},
        }

    def _ingredients(self) -> dict[str, int]:
        """Return ingredient → its trial, for the pure soups among the trials."""
        pure: dict[str, int] = {}
        for i, trial in enumerate(self.trials):
            if max(trial.recipe.mean_weights) == 1:
                k = trial.recipe.mean_weights.index(1)
                pure.setdefault(trial.recipe.sources[k].ref, i)
        return pure
