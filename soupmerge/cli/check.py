"""``soupmerge check``: do checkpoints fit together?"""

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
    """Compare checkpoints with the first, and with --model: names, shapes, dtypes, normalisers.

    Lists every mismatch; exit status 1 if there is any. Whether they share a loss basin is not
    measured yet.
    """
    from soupmerge.binding import align
    from soupmerge.errors import InputError
    from soupmerge.sources.refs import opened_all
    from soupmerge.weights.ingredients import mismatches

    checkpoints = opened_all(refs, weights_key=weights_key)
    options.tell(checkpoints, given)
    problems = mismatches(checkpoints)
    if given["model"] is not None:
        net = options.network(given, like=checkpoints[0])
        for checkpoint in checkpoints:
            try:
                align(checkpoint, net)
            except InputError as error:
                problems += [f"{checkpoint.ref}: {problem}" for problem in error.problems]
    if as_json:
        basin = {"verdict": "unknown", "barriers": []}
        show.dump({"compatible": not problems, "problems": problems, "basin": basin})
    elif problems:
        show.table(["problem"], [[problem] for problem in problems])
    else:
        fit = f"{len(checkpoints)} checkpoints of {len(checkpoints[0])} tensors"
        show.table(["compatible", "basin"], [[f"yes: {fit}", "unknown: not measured"]])
    return int(bool(problems))
