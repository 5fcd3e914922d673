"""The result of `adapt`: chosen soups, and a table that compares them with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupmerge.errors import UsageError
from soupmerge.robustness.report import CLEAN, Report
from soupmerge.storage.names import ADAPTED
from soupmerge.storage.reading import read_json
from soupmerge.storage.run_folder import read_manifest
from soupmerge.weights.recipe import Recipe


@dataclass(frozen=True)
class Row:
    """A row of the table: a classifier, or one classifier for each data set.

    Attributes:
        name: the name of the row.
        passes: forward passes per image.
        reports: one for each data set, on its judging images.
    """

    name: str
    passes: int
    reports: tuple[Report, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Clean accuracy on each data set, from 0 to 1."""
        return tuple(report.accuracy(CLEAN) for report in self.reports)

    @property
    def mean(self) -> float:
        """Mean of the accuracies; every data set has the same weight."""
        return sum(self.accuracies) / len(self.reports)

    def to_json(self, sets: Sequence[str]) -> dict[str, Any]:
        """Return the row as JSON values; *sets* are the names of the data sets."""
        by_set = zip(sets, self.reports, strict=True)
        metrics = {name: report.to_metrics()[CLEAN] for name, report in by_set}
        return {"name": self.name, "passes": self.passes, "sets": metrics, "mean": self.mean}


@dataclass(frozen=True)
class Adaptation:
    """The result of `adapt`: the chosen soups, and a comparison on images that chose none.

    Attributes:
        sets: a short name for each of the S data sets.
        recipes: all soups that were tried.
        choosing: S reports for each recipe, on the choosing images.
        single: the soup that is best on all data sets together.
        specific: S soups, each the best on one data set.
        rows: the comparison on the judging images: ingredients, ensembles and chosen soups.
    """

    sets: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    choosing: tuple[tuple[Report, ...], ...]
    single: Recipe
    specific: tuple[Recipe, ...]
    rows: tuple[Row, ...]

    def beside(self, run: Path | str) -> list[dict[str, Any]]:
        """Return the rows of an earlier adaptation, as `Row.to_json`, for the same judging images.

        Data sets have the names that they have here. A set that the earlier run did not judge on
        the same images is missing from a row, and then its mean is None.

        Raises:
            UsageError: the run folder is not one of an adaptation.
            InputError: it is damaged or unfinished.
        """
        file = Path(run) / ADAPTED
        if read_manifest(run).get("command") != "adapt" or not file.exists():
            fix = "give a finished run of soupmerge adapt"
            raise UsageError("is no adaptation", where=run, fix=fix)
        earlier = read_json(file)
        theirs = {s["judged on"]["sha256"]: name for name, s in earlier["sets"].items()}
        ours = zip(self.sets, self.rows[0].reports, strict=True)
        renamed = {n: theirs[r.data["sha256"]] for n, r in ours if r.data["sha256"] in theirs}
        rows = []
        for row in earlier["rows"] if renamed else ():
            sets = {name: row["sets"][their] for name, their in renamed.items()}
            accuracies = [metric["accuracy"] for metric in sets.values()]
            mean = sum(accuracies) / len(self.sets) if len(sets) == len(self.sets) else None
            rows.append({"name": row["name"], "passes": row["passes"], "sets": sets, "mean": mean})
        return rows

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        choosing, judging = self.choosing[0], self.rows[0].reports
        return {
            "sets": {
                name: {"chosen on": dict(a.data), "judged on": dict(b.data)}
                for name, a, b in zip(self.sets, choosing, judging, strict=True)
            },
            "soups": len(self.recipes),
            "single": self.single.to_json(),
            "specific": {n: r.to_json() for n, r in zip(self.sets, self.specific, strict=True)},
            "rows": [row.to_json(self.sets) for row in self.rows],
        }
