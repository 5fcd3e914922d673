"""Reports of earlier evaluations, so that nothing is judged twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupmerge.errors import UsageError
from soupmerge.robustness.report import Report
from soupmerge.soups.judge.trials import report_from
from soupmerge.storage import journal
from soupmerge.storage.names import TRIALS
from soupmerge.storage.run_folder import essence, read_manifest


@dataclass(frozen=True)
class Earlier:
    """A report in the run folder of an earlier evaluation.

    Attributes:
        network: what identifies the network, as `AnyEntry.describe`.
        benchmark: what it was judged by, as `Benchmark.describe`.
        report: the report.
    """

    network: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    report: Report

    def is_of(self, network: Mapping[str, Any], benchmark: Mapping[str, Any]) -> bool:
        """Return whether *benchmark* would reach this report on *network*, whatever their names."""
        same_weights = self.network.get("sha256") == network.get("sha256")
        return same_weights and all(
            essence(getattr(self, name).get(key)) == essence(described.get(key))
            for name, described, keys in (
                ("network", network, ("model", "average")),
                ("benchmark", benchmark, ("data", "attacks", "seed", "precision", "only union")),
            )
            for key in keys
        )


def reports_in(runs: Sequence[str]) -> list[Earlier]:
    """Return the reports that the run folders *runs* of ``soupmerge eval`` hold.

    Raises:
        UsageError: a folder is not one of an evaluation.
        InputError: a folder is damaged.
    """
    return [earlier for run in runs for earlier in _reports(Path(run))]


def others(beside: Sequence[Earlier], networks: Sequence[Mapping[str, Any]]) -> list[Earlier]:
    """Return one of the reports *beside* for each network that is not among *networks*."""
    known = [network.get("sha256") for network in networks]
    first: dict[Any, Earlier] = {}
    for earlier in beside:
        if earlier.network.get("sha256") not in known:
            first.setdefault(str(earlier.network.get("sha256")), earlier)
    return list(first.values())


def _reports(run: Path) -> Iterator[Earlier]:
    manifest = read_manifest(run)
    if manifest.get("command") != "eval":
        what = f"is a run of soupmerge {manifest.get('command')}, not of soupmerge eval"
        raise UsageError(what, where=run, fix="give a folder that soupmerge eval -o wrote")
    described = manifest.get("benchmarks") or [manifest["benchmark"]]
    for record in journal.read(run / TRIALS):
        network = {key: value for key, value in record.items() if key in NETWORK}
        for benchmark in described:
            if essence(benchmark["data"]) == essence(record["data"]):
                yield Earlier(network, benchmark, report_from(record, benchmark))


NETWORK = ("ref", "sha256", "model", "made by", "average", "forward_passes", "members")
"""Keys of a record that describe the network."""
