"""``soupmerge inspect``: what is in each checkpoint."""

from __future__ import annotations

from typing import Any

import click

from soupmerge.cli import options, show


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
    rows = []
    if recipe := notes.get("recipe"):
        sources = ", ".join(f"{s['ref']} ({s['sha256'][:12]})" for s in recipe["ingredients"])
        rows = [("a soup of", sources), ("groups", recipe["groups"])]
        if recipe["groups"] == "model":
            rows.append(("coefficients", ", ".join(f"{w:.6g}" for w in recipe["weights"]["model"])))
    if training := notes.get("training"):
        objective = ", ".join(f"{k} {v}" for k, v in training["objective"].items())
        base = training["base"]["ref"] if training["base"] else "fresh weights"
        rows += [("trained from", base), ("objective", objective)]
    return rows
