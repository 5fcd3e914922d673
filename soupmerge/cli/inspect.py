"""``soupmerge inspect``: the contents of checkpoints."""

from __future__ import annotations

import click

from soupmerge.cli import show
from soupmerge.cli.options import ingredients, machine, output
from soupmerge.cli.options.option_groups import Command


@click.command(cls=Command)
@ingredients.refs
@ingredients.weights_key
@output.as_json
@machine.common
def command(refs: tuple[str, ...], weights_key: str | None, as_json: bool) -> None:
    """Show the contents of checkpoints: tensors, dtypes, NaN, removed wrappers, family tree.

    The tree of a soup names its ingredients, with coefficients and hashes, and the ingredients of
    those that are soups or fine-tuned networks themselves.
    """
    from soupmerge.sources.refs import opened
    from soupmerge.weights.ledger import in_words, ledger_of
    from soupmerge.weights.lineage import family_of

    described = []
    for ref in refs:
        checkpoint = opened(ref, weights_key=weights_key)
        rows, notes = checkpoint.rows(), checkpoint.notes_of_soupmerge
        seen = map(in_words, ledger_of(checkpoint))
        rows.append(("images behind it", "; ".join(seen) or "not recorded in the file"))
        tree = family_of(checkpoint)
        described.append({"ref": ref, **dict(rows), "notes": notes, "family": list(tree.lines())})
        if not as_json:
            show.table([ref, ""], rows)
            for line in tree.lines() if tree.made else ():
                show.line(line)
    if as_json:
        show.dump(described)
