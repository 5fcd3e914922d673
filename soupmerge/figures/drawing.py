"""A run folder → its figures: which ones, by what the run was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from soupmerge.errors import InputError
from soupmerge.figures import fronts, history, simplex, style
from soupmerge.storage import commit, journal
from soupmerge.storage.run import FIGURES, read_manifest

SEARCHES = ("grid", "greedy", "path", "search")


def draw(run: Path | str) -> list[str]:
    """Draw what there is to see in the run folder *run*, and return the paths of the figures.

    Raises:
        InputError: *run* is no run folder, or nothing in it is finished.
    """
    run = Path(run)
    manifest = read_manifest(run)
    folder = run / FIGURES
    try:
        drawn = list(_figures(run, manifest))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"a record lacks something: {error!r}", where=run) from error
    if not drawn:
        what = f"holds nothing finished to draw of {manifest.get('command')}"
        raise InputError(what, where=run, fix="draw runs of grid, learn or eval")
    with commit.writing(folder):
        folder.mkdir(exist_ok=True)
    return [style.save(figure, folder / f"{name}.png") for name, figure in drawn]


def _figures(run: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    records = journal.read(run / "trials.jsonl")
    names = [_short(source["ref"]) for source in manifest.get("inputs", [])]
    if manifest["command"] == "learn":
        epochs = journal.read(run / "history.jsonl")
        if epochs:
            yield "learning", history.learning(epochs, names)
    elif not records:
        return
    elif manifest["command"] in SEARCHES:
        lattice = manifest["command"] == "grid" and "race" not in manifest["settings"]
        if len(names) == 3 and lattice:
            yield "ternary", simplex.ternary_maps(records, names)
        if len(names) == 2 and (lattice or manifest["settings"].get("beyond") == 0):
            yield "path", simplex.path_lines(records, names)
        yield "front", fronts.grid_front(records, names)
    elif manifest["command"] == "eval":
        yield "comparison", fronts.comparison([{**r, "name": _name(r, records)} for r in records])


def _name(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    """Return what tells *record* from the others: network, and data set and size of images."""
    parts = [_short(record["ref"])]
    for key in ("ref", "resolution"):
        if len({r.get("data", {}).get(key) for r in records}) > 1:
            parts.append(_short(str(record["data"].get(key, ""))))
    return " ".join(parts)


def _short(ref: str) -> str:
    """Return the file's name, or its run folder's if it is the soup of a run."""
    path = Path(ref)
    name = path.parent.name if path.stem == "soup" and path.parent.name else path.stem
    return name.replace("$", r"\$")  # which would begin a formula
