"""Parsing of coefficients as people write them: a row for all groups, or for a named group."""

from __future__ import annotations

from collections.abc import Sequence

from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import exact

UNIFORM = "uniform"


def parse_weights(text: str, *, normalize: bool = False) -> tuple[float, ...]:
    """Return the coefficients written in *text*: decimals or fractions separated by commas.

    Args:
        normalize: divide them by their sum.

    Raises:
        UsageError: a coefficient is not a number, or the sum to normalise by is 0.

    Example:
        >>> parse_weights("1/2, 0.25,0.25")
        (0.5, 0.25, 0.25)
        >>> parse_weights("1,1,2", normalize=True)
        (0.25, 0.25, 0.5)
    """
    numbers = [exact(word, "coefficients") for word in text.split(",")]
    total = sum(numbers) if normalize else 1
    if total == 0:
        what = f"{text} sum to 0 and cannot be normalised"
        raise UsageError(what, where="--normalize", fix="change the coefficients")
    return tuple(float(number / total) for number in numbers)


def parse_rows(
    texts: Sequence[str], groups: Sequence[str], k: int, *, normalize: bool = False
) -> list[tuple[float, ...]]:
    """Return W ``(G, K)``, a row for each of *groups*.

    Args:
        texts: ``GROUP=0.5,0.5`` for one group; ``0.5,0.5`` or ``uniform`` for all groups without a
            row of their own.
        groups: the names of the G groups.
        k: the number of ingredients.
        normalize: divide each row by its sum.

    Raises:
        UsageError: a row is malformed, a group is unknown, or a group has no row or several.

    Example:
        >>> parse_rows(["uniform", "head=1,0"], ["features", "head"], 2)
        [(0.5, 0.5), (1.0, 0.0)]
    """
    rows: dict[str, tuple[float, ...]] = {}
    for text in texts:
        group, named, row = text.rpartition("=")
        if named and group not in groups:
            fix = near_miss(group, groups)
            raise UsageError(f"unknown group {group!r}", where="coefficients", fix=fix)
        if group in rows:
            who = f"group {group!r}" if named else "all groups"
            what = f"{who} should have one row, but two are given"
            raise UsageError(what, where="coefficients", fix="remove one of them")
        even = row.strip() == UNIFORM
        rows[group] = (1 / k,) * k if even else parse_weights(row, normalize=normalize)
    missing = [group for group in groups if group not in rows and "" not in rows]
    if missing:
        fix = "add a row for all others"
        raise UsageError("groups without a row", problems=missing, where="coefficients", fix=fix)
    return [rows.get(group) or rows[""] for group in groups]
