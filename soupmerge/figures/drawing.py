"""A run folder → its figures: whatever its files hold the numbers of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from soupmerge.errors import InputError, UsageError, near_miss
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
        UsageError: a format is none of png, svg and pdf.
        InputError: *run* is no run folder, or nothing in it is finished.
    """
    for form in formats:
        if form not in FORMATS:
            raise UsageError(f"no format {form!r}", where="format", fix=near_miss(form, FORMATS))
    found = run if isinstance(run, Run) else read_run(run)
    with records_of(found):
        drawn = [(name, f) for name, of in PICTURES.items() if (f := of(found)) is not None]
    if not drawn:
        what = f"holds nothing finished to draw of {found.manifest.get('command')}"
        raise InputError(what, where=found.path, fix="draw it when it has judged or learned")
    folder = found.path / FIGURES
    with commit.writing(folder):
        folder.mkdir(exist_ok=True)
    return [path for name, figure in drawn for path in style.save(figure, folder / name, formats)]


@contextmanager
def records_of(run: Run) -> Iterator[None]:
    """Turn what a record lacks into an error that names the run."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        what = f"a record lacks something: {type(error).__name__}: {error}"
        raise InputError(what, where=run.path, fix="run its command again") from error
