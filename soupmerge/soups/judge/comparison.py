"""Judge networks by benchmarks, and write one flag for each example and threat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn

from soupmerge.asking import answering, probe
from soupmerge.errors import NumericsError, UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.doubts import doubts
from soupmerge.robustness.report import CLEAN, Report, told_apart_by
from soupmerge.run import Run
from soupmerge.soups.judge import verdicts
from soupmerge.soups.judge.earlier import Earlier
from soupmerge.soups.judge.entries import AnyEntry
from soupmerge.soups.judge.trials import report_from
from soupmerge.soups.judge.verdicts import Verdicts
from soupmerge.storage import commit, run_folder
from soupmerge.storage.names import FLAGS, TRIALS
from soupmerge.storage.replay import Replay, require_same
from soupmerge.storage.tables import csv_text
from soupmerge.types import Examples, Progress, quiet
from soupmerge.weights import classes, ledger

NOT_FINITE = "logits that are not finite"
"""Key of the note of a report: on how many clean images a network gives NaN or Inf."""


def compare(
    entries: Sequence[AnyEntry],
    benchmarks: Benchmark | Sequence[Benchmark],
    *,
    examine: bool = False,
    compiled: bool = False,
    beside: Sequence[Earlier] = (),
    run: Run = Run(),
) -> list[Report]:
    """Judge each of *entries* by each of *benchmarks*, and return a report for each pair.

    Args:
        entries: networks and ensembles to judge.
        benchmarks: one or more benchmarks. If the fingerprint of their data has a ``resolution``,
            the networks are set to the size of the images.
        examine: look for reasons to doubt each report; its notes list them as ``doubts``.
        compiled: compile the networks with ``torch.compile``, which takes a minute for each.
        beside: reports of earlier evaluations; a network is not judged again by a benchmark that
            has judged it there.
        run: run folder, which journals every verdict and receives ``flags.csv`` (one row for each
            pair and example, one column for each threat), and device.

    Returns:
        Reports in the order of `pairs`: all benchmarks for the first entry, then for the next.

    Raises:
        UsageError: two benchmarks have the same data, or the run folder holds another run.
        InputError: a network cannot take the images or lacks classes; checked for all networks
            before any is judged.
        NumericsError: the weights of a network hold NaN or Inf; all such tensors are listed.

    Example:
        >>> from soupmerge.soups.judge.entries import Entry
        >>> entries = [Entry(checkpoint, net) for checkpoint in ingredients]
        >>> reports = compare(entries, val)
        >>> [report.n for report in reports]
        [40, 40]
    """
    judges = [benchmarks] if isinstance(benchmarks, Benchmark) else list(benchmarks)
    _require_distinct(judges)
    due = pairs(entries, judges)
    identities = [{**entry.describe(), "data": judge.data.fingerprint()} for entry, judge in due]
    manifest = _manifest(entries, judges, run) | {"doubts": examine}
    manifest |= {"compiled": True} if compiled else {}
    files = [file for entry in entries for c in entry.checkpoints for file in c.files]
    behind = [(e.ref, sum(map(ledger.ledger_of, e.checkpoints), [])) for e in entries]
    with run.opened(manifest, inputs=files) as folder:
        replay = Replay(folder.journal(TRIALS) if folder else None)
        replay.require_at_most(len(due), "networks")
        _require_fit(due[replay.known :], torch.device(run.device))
        for judge in judges:
            ledger.warn_of_leaks(behind, judge.data, ledger.JUDGED, stacklevel=3)
        reports: list[Report] = []

        def make() -> Report:
            i = len(reports)
            run.progress("networks", i, len(due))
            if (report := _found(beside, *due[i])) is not None:
                return report
            return report_on(
                *due[i],
                device=run.device,
                stored=Verdicts(folder, i) if folder else None,
                examine=examine,
                compiled=compiled,
                progress=run.progress,
            )

        for (_, judge), identity in zip(due, identities, strict=True):
            report = replay.piece(
                make,
                read=partial(_read, identity, judge),
                write=partial(_record, identity),
            )
            reports.append(report)
        run.progress("networks", len(due), len(due))
        if folder:
            verdicts.clear(folder)
            commit.write_text(folder.file(FLAGS), _flags(due, reports), force=True)
    return reports


def _found(beside: Sequence[Earlier], entry: AnyEntry, benchmark: Benchmark) -> Report | None:
    """Return the report of *benchmark* on *entry* among those of earlier evaluations, if any."""
    network, judge = entry.describe(), benchmark.describe()
    found = (earlier.report for earlier in beside if earlier.is_of(network, judge))
    report = next(found, None)
    return None if report is None else replace(report, data=benchmark.data.fingerprint())


def pairs(
    entries: Sequence[AnyEntry], benchmarks: Sequence[Benchmark]
) -> list[tuple[AnyEntry, Benchmark]]:
    """Return the pairs to judge, in order: all benchmarks for the first entry, then the next."""
    return list(product(entries, benchmarks))


def report_on(
    entry: AnyEntry,
    benchmark: Benchmark,
    *,
    device: torch.device | str = "cpu",
    stored: Verdicts | None = None,
    examine: bool = False,
    compiled: bool = False,
    progress: Progress = quiet,
) -> Report:
    """Return the report of *benchmark* on *entry*, reading the verdicts that *stored* has."""
    bound = entry.bound(_size_of(benchmark.data)).to(device)
    # Batches differ in size, and each size would be compiled separately.
    classifier: Any = torch.compile(bound, dynamic=True) if compiled else bound
    report = benchmark(classifier, progress=progress, ledger=stored)
    notes = dict(report.notes)
    if count := _not_finite(bound, benchmark, report):
        notes[NOT_FINITE] = count
    if examine and benchmark.attacks:
        raised = doubts(bound, benchmark, report, progress=progress)
        notes |= {"doubts": [asdict(doubt) for doubt in raised]} if raised else {}
    return replace(report, notes=notes)


def _not_finite(bound: nn.Module, benchmark: Benchmark, report: Report) -> int:
    """Return the number of clean images on which *bound* gives NaN or Inf.

    Logits of images that are right are finite, so only the others are computed.
    """
    device = next((p.device for p in bound.parameters()), torch.device("cpu"))
    asked = answering(bound, benchmark.data)
    wrong = (~report.right(CLEAN)).nonzero().squeeze(1)
    bad = 0
    with torch.no_grad():
        for indices in wrong.split(benchmark.batch_size) if len(wrong) else ():
            x, _ = benchmark.data.batch(indices)
            bad += int((~torch.isfinite(asked(x.to(device))).all(1)).sum())
    return bad


def _size_of(data: Examples) -> tuple[int, int] | None:
    """Return the height and width of the images if they were resized, else None."""
    if "resolution" not in data.fingerprint():
        return None
    x, _ = data.batch(torch.zeros(1, dtype=torch.long))
    return x.shape[-2], x.shape[-1]


def _manifest(
    entries: Sequence[AnyEntry],
    benchmarks: Sequence[Benchmark],
    run: Run,
) -> dict[str, Any]:
    described = [benchmark.describe() for benchmark in benchmarks]
    one = len(described) == 1
    return {
        "command": "eval",
        "inputs": [entry.describe() for entry in entries],
        **({"benchmark": described[0]} if one else {"benchmarks": described}),
        "device": run.device_type,
    }


def _require_distinct(benchmarks: Sequence[Benchmark]) -> None:
    prints = [benchmark.data.fingerprint() for benchmark in benchmarks]
    same_images = [run_folder.essence(each) for each in prints]  # whatever their names
    for i, fingerprint in enumerate(prints):
        if same_images[i] in same_images[:i]:
            size = (
                f" at resolution {fingerprint['resolution']}" if "resolution" in fingerprint else ""
            )
            what = f"{fingerprint['ref']}{size} is given more than once"
            raise UsageError(what, where="data", fix="give each data set once")


def _require_fit(due: Sequence[tuple[AnyEntry, Benchmark]], device: torch.device) -> None:
    """Refuse networks that cannot be judged, before hours are spent on others."""
    checkpoints = {id(c): c for entry, _ in due for c in entry.checkpoints}.values()
    problems = [f"{c.ref}: {line}" for c in checkpoints for line in c.faults()]
    if problems:
        fix = "leave these networks out, or repair them"
        raise NumericsError(
            "weights hold NaN, Inf or variances below 0", problems=problems, fix=fix
        )
    for entry, benchmark in due:
        size = _size_of(benchmark.data)
        bound = entry.bound(size).to(device)
        fix = "choose data of the kind it was trained on" if size is None else RESOLUTION_FIX
        probe(bound, benchmark.data, device, where=entry.ref, fix=fix)
        classes.require_same(entry.checkpoints, benchmark.data)


RESOLUTION_FIX = (
    "choose the resolution it was trained at, or a network that takes others: a convolutional one, "
    "or one with timm's set_input_size"
)


def _read(identity: Mapping[str, Any], judge: Benchmark, record: dict[str, Any]) -> Report:
    """Return the report in *record*, which must match *identity*."""
    require_same(record, identity, "network or data set", TRIALS)
    return report_from(record, judge.describe())


def _record(identity: Mapping[str, Any], report: Report) -> dict[str, Any]:
    return {**identity, **report.to_record()}


def _flags(due: Sequence[tuple[AnyEntry, Benchmark]], reports: Sequence[Report]) -> str:
    """Return a row for each pair and example as CSV; only keys that differ have a column."""
    keys = told_apart_by(reports)
    rows = []
    for (entry, benchmark), report in zip(due, reports, strict=True):
        pair = [entry.ref, *(report.data.get(key, "") for key in keys)]
        columns = [flags.int().tolist() for flags in report.flags.values()]
        labels = benchmark.data.labels.tolist()
        for row in zip(benchmark.data.ids, labels, *columns, strict=True):
            rows.append([*pair, *row])
    names = ["data" if key == "ref" else key for key in keys]
    return csv_text(["model", *names, "id", "label", *reports[0].flags], rows)
