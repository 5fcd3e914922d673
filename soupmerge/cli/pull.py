"""``soupmerge pull``: bring checkpoints from their site into the cache."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soupmerge.cli import show
from soupmerge.cli.options import machine, output
from soupmerge.cli.options.grouping import Command
from soupmerge.errors import InputError, NetworkError, SoupmergeError, UnsafeError, UsageError

if TYPE_CHECKING:
    from soupmerge.sources.hub import Pulled


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
        row, error = _pulled(ref, out, force, locked)
        told.append(row)
        unreadable += [error] if error else []
        if not as_json:
            show.table([ref, ""], [[k, v] for k, v in row.items() if k != "ref" and v is not None])
    if as_json:
        show.dump(told)
    if unreadable:
        raise unreadable[0]


def _pulled(
    ref: str, out: str | None, force: bool, locked: bool
) -> tuple[dict[str, Any], SoupmergeError | None]:
    """Return what to tell of *ref*, and why its weights, though pulled, cannot be read."""
    if ref.startswith("rb:"):
        return _from_robustbench(ref, out, force), None
    pulled = _from_hub(ref, locked)
    if out is not None:
        _copy(pulled, out, force)
    row = _row(ref, pulled)
    try:
        checkpoint = pulled.checkpoint()
    except (InputError, UnsafeError) as error:
        return row, error
    for note in checkpoint.notes:
        show.note(f"{ref}: {note}")
    return row | {"network": checkpoint.model}, None


def _from_robustbench(ref: str, out: str | None, force: bool) -> dict[str, Any]:
    """Return what to tell of *ref*, which is pulled if it is not here."""
    from soupmerge.sources.robustbench import checkpoints, zoo

    with show.Progress() as progress:
        found = checkpoints.opened(ref, progress=progress)
    for note in found.notes:
        show.note(f"{ref}: {note}")
    if out is not None:
        _copied(found.files[0], out, force, found.files)
    return {
        "ref": ref,
        "sha256": found.sha256,
        "bytes": sum(source.size for source in found.sources),
        "licence": zoo.entry(ref).licence,
        "network": found.model,
        "path": str(found.files[0]),
    }


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


def _from_hub(ref: str, locked: bool) -> Pulled:
    from soupmerge.sources import hub, network, timm_weights
    from soupmerge.sources.hub.refs import PREFIX, HubRef

    if not ref.startswith((PREFIX, timm_weights.PREFIX)):
        fix = "write hf-hub:owner/name, timm:name or rb:DATA/THREAT/NAME"
        raise UsageError("is at no site that can be pulled from", where=ref, fix=fix)
    at_timm = ref.startswith(timm_weights.PREFIX)
    wanted = timm_weights.on_hub(ref) if at_timm else HubRef.parse(ref)
    if not network.is_offline():
        with show.Progress() as progress:
            return hub.pull(wanted, locked=locked, progress=progress)
    found = hub.cached(wanted)
    if found is None:
        fix = "run it where there is a network"
        raise NetworkError("is not in the cache, and no site may be asked", where=ref, fix=fix)
    return found


def _row(ref: str, pulled: Pulled) -> dict[str, Any]:
    from soupmerge.storage.reading import Steady
    from soupmerge.weights.files import sha256_of

    files = [Steady.seen(path) for path in pulled.holding]
    return {
        "ref": ref,
        "pinned": str(pulled.ref),
        "commit": pulled.ref.revision,
        "sha256": sha256_of([file.sha256() for file in files]),
        "bytes": sum(file.size for file in files),
        "licence": pulled.licence,
        "network": None,
        "path": str(pulled.weights),
    }


def _copy(pulled: Pulled, out: str, force: bool) -> None:
    if len(pulled.holding) > 1:
        what, fix = "it is in several shards", f"soupmerge convert {pulled.ref} -o {out}"
        raise UsageError(what, where="-o", fix=fix)
    _copied(pulled.weights, out, force, pulled.files)


def _copied(path: Path, out: str, force: bool, inputs: Iterable[Path]) -> None:
    from soupmerge.storage import commit
    from soupmerge.storage.reading import Steady

    if Path(out).suffix != path.suffix:
        what = f"is to hold {path.name}, as it is"
        raise UsageError(what, where=out, fix=f"name a {path.suffix} file")
    commit.check_free(out, force=force, inputs=inputs)
    with commit.committed(out, force=force) as file:
        for part in Steady.seen(path).chunks():
            file.write(part)
