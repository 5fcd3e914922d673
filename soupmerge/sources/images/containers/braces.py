"""Braces in the names of shards, as shells and WebDataset expand them."""

from __future__ import annotations

import itertools
import re

from soupmerge.errors import UsageError

MOST = 100_000
"""Of the names that one reference stands for."""


def expanded(text: str) -> list[str]:
    """Return what *text* stands for: ``{000..147}`` is a range, and ``{a,b}`` a choice.

    Raises:
        UsageError: it stands for more than `MOST` names.

    Example:
        >>> expanded("{train,val}-{08..10}.tar")[1:4]
        ['train-09.tar', 'train-10.tar', 'val-08.tar']
    """
    pieces = re.split(r"(\{[^{}]*\})", text)
    choices: list[list[str]] = []
    count = 1
    for piece in pieces:
        ends = re.fullmatch(r"\{(\d{1,9})\.\.(\d{1,9})\}", piece)
        size = abs(int(ends[2]) - int(ends[1])) + 1 if ends else piece.count(",") + 1
        count *= size if piece.startswith("{") else 1
        if count > MOST:
            what = f"stands for more than {MOST:,} names"
            raise UsageError(what, where=text, fix="write a shorter range")
        choices.append(_range(ends[1], ends[2]) if ends else _choice(piece))
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _range(first: str, last: str) -> list[str]:
    """Return the numbers from *first* to *last*, with as many digits if one begins with a 0."""
    start, stop = int(first), int(last)
    is_padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
    width = max(len(first), len(last)) if is_padded else 0
    step = 1 if start <= stop else -1
    return [str(number).zfill(width) for number in range(start, stop + step, step)]


def _choice(piece: str) -> list[str]:
    is_choice = piece.startswith("{") and "," in piece
    return piece[1:-1].split(",") if is_choice else [piece]
