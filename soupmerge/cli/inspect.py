"""``soupmerge inspect``: what is in each checkpoint."""

from __future__ import annotations

import contextlib
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import options, show
from soupmerge.errors import InputError


@click.command()
@options.refs
@options.weights_key
@options.as_json
@options.debug
def command(refs: tuple[str, ...], weights_key: str | None, as_json: bool, **given: Any) -> None:
    """Show what is in each checkpoint: tensors, dtypes, NaN, what was unwrapped, its recipe."""
    from soupmerge.sources.refs import opened

    described = []
    for ref in refs:
        checkpoint = opened(ref, weights_key=weights_key)
        rows = checkpoint.rows()
        described.append({"ref": ref, **dict(rows), "notes": checkpoint.notes_of_soupmerge})
        if not as_json:
            show.table([ref, ""], [*rows, *_made(checkpoint.notes_of_soupmerge)])
    if as_json:
        show.dump(described)


def _made(notes: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how the weights were made; notes of anyone's, so nothing in them is relied on."""
    rows = []
    with contextlib.suppress(InputError):
        recipe = sm.Recipe.from_json(notes.get("recipe"))
        sources = ", ".join(f"{s.ref} ({s.sha256[:12]})" for s in recipe.sources)
        rows += [("a soup of", sources), ("chosen by", recipe.origin), ("groups", recipe.by)]
        rows.append(("mean coefficients", ", ".join(f"{w:.6g}" for w in recipe.mean_weights)))
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        training = notes["training"]
        objective = ", ".join(f"{k} {v}" for k, v in training["objective"].items())
        base = training["base"]["ref"] if training["base"] else "fresh weights"
        rows += [("trained from", str(base)), ("objective", objective)]
    return rows
