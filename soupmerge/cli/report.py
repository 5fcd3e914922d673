"""``soupmerge report``: the figures of a run, and a page of one run or several."""

from __future__ import annotations

from pathlib import Path

import click

from soupmerge.choices import FIGURE_FORMATS
from soupmerge.cli import show
from soupmerge.cli.options import machine, output
from soupmerge.cli.options.option_groups import Command
from soupmerge.errors import UsageError, near_miss

NO_FIGURES = "none"


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "-o", "--out", metavar="FILE", help="The page [default: RUN/report.html, for a single RUN]."
)
@click.option(
    "--format",
    "formats",
    default="png",
    show_default=True,
    metavar=",".join(FIGURE_FORMATS),
    help="Formats of the figures in RUN/figures; none draws no figures.",
)
@output.force
@machine.common
def command(runs: tuple[str, ...], out: str | None, formats: str, force: bool) -> None:
    """Draw the figures of run folders, and write one page that shows all their soups.

    The page is a single file that works offline; it compares several runs.
    """
    if out is None and len(runs) > 1:
        what, fix = "the page of several runs needs a name", "give one, such as -o compared.html"
        raise UsageError(what, where="-o", fix=fix)
    chosen = _parse_formats(formats)
    from soupmerge.figures.page.writing import check_page, write_page
    from soupmerge.figures.reading import read_run, records_of

    page = Path(out) if out is not None else Path(runs[0]) / "report.html"
    folders = [read_run(run) for run in runs]
    check_page(page, force=force)
    with records_of(*folders):
        written = [write_page(folders, page, force=force)]
    if chosen:
        from soupmerge.figures.drawing import draw

        written += [path for folder in folders for path in draw(folder, chosen)]
    show.table(["written"], [[path] for path in written])


def _parse_formats(text: str) -> list[str]:
    formats = [] if text == NO_FIGURES else text.split(",")
    if unknown := [form for form in formats if form not in FIGURE_FORMATS]:
        fix = near_miss(unknown[0], (*FIGURE_FORMATS, NO_FIGURES))
        raise UsageError(f"unknown format {unknown[0]!r}", where="--format", fix=fix)
    return formats
