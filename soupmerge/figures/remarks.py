"""What a reader of a run should know first: that it is unfinished, or a journal is damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator

from soupmerge.figures.reading import (
    BARRIERS,
    HISTORY,
    JUDGED,
    RECIPE,
    TRIALS,
    RunRecord,
    journal_folder,
)
from soupmerge.storage import reading

ENDS = (RECIPE, BARRIERS, "flags.csv", f"{JUDGED}/flags.csv")
"""Files that a run writes last; one of them shows that it is finished."""


def remarks(run: RunRecord) -> Iterator[str]:
    """Yield remarks for the reader: that the run is unfinished, or a journal has a torn line."""
    if not _is_finished(run):
        yield "The run is not finished: run its command again to resume it."
    trials = journal_folder(run.path, run.manifest) / TRIALS
    for file, records in ((trials, run.trials), (run.path / HISTORY, run.history)):
        name, data = file.name, reading.read_bytes(file) if os.path.lexists(file) else b""
        if data.count(b"\n") != len(records) or data[-1:] not in (b"", b"\n"):
            yield f"The last line of {name} is torn or still being written, and was left out."


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
