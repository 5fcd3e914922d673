"""Coefficients as people write them: one row for all groups, or a row for a group by its name."""

from __future__ import annotations

from collections.abc import Sequence

from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import exact

UNIFORM = "uniform"


def parse_weights(text: str, *, normalize: bool = False) -> tuple[float, ...]:
    """Return the coefficients written in *text*: decimals or fractions between commas.

    Args:
        normalize: divide them by their sum.

    Raises:
        UsageError: a coefficient is no number, or their sum cannot be divided by.

    Example:
        >>> parse_weights("1/2, 0.25,0.25")
        (0.5, 0.25, 0.25)
        >>> parse_weights("1,1,2", normalize=True)
        (0.25, 0.25, 0.5)
    """
    numbers = [exact(word, "coefficients") for word in text.split(",")]
    total = sum(numbers) if normalize else 1
    if total == 0:
        what = f"{text} sum to 0, which nothing can be divided by"
        raise UsageError(what, where="--normalize", fix="change the coefficients")
    return tuple(float(number / total) for number in numbers)


def parse_rows(
    texts: Sequence[str], groups: Sequence[str], k: int, *, normalize: bool = False
) -> list[tuple[float, ...]]:
    """Return W ``(G, K)``, a row for each of *groups*.

    Args:
        texts: rows such as ``0.5,0.5`` or ``uniform``, for all groups that have none of their own,
            and ``GROUP=0.5,0.5``.
        groups: the names of the G groups.
        k: the number of ingredients.
        normalize: divide each row by its sum.

    Raises:
        UsageError: a row is no row, a group is unknown, or a group has none or several.

    Example:
        >>> parse_rows(["uniform", "head=1,0"], ["features", "head"], 2)
        [(0.5, 0.5), (1.0, 0.0)]
    """
    rows: dict[str, tuple[float, ...]] = {}
    for text in texts:
        group, named, row = text.rpartition("=")
        if named and group not in groups:
            fix = near_miss(group, groups)
            raise UsageError(f"no group {group!r}", where="coefficients", fix=fix)
        if group in rows:
            who = f"group {group!r}" if named else "all groups"
            what = f"{who} should have one row, not two"
            raise UsageError(what, where="coefficients", fix="take one of them away")
        even = row.strip() == UNIFORM
        rows[group] = (1 / k,) * k if even else parse_weights(row, normalize=normalize)
    lacking = [group for group in groups if group not in rows and "" not in rows]
    if lacking:
        fix = "add a row for all others"
        raise UsageError("groups without a row", problems=lacking, where="coefficients", fix=fix)
    return [rows.get(group) or rows[""] for group in groups]
