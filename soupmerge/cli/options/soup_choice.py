"""Options: which soup of a run to choose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from soupmerge.cli.options.metric import metric
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.soups.search.choice import Choice, Tried


LEAST_PERCENTAGE = 2
"""Levels below it are more likely to be fractions above 1 than percentages."""


@dataclass(frozen=True)
class SoupChoice:
    """Which soup to choose: the best in a metric or the knee of a front, under conditions.

    Raises:
        UsageError: both a metric and the knee are asked for.
    """

    metric: str | None
    knee: bool
    x: str
    y: str | None
    conditions: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.knee and self.metric:
            what, fix = "give one of the two", "leave one out"
            raise UsageError(what, where="--metric and --knee", fix=fix)

    def choose(self, tried: Tried) -> tuple[Choice, str]:
        """Return the chosen soup of *tried*, and the metric in which it is compared with others.

        Raises:
            UsageError: a condition is one on percentages.
        """
        from soupmerge.soups.search.choice import choose

        for condition in self.conditions:
            _require_fraction(condition)
        last = tried.trials.metrics[-1]
        metric = None if self.knee else self.metric or last
        choice = choose(tried, metric, self.conditions, self.x, self.y or last)
        return choice, metric or self.y or last


def _require_fraction(text: str) -> None:
    """Reject a condition such as ``clean>=70``: accuracies are fractions.

    Raises:
        UsageError: no accuracy, or weighted sum of accuracies, reaches the level.
    """
    from soupmerge.soups.judge.metrics import Condition

    condition = Condition.parse(text)
    most = sum(weight for _, weight in condition.metric.terms)
    if max(most, 1) < condition.level <= 100 * most and condition.level >= LEAST_PERCENTAGE:
        share = condition.level / 100
        written = f"{float(share):.2f}" if (100 * share).denominator == 1 else f"{float(share):g}"
        meant = re.sub(r"[^<>=]+$", written, text)
        what, fix = "accuracies are fractions from 0 to 1", f"did you mean {meant}?"
        raise UsageError(what, where=f"--where {text}", fix=fix)


def soup_choice(command: F) -> F:
    """Add the options that say which soup to choose."""
    return grouped(
        "soup_choice",
        SoupChoice,
        metric("Choose the soup that is best in this metric", "--max"),
        click.option("--knee", is_flag=True, help="Choose the knee of the front of --x and --y."),
        click.option(
            "--x",
            default="clean",
            show_default=True,
            metavar="METRIC",
            help="First metric of --knee.",
        ),
        click.option("--y", metavar="METRIC", help="Second metric of --knee [default: union]."),
        click.option(
            "--where",
            "conditions",
            multiple=True,
            metavar="CONDITION",
            help="Consider only soups that meet it, such as 'clean>=0.85'; may be repeated.",
        ),
    )(command)
