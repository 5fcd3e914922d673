"""``soupmerge convert``: the numbers of a checkpoint, without whatever else is in it."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import ingredients, machine, output
from soupmerge.cli.options.grouping import Command
from soupmerge.errors import UsageError


@click.command(cls=Command)
@click.argument("ref")
@click.option("-o", "--out", required=True, metavar="OUT", help="A .safetensors file.")
@ingredients.weights_key
@output.force
@machine.debug
def command(ref: str, out: str, weights_key: str | None, force: bool) -> None:
    """Write the weights of one checkpoint as safetensors, also if its pickle names code.

    Other commands refuse a torch file that asks for more than tensors and plain values. This one
    takes the tensors and leaves the rest: a pickle is read as data, and nothing that it names is
    imported or run. Look at what it named before you trust the numbers.
    """
    from soupmerge.sources.refs import opened
    from soupmerge.storage.commit import check_free
    from soupmerge.weights.saving import save

    if not out.endswith(".safetensors"):
        raise UsageError("is not a .safetensors file", where=out, fix="name one")
    checkpoint = opened(ref, weights_key=weights_key, foreign=True)
    check_free(out, force=force, inputs=checkpoint.files)
    for note in checkpoint.notes:
        show.note(f"{ref}: {note}")
    checkpoint.require_sound()
    source = {"ref": ref.rpartition("/")[2], "sha256": checkpoint.sha256}
    save(out, checkpoint, model=checkpoint.model, notes={"converted": source}, force=force)
    written = sm.load(out)[0]
    show.table(["weights", "tensors", "sha256"], [[out, len(written), written.sha256]])
