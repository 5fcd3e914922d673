"""Soups of a lattice, and ensembles, before several benchmarks: a journal line for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from soupmerge.binding import bind, pour
from soupmerge.errors import InputError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.ensembles import Ensemble
from soupmerge.robustness.report import Report
from soupmerge.soups.trials import START_OVER, recorded
from soupmerge.storage.journal import Journal
from soupmerge.storage.run import essence
from soupmerge.types import Progress
from soupmerge.weights import mixing
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe

Candidate: TypeAlias = int | str
"""What is judged: the number of a soup, or what an ensemble of all ingredients averages."""


@dataclass
class Candidates:
    """Makes soups of *pots* by *recipes*, and ensembles of *pots*, to be judged on *device*.

    Attributes:
        net: the network of the ingredients.
        pots: the ingredients.
        recipes: of the soups.
        device: where to judge.
        progress: is told of networks.
    """

    net: nn.Module
    pots: Ingredients
    recipes: tuple[Recipe, ...]
    device: torch.device | str
    progress: Progress

    def __post_init__(self) -> None:
        self.bound = bind(self.net, self.pots.alone(0), device=self.device)

    def judged(
        self, due: Mapping[Candidate, Mapping[str, Benchmark]], journal: Journal | None
    ) -> dict[Candidate, dict[str, Report]]:
        """Return candidate → name of benchmark → report; what *journal* holds is not asked again.

        Raises:
            InputError: a record in *journal* is of another candidate, or lacks something.
        """
        known = journal.records if journal else []
        if len(known) > len(due):
            self._refuse(journal, f"holds {len(known)} records of {len(due)} networks")
        found: dict[Candidate, dict[str, Report]] = {}
        for i, (candidate, benchmarks) in enumerate(due.items()):
            told = self.describe(candidate)
            if i < len(known):
                if essence({key: known[i].get(key) for key in told}) != essence(told):
                    self._refuse(journal, "a record is of another network")
                found[candidate] = _recorded(known[i], benchmarks)
                continue
            self.progress("networks", i, len(due))
            network = self._network(candidate)
            found[candidate] = {
                n: b(network, progress=self.progress) for n, b in benchmarks.items()
            }
            if journal:
                answers = [{"set": n, **r.to_record()} for n, r in found[candidate].items()]
                journal.append({**told, "reports": answers})
        self.progress("networks", len(due), len(due))
        return found

    def describe(self, candidate: Candidate) -> dict[str, Any]:
        """Return what identifies *candidate*, for a record."""
        if isinstance(candidate, str):
            return {"ensemble": candidate, "forward passes": len(self.pots)}
        recipe = self.recipes[candidate]
        return {"weights": list(recipe.weights[0]), "recipe": recipe.to_json()}

    def _network(self, candidate: Candidate) -> nn.Module:
        if isinstance(candidate, str):
            return Ensemble(
                [bind(self.net, pot, device=self.device) for pot in self.pots], candidate
            )
        pour(self.bound, mixing.mix(self.pots, self.recipes[candidate]))
        return self.bound

    def _refuse(self, journal: Journal | None, what: str) -> None:
        where = journal.path.name if journal else None
        raise InputError(what, where=where, fix=START_OVER)


def _recorded(record: Mapping[str, Any], benchmarks: Mapping[str, Benchmark]) -> dict[str, Report]:
    """Return the reports of *record*, which are in the order of *benchmarks*: names may change."""
    held = record.get("reports")
    known = (
        held if isinstance(held, list) and len(held) == len(benchmarks) else [{}] * len(benchmarks)
    )
    named = zip(benchmarks.items(), known, strict=True)
    return {name: recorded(told, judge.describe()) for (name, judge), told in named}
