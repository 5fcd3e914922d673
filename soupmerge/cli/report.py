"""``soupmerge report``: the figures of a run, and a page of one or several."""

from __future__ import annotations

from pathlib import Path

import click

from soupmerge.cli import show
from soupmerge.cli.options import machine, output
from soupmerge.cli.options.grouping import Command
from soupmerge.errors import UsageError, near_miss

FORMATS = ("png", "svg", "pdf")
NONE = "none"


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "-o", "--out", metavar="FILE", help="The page [default: RUN/report.html, if there is one RUN]."
)
@click.option(
    "--format",
    "formats",
    default="png",
    show_default=True,
    metavar="png,svg,pdf",
    help="Of the figures in RUN/figures; none draws none.",
)
@output.force
@machine.debug
def command(runs: tuple[str, ...], out: str | None, formats: str, force: bool) -> None:
    """Draw the figures of run folders, and write one page on which to look at all their soups.

    The page is a single file that works offline; several runs are compared on it.
    """
    from soupmerge.figures.page.writing import check_page, write_page
    from soupmerge.figures.reading import read_run, records_of

    if out is None and len(runs) > 1:
        what, fix = "several runs share a page", "say where it goes, such as -o compared.html"
        raise UsageError(what, where="-o", fix=fix)
    wanted = _wanted(formats)
    page = Path(out) if out is not None else Path(runs[0]) / "report.html"
    found = [read_run(run) for run in runs]
    check_page(page, force=force)
    with records_of(*found):
        written = [write_page(found, page, force=force)]
    if wanted:
        from soupmerge.figures.drawing import draw

        written += [path for run in found for path in draw(run, wanted)]
    show.table(["written"], [[path] for path in written])


def _wanted(text: str) -> list[str]:
    formats = [] if text == NONE else text.split(",")
    if unknown := [form for form in formats if form not in FORMATS]:
        fix = near_miss(unknown[0], (*FORMATS, NONE))
        raise UsageError(f"no format {unknown[0]!r}", where="--format", fix=fix)
    return formats
