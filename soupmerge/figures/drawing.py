"""A run folder → its figures: whatever its files hold the numbers of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from soupmerge.errors import InputError
from soupmerge.figures import fronts, history, landscape, paths, shifts, simplex, style, sweeps
from soupmerge.figures.reading import RunRecord, read_run, records_of
from soupmerge.storage import commit
from soupmerge.storage.run import FIGURES

PICTURES: dict[str, Callable[[RunRecord], Figure | None]] = {
    "ternary": simplex.ternary_maps,
    "path": paths.path_lines,
    "front": fronts.soups_front,
    "comparison": fronts.comparison,
    "learning": history.learning,
    "coefficients": history.heat_map,
    "barriers": paths.barrier_curves,
    "landscape": landscape.landscape,
    "sweep": sweeps.curves,
    "shifts": shifts.shifts,
}
"""Name → what draws it, or returns None if the run does not hold its numbers."""


def draw(run: Path | str | RunRecord, formats: Sequence[str] = ("png",)) -> list[str]:
    """Draw what there is to see in the run folder *run*, and return the paths of the figures.

    Raises:
        InputError: *run* is no run folder, or nothing in it is finished.
    """
    found = run if isinstance(run, RunRecord) else read_run(run)
    with records_of(found):
        drawn = [(name, f) for name, of in PICTURES.items() if (f := of(found)) is not None]
    if not drawn:
        what = f"holds nothing finished to draw of {found.manifest.get('command')}"
        raise InputError(what, where=found.path, fix="draw it when it has judged or learned")
    folder = found.path / FIGURES
    with commit.writing(folder):
        folder.mkdir(exist_ok=True)
    return [path for name, figure in drawn for path in style.save(figure, folder / name, formats)]
