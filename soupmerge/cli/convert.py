"""``soupmerge convert``: the tensors of a checkpoint as safetensors, without anything else."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import ingredients, machine, output
from soupmerge.cli.options.option_groups import Command


@click.command(cls=Command)
@click.argument("ref")
@click.option("-o", "--out", required=True, metavar="OUT", help="A .safetensors file.")
@ingredients.weights_key
@output.force
@machine.common
def command(ref: str, out: str, weights_key: str | None, force: bool) -> None:
    """Write the weights of one checkpoint as safetensors, even if its pickle names code.

    Other commands refuse torch files that need more than tensors and plain values. This one takes
    the tensors and drops the rest: the pickle is read as data, and nothing that it names is
    imported or run. Look at the names that it lists before you trust the weights.
    """
    output.require_safetensors(out)
    from soupmerge.sources.refs import opened
    from soupmerge.storage.commit import check_free
    from soupmerge.weights.saving import save

    checkpoint = opened(ref, weights_key=weights_key, foreign=True)
    check_free(out, force=force, inputs=checkpoint.files)
    ingredients.print_notes([checkpoint])
    checkpoint.require_sound()
    source = {"ref": ref.rpartition("/")[2], "sha256": checkpoint.sha256}
    save(out, checkpoint, model=checkpoint.model, notes={"converted": source}, force=force)
    written = sm.load(out)[0]
    show.table(["weights", "tensors", "sha256"], [[out, len(written), written.sha256]])
