"""Whether sites may be asked: ``--offline``, or a variable of the environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

_OFFLINE: ContextVar[bool] = ContextVar("offline", default=False)
VARIABLES = ("SOUPMERGE_OFFLINE", "HF_HUB_OFFLINE")
"""Of the environment; 1, on, yes or true say that no site may be asked."""

SECONDS = 10.0
"""How long a site may take to begin its answer."""


@contextlib.contextmanager
def offline(wanted: bool = True) -> Iterator[None]:
    """Ask no site while the block runs: what is not in a cache is an error at once."""
    before = _OFFLINE.set(wanted or _OFFLINE.get())
    try:
        yield
    finally:
        _OFFLINE.reset(before)


def is_offline() -> bool:
    """Return whether no site may be asked."""
    said = (os.environ.get(name, "").upper() for name in VARIABLES)
    return _OFFLINE.get() or any(word in ("1", "ON", "YES", "TRUE") for word in said)
