"""Tables with a row for each network and a column for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import Report
from soupmerge.soups.judge.earlier import Earlier, others
from soupmerge.soups.judge.entries import AnyEntry


@dataclass(frozen=True)
class Row:
    """A network in a table with a column for each data set.

    Attributes:
        name: the name of the network.
        passes: forward passes per image.
        reports: one for each data set, or None where the network was not judged on it.
    """

    name: str
    passes: int
    reports: Sequence[Report | None]

    def accuracies(self, metric: str) -> list[float | None]:
        """Return the accuracy in *metric* on each data set, and the mean, from 0 to 1."""
        cells = [None if r is None else r.accuracy(metric) for r in self.reports]
        known = [cell for cell in cells if cell is not None]
        return [*cells, sum(known) / len(cells) if len(known) == len(cells) else None]

    def to_json(self, sets: Sequence[str]) -> dict[str, Any]:
        """Return the row as JSON values; *sets* are the names of the data sets."""
        found = dict(zip(sets, self.reports, strict=True))
        metrics = next((report.metrics for report in self.reports if report), ())
        return {
            "name": self.name,
            "passes": self.passes,
            "sets": {name: r and r.to_metrics() for name, r in found.items()},
            "mean": {metric: self.accuracies(metric)[-1] for metric in metrics},
        }


def rows_of(
    entries: Sequence[AnyEntry],
    benchmarks: Sequence[Benchmark],
    reports: Sequence[Report],
    beside: Sequence[Earlier],
) -> list[Row]:
    """Return a row for each of *entries*, and for each other network *beside*."""
    described = [entry.describe() for entry in entries]
    width, judges = len(benchmarks), [benchmark.describe() for benchmark in benchmarks]
    rows = [
        Row(e.ref, len(e.checkpoints), reports[i * width : (i + 1) * width])
        for i, e in enumerate(entries)
    ]
    for other in others(beside, described):
        network = other.network
        found = [
            next((e.report for e in beside if e.is_of(network, judge)), None) for judge in judges
        ]
        if any(report is not None for report in found):
            rows.append(Row(network["ref"], network.get("forward_passes", 1), found))
    return rows
