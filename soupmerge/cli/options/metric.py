"""The metric that a search maximises, by which its best soup is chosen."""

from __future__ import annotations

import click

from soupmerge.cli.options.grouping import Decorator

METRICS = "clean, a threat, union, or a sum such as 0.5*clean+0.5*union"


class Renamed(click.Option):
    """An option that still answers to its former names, which the help does not show."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return name and text, without the former names."""
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


def metric(help: str, *former: str) -> Decorator:
    """Return the option ``--metric``, which also answers to its *former* names.

    Args:
        help: what the metric does; the text goes on with the metrics there are.
    """
    text = f"{help}: {METRICS} [default: union]."
    return click.option("--metric", *former, "metric", cls=Renamed, metavar="METRIC", help=text)
