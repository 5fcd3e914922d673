"""``soupmerge check``: do checkpoints fit together, and do they share a loss basin?"""

from __future__ import annotations

from typing import Any

import click

from soupmerge.cli import options, show


@click.command()
@options.refs
@options.weights_key
@options.model
@options.as_json
@options.debug
def command(refs: tuple[str, ...], weights_key: str | None, as_json: bool, **given: Any) -> int:
    """Compare checkpoints with the first: names, shapes, dtypes, normalisers."""
    from soupmerge.sources.refs import opened_all
    from soupmerge.weights.ingredients import mismatches

    checkpoints = opened_all(refs, weights_key=weights_key)
    found = mismatches(checkpoints)
    problems = [f"{ref}: {line}" for ref, lines in found.items() for line in lines]
    if as_json:
        basin = {"verdict": "unknown", "barriers": []}
        show.dump({"compatible": not problems, "problems": problems, "basin": basin})
    elif problems:
        show.table(["problem"], [[problem] for problem in problems])
    return int(bool(problems))
