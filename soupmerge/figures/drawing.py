"""A run folder → its figures: whatever its files hold the numbers of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from soupmerge.errors import InputError, UsageError, brief, near_miss
from soupmerge.figures import fronts, history, paths, simplex, style
from soupmerge.figures.reading import Run, read_run
from soupmerge.storage import commit
from soupmerge.storage.run import FIGURES

FORMATS = ("png", "svg", "pdf")
PICTURES: dict[str, Callable[[Run], Figure | None]] = {
    "ternary": simplex.ternary_maps,
    "path": paths.path_lines,
    "front": fronts.soups_front,
    "comparison": fronts.comparison,
    "learning": history.learning,
    "coefficients": history.heat_map,
    "barriers": paths.barrier_curves,
}
"""Name → what draws it, or returns None if the run does not hold its numbers."""


def draw(run: Path | str | Run, formats: Sequence[str] = ("png",)) -> list[str]:
    """Draw what there is to see in the run folder *run*, and return the paths of the figures.

    Raises:
        InputError: *run* is no run folder, or nothing in it is finished.
    """
    found = run if isinstance(run, Run) else read_run(run)
    if not formats:
        return []
    with records_of(found):
        drawn = [(name, f) for name, of in PICTURES.items() if (f := of(found)) is not None]
    if not drawn:
        what = f"holds nothing finished to draw of {found.manifest.get('command')}"
        raise InputError(what, where=found.path, fix="draw it when it has judged or learned")
    folder = found.path / FIGURES
    with commit.writing(folder):
        folder.mkdir(exist_ok=True)
    return [path for name, figure in drawn for path in style.save(figure, folder / name, formats)]


def check_formats(text: str) -> list[str]:
    """Return the formats that *text* names: ``png,svg,pdf``, or ``none``.

    Raises:
        UsageError: there is no such format.
    """
    formats = [] if text == "none" else text.split(",")
    if unknown := [form for form in formats if form not in FORMATS]:
        fix = near_miss(unknown[0], (*FORMATS, "none"))
        raise UsageError(f"no format {unknown[0]!r}", where="--format", fix=fix)
    return formats


@contextmanager
def records_of(*runs: Run) -> Iterator[None]:
    """Turn what a record of *runs* lacks into an error that names them."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        what = f"a record lacks something: {type(error).__name__}: {brief(str(error))}"
        where = ", ".join(str(run.path) for run in runs)
        raise InputError(what, where=where, fix="run its command again") from error
