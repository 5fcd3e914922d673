"""``soupmerge pull``: download checkpoints into the cache."""

from __future__ import annotations

import dataclasses

import click

from soupmerge.cli import show
from soupmerge.cli.options import machine, output
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.pulled_weights import pull
from soupmerge.errors import UsageError


@click.command(cls=Command)
@click.argument("refs", nargs=-1, metavar="[REF...]")
@click.option(
    "--list",
    "beginning",
    metavar="SITE",
    help="List the checkpoints of a site, offline: rb for RobustBench, rb:cifar10/Linf for a part.",
)
@click.option("-o", "--out", metavar="FILE", help="Also copy the weights, unchanged, to FILE.")
@click.option(
    "--locked", is_flag=True, help="Refuse a branch that has moved since it was last pulled."
)
@output.force
@output.as_json
@machine.common
def command(
    refs: tuple[str, ...],
    beginning: str | None,
    out: str | None,
    locked: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Download the current version of each REF into the cache, and check its hash.

    REF is hf-hub:owner/name[@revision][:file], timm:name[.tag] or rb:DATA/THREAT/NAME. Other
    commands use the cache without asking the site. A commit after the @ pins the version for good;
    a file of RobustBench is pinned by its hash when it is first pulled.
    """
    if bool(refs) == bool(beginning):
        fix = "give a REF, or --list rb"
        raise UsageError("give one of the two", where="REF and --list", fix=fix)
    if beginning:
        _list(beginning, as_json=as_json)
        return
    if out is not None and len(refs) > 1:
        raise UsageError("names one file for several REFs", where="-o", fix="pull one at a time")
    rows, unreadable = [], []
    for ref in refs:
        row, error = pull(ref, out, force=force, locked=locked)
        rows.append(row)
        unreadable += [error] if error else []
        if not as_json:
            show.table([ref, ""], [[k, v] for k, v in row.items() if k != "ref" and v is not None])
    if as_json:
        show.dump(rows)
    if unreadable:
        raise unreadable[0]


def _list(beginning: str, *, as_json: bool) -> None:
    """Print entries of RobustBench, with the accuracies that it lists, in percent."""
    from soupmerge.sources.robustbench import zoo

    if beginning.partition(":")[0] != "rb":
        raise UsageError(f"no list of {beginning!r}", where="--list", fix="write rb")
    entries = zoo.listed(beginning)
    if as_json:
        show.dump([{"ref": e.ref, **dataclasses.asdict(e)} for e in entries])
        return
    headers = ["checkpoint", "network", "eps", "clean", "robust", "licence"]
    rows = [
        [e.ref, e.network.partition("?")[0] or "–", e.eps, e.clean, e.robust, e.licence]
        for e in entries
    ]
    show.table(headers, rows)
