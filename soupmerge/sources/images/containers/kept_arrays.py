"""What was found out about large files, kept in the cache as arrays."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from soupmerge.errors import OutputError
from soupmerge.sources import cache
from soupmerge.storage import commit
from soupmerge.storage.reading import StableFile

Arrays: TypeAlias = dict[str, NDArray[Any]]

FORMAT = 1
"""Raised when arrays mean something else than before, so that older ones are not found."""


def key_of(file: StableFile, what: str) -> str:
    """Return the name under which *what* was found out about *file*, as it is now, is kept."""
    path = os.path.abspath(file.path)
    text = f"{FORMAT} {what}\n{path}\n{file.size} {file.stamp[-1]}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def kept(folder: str, file: StableFile, what: str, make: Callable[[], Arrays]) -> Arrays:
    """Return what *make* finds out about *file*, from the cache if it was found out before.

    A cache that cannot be read or written is done without.

    Args:
        folder: the folder of the cache.
        file: it is known again by its path, its size and the time of its last change.
        what: what is found out.
        make: finds it out.
    """
    path = cache.home() / folder / f"{key_of(file, what)}.npz"
    broken = contextlib.suppress(OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile)
    with broken, open(path, "rb") as opened:
        return dict(np.load(opened, allow_pickle=False))
    made = make()
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with commit.committed(path, force=True) as out:
            np.savez(out, **made)  # type: ignore[arg-type]
    return made


def packed(texts: Iterable[str]) -> NDArray[np.uint8]:
    r"""Return *texts*, in which no ``\\0`` is, as one array.

    Example:
        >>> unpacked(packed(["a", "", "b"]))
        ['a', '', 'b']
    """
    joined = "".join(f"{text}\0" for text in texts)
    return np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)


def unpacked(array: NDArray[np.uint8]) -> list[str]:
    """Return the texts that `packed` made an array of."""
    return array.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
