"""Which soup of a run to pick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.metric import metric

if TYPE_CHECKING:
    from soupmerge.soups.search.choice import Choice, Tried


@dataclass(frozen=True)
class Pick:
    """Which soup to pick: the best in a metric or the knee of a front, among those allowed."""

    metric: str | None
    knee: bool
    x: str
    y: str | None
    conditions: tuple[str, ...]

    def choose(self, seen: Tried) -> tuple[Choice, str]:
        """Return the soup of *seen* to pick, and the metric that it is best in."""
        from soupmerge.soups.search.choice import choose

        last = seen.trials.metrics[-1]
        metric = None if self.knee else self.metric or last
        choice = choose(seen, metric, self.conditions, self.x, self.y or last)
        return choice, metric or self.y or last


def pick(command: F) -> F:
    """Add the options that say which soup to pick."""
    return grouped(
        "pick",
        Pick,
        metric("The best soup in this metric", "--max"),
        click.option("--knee", is_flag=True, help="The knee of the front of --x and --y."),
        click.option(
            "--x", default="clean", show_default=True, metavar="METRIC", help="For --knee."
        ),
        click.option("--y", metavar="METRIC", help="For --knee [default: union]."),
        click.option(
            "--where",
            "conditions",
            multiple=True,
            metavar="CONDITION",
            help="Only soups that meet it, such as 'clean>=0.85'; may be repeated.",
        ),
    )(command)
