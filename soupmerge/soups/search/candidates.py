"""Soups of a lattice and ensembles, judged by several benchmarks; a journal line for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from soupmerge.binding import bind, load_into
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.ensembles import Ensemble
from soupmerge.robustness.report import Report
from soupmerge.run import Run
from soupmerge.soups.judge.trials import report_from
from soupmerge.storage.journal import Journal
from soupmerge.storage.replay import Replay, require_same
from soupmerge.weights import mixing
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe

Candidate: TypeAlias = int | str
"""The index of a soup, or what an ensemble of all ingredients averages: ``prob`` or ``logit``."""


@dataclass
class Candidates:
    """Makes soups and ensembles of *ingredients* and judges them.

    Attributes:
        net: the network of the ingredients.
        ingredients: the ingredients.
        recipes: the recipes of the soups.
        run: device, and callback for progress.
    """

    net: nn.Module
    ingredients: Ingredients
    recipes: tuple[Recipe, ...]
    run: Run

    def __post_init__(self) -> None:
        self.bound = bind(self.net, self.ingredients.alone(0), device=self.run.device)

    def judge(
        self, due: Mapping[Candidate, Mapping[str, Benchmark]], journal: Journal | None
    ) -> dict[Candidate, dict[str, Report]]:
        """Return candidate → name of benchmark → report, reading from *journal* what it holds.

        Raises:
            InputError: a record in *journal* is of another candidate, or incomplete.
        """
        replay = Replay(journal)
        replay.require_at_most(len(due), "networks")
        reports: dict[Candidate, dict[str, Report]] = {}
        for i, (candidate, benchmarks) in enumerate(due.items()):
            if not replay.is_known:
                self.run.progress("networks", i, len(due))
            reports[candidate] = self._judge(replay, candidate, benchmarks)
        self.run.progress("networks", len(due), len(due))
        return reports

    def _judge(
        self, replay: Replay, candidate: Candidate, benchmarks: Mapping[str, Benchmark]
    ) -> dict[str, Report]:
        identity = self.describe(candidate)
        where = replay.journal.path.name if replay.journal else ""

        def make() -> dict[str, Report]:
            network = self._network(candidate)
            return {n: b(network, progress=self.run.progress) for n, b in benchmarks.items()}

        def read(record: dict[str, Any]) -> dict[str, Report]:
            require_same(record, identity, "network", where)
            return _reports_from(record, benchmarks)

        def write(reports: dict[str, Report]) -> dict[str, Any]:
            records = [{"set": name, **report.to_record()} for name, report in reports.items()]
            return {**identity, "reports": records}

        return replay.piece(make, read=read, write=write)

    def describe(self, candidate: Candidate) -> dict[str, Any]:
        """Return what identifies *candidate* in a record."""
        if isinstance(candidate, str):
            return {"ensemble": candidate, "forward_passes": len(self.ingredients)}
        recipe = self.recipes[candidate]
        return {"weights": list(recipe.weights[0]), "recipe": recipe.to_json()}

    def _network(self, candidate: Candidate) -> nn.Module:
        if isinstance(candidate, str):
            device = self.run.device
            members = [bind(self.net, member, device=device) for member in self.ingredients]
            return Ensemble(members, candidate)
        load_into(self.bound, mixing.mix(self.ingredients, self.recipes[candidate]))
        return self.bound


def _reports_from(
    record: Mapping[str, Any], benchmarks: Mapping[str, Benchmark]
) -> dict[str, Report]:
    """Return the reports in *record*, matched to *benchmarks* by position: names may change."""
    records = record.get("reports")
    if not isinstance(records, list) or len(records) != len(benchmarks):
        records = [{}] * len(benchmarks)
    pairs = zip(benchmarks.items(), records, strict=True)
    return {name: report_from(entry, judge.describe()) for (name, judge), entry in pairs}
