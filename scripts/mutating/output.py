"""What the run prints: progress, mutants and the table of scores."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

VERDICTS = ["caught", "timed out", "survived", "not covered", "equivalent"]
EVERY = 30.0
"""Seconds between lines of progress where standard error is not a terminal."""

_last = time.monotonic()


def note(text: str) -> None:
    """Show progress: in place on a terminal, otherwise now and then."""
    global _last
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width].ljust(width)}\r", end="", file=sys.stderr, flush=True)
    elif text and time.monotonic() > _last + EVERY:
        _last = time.monotonic()
        print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print *text* on lines of its own."""
    note("")
    print(text, flush=True)


def scores(verdicts: Iterable[tuple[str, str]], sites: dict[str, int]) -> dict[str, Any]:
    """Return the numbers of each room and of all, given the (room, verdict) of each mutant."""
    verdicts = list(verdicts)
    numbers = {}
    for room, total in [*sites.items(), ("all", sum(sites.values()))]:
        counts = Counter(verdict for of, verdict in verdicts if room in (of, "all"))
        judged = counts.total() - counts["equivalent"]
        score = (counts["caught"] + counts["timed out"]) / judged if judged else None
        shown = {verdict: counts[verdict] for verdict in VERDICTS}
        numbers[room] = {"sites": total, "mutants": counts.total(), **shown, "score": score}
    return numbers


def table(numbers: dict[str, Any]) -> str:
    """Return the numbers as text, one room a line."""
    rows = [["room", *numbers["all"]]]
    for room, of in numbers.items():
        percent = "" if of["score"] is None else f"{of['score']:.1%}"
        rows.append([room, *map(str, list(of.values())[:-1]), percent])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
