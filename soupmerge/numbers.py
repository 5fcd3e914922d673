"""Numbers as people write them, in ASCII digits: decimals, exact fractions, sizes, counts."""

from __future__ import annotations

import re
from fractions import Fraction

from soupmerge.errors import UsageError

# Bounded, so that no exponent asks for gigabytes of digits. ASCII, as \d also matches digits of
# other scripts, which read as something else than they look like.
_DECIMAL = r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?"
_NUMBER = re.compile(rf"{_DECIMAL}(/\d{{1,20}})?", re.ASCII)
_PLAIN = re.compile(_DECIMAL, re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
"""What a size in bytes may end in."""

MOST = 10**300
"""Still a float; so is one divided by it."""


def exact(text: str, where: str) -> Fraction:
    """Return the number written in *text*: ``0.25``, ``1e-3`` or ``8/255``.

    Raises:
        UsageError: it is no number, or one that is 0 or infinite as a float; *where* names the
            option.

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
    """Return whether *text* is one decimal number, which `int` or `float` may be given.

    They themselves also take ``1_000``, ``nan`` and the digits of other scripts.

    Example:
        >>> [is_decimal(text) for text in ("1e-3", "1_000", "nan")]
        [True, False, False]
    """
    return _PLAIN.fullmatch(text) is not None


def count(text: str) -> int | None:
    """Return the whole number written in *text*, of 18 digits at most and without a sign, or None.

    Example:
        >>> count("12"), count("-1"), count("1.5")
        (12, None, None)
    """
    return int(text) if _COUNT.fullmatch(text) else None


def size(text: str, where: str) -> int:
    """Return the number of bytes written in *text*: ``5000``, ``500MB`` or ``1.5GiB``.

    Raises:
        UsageError: it is no size; *where* names the option.

    Example:
        >>> size("500MB", "--max-shard-size")
        500000000
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in UNITS:
        fix = "write a number and B, KB, MB or GB"
        raise UsageError(f"{text!r} is not a size", where=where, fix=fix)
    return int(exact(found[1], where) * UNITS[found[2].upper()])
