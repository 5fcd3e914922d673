"""``soupmerge pull``: bring checkpoints from their site into the cache."""

from __future__ import annotations

import click

from soupmerge.cli import show
from soupmerge.cli.options import machine, output
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.pulling import pulled
from soupmerge.errors import UsageError


@click.command(cls=Command)
@click.argument("refs", nargs=-1, metavar="[REF...]")
@click.option(
    "--list",
    "beginning",
    metavar="SITE",
    help="List what a site has, offline: rb for RobustBench, rb:cifar10/Linf for a part of it.",
)
@click.option("-o", "--out", metavar="FILE", help="Copy the weights to FILE, as they are.")
@click.option(
    "--locked", is_flag=True, help="Refuse a branch that has moved since it was last pulled."
)
@output.force
@output.as_json
@machine.debug
def command(
    refs: tuple[str, ...],
    beginning: str | None,
    out: str | None,
    locked: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Bring each REF, as its site has it now, into the cache, checked by its hash.

    REF is hf-hub:owner/name[@revision][:file], timm:name[.tag] or rb:DATA/THREAT/NAME. Other
    commands take what is in the cache without asking; pull asks. A commit after the @ pins for
    ever; a file of RobustBench is pinned by its hash when it is pulled first.
    """
    if bool(refs) == bool(beginning):
        raise UsageError("give one of the two", where="REF and --list", fix="give --list rb, say")
    if beginning:
        _list(beginning, as_json)
        return
    if out is not None and len(refs) > 1:
        raise UsageError("names one file, there are several REFs", where="-o", fix="pull one")
    told, unreadable = [], []
    for ref in refs:
        row, error = pulled(ref, out, force=force, locked=locked)
        told.append(row)
        unreadable += [error] if error else []
        if not as_json:
            show.table([ref, ""], [[k, v] for k, v in row.items() if k != "ref" and v is not None])
    if as_json:
        show.dump(told)
    if unreadable:
        raise unreadable[0]


def _list(beginning: str, as_json: bool) -> None:
    """Print the entries of RobustBench; accuracies are those that it lists, in percent."""
    import dataclasses

    from soupmerge.sources.robustbench import zoo

    if beginning.partition(":")[0] != "rb":
        raise UsageError(f"no list of {beginning!r}", where="--list", fix="write rb")
    found = zoo.listed(beginning)
    if as_json:
        show.dump([{"ref": e.ref, **dataclasses.asdict(e)} for e in found])
        return
    headers = ["checkpoint", "network", "eps", "clean", "robust", "licence"]
    rows = [
        [e.ref, e.network.partition("?")[0] or "–", e.eps, e.clean, e.robust, e.licence]
        for e in found
    ]
    show.table(headers, rows)
