"""Parsing of numbers as people write them: decimals, exact fractions, sizes and counts."""

from __future__ import annotations

import re
from fractions import Fraction

from soupmerge.errors import UsageError

# The lengths are bounded, so that no exponent asks for gigabytes of digits. ASCII only, because \d
# also matches digits of other scripts, whose values may differ from what they look like.
_DECIMAL = r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?"
_NUMBER = re.compile(rf"{_DECIMAL}(/\d{{1,20}})?", re.ASCII)
_PLAIN = re.compile(_DECIMAL, re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
"""Unit of a size → bytes."""

MOST = 10**300
"""Largest absolute value accepted: it and its reciprocal are both finite, non-zero floats."""


def exact(text: str, where: str) -> Fraction:
    """Return the number written in *text*: ``0.25``, ``1e-3`` or ``8/255``.

    Raises:
        UsageError: *text* is not a number, or overflows or underflows as a float; *where* names
            the option.

    Example:
        >>> exact("8/255", "--eps")
        Fraction(8, 255)
    """
    text = text.strip()
    try:
        if not _NUMBER.fullmatch(text):
            raise ValueError(text)
        above, slash, below = text.partition("/")
        number = Fraction(above) / Fraction(below) if slash else Fraction(above)
        if number and not Fraction(1, MOST) <= abs(number) <= MOST:
            raise ValueError(text)
        return number
    except (ValueError, ZeroDivisionError) as error:
        fix = "write a decimal or a fraction such as 8/255"
        raise UsageError(f"{text[:40]!r} is not a number", where=where, fix=fix) from error


def is_decimal(text: str) -> bool:
    """Return whether *text* is a plain decimal number, safe to pass to `int` or `float`.

    On their own, these also accept ``1_000``, ``nan`` and the digits of other scripts.

    Example:
        >>> [is_decimal(text) for text in ("1e-3", "1_000", "nan")]
        [True, False, False]
    """
    return _PLAIN.fullmatch(text) is not None


def count(text: str) -> int | None:
    """Return the unsigned whole number of up to 18 digits written in *text*, or None.

    Example:
        >>> count("12"), count("-1"), count("1.5")
        (12, None, None)
    """
    return int(text) if _COUNT.fullmatch(text) else None


def size(text: str, where: str) -> int:
    """Return the number of bytes written in *text*: ``5000``, ``500MB`` or ``1.5GiB``.

    Raises:
        UsageError: *text* is not a size; *where* names the option.

    Example:
        >>> size("500MB", "--max-shard-size")
        500000000
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in UNITS:
        fix = "write a number followed by B, KB, MB or GB"
        raise UsageError(f"{text!r} is not a size", where=where, fix=fix)
    return int(exact(match[1], where) * UNITS[match[2].upper()])
