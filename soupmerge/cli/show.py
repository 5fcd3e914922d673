"""Printing: tables and JSON on standard output, notes and progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click

from soupmerge.errors import printable


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print *rows* under *headers*: a rich table on a terminal, aligned plain text otherwise."""
    headers = [printable(header) for header in headers]
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(headers, cells, title)
    else:
        _plain_table(headers, cells)


def _rich_table(headers: Sequence[str], cells: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=Text(title) if title else None, title_justify="left")
    for i, header in enumerate(headers):
        right = i > 0 and _numeric(cells, i)
        drawn.add_column(Text(header), justify="right" if right else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    Console().print(drawn)


def _plain_table(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for row in (headers, *cells):
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _numeric(cells: Sequence[Sequence[str]], i: int) -> bool:
    return all(row[i][:1].isdigit() or row[i][:1] in "-–" for row in cells if row[i])


def line(text: str) -> None:
    """Print one line of *text*."""
    click.echo(printable(text))


def dump(value: Any) -> None:
    """Print *value*, which consists of JSON values."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


QUIET, VERBOSE = "soupmerge.quiet", "soupmerge.verbose"
"""Keys of the verbosity in the context of a command."""


def is_quiet() -> bool:
    """Return whether --quiet was given."""
    return _is_set(QUIET)


def is_verbose() -> bool:
    """Return whether --verbose was given."""
    return _is_set(VERBOSE)


def _is_set(key: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(key))


def note(text: str) -> None:
    """Print *text* on standard error, unless --quiet was given."""
    if not is_quiet():
        click.echo(printable(text), err=True)


def counted(n: int, noun: str) -> str:
    """Return *n* with its *noun*, in the plural unless *n* is 1.

    Example:
        >>> counted(1, "image"), counted(2000, "image")
        ('1 image', '2,000 images')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def percent(metric: dict[str, Any]) -> str:
    """Return an accuracy with its 95% interval, such as ``45.0% (41.9–48.1)``."""
    low, high = metric["ci95"]
    return f"{metric['accuracy']:.1%} ({100 * low:.1f}–{100 * high:.1f})"


class Progress:
    """A context manager, called with progress: bars on a terminal, otherwise a line now and then.

    With --quiet, nothing is printed.
    """

    SECONDS = 15.0
    """The time between two lines."""

    def __init__(self) -> None:
        self.quiet = is_quiet()
        self.bars: Any = None
        self.tasks: dict[str, Any] = {}
        self.running: dict[str, str] = {}
        self.last = time.monotonic()

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            self.bars = _bars()
            self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bars:
            self.bars.stop()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that *done* of *total* units of *what* are done, with a *note* in brackets."""
        note = f"({note})" if note else ""
        if self.bars:
            self._draw(what, done, total, note)
            return
        self.running[what] = f"{what}: {done:,} of {total:,} {note}".rstrip()
        if not self.quiet and time.monotonic() - self.last >= self.SECONDS:
            self.last = time.monotonic()
            click.echo(printable("; ".join(self.running.values())), err=True)
        if done >= total:
            del self.running[what]

    def _draw(self, what: str, done: int, total: int, note: str) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total, note=note)
        elif done <= 1 or self.bars.tasks[self.tasks[what]].completed > done:
            self.bars.reset(self.tasks[what], total=total, note=note)
        self.bars.update(self.tasks[what], completed=done, total=total, note=note)


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
