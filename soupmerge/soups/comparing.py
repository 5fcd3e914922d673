"""Several networks under one benchmark: one table, one flag per example per threat on disk."""

from __future__ import annotations

import contextlib
import csv
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.binding import bind, ref_of
from soupmerge.errors import InputError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import Report
from soupmerge.soups.trials import START_OVER, recorded
from soupmerge.storage import commit, run
from soupmerge.types import Examples, Progress, quiet
from soupmerge.weights.files import Checkpoint


@dataclass(frozen=True)
class Entry:
    """A checkpoint, and the network it belongs to."""

    checkpoint: Checkpoint
    net: nn.Module

    def describe(self) -> dict[str, Any]:
        """Return what identifies the entry, and how its weights were made, if they say so."""
        notes = self.checkpoint.notes_of_soupmerge
        recipe = notes.get("recipe")
        origin = recipe.get("origin") if isinstance(recipe, dict) else None
        return {
            "ref": self.checkpoint.ref,
            "sha256": self.checkpoint.sha256,
            "model": ref_of(self.net),
            "made by": str(origin or ("finetune" if "training" in notes else "elsewhere")),
        }


def compare(
    entries: Sequence[Entry],
    benchmark: Benchmark,
    *,
    device: torch.device | str = "cpu",
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> list[Report]:
    """Judge each of *entries* by *benchmark*, and return a report for each.

    Args:
        entries: what to judge.
        benchmark: judges.
        device: where to judge.
        out: run folder; journals one line a network and resumes, and receives ``flags.csv``: one
            row per network and example, one column per threat.
        force: start over if *out* holds another run.
        progress: is told of networks.
    """
    described = [entry.describe() for entry in entries]
    manifest = {
        "command": "eval",
        "inputs": described,
        "benchmark": benchmark.describe(),
        "device": torch.device(device).type,
    }
    with contextlib.ExitStack() as stack:
        folder = None
        if out is not None:
            files = [file for entry in entries for file in entry.checkpoint.files]
            folder = stack.enter_context(run.opened(out, manifest, inputs=files, force=force))
        journal = folder.journal("trials") if folder else None
        known = journal.records if journal else []
        told = benchmark.describe()
        _require_same(known, described)
        reports = [recorded(record, told) for record in known]
        for i in range(len(reports), len(entries)):
            progress("networks", i, len(entries))
            if bad := entries[i].checkpoint.non_finite():
                ref = entries[i].checkpoint.ref
                warnings.warn(f"{ref}: {', '.join(bad)} hold NaN or Inf", stacklevel=2)
            bound = bind(entries[i].net, entries[i].checkpoint, device=device)
            reports.append(benchmark(bound, progress=progress))
            if journal:
                journal.append({**described[i], **reports[i].to_record()})
        progress("networks", len(entries), len(entries))
        if folder:
            table = _flags(entries, benchmark, reports)
            commit.write_text(folder.file("flags.csv"), table, force=True)
    return reports


def _require_same(known: Sequence[dict[str, Any]], due: Sequence[dict[str, Any]]) -> None:
    same = [r.get("sha256") == d["sha256"] for r, d in zip(known, due, strict=False)]
    if len(known) > len(due) or not all(same):
        raise InputError("a record is of another network", where="trials.jsonl", fix=START_OVER)


def images_table(data: Examples) -> str:
    """Return ids and labels of *data* as CSV: which images were used."""
    return _csv(["id", "label"], zip(data.ids, data.labels.tolist(), strict=True))


def _flags(entries: Sequence[Entry], benchmark: Benchmark, reports: Sequence[Report]) -> str:
    labels = benchmark.data.labels.tolist()
    rows = []
    for entry, report in zip(entries, reports, strict=True):
        columns = [flags.int().tolist() for flags in report.flags.values()]
        for row in zip(benchmark.data.ids, labels, *columns, strict=True):
            rows.append([entry.checkpoint.ref, *row])
    return _csv(["model", "id", "label", *reports[0].flags], rows)


def _csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([map(_plain, row) for row in rows])
    return text.getvalue()


def _plain(cell: object) -> object:
    """Return *cell* as no spreadsheet takes for a formula: names of files are anyone's."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell
