"""What figures and pages read from a run folder: its manifest, its records and its results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupmerge.errors import InputError, printable, short_repr
from soupmerge.references import short_name
from soupmerge.storage import journal, reading
from soupmerge.storage.names import DOUBTS, PLAN
from soupmerge.storage.names import FRONT as FRONT
from soupmerge.storage.names import RECIPE as RECIPE
from soupmerge.storage.run_folder import read_manifest

if TYPE_CHECKING:
    from soupmerge.weights.front import Front

TRIALS, HISTORY, BARRIERS = "trials.jsonl", "history.jsonl", "barriers.json"
ADAPTED = "adapted.json"
JUDGED = "judged"
CURVES = {
    "loss": "loss",
    "losses": "loss of each objective",
    "gap": "Frank-Wolfe gap",
    "gaps": "Frank-Wolfe gap at each end",
    "weights": "mean coefficient",
    "entropy": "entropy of the rows, nats",
    "moved": "coefficients moved by",
}
"""Key of a record of the history → the label of its axis and the title of its panel."""

FIRST = ("cls_token", "pos_embed", "patch_embed", "stem", "prep", "conv1", "bn1", "norm_pre")
LAST = ("bn", "norm", "fc_norm", "fc", "linear", "classifier", "head")
"""Names that networks give to the modules before and after their blocks, in order of depth."""


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run folder; attributes whose file is missing are empty or None.

    Attributes:
        path: the folder, as the user gave it.
        manifest: the command, its inputs and its settings.
        trials: one record per judged network, as in the journal.
        history: one record per epoch of learning or training.
        recipe: the recipe of the chosen or learned soup.
        barriers: one record per pair and metric, as `Barrier.to_json` writes it.
        adapted: the table of soups for shifted images, as `Adaptation.summary` writes it.
        doubts: doubts about the robust accuracy of the chosen soup; None if it was not checked.
        front: the learned front.
        planned: how many soups the run judges, if that was known when it began.
    """

    path: Path
    manifest: dict[str, Any]
    trials: Sequence[dict[str, Any]]
    history: Sequence[dict[str, Any]]
    recipe: dict[str, Any] | None
    barriers: Sequence[dict[str, Any]]
    adapted: dict[str, Any] | None = None
    doubts: Sequence[dict[str, Any]] | None = None
    front: Front | None = None
    planned: int | None = None

    @cached_property
    def names(self) -> list[str]:
        """Short, distinct names of the ingredients."""
        return short_names([source["ref"] for source in self.manifest.get("inputs", [])])

    @cached_property
    def soups(self) -> list[dict[str, Any]]:
        """The judged trials that mix the ingredients, without the points of a landscape."""
        return [r for r in self.trials if r.get("metrics") and "weights" in r and "x" not in r]

    @property
    def metrics(self) -> list[str]:
        """The metrics by which the soups were judged, all of them by the same."""
        return list(self.soups[0]["metrics"])

    @cached_property
    def judged(self) -> list[dict[str, Any]]:
        """The judged networks of an evaluation or a sweep."""
        return [r for r in self.trials if r.get("metrics") and "ref" in r]

    @property
    def title(self) -> str:
        """The name of the folder, and the command that wrote it."""
        return f"{_short(str(self.path.resolve()))} ({printable(self.manifest['command'])})"


def read_run(path: Path | str) -> RunRecord:
    """Read the run folder at *path*.

    Raises:
        InputError: *path* is not a run folder, or one of its files is damaged.
    """
    path = Path(path)
    manifest, planned = read_manifest(path), _read_object(path / PLAN).get("soups")
    return RunRecord(
        path,
        manifest,
        journal.read(journal_folder(path, manifest) / TRIALS),
        journal.read(path / HISTORY),
        _read_object(path / RECIPE) or None,
        _read_object(path / BARRIERS).get("barriers", []),
        _read_object(path / ADAPTED) or None,
        _read_list(path / DOUBTS),
        _read_front(path) if os.path.lexists(path / FRONT) else None,
        planned if isinstance(planned, int) else None,
    )


def _read_front(path: Path) -> Front:
    from soupmerge.weights.recipe_files import read_front  # numpy takes a while to load

    return read_front(path)


@contextmanager
def records_of(*runs: RunRecord) -> Iterator[None]:
    """Turn exceptions that damaged records of *runs* cause into an `InputError`."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        what = (
            f"a record is incomplete or damaged: {type(error).__name__}: {short_repr(str(error))}"
        )
        where = ", ".join(str(run.path) for run in runs)
        raise InputError(what, where=where, fix="run its command again") from error


def journal_folder(path: Path, manifest: dict[str, Any]) -> Path:
    """Return the folder of the trials: a sweep judges its soups in a run folder within its own."""
    return path / JUDGED if manifest["command"] == "sweep" else path


def depth(group: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Return a sort key that orders groups by depth in the network, guessed from their names.

    Example:
        >>> sorted(["fc.bias", "layer10.0.w", "layer2.0.w", "conv1.weight"], key=depth)
        ['conv1.weight', 'layer2.0.w', 'layer10.0.w', 'fc.bias']
    """
    first = group.partition(".")[0]
    before, after = (names.index(first) + 1 if first in names else 0 for names in (FIRST, LAST))
    stage = before - len(FIRST) - 1 if before else after
    parts = re.findall(r"\d+|[^\d]+", group)
    return stage, [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def coefficients(run: RunRecord) -> tuple[list[str], list[list[float]]] | None:
    """Return the groups in order of depth and W ``(G, K)``; None without several groups."""
    rows = {} if run.recipe is None else run.recipe["weights"]
    if len(rows) < 2:
        return None
    order = next((r["depth"] for r in run.trials if set(r.get("depth", ())) == set(rows)), None)
    groups = sorted(rows, key=depth) if order is None else list(order)
    return [printable(g) for g in groups], [[float(w) for w in rows[g]] for g in groups]


def accuracy_by_set(run: RunRecord) -> tuple[list[str], list[tuple[str, int, list[float]]]] | None:
    """Return the data sets, and each network's name, forward passes and accuracy on them.

    The last data set stands for the mean over all of them. The result is None if *run* has no soups
    for shifted images.
    """
    if run.adapted is None:
        return None
    rows = []
    for row in run.adapted["rows"]:
        accuracies = [measured["accuracy"] for measured in row["sets"].values()]
        rows.append((printable(row["name"]), int(row["passes"]), [*accuracies, row["mean"]]))
    return [*map(printable, run.adapted["sets"]), "mean of all"], rows


def best(records: Sequence[dict[str, Any]], metric: str) -> int:
    """Return the index of the record with the highest *metric*, as `Trials.best` does.

    Ties go to the record with the highest sum over all metrics, then to the first.
    """

    def merit(record: dict[str, Any]) -> tuple[int, int]:
        correct = {name: measured["correct"] for name, measured in record["metrics"].items()}
        return correct[metric], sum(correct.values())

    return max(range(len(records)), key=lambda i: merit(records[i]))


def ends(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the point with the highest y and the one with the highest x: both ends of the front.

    Example:
        >>> ends([(0, 1), (1, 0), (0.5, 1), (1, -1)])
        ((0.5, 1), (1, 0))
    """
    return max(points, key=lambda p: (p[1], p[0])), max(points)


def chord(places: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return, at each of *places*, the straight line through the *values* at 0 and at 1.

    These are the ingredients; the outermost soup replaces one that was not judged.

    Example:
        >>> chord([-1, 0, 0.5, 1], [0, 2, 9, 4])
        [0.0, 2.0, 3.0, 4.0]
    """
    first, last = (
        places.index(end) if end in places else outer for end, outer in ((0, 0), (1, -1))
    )
    slope = (values[last] - values[first]) / ((places[last] - places[first]) or 1.0)
    return [float(values[first] + (place - places[first]) * slope) for place in places]


def short_names(refs: Sequence[str]) -> list[str]:
    """Return short names for *refs*; different references have different names."""
    short = [_short(ref) for ref in refs]
    return [
        name if short.count(name) == 1 or refs.count(ref) > 1 else printable(ref)
        for name, ref in zip(short, refs, strict=True)
    ]


def name_of(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    """Return the name of the network of *record*, with what distinguishes it among *records*.

    That is the data set or the resolution of the images, if *records* differ in it.
    """
    parts = [_short(record["ref"])]
    for key in ("ref", "resolution"):
        if len({str(r.get("data", {}).get(key)) for r in records}) > 1:
            parts.append(_short(str(record["data"].get(key, ""))))
    return " ".join(parts)


def point(record: dict[str, Any], metric: str, x: str = "clean") -> tuple[float, float]:
    """Return the accuracies by the metrics *x* and *metric*: a point of a figure."""
    return record["metrics"][x]["accuracy"], record["metrics"][metric]["accuracy"]


def plotted_metrics(record: dict[str, Any]) -> list[str]:
    """Return the metrics that are plotted against clean accuracy; clean itself if there are none.

    The union is left out if it equals the only threat.
    """
    threats = [metric for metric in record["metrics"] if metric not in ("clean", "union")]
    union = ["union"] if "union" in record["metrics"] and len(threats) != 1 else []
    return threats + union or ["clean"]


def _short(ref: str) -> str:
    """Return the short name of *ref* as text that cannot steer a terminal."""
    return printable(short_name(ref))


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if there is no such file."""
    value = reading.read_json(path) if os.path.lexists(path) else {}
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=path, fix="run its command again")
    return value


def _read_list(path: Path) -> list[dict[str, Any]] | None:
    """Return the list of JSON objects in a file; None if there is no such file."""
    if not os.path.lexists(path):
        return None
    value = reading.read_json(path)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError("not a list of JSON objects", where=path, fix="run its command again")
    return value
