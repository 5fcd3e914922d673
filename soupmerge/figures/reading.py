"""A run folder as figures and pages see it: what was done, on what, with what result."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, brief, printable
from soupmerge.soups.files import DOUBTS
from soupmerge.soups.files import RECIPE as RECIPE
from soupmerge.storage import journal, reading
from soupmerge.storage.run import read_manifest

TRIALS, HISTORY, BARRIERS = "trials.jsonl", "history.jsonl", "barriers.json"
ADAPTED = "adapted.json"
JUDGED = "judged"
ENDS = (RECIPE, BARRIERS, "flags.csv", f"{JUDGED}/flags.csv")
"""What a run writes last."""

CURVES = {
    "loss": "loss",
    "weights": "mean coefficient",
    "entropy": "entropy of the rows, nats",
    "moved": "coefficients moved by",
}
"""What a record of the history may hold, and how its panel is called."""

FIRST = ("cls_token", "pos_embed", "patch_embed", "stem", "prep", "conv1", "bn1", "norm_pre")
LAST = ("bn", "norm", "fc_norm", "fc", "linear", "classifier", "head")
"""How networks call what comes before and after their blocks, in order."""


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds; whatever it lacks is empty.

    Attributes:
        path: the folder, as it was named.
        manifest: what was to be done.
        trials: a record for each judged network, as the journal has it.
        history: a record for each epoch of learning.
        recipe: of the soup that was chosen or learned.
        barriers: of each pair and metric, as `Barrier.to_json` writes them.
        adapted: the table of soups for shifted images, as `Adaptation.summary` writes it.
        doubts: about the robust accuracy of the chosen soup; None if nobody looked for any.
    """

    path: Path
    manifest: dict[str, Any]
    trials: Sequence[dict[str, Any]]
    history: Sequence[dict[str, Any]]
    recipe: dict[str, Any] | None
    barriers: Sequence[dict[str, Any]]
    adapted: dict[str, Any] | None = None
    doubts: Sequence[dict[str, Any]] | None = None

    @cached_property
    def names(self) -> list[str]:
        """The ingredients, as short as tells them apart."""
        return told_apart([source["ref"] for source in self.manifest.get("inputs", [])])

    @cached_property
    def soups(self) -> list[dict[str, Any]]:
        """The judged trials that are a mixture of the ingredients."""
        return [r for r in self.trials if r.get("metrics") and "weights" in r and "x" not in r]

    @cached_property
    def judged(self) -> list[dict[str, Any]]:
        """The judged networks of an evaluation."""
        return [r for r in self.trials if r.get("metrics") and "ref" in r]

    @property
    def title(self) -> str:
        """Name of the folder, and what was done there."""
        return f"{_short(str(self.path.resolve()))} ({printable(self.manifest['command'])})"


def read_run(path: Path | str) -> RunRecord:
    """Return what the run folder at *path* holds.

    Raises:
        InputError: *path* is no run folder, or a file of it is damaged.
    """
    path = Path(path)
    manifest = read_manifest(path)
    return RunRecord(
        path,
        manifest,
        journal.read(_judging(path, manifest) / TRIALS),
        journal.read(path / HISTORY),
        _object(path / RECIPE) or None,
        _object(path / BARRIERS).get("barriers", []),
        _object(path / ADAPTED) or None,
        _listed(path / DOUBTS),
    )


@contextmanager
def records_of(*runs: RunRecord) -> Iterator[None]:
    """Turn what a record of *runs* lacks into an error that names them."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        what = f"a record lacks something: {type(error).__name__}: {brief(str(error))}"
        where = ", ".join(str(run.path) for run in runs)
        raise InputError(what, where=where, fix="run its command again") from error


def _judging(path: Path, manifest: dict[str, Any]) -> Path:
    """Return where trials are: what a sweep has learned is judged in a run of its own, within."""
    return path / JUDGED if manifest["command"] == "sweep" else path


def remarks(run: RunRecord) -> Iterator[str]:
    """Yield what a reader must know: work that is not finished, lines that were torn."""
    if not _is_finished(run):
        yield "The run is not finished: run its command again, and it goes on."
    trials = _judging(run.path, run.manifest) / TRIALS
    for file, records in ((trials, run.trials), (run.path / HISTORY, run.history)):
        name, data = file.name, reading.read_bytes(file) if os.path.lexists(file) else b""
        if data.count(b"\n") != len(records) or data[-1:] not in (b"", b"\n"):
            yield f"The last line of {name} is torn, or being written: it is left out."


def _is_finished(run: RunRecord) -> bool:
    if run.manifest["command"] == "landscape":
        points: int = run.manifest["settings"]["points"]
        return len(run.trials) == len(run.names) + points**2
    if run.manifest["command"] == "finetune":
        return len(run.history) == int(run.manifest["schedule"]["epochs"])
    return any((run.path / name).exists() for name in ENDS)


def depth(group: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Return what sorts *group* by its depth in the network, as far as names tell.

    Example:
        >>> sorted(["fc.bias", "layer10.0.w", "layer2.0.w", "conv1.weight"], key=depth)
        ['conv1.weight', 'layer2.0.w', 'layer10.0.w', 'fc.bias']
    """
    first = group.partition(".")[0]
    before, after = (names.index(first) + 1 if first in names else 0 for names in (FIRST, LAST))
    place = before - len(FIRST) - 1 if before else after
    parts = re.findall(r"\d+|[^\d]+", group)
    return place, [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def coefficients(run: RunRecord) -> tuple[list[str], list[list[float]]] | None:
    """Return groups in order of depth and W ``(G, K)``, if the recipe of *run* has several."""
    rows = {} if run.recipe is None else run.recipe["weights"]
    if len(rows) < 2:
        return None
    told = next((r["depth"] for r in run.trials if set(r.get("depth", ())) == set(rows)), None)
    groups = sorted(rows, key=depth) if told is None else list(told)
    return [printable(g) for g in groups], [[float(w) for w in rows[g]] for g in groups]


def adapted(run: RunRecord) -> tuple[list[str], list[tuple[str, int, list[float]]]]:
    """Return data sets, and of each network its name, forward passes and accuracy on them.

    The last data set is the mean of all.
    """
    told = run.adapted or {"sets": {}, "rows": []}
    rows = []
    for row in told["rows"]:
        accuracies = [found["accuracy"] for found in row["sets"].values()]
        rows.append((printable(row["name"]), int(row["passes"]), [*accuracies, row["mean"]]))
    return [*map(printable, told["sets"]), "mean of all"], rows


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which of *points* no other beats in both, by rising x; equals stand together.

    Example:
        >>> front([(0, 1), (1, 0), (0, 0), (0.5, 0.5)])
        [0, 3, 1]
    """
    kept: list[int] = []
    highest = float("-inf")
    for i in sorted(range(len(points)), key=lambda i: points[i], reverse=True):
        if points[i][1] > highest or (kept and points[i] == points[kept[-1]]):
            kept.append(i)
            highest = points[i][1]
    return sorted(kept, key=lambda i: (points[i], i))


def best(records: Sequence[dict[str, Any]], metric: str) -> int:
    """Return which of *records* is best by *metric*, as `Trials.best` does.

    Of equals it is the one that is best in all metrics together, then the first.
    """

    def merit(record: dict[str, Any]) -> tuple[int, int]:
        right = {name: told["correct"] for name, told in record["metrics"].items()}
        return right[metric], sum(right.values())

    return max(range(len(records)), key=lambda i: merit(records[i]))


def ends(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return which of *points* is highest in y, and which in x; of equals, in the other as well.

    Example:
        >>> ends([(0, 1), (1, 0), (0.5, 1), (1, -1)])
        ((0.5, 1), (1, 0))
    """
    return max(points, key=lambda p: (p[1], p[0])), max(points)


def chord(places: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return the straight line through the values at 0 and at 1, at each of *places*.

    Those are the ingredients; the outermost soup takes the place of one that was not judged.

    Example:
        >>> chord([-1, 0, 0.5, 1], [0, 2, 9, 4])
        [0.0, 2.0, 3.0, 4.0]
    """
    first, last = (
        places.index(end) if end in places else outer for end, outer in ((0, 0), (1, -1))
    )
    slope = (values[last] - values[first]) / ((places[last] - places[first]) or 1.0)
    return [float(values[first] + (place - places[first]) * slope) for place in places]


def told_apart(refs: Sequence[str]) -> list[str]:
    """Return short names for *refs*, which differ where *refs* do."""
    short = [_short(ref) for ref in refs]
    return [
        name if short.count(name) == 1 or refs.count(ref) > 1 else printable(ref)
        for name, ref in zip(short, refs, strict=True)
    ]


def name_of(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    """Return what tells *record* from the others: network, and data set and size of images."""
    parts = [_short(record["ref"])]
    for key in ("ref", "resolution"):
        if len({str(r.get("data", {}).get(key)) for r in records}) > 1:
            parts.append(_short(str(record["data"].get(key, ""))))
    return " ".join(parts)


def point(record: dict[str, Any], metric: str) -> tuple[float, float]:
    """Return clean accuracy and that by *metric*."""
    return record["metrics"]["clean"]["accuracy"], record["metrics"][metric]["accuracy"]


def against(record: dict[str, Any]) -> list[str]:
    """Return the metrics that stand against clean accuracy; clean itself if there is none.

    The union of a single threat is that threat; it may also be all that was judged.
    """
    threats = [metric for metric in record["metrics"] if metric not in ("clean", "union")]
    union = ["union"] if "union" in record["metrics"] and len(threats) != 1 else []
    return threats + union or ["clean"]


def _short(ref: str) -> str:
    """Return the file's name, or its run folder's if it is the soup of a run."""
    path = Path(ref)
    soup = path.stem == "soup" and path.parent.name
    return printable(path.parent.name if soup else path.stem or ref)


def _object(path: Path) -> dict[str, Any]:
    found = reading.read_json(path) if os.path.lexists(path) else {}
    if not isinstance(found, dict):
        raise InputError("is no JSON object", where=path, fix="run its command again")
    return found


def _listed(path: Path) -> list[dict[str, Any]] | None:
    """Return the objects that a file lists, None if there is no such file."""
    if not os.path.lexists(path):
        return None
    found = reading.read_json(path)
    if not isinstance(found, list) or not all(isinstance(told, dict) for told in found):
        raise InputError("is no list of objects", where=path, fix="run its command again")
    return found
