"""``soupmerge eval``: clean and robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import meant, options, results, show
from soupmerge.errors import NumericsError, UsageError
from soupmerge.numbers import count

if TYPE_CHECKING:
    from soupmerge.soups.entries import AnyEntry


@click.command()
@options.refs
@options.data_sets
@click.option(
    "--resolution",
    metavar="S,S",
    help="Resize images so that their shorter side has S pixels, and attack them so; networks "
    "with position embeddings get them interpolated.",
)
@options.attack
@click.option(
    "--ensemble",
    type=click.Choice(["prob", "logit"]),
    help="Judge one classifier that averages the networks' probabilities or logits.",
)
@click.option(
    "--doubts/--no-doubts",
    "examine",
    default=True,
    help="Look for reasons to doubt robust accuracies (docs/flags.md), or do not.",
)
@click.option(
    "--compile", "compiled", is_flag=True, help="Compile networks first (torch.compile, for GPUs)."
)
@click.option("--strict", is_flag=True, help="End with status 1 if there are any.")
@options.model
@options.weights_key
@click.option("-o", "--out", metavar="RUN", help="Run folder: keeps every verdict, and resumes.")
@options.batch_size(256)
@options.machine
@options.force
@options.dry_run
@options.as_json
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Judge networks: clean accuracy, accuracy under each threat, and under their union.

    Union counts the images that are right under every threat. Several REFs, --data or resolutions
    make one table.
    """
    from soupmerge.soups.comparing import compare, pairs

    if given["strict"] and not given["examine"]:
        raise UsageError("looks for no doubts", where="--strict", fix="leave out --no-doubts")
    device = meant.device(given)
    resolutions = _resolutions(given["resolution"])
    entries = _entries(refs, given)
    benchmarks = _benchmarks(given, resolutions)
    due = pairs(entries, benchmarks)
    if dry_run:
        _print_plan(due)
        return
    with show.Progress(given["quiet"]) as progress:
        reports = compare(
            entries,
            benchmarks,
            device=device,
            out=given["out"],
            force=given["force"],
            examine=given["examine"],
            compiled=given["compiled"],
            progress=progress,
        )
    names = [entry.ref for entry, _ in due]
    passes = len(refs) if given["ensemble"] else 1
    if as_json:
        show.dump(_told([entry for entry, _ in due], reports, passes))
    else:
        results.print_reports(names, reports, "accuracy", passes=passes)
        results.print_doubts(names, reports)
    if not given["out"] and not as_json:
        show.note("the verdicts on single images were not kept; -o RUN keeps them")
    _require_answers(names, reports)
    if given["strict"] and any(report.notes.get("doubts") for report in reports):
        raise click.exceptions.Exit(1)


def _require_answers(names: Sequence[str], reports: Sequence[sm.Report]) -> None:
    """Refuse to end well if a network gave logits that are no numbers.

    Raises:
        NumericsError: as it says.
    """
    from soupmerge.soups.comparing import NOT_FINITE

    problems = [
        f"{name}: {report.notes[NOT_FINITE]} of {report.n} images"
        for name, report in zip(names, reports, strict=True)
        if NOT_FINITE in report.notes
    ]
    if problems:
        fix = "find the layer that overflows; these images count as wrong"
        raise NumericsError("logits without any attack are NaN or Inf", problems=problems, fix=fix)


def _resolutions(text: str | None) -> list[int]:
    """Return the resolutions that *text* lists; what they may be, `Resized` knows."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if count(word) is None:
            fix = "give pixels, such as 224,256"
            raise UsageError(f"{word!r} is not a number of pixels", where="--resolution", fix=fix)
    return [int(word) for word in words]


def _entries(refs: Sequence[str], given: dict[str, Any]) -> Sequence[AnyEntry]:
    """Return what is to be judged: the networks at *refs*, or their ensemble."""
    from soupmerge.soups.entries import EnsembleEntry, Entry
    from soupmerge.sources.refs import opened_all

    if given["ensemble"] and len(refs) < 2:
        fix = "name another REF, or leave it out"
        raise UsageError("one network is no ensemble", where="--ensemble", fix=fix)
    checkpoints = opened_all(refs, weights_key=given["weights_key"])
    meant.tell(checkpoints, given)
    entries = tuple(Entry(c, meant.network(given, like=c)) for c in checkpoints)
    return [EnsembleEntry(entries, given["ensemble"])] if given["ensemble"] else entries


def _benchmarks(given: dict[str, Any], resolutions: Sequence[int]) -> list[sm.Benchmark]:
    """Return a benchmark for each data set, at each of *resolutions* if there are any."""
    from soupmerge.sources.resizing import Resized

    plain = [meant.benchmark({**given, "data_ref": ref}, "test") for ref in given["data_refs"]]
    if not resolutions:
        return plain
    return [replace(b, data=Resized(b.data, size)) for b in plain for size in resolutions]


def _print_plan(due: Sequence[tuple[AnyEntry, sm.Benchmark]]) -> None:
    prints = [benchmark.data.fingerprint() for _, benchmark in due]
    columns: dict[str, list[Any]] = {"network": [entry.ref for entry, _ in due]}
    if len({told["ref"] for told in prints}) > 1:
        columns["data"] = [told["ref"] for told in prints]
    if "resolution" in prints[0]:
        columns["resolution"] = [told["resolution"] for told in prints]
    columns["images"] = [told["n"] for told in prints]
    columns["threats"] = [len(benchmark.attacks) for _, benchmark in due]
    show.table(list(columns), list(zip(*columns.values(), strict=True)))


def _told(entries: Sequence[AnyEntry], reports: Sequence[sm.Report], passes: int) -> Any:
    """Return *reports* as JSON values: one as itself, several as a list."""
    values: list[dict[str, Any]] = []
    for entry, report in zip(entries, reports, strict=True):
        value: dict[str, Any] = {
            "model": entry.ref,
            "data": dict(report.data),
            "metrics": report.to_metrics(),
            **report.notes,
        }
        if passes > 1:
            members = [checkpoint.ref for checkpoint in entry.checkpoints]
            value |= {"forward_passes": passes, "members": members}
        values.append(value)
    cost = results.cost(reports)
    return {**values[0], "cost": cost} if len(values) == 1 else {"reports": values, "cost": cost}
