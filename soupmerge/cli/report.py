"""``soupmerge report``: the figures of a run."""

from __future__ import annotations

from typing import Any

import click

from soupmerge.cli import options, show


@click.command()
@click.argument("run")
@options.debug
def command(run: str, **given: Any) -> None:
    """Draw the figures of a run folder of a search, learn or eval, into RUN/figures."""
    from soupmerge.figures.drawing import draw

    show.table(["figure"], [[path] for path in draw(run)])
