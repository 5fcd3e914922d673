"""A lock that only one process holds, and that the system releases if the process dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from soupmerge.storage.commit import writing

MODE = 0o644
"""Given explicitly: without a mode, filelock 4.3 opens the folder as a probe before it makes the
lock, and ignores what the system says against that."""


@contextlib.contextmanager
def locked(path: Path, *, busy: Callable[[], Exception]) -> Iterator[None]:
    """Hold the lock file *path* for the length of the block.

    Raises:
        OutputError: the lock file cannot be made.
        Exception: what *busy* returns, if another process holds the lock.
    """
    lock = FileLock(path, mode=MODE)
    with writing(path):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise busy() from error
    try:
        yield
    finally:
        lock.release()
