"""Options: the metric by which the best soup is chosen."""

from __future__ import annotations

import click

from soupmerge.cli.options.option_groups import Decorator

METRICS = "clean, a threat, union, or a weighted sum such as 0.5*clean+0.5*union"


class RenamedOption(click.Option):
    """An option that still accepts its former names, which --help does not show."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the name and the help, without the former names."""
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


def metric(help: str, *former: str) -> Decorator:
    """Return the option ``--metric``, which also accepts its *former* names.

    Args:
        help: the purpose of the metric; a list of the metrics is appended.
    """
    text = f"{help}: {METRICS} [default: union]."
    return click.option(
        "--metric", *former, "metric", cls=RenamedOption, metavar="METRIC", help=text
    )
