"""Numbers as people write them: decimals and exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction

from soupmerge.errors import UsageError

# Bounded, so that no exponent asks for gigabytes of digits.
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?(/\d{1,20})?")

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
