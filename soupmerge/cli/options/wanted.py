"""Which soup of a run is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from soupmerge.cli.options.grouping import F, grouped

if TYPE_CHECKING:
    from soupmerge.soups.search.choice import Choice, Tried

METRICS = "clean, a threat, union, or a sum such as 0.5*clean+0.5*union"


@dataclass(frozen=True)
class Wanted:
    """Which soup is wanted: the highest in a metric, or the knee of a front; under conditions."""

    metric: str | None
    knee: bool
    x: str
    y: str | None
    conditions: tuple[str, ...]

    def choose(self, seen: Tried) -> tuple[Choice, str]:
        """Return the soup of *seen* that is wanted, and the metric that it is best in."""
        from soupmerge.soups.search.choice import choose

        last = seen.trials.metrics[-1]
        metric = None if self.knee else self.metric or last
        choice = choose(seen, metric, self.conditions, self.x, self.y or last)
        return choice, metric or self.y or last


def wanted(command: F) -> F:
    """Add the options that say which soup is wanted."""
    return grouped(
        "wanted",
        Wanted,
        click.option("--max", "metric", metavar="METRIC", help=f"Highest in {METRICS}."),
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
