"""``soupmerge eval``: clean and robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

import soupmerge as sm
from soupmerge.cli import plans, results, show
from soupmerge.cli.options import attack as attacks
from soupmerge.cli.options import ingredients, output
from soupmerge.cli.options.attack import Attack
from soupmerge.cli.options.data import DataSets, data_sets
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.judging import Judging, judging
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.errors import NumericsError, UsageError

if TYPE_CHECKING:
    from soupmerge.soups.judge.entries import AnyEntry


@click.command(cls=Command)
@ingredients.refs
@data_sets
@attacks.attack
@judging
@network
@ingredients.weights_key
@click.option("-o", "--out", metavar="RUN", help="Run folder: keeps every verdict, and resumes.")
@machine(256)
@output.force
@output.dry_run
@output.as_json
def command(
    refs: tuple[str, ...],
    data: DataSets,
    attack: Attack,
    judging: Judging,
    network: Network,
    weights_key: str | None,
    out: str | None,
    machine: Machine,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Judge networks: clean accuracy, accuracy under each threat, and under their union.

    Union counts the images that are right under every threat. Several REFs, --data or resolutions
    make one table.
    """
    from soupmerge.soups.judge.comparison import compare, pairs

    if judging.strict and not judging.examine:
        raise UsageError("looks for no doubts", where="--strict", fix="leave out --no-doubts")
    device = machine.device()
    sizes = judging.sizes()
    entries = _entries(refs, weights_key, network, judging.ensemble)
    benchmarks = _benchmarks(data, attack, machine, sizes)
    due = pairs(entries, benchmarks)
    if dry_run:
        plans.show_eval(due)
        return
    with show.Progress() as progress:
        reports = compare(
            entries,
            benchmarks,
            examine=judging.examine,
            compiled=judging.compiled,
            run=sm.Run(out, force, device, progress),
        )
    names = [entry.ref for entry, _ in due]
    passes = len(refs) if judging.ensemble else 1
    if as_json:
        show.dump(results.evaluated([entry for entry, _ in due], reports, passes))
    else:
        results.print_reports(names, reports, "accuracy", passes=passes)
        results.print_doubts(names, reports)
    if not out and not as_json:
        show.note("the verdicts on single images were not kept; -o RUN keeps them")
    _require_answers(names, reports)
    if judging.strict and any(report.notes.get("doubts") for report in reports):
        raise click.exceptions.Exit(1)


def _require_answers(names: Sequence[str], reports: Sequence[sm.Report]) -> None:
    """Refuse to end well if a network gave logits that are no numbers.

    Raises:
        NumericsError: as it says.
    """
    from soupmerge.soups.judge.comparison import NOT_FINITE

    problems = [
        f"{name}: {report.notes[NOT_FINITE]} of {report.n} images"
        for name, report in zip(names, reports, strict=True)
        if NOT_FINITE in report.notes
    ]
    if problems:
        fix = "find the layer that overflows; these images count as wrong"
        raise NumericsError("logits without any attack are NaN or Inf", problems=problems, fix=fix)


def _entries(
    refs: Sequence[str], weights_key: str | None, network: Network, ensemble: str | None
) -> Sequence[AnyEntry]:
    """Return what is to be judged: the networks at *refs*, or their ensemble."""
    from soupmerge.soups.judge.entries import EnsembleEntry, Entry
    from soupmerge.sources.refs import opened_all

    if ensemble and len(refs) < 2:
        fix = "name another REF, or leave it out"
        raise UsageError("one network is no ensemble", where="--ensemble", fix=fix)
    checkpoints = opened_all(refs, weights_key=weights_key)
    ingredients.tell(checkpoints)
    entries = tuple(Entry(c, network.make(like=c)) for c in checkpoints)
    return [EnsembleEntry(entries, ensemble)] if ensemble else entries


def _benchmarks(
    data: DataSets, attack: Attack, machine: Machine, sizes: Sequence[int]
) -> list[sm.Benchmark]:
    """Return a benchmark for each data set, at each of *sizes* if there are any."""
    from soupmerge.sources.resizing import Resized

    plain = [attack.benchmark(each.images(), "test", machine) for each in data.each()]
    if not sizes:
        return plain
    return [replace(b, data=Resized(b.data, size)) for b in plain for size in sizes]
