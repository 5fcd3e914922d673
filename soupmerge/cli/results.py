"""Reports as tables: what each accuracy was measured with stands in its heading."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.errors import printable


def print_reports(names: Sequence[str], reports: Sequence[sm.Report], title: str) -> None:
    """Print one row per report, and below it what was measured, on what."""
    first = reports[0]
    rows = [
        [name, *(show.percent(metric) for metric in report.to_metrics().values())]
        for name, report in zip(_without_common_folder(names), reports, strict=True)
    ]
    show.table(["network", *first.metrics], rows, title)
    # With the table, not beside it: an accuracy without its attack says nothing.
    click.echo(printable(caption(first)))


def _without_common_folder(names: Sequence[str]) -> list[str]:
    """Return *names* without the folder that all of them are in, so that tables stay narrow."""
    common = os.path.commonprefix(names)
    folder = common[: common.rfind("/") + 1]
    return [name.removeprefix(folder) for name in names] if len(names) > 1 else list(names)


def caption(report: sm.Report) -> str:
    """Return how the accuracies of *report* were measured."""
    data = report.data
    attacks = {f"{a['attack']}, {a['steps']} steps" for a in report.attacks.values()}
    measured = f"under {'; '.join(sorted(attacks))}" if attacks else "clean only"
    return (
        f"{data['n']} images of {data['ref']} ({data['split']}); {measured}; "
        "95% intervals; accuracies under attack are upper bounds"
    )


def cost(reports: Sequence[sm.Report]) -> dict[str, float]:
    """Return what judging cost in all."""
    keys = ("gradient_evaluations", "forward_evaluations", "seconds")
    return {key: round(sum(r.cost.get(key, 0) for r in reports), 3) for key in keys}
