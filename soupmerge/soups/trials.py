"""Trials: recipes that were tried, with what they did, and the ways to choose among them."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.report import Report
from soupmerge.storage.run import essence
from soupmerge.weights.recipe import Recipe

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


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
        if essence(record.get("recipe")) != essence(recipe.to_json()):
            raise InputError("a record is of another soup", where="trials.jsonl", fix=START_OVER)
        if benchmark is None:
            return cls(recipe)
        return cls(recipe, recorded(record, benchmark))


START_OVER = "start over with --force"


def recorded(record: Mapping[str, Any], benchmark: Mapping[str, Any]) -> Report:
    """Return the report in *record*, judged by *benchmark* as described.

    Raises:
        InputError: the record lacks something.
    """
    try:
        return Report.from_record(record, benchmark["data"], benchmark["attacks"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"a record holds no report ({error!r})"
        raise InputError(what, where="trials.jsonl", fix=START_OVER) from error


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
        """Return the first trial of the highest *metric*.

        Raises:
            InputError: there are no trials, or they were not judged by *metric*.
        """
        if not self.trials:
            raise InputError("no trial to choose from", fix="loosen the condition")
        return max(self.trials, key=lambda trial: trial.judged().correct(metric))

    def front(self, x: str, y: str) -> tuple[int, ...]:
        """Return the trials that no other beats in both metrics *x* and *y*, by rising *x*."""
        points = [(t.judged().correct(x), t.judged().correct(y)) for t in self.trials]
        kept = [i for i, p in enumerate(points) if not any(_dominates(q, p) for q in points)]
        return tuple(sorted(kept, key=lambda i: (points[i], i)))

    def where(self, **conditions: str) -> Trials:
        """Return the trials that meet every condition, such as ``clean=">=0.85"``.

        Metrics whose names are no Python names go through a mapping:
        ``where(**{"linf:8/255": ">0.4"})``.

        Raises:
            UsageError: a condition is not a comparison with a number.
        """
        tests = [(metric, *_parse_condition(text)) for metric, text in conditions.items()]

        def meets(trial: Trial) -> bool:
            return all(compare(trial.judged().accuracy(m), level) for m, compare, level in tests)

        return Trials(tuple(trial for trial in self.trials if meets(trial)))

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


def _dominates(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a != b


def _parse_condition(text: str) -> tuple[Any, float]:
    match = re.fullmatch(r"\s*(>=|<=|>|<)\s*([0-9.eE+-]+)\s*", text)
    if match is None:
        fix = "write a comparison such as >=0.85"
        raise UsageError(f"{text!r} is not a condition", where="where", fix=fix)
    return COMPARISONS[match[1]], float(match[2])
