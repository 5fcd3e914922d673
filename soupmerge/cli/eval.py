"""``soupmerge eval``: clean and robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import corruption_results, dry_run, results, show
from soupmerge.cli.notes import note_image_size
from soupmerge.cli.options import attack as attacks
from soupmerge.cli.options import ingredients, output, points
from soupmerge.cli.options.attack import Attack
from soupmerge.cli.options.data import DataSets, data_sets
from soupmerge.cli.options.evaluation import Evaluation, evaluation
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import OptionalRunOutput
from soupmerge.errors import NumericsError, UsageError

if TYPE_CHECKING:
    from soupmerge.soups.judge.entries import Entry


@click.command(cls=Command)
@ingredients.refs
@points.several
@data_sets
@attacks.attack
@evaluation
@network
@ingredients.weights_key
@output.run(help="Run folder that keeps every verdict; the run resumes", required=False)
@machine(256)
@output.as_json
def command(
    refs: tuple[str, ...],
    at: tuple[str, ...],
    data: DataSets,
    attack: Attack,
    evaluation: Evaluation,
    network: Network,
    weights_key: str | None,
    output: OptionalRunOutput,
    machine: Machine,
    as_json: bool,
) -> None:
    """Judge networks: clean accuracy, accuracy under each threat, and under their union.

    Union counts the images that are right under every threat. Several REFs, --data or resolutions
    make one table. A REF may be a front.json: --at says which of its points to judge.
    """
    refs = tuple(points.expanded(refs, at))
    if evaluation.ensemble and len(refs) < 2:
        fix = "give another REF, or leave it out"
        raise UsageError("needs several networks", where="--ensemble", fix=fix)
    from soupmerge.soups.judge.columns import rows_of
    from soupmerge.soups.judge.comparison import compare, pairs
    from soupmerge.soups.judge.earlier import reports_in
    from soupmerge.soups.judge.entries import EnsembleEntry

    device = machine.device()
    networks = _networks(refs, weights_key, network)
    nets, ensemble = [entry.net for entry in networks], evaluation.ensemble
    entries = [EnsembleEntry(networks, ensemble)] if ensemble else networks
    sets = data.seen_by(nets[0], [entry.checkpoint for entry in networks])
    benchmarks = _benchmarks(sets, attack, machine, evaluation.sizes(), nets)
    due = pairs(entries, benchmarks)
    if output.dry_run:
        dry_run.print_eval(due)
        return
    beside = reports_in(evaluation.beside)
    with show.Progress() as progress:
        reports = compare(
            entries,
            benchmarks,
            examine=evaluation.examine,
            compiled=evaluation.compiled,
            beside=beside,
            run=output.run(device, progress),
        )
    names = [entry.ref for entry, _ in due]
    passes = len(refs) if evaluation.ensemble else 1
    columns = data.names(evaluation.sizes()) if data.columns or beside else ()
    rows = rows_of(entries, benchmarks, reports, beside) if columns else []
    if as_json:
        table = {"rows": [row.to_json(columns) for row in rows]} if rows else {}
        show.dump(results.to_json([entry for entry, _ in due], reports, passes) | table)
    else:
        results.print_columns(rows, columns)
        if not rows:
            results.print_reports(names, reports, "accuracy", passes=passes)
        corruption_results.print_corruptions(names, reports)
        results.print_doubts(names, reports)
    if not output.out and not as_json:
        show.note("the verdicts on single images were not kept; -o RUN keeps them")
    _require_finite_logits(names, reports)
    if evaluation.strict and any(report.notes.get("doubts") for report in reports):
        raise click.exceptions.Exit(1)


def _require_finite_logits(names: Sequence[str], reports: Sequence[sm.Report]) -> None:
    """Fail if a network has logits that are not finite on clean images.

    Raises:
        NumericsError: such networks are listed, with the number of images.
    """
    from soupmerge.soups.judge.comparison import NOT_FINITE

    problems = [
        f"{name}: {report.notes[NOT_FINITE]} of {show.counted(report.n, 'image')}"
        for name, report in zip(names, reports, strict=True)
        if NOT_FINITE in report.notes
    ]
    if problems:
        fix = "find the layer that overflows; these images count as wrong"
        raise NumericsError("logits without any attack are NaN or Inf", problems=problems, fix=fix)


def _networks(refs: Sequence[str], weights_key: str | None, network: Network) -> tuple[Entry, ...]:
    """Return the networks at *refs*."""
    from soupmerge.soups.judge.entries import Entry
    from soupmerge.sources.refs import opened_all

    checkpoints = opened_all(refs, weights_key=weights_key)
    ingredients.print_notes(checkpoints)
    return tuple(Entry(c, network.make(like=c)) for c in checkpoints)


def _benchmarks(
    sets: Sequence[sm.Images],
    attack: Attack,
    machine: Machine,
    sizes: Sequence[int],
    nets: Sequence[Any],
) -> list[sm.Benchmark]:
    """Return a benchmark for each of *sets*, at each of *sizes* if there are any."""
    from soupmerge.sources.images.resizing import Resized

    plain = [attack.benchmark(images, "test", machine) for images in sets]
    if not sizes:
        for images in sets:
            for net in nets:
                note_image_size(net, images)
        return plain
    return [replace(b, data=Resized(b.data, size)) for b in plain for size in sizes]
