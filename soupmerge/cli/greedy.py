"""``soupmerge greedy``: put ingredients in one by one."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import results, searches, show
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.kinds import Whole
from soupmerge.cli.options.metric import metric as metric_option
from soupmerge.cli.searches import Search


@click.command(cls=Command)
@metric_option("The metric that must not fall")
@click.option(
    "--orders",
    type=Whole(0, 10_000),
    default=0,
    show_default=True,
    help="Random orders to try beside that from the best alone to the worst.",
)
@click.option("--prune", is_flag=True, help="Take out again what is no longer missed.")
@searches.search
def command(search: Search, metric: str | None, orders: int, prune: bool) -> None:
    """Average ingredients in one by one; each stays where the soup is no worse for it.

    Every acceptance and refusal is told with its reason. The data choose the soup: judge it on
    others.
    """
    task = search.task()
    k = len(task.ingredients)
    task.tell(k + (k - 1) * (1 + prune) * (1 + orders))
    if search.dry_run:
        return
    with show.Progress() as progress:
        found = sm.greedy(
            task.net,
            task.ingredients,
            task.benchmark,
            metric=metric,
            orders=orders,
            prune=prune,
            seed=search.machine.seed,
            buffers=task.buffers,
            run=task.run(progress),
        )
    if search.as_json:
        show.dump({**found.trials.summary(), "greedy": found.to_json()})
        return
    rows = [
        [
            "best first" if d.order == 0 else f"order {d.order}",
            d.action,
            task.ingredients.names[d.ingredient],
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
    show.note(f"greedy soup: {weights}; written to {search.out}/soup.safetensors")
