"""``soupmerge report``: the figures of a run, and a page of one or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from soupmerge.cli import options, show
from soupmerge.errors import UsageError


@click.command()
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
@options.force
@options.debug
def command(runs: tuple[str, ...], out: str | None, formats: str, **given: Any) -> None:
    """Draw the figures of run folders, and write one page on which to look at all their soups.

    The page is a single file that works offline; several runs are compared on it.
    """
    from soupmerge.figures.drawing import check_formats, draw, records_of
    from soupmerge.figures.page.writing import check_page, write_page
    from soupmerge.figures.reading import read_run

    if out is None and len(runs) > 1:
        what, fix = "several runs share a page", "say where it goes, such as -o compared.html"
        raise UsageError(what, where="-o", fix=fix)
    wanted = check_formats(formats)
    page = Path(out) if out is not None else Path(runs[0]) / "report.html"
    found = [read_run(run) for run in runs]
    check_page(page, force=given["force"])
    drawn = [path for run in found for path in draw(run, wanted)]
    with records_of(*found):
        drawn.append(write_page(found, page, force=given["force"]))
    show.table(["written"], [[path] for path in drawn])
