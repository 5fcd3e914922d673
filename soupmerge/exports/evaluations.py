"""What is known of a network's accuracy, in the form in which it is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError
from soupmerge.label_spaces.outputs import in_words
from soupmerge.references import without_folders
from soupmerge.robustness.report import CLEAN, UNION, Report
from soupmerge.storage import journal
from soupmerge.storage.run_folder import read_manifest

FIX = "judge the soup: soupmerge eval SOUP -o RUN"


@dataclass(frozen=True)
class Evaluation:
    """The accuracies of a network on one data set.

    Attributes:
        data: fingerprint of the data set, without folders.
        metrics: metric → accuracy, counts, interval and attack, as in `Report.to_metrics`.
        doubts: reasons not to believe the numbers, if there are any.
    """

    data: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    doubts: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, report: Report) -> Evaluation:
        """Return the evaluation that *report* holds."""
        return cls.from_record(
            {"data": report.data, "metrics": report.to_metrics(), "notes": report.notes}
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation in *record*, a line of a run's journal.

        Raises:
            AttributeError, IndexError, KeyError, TypeError, ValueError: the record is incomplete.
        """
        data = {**record["data"], "ref": without_folders(str(record["data"]["ref"]))}
        for metric in record["metrics"].values():
            float(metric["accuracy"]), int(metric["n"]), metric["ci95"][1]
        return cls(data, record["metrics"], tuple(record.get("notes", {}).get("doubts", ())))

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values."""
        return {"data": self.data, "metrics": self.metrics, "doubts": list(self.doubts)}

    def results(self) -> list[dict[str, Any]]:
        """Return the arguments of the Hub's ``EvalResult`` for each metric."""
        kind = str(self.data["ref"]).partition(":")[0]
        split = str(self.data.get("split", "")).partition(",")[0]
        details = [self.data.get("split", ""), f"n = {self.data.get('n')}", in_words(self.data)]
        name = f"{self.data['ref']} ({', '.join(filter(None, details))})"
        return [
            {
                "task_type": "image-classification",
                "dataset_type": kind,
                "dataset_name": name,
                "dataset_split": split or None,
                "metric_type": "accuracy",
                "metric_name": heading(metric, result),
                "metric_value": round(float(result["accuracy"]), 6),
                "metric_args": {
                    k: v for k, v in result.items() if k not in ("accuracy", "correct")
                },
            }
            for metric, result in self.metrics.items()
        ]


def heading(metric: str, result: Mapping[str, Any]) -> str:
    """Return the heading of *metric*: ``robust accuracy, linf:8/255, apgd-ce, 100 steps``."""
    if metric == CLEAN:
        return "clean accuracy"
    if metric == UNION:
        return "robust accuracy, union of all threats"
    return f"robust accuracy, {metric}, {attack_in(result)}"


def attack_in(result: Mapping[str, Any]) -> str:
    """Return the attack behind the *result* of a metric in words; empty if there is none."""
    steps = f", {result['steps']} steps" if "steps" in result else ""
    return f"{result['attack']}{steps}" if "attack" in result else ""


def evaluations_in(folder: Path | str, sha256: str) -> list[Evaluation]:
    """Return what the ``eval`` in the run *folder* found for the weights with hash *sha256*.

    Raises:
        InputError: it is not a finished evaluation of these weights.
    """
    manifest = read_manifest(folder)
    if manifest.get("command") != "eval":
        what = f"is a run of {manifest.get('command')!r}, which judges no single network"
        raise InputError(what, where=folder, fix=FIX)
    records = journal.read(Path(folder) / "trials.jsonl")
    try:
        found = [Evaluation.from_record(r) for r in records if r.get("sha256") == sha256]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        what = f"a record holds no complete report ({error!r})"
        raise InputError(what, where=folder, fix=FIX) from error
    if not found:
        judged = ", ".join(str(record.get("ref")) for record in records) or "nothing yet"
        what = f"did not judge these weights (sha256 {sha256[:16]}…), but {judged}"
        raise InputError(what, where=folder, fix=FIX)
    return found
