"""``soupmerge pull --list SITE``: what a site has."""

from __future__ import annotations

from typing import Any

import click

from soupmerge.cli import options, show
from soupmerge.errors import UsageError


@click.command()
@click.option(
    "--list",
    "beginning",
    metavar="SITE",
    required=True,
    help="List what a site has: rb for RobustBench, rb:cifar10/Linf for a part of it.",
)
@options.as_json
@options.debug
def command(beginning: str, as_json: bool, **given: Any) -> int:
    """List the checkpoints of RobustBench's model zoo, offline.

    Their accuracies are those that RobustBench lists, in percent. An entry without a network can
    be mixed, but to judge it, --model must name one.
    """
    from soupmerge.sources.robustbench import zoo

    if beginning.partition(":")[0] != "rb":
        raise UsageError(f"no list of {beginning!r}", where="--list", fix="write rb")
    found = zoo.listed(beginning)
    if as_json:
        import dataclasses

        show.dump([{"ref": e.ref, **dataclasses.asdict(e)} for e in found])
        return 0
    headers = ["checkpoint", "network", "eps", "clean", "robust", "licence"]
    rows = [
        [e.ref, e.network.partition("?")[0] or "–", e.eps, e.clean, e.robust, e.licence]
        for e in found
    ]
    show.table(headers, rows)
    return 0
