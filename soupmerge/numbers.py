"""Numbers as people write them: decimals and exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction

from soupmerge.errors import UsageError

# Bounded, so that no exponent asks for gigabytes of digits.
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?(/\d{1,20})?")

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
"""What a size in bytes may end in."""

MOST = 10**300
"""Still a float."""


def exact(text: str, where: str) -> Fraction:
    """Return the number written in *text*: ``0.25``, ``1e-3`` or ``8/255``.

    Raises:
        UsageError: it is no number; *where* names the option.

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
        if abs(number) > MOST:
            raise ValueError(text)
        return number
    except (ValueError, ZeroDivisionError) as error:
        fix = "write a decimal or a fraction such as 8/255"
        raise UsageError(f"{text[:40]!r} is not a number", where=where, fix=fix) from error


def size(text: str, where: str) -> int:
    """Return the number of bytes written in *text*: ``5000``, ``500MB`` or ``1.5GiB``.

    Raises:
        UsageError: it is no size; *where* names the option.

    Example:
        >>> size("500MB", "--max-shard-size")
        500000000
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in UNITS:
        fix = "write a number and B, KB, MB or GB"
        raise UsageError(f"{text!r} is not a size", where=where, fix=fix)
    return int(exact(found[1], where) * UNITS[found[2].upper()])
