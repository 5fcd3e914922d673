"""``soupmerge greedy``: a soup to which ingredients are added one by one."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import results, searches, show
from soupmerge.cli.options.metric import metric as metric_option
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.parameter_types import Whole
from soupmerge.cli.searches import Search


@click.command(cls=Command)
@metric_option("Metric that must not fall")
@click.option(
    "--orders",
    type=Whole(0, 10_000),
    default=0,
    show_default=True,
    help="Random orders to try beside the order from best to worst.",
)
@click.option("--prune", is_flag=True, help="Then remove ingredients without which it is no worse.")
@searches.search
def command(search: Search, metric: str | None, orders: int, prune: bool) -> None:
    """Average ingredients one by one; each stays if the soup is no worse with it.

    Every decision is shown with its reason. The data choose the soup: judge it on other images.
    """
    task = search.task()
    k = len(task.ingredients)
    task.print_plan(k + (k - 1) * (1 + prune) * (1 + orders))
    if search.output.dry_run:
        return
    with show.Progress() as progress:
        greedy = sm.greedy(
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
    cost = results.cost_of_trials(greedy.trials)
    if search.as_json:
        show.dump({**greedy.trials.summary(), "greedy": greedy.to_json(), "cost": cost})
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
        for d in greedy.decisions
    ]
    show.table(["pass", "try", "ingredient", "metric", "done", "why"], rows)
    report = greedy.trial.judged()
    results.print_reports([searches.weights_of(greedy.trial, " ")], [report], "soup")
    results.print_cost(cost)
    weights = searches.weights_of(greedy.trial)
    results.print_doubts([weights], [report])
    show.note(f"greedy soup: {weights}; written to {search.output.out}/soup.safetensors")
