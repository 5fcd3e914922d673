"""``soupmerge greedy``: put ingredients in one by one."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import options, results, searches, show


@click.command()
@options.refs
@options.data("val")
@searches.attack
@click.option(
    "--metric", metavar="METRIC", help=f"What must not fall: {searches.METRICS} [default: union]."
)
@click.option(
    "--orders",
    type=options.Whole(0, 10_000),
    default=0,
    show_default=True,
    help="Random orders to try beside that from the best alone to the worst.",
)
@click.option("--prune", is_flag=True, help="Take out again what is no longer missed.")
@searches.common
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Average ingredients in one by one; each stays where the soup is no worse for it.

    Every acceptance and refusal is told with its reason. The data choose the soup: judge it on
    others.
    """
    task = searches.Task.of(refs, given)
    k = len(task.pots)
    task.tell(k + (k - 1) * (1 + given["prune"]) * (1 + given["orders"]))
    if dry_run:
        return
    how = {key: given[key] for key in ("metric", "orders", "prune", "seed")}
    with show.Progress(given["quiet"]) as progress:
        found = task.run(sm.greedy, progress, **how)
    if as_json:
        show.dump({**found.trials.summary(), "greedy": found.to_json()})
        return
    rows = [
        [
            "best first" if d.order == 0 else f"order {d.order}",
            d.action,
            task.pots.names[d.ingredient],
            f"{d.before:.1%} → {d.after:.1%}",
            "yes" if d.accepted else "no",
            d.reason,
        ]
        for d in found.decisions
    ]
    show.table(["pass", "try", "ingredient", "metric", "done", "why"], rows)
    results.print_reports([searches.weights_of(found.trial, " ")], [found.trial.judged()], "soup")
    weights = searches.weights_of(found.trial)
    results.print_doubts([weights], [found.trial.judged()])
    show.note(f"greedy soup: {weights}; written to {given['out']}/soup.safetensors")
