"""Draws the figures of a run folder: those whose numbers its files hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from soupmerge.errors import InputError
from soupmerge.figures import (
    fronts,
    history,
    landscape,
    paths,
    shifts,
    simplex,
    style,
    sweeps,
    trade_off,
)
from soupmerge.figures.reading import RunRecord, read_run, records_of
from soupmerge.figures.remarks import outputs_that_count
from soupmerge.storage import commit
from soupmerge.storage.names import FIGURES

PICTURES: dict[str, Callable[[RunRecord], Figure | None]] = {
    "ternary": simplex.ternary_maps,
    "path": paths.path_lines,
    "front": fronts.soups_front,
    "comparison": fronts.comparison,
    "trade-off": trade_off.trade_off,
    "coefficients-over-preference": trade_off.coefficients_over,
    "preferences": simplex.preference_maps,
    "learning": history.learning,
    "coefficients": history.heat_map,
    "barriers": paths.barrier_curves,
    "landscape": landscape.landscape,
    "sweep": sweeps.curves,
    "shifts": shifts.shifts,
}
"""Name of a figure → the function that draws it, or returns None if the run lacks its numbers."""


def draw(run: Path | str | RunRecord, formats: Sequence[str] = ("png",)) -> list[str]:
    """Draw the figures of the run folder *run* in these *formats*, and return their paths.

    Raises:
        InputError: *run* is not a run folder, is damaged, or has no results yet.
    """
    record = run if isinstance(run, RunRecord) else read_run(run)
    with records_of(record):
        figures = {name: figure for name, of in PICTURES.items() if (figure := of(record))}
    if not figures:
        what = f"no results to draw yet from {record.manifest.get('command')}"
        fix = "draw it after it has judged or learned something"
        raise InputError(what, where=record.path, fix=fix)
    outputs = outputs_that_count(record)
    for figure in figures.values():
        style.say_outputs(figure, outputs)
    folder = record.path / FIGURES
    with commit.writing(folder):
        folder.mkdir(exist_ok=True)
    return [
        path
        for name, figure in figures.items()
        for path in style.save(figure, folder / name, formats)
    ]
