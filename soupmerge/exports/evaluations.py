"""What is known of a soup's accuracy, in a form to publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError
from soupmerge.references import without_folders
from soupmerge.robustness.report import CLEAN, UNION, Report
from soupmerge.storage import journal
from soupmerge.storage.run_folder import read_manifest


@dataclass(frozen=True)
class Evaluation:
    """What a network did on a data set.

    Attributes:
        data: fingerprint of the data set, without folders.
        metrics: metric → accuracy, counts, interval, attack, as `Report.to_metrics` gives them.
        doubts: why the numbers should not be believed, if there is a reason.
    """

    data: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    doubts: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, report: Report) -> Evaluation:
        """Return what *report* says."""
        return cls.from_record(
            {"data": report.data, "metrics": report.to_metrics(), "notes": report.notes}
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Evaluation:
        """Return what *record*, a line of a run's journal, says.

        Raises:
            KeyError, TypeError: it lacks something.
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
        shared = {"task_type": "image-classification", "dataset_type": kind}
        split = str(self.data.get("split", "")).partition(",")[0]
        name = f"{self.data['ref']} ({self.data.get('split', '')}, n = {self.data.get('n')})"
        return [
            {
                **shared,
                "dataset_name": name,
                "dataset_split": split or None,
                "metric_type": "accuracy",
                "metric_name": heading(metric, told),
                "metric_value": round(float(told["accuracy"]), 6),
                "metric_args": {k: v for k, v in told.items() if k not in ("accuracy", "correct")},
            }
            for metric, told in self.metrics.items()
        ]


def heading(metric: str, told: Mapping[str, Any]) -> str:
    """Return what *metric* is called: ``robust accuracy, linf:8/255, apgd-ce, 100 steps``."""
    if metric == CLEAN:
        return "clean accuracy"
    if metric == UNION:
        return "robust accuracy, union of all threats"
    return f"robust accuracy, {metric}, {attack(told)}"


def attack(told: Mapping[str, Any]) -> str:
    """Return the attack of a metric in words; nothing if it has none."""
    steps = f", {told['steps']} steps" if "steps" in told else ""
    return f"{told['attack']}{steps}" if "attack" in told else ""


def judged_in(folder: Path | str, sha256: str) -> list[Evaluation]:
    """Return what the evaluation in the run *folder* found of the weights *sha256*.

    Raises:
        InputError: it is no evaluation, is not finished, or of other weights.
    """
    manifest = read_manifest(folder)
    if manifest.get("command") != "eval":
        what = f"is a run of {manifest.get('command')!r}, which judges no single network"
        raise InputError(what, where=folder, fix="judge the soup: soupmerge eval SOUP -o RUN")
    records = journal.read(Path(folder) / "trials.jsonl")
    try:
        found = [Evaluation.from_record(r) for r in records if r.get("sha256") == sha256]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        what = f"a record holds no report ({error!r})"
        raise InputError(what, where=folder, fix="judge the soup again") from error
    if not found:
        listed = ", ".join(str(record.get("ref")) for record in records) or "nothing yet"
        what = f"did not judge these weights (sha256 {sha256[:16]}…), but {listed}"
        raise InputError(what, where=folder, fix="judge the soup: soupmerge eval SOUP -o RUN")
    return found
