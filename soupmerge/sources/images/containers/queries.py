"""Options of readers, written as a query after what they read: ``PATH?key=value&key=value``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from soupmerge.errors import UsageError, near_miss
from soupmerge.sources.images.preprocessing import KEYS


def options(rest: str, known: Sequence[str], where: str) -> tuple[str, dict[str, str]]:
    """Return *rest* without its query, and the options in it.

    A question mark is part of a path where there is a file or folder of that name, or where no
    equals sign follows.

    Args:
        rest: what follows the colon of a reference, without the keys of a preprocessing.
        known: the options that the reader knows.
        where: the reference, for messages.

    Raises:
        UsageError: an option is unknown, given twice, or has no value.

    Example:
        >>> options("photos?list=val.txt", ["list"], "folder:photos?list=val.txt")
        ('photos', {'list': 'val.txt'})
    """
    place, _, query = rest.rpartition("?")
    if not place or "=" not in query or os.path.lexists(rest):
        return rest, {}
    found: dict[str, str] = {}
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key not in known:
            raise UsageError(
                f"unknown option {key!r}", where=where, fix=near_miss(key, [*known, *KEYS])
            )
        if key in found or not value:
            what = f"gives {key} twice" if key in found else f"gives no value for {key}"
            raise UsageError(what, where=where, fix=f"write {key}=VALUE once")
        found[key] = value
    return place, found
