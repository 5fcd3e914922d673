"""All errors, in one tree; the command line turns each class into its exit status.

SoupmergeError        70  a bug in soupmerge
├── UsageError         2  an option or argument is invalid
├── InputError         3  a file, data set or model is not what was expected
├── UnsafeError        4  reading further could run code or harm the machine
├── OutputError        5  the result cannot be written, or the environment lacks something
├── NetworkError       6  a site could not be reached or gave an unexpected answer
└── NumericsError      7  a number that must be finite is not
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any


class SoupmergeError(Exception):
    """Base class of all errors.

    Args:
        what: what was expected and what was found.
        problems: every offence, where there can be several; the message shows ten of them.
        where: the file, option or tensor concerned.
        fix: what to do about it.
    """

    exit_status = 70

    def __init__(
        self,
        what: str,
        *,
        problems: Sequence[str] = (),
        where: object = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.problems, self.where, self.fix = what, tuple(problems), where, fix
        place = "" if where is None else f"{printable(where)}: "
        listed = f": {itemised(problems)}" if problems else ""
        # Below a list, the fix has a line of its own.
        separator = "; " if len(problems) < 2 else "\n"
        super().__init__(place + what + listed + ("" if fix is None else separator + fix))


class UsageError(SoupmergeError, ValueError):
    """An option or argument is invalid."""

    exit_status = 2


class InputError(SoupmergeError, ValueError):
    """A file, data set or model is not what was expected."""

    exit_status = 3


class UnsafeError(SoupmergeError):
    """Reading further could run code or harm the machine."""

    exit_status = 4


class OutputError(SoupmergeError, OSError):
    """The result cannot be written, or the environment lacks something."""

    exit_status = 5

    # With two or more arguments OSError formats them in its own way; we always pass one.
    __str__ = Exception.__str__


class NetworkError(SoupmergeError):
    """A site could not be reached or gave an unexpected answer."""

    exit_status = 6


class NumericsError(SoupmergeError, ArithmeticError):
    """A number that must be finite is not."""

    exit_status = 7


def printable(value: object) -> str:
    """Return *value* as text with control characters escaped: it cannot steer a terminal."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _ShortRepr(reprlib.Repr):
    """For values from untrusted files: deeply nested lists, integers of a million digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 60, 60

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 128 else f"an integer of {x.bit_length():,} bits"

    def repr_instance(self, x: object, level: int) -> str:
        simple = isinstance(x, (bool, float, complex, bytes, type(None)))
        return super().repr_instance(x, level) if simple else f"a {type(x).__name__}"


def short_repr(value: Any) -> str:
    """Return an abbreviated ``repr`` of *value*, in a time that does not grow with its depth."""
    return _ShortRepr().repr(value)


LISTED = 10
"""How many items of a list are shown; the others are only counted."""


def itemised(problems: Sequence[str]) -> str:
    """Return *problems* as text: one on the same line, several as a list of at most ten."""
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems):,} problems:" + "".join(f"\n  - {line}" for line in _shown(problems))


def enumerated(words: Sequence[str]) -> str:
    """Return *words* on one line, separated by commas: at most ten, and how many more there are."""
    return ", ".join(_shown(words))


def _shown(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LISTED
    return [*lines[:LISTED], *([f"and {more:,} more"] if more > 0 else [])]


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"``, or a list of the *known* words if none is similar."""
    known = list(known)
    matches = difflib.get_close_matches(word, known, n=1)
    if matches:
        return f"did you mean {matches[0]!r}?"
    return f"choose from {enumerated(known)}"
