"""Trials: recipes that were tried, their reports, and ways to choose among them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
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
    """A recipe that was tried.

    Attributes:
        recipe: the coefficients of the soup.
        report: the report on the soup; None if it was not judged.

    Example:
        >>> Trial(sm.Recipe.of(ingredients, [0.5, 0.5])).report is None
        True
    """

    recipe: Recipe
    report: Report | None = None

    def judged(self) -> Report:
        """Return the report.

        Raises:
            InputError: the soup was not judged.
        """
        if self.report is None:
            raise InputError("the soup was not judged", fix="give a benchmark")
        return self.report

    def to_record(self) -> dict[str, Any]:
        """Return the trial as JSON values, for a journal."""
        weights = [round(w, 6) for w in self.recipe.mean_weights]
        verdicts = {"metrics": {}} if self.report is None else self.report.to_record()
        return {"weights": weights, "recipe": self.recipe.to_json(), **verdicts}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], recipe: Recipe, benchmark: Mapping[str, Any] | None
    ) -> Trial:
        """Return the trial of *recipe* that `to_record` wrote.

        Args:
            record: what `to_record` returned.
            recipe: the recipe that it must be of.
            benchmark: description of the benchmark that judged it, if any.

        Raises:
            InputError: the record is of another recipe, or incomplete.
        """
        require_same(record, {"recipe": recipe.to_json()}, "soup", TRIALS)
        if benchmark is None:
            return cls(recipe)
        return cls(recipe, report_from(record, benchmark))


def identity(recipe: Recipe) -> Hashable:
    """Return what two recipes of the same ingredients have in common if their soups are the same.

    Example:
        >>> recipe = sm.Recipe.uniform(ingredients)
        >>> identity(recipe) == identity(sm.Recipe.uniform(ingredients, buffers="base"))
        False
    """
    return recipe.weights, recipe.by, recipe.buffers, recipe.base


def report_from(record: Mapping[str, Any], benchmark: Mapping[str, Any]) -> Report:
    """Return the report in *record*; *benchmark* describes the benchmark that made it.

    Raises:
        InputError: the record is incomplete or damaged.
    """
    try:
        return Report.from_record(record, benchmark["data"], benchmark["attacks"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"a record holds no report ({error!r})"
        raise InputError(what, where=TRIALS, fix=START_OVER) from error


def preferred(reports: Sequence[Report]) -> int:
    """Return which of *reports*, which tie in a metric, is best in all metrics together.

    That is the highest sum of accuracies, then the first. A report that dominates another has the
    higher sum, so a dominated soup is never chosen.
    """
    sums = [sum(report.correct(metric) for metric in report.metrics) for report in reports]
    return sums.index(max(sums))


@dataclass(frozen=True)
class Trials(Sequence[Trial]):
    """A sequence of trials in the order in which they were made, and ways to choose among them.

    Searches return one; slicing and `where` return smaller ones.

    Example:
        >>> trials = sm.grid(net, ingredients, val, step=0.5)
        >>> best = trials.best("union").judged()
        >>> [trial.judged().accuracy("union") <= best.accuracy("union") for trial in trials]
        [True, True, True]
    """

    trials: tuple[Trial, ...]

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> Trials: ...
    def __getitem__(self, index: int | slice) -> Trial | Trials:
        """Return one trial, or the `Trials` in a slice."""
        if isinstance(index, slice):
            return Trials(self.trials[index])
        return self.trials[index]

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics by which the trials were judged."""
        return self.trials[0].judged().metrics

    def best(self, metric: str = "union") -> Trial:
        """Return the trial with the highest *metric*, such as ``0.5*clean+0.5*union``.

        Ties are broken by `preferred`, so the trial is never dominated by another.

        Raises:
            UsageError: *metric* cannot be parsed.
            InputError: there are no trials, or they were not judged by *metric*.
        """
        return self.trials[self._values(metric)[0]]

    def _values(self, metric: str) -> tuple[int, list[Fraction]]:
        """Return the index of the best trial by *metric*, and the values of all trials."""
        if not self.trials:
            raise InputError("there are no trials to choose from", fix="loosen the condition")
        parsed = Metric.parse(metric)
        values = [parsed.value(trial.judged()) for trial in self.trials]
        highest = max(values)
        return self._preferred([i for i, value in enumerate(values) if value == highest]), values

    def _preferred(self, tied: Sequence[int]) -> int:
        """Return which of the trials *tied* to choose."""
        return tied[preferred([self.trials[i].judged() for i in tied])]

    def front(self, x: str, y: str) -> tuple[int, ...]:
        """Return the indices of the trials on the Pareto front of *x* and *y*, by rising *x*."""
        if not self.trials:
            return ()
        return tuple(pareto.front(list(zip(self._values(x)[1], self._values(y)[1], strict=True))))

    def knee(self, x: str = "clean", y: str = "union") -> Trial:
        """Return the trial of the front that is highest above the chord between its ends.

        It does not depend on the scales of *x* and *y* (Das 1999, "On characterizing the 'knee' of
        the Pareto curve"). If no trial is above the chord, it is the end that is best in *y*.

        Raises:
            InputError: there are no trials, or they were not judged by *x* and *y*.
        """
        (_, xs), (_, ys) = self._values(x), self._values(y)
        front = self.front(x, y)
        first, last = front[0], front[-1]
        width, fall = xs[last] - xs[first], ys[first] - ys[last]
        # Heights above the chord, times its width.
        heights = [width * (ys[i] - ys[first]) + fall * (xs[i] - xs[first]) for i in front]
        knee = front[heights.index(max(heights))]
        tied = [i for i in front if (xs[i], ys[i]) == (xs[knee], ys[knee])]
        return self.trials[self._preferred(tied)]

    def where(self, *conditions: str, **named: str) -> Trials:
        """Return the trials that meet every condition.

        Conditions are either complete, ``where("linf:8/255>0.4", "0.5*clean+0.5*union>=0.6")``,
        or named after their metric, ``where(clean=">=0.85")``.

        Raises:
            UsageError: a condition is not a comparison with a number.
        """
        texts = [*conditions, *(f"{metric}{text}" for metric, text in named.items())]
        tests = [Condition.parse(text) for text in texts]
        passed = (t for t in self.trials if all(test.met(t.judged()) for test in tests))
        return Trials(tuple(passed))

    def tied(self, metric: str = "union") -> tuple[int, ...]:
        """Return the indices of the trials that tie with the best within noise, itself included.

        The 95% interval of their difference, image by image, contains 0 (see `metrics.paired`).
        """
        top, parsed = self._values(metric)[0], Metric.parse(metric)
        best = self.trials[top].judged()
        gaps = (paired(best, trial.judged(), parsed) for trial in self.trials)
        return tuple(i for i, gap in enumerate(gaps) if i == top or gap.low <= 0)

    def summary(self) -> dict[str, Any]:
        """Return the trials, the best by each metric, the front and baselines as JSON values."""
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
        """Return ingredient → index of its trial, for trials with a single ingredient."""
        indices: dict[str, int] = {}
        for i, trial in enumerate(self.trials):
            if max(trial.recipe.mean_weights) == 1:
                k = trial.recipe.mean_weights.index(1)
                indices.setdefault(trial.recipe.sources[k].ref, i)
        return indices
