"""What a reader of a run should know first: which outputs count, and what is not complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from soupmerge.errors import printable
from soupmerge.figures.reading import (
    BARRIERS,
    HISTORY,
    JUDGED,
    RECIPE,
    TRIALS,
    RunRecord,
    journal_folder,
    short_names,
)
from soupmerge.label_spaces.outputs import in_words
from soupmerge.storage import reading

ENDS = (RECIPE, BARRIERS, "flags.csv", f"{JUDGED}/flags.csv")
"""Files that a run writes last; one of them shows that it is finished."""


def remarks(run: RunRecord) -> Iterator[str]:
    """Yield remarks: which outputs count, that the run is unfinished, or a journal is torn."""
    if outputs := outputs_that_count(run):
        yield f"Accuracies are those of {'; '.join(outputs)}."
    if not _is_finished(run):
        yield "The run is not finished: run its command again to resume it."
    trials = journal_folder(run.path, run.manifest) / TRIALS
    for file, records in ((trials, run.trials), (run.path / HISTORY, run.history)):
        name, data = file.name, reading.read_bytes(file) if os.path.lexists(file) else b""
        if data.count(b"\n") != len(records) or data[-1:] not in (b"", b"\n"):
            yield f"The last line of {name} is torn or still being written, and was left out."


def outputs_that_count(run: RunRecord) -> list[str]:
    """Return what counts as right in *run* where that is unusual, such as "2 of 10 outputs".

    Each data set is named, unless there is one only.
    """
    sets = {str(data["ref"]): in_words(data) for data in _fingerprints(run.manifest)}
    lines = [(words, f"{short_names([ref])[0]}: {words}") for ref, words in sets.items() if words]
    return [printable(named if len(sets) > 1 else words) for words, named in lines]


def _fingerprints(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the fingerprints of data sets in *value*, part of a manifest."""
    if isinstance(value, list):
        for part in value:
            yield from _fingerprints(part)
    elif isinstance(value, dict):
        if {"ref", "split", "n"} <= value.keys():
            yield value
        for part in value.values():
            yield from _fingerprints(part)


def _is_finished(run: RunRecord) -> bool:
    if run.manifest["command"] == "landscape":
        points: int = run.manifest["settings"]["points"]
        return len(run.trials) == len(run.names) + points**2
    if run.manifest["command"] == "front":
        is_judged = run.planned is not None and len(run.soups) >= run.planned
        return run.front is not None and (run.manifest["benchmark"] is None or is_judged)
    if run.manifest["command"] == "finetune":
        return len(run.history) == int(run.manifest["schedule"]["epochs"])
    return any((run.path / name).exists() for name in ENDS)
