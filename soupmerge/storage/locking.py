"""File locks, which the operating system releases if their process dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from soupmerge.storage.commit import writing

MODE = 0o644
"""Mode of lock files. It is given explicitly because without one filelock 4.3 probes the folder
first, and ignores the errors of that."""


@contextlib.contextmanager
def locked(path: Path, *, busy: Callable[[], Exception]) -> Iterator[None]:
    """Hold the lock file *path* during the block.

    Raises:
        OutputError: the lock file cannot be created.
        Exception: the result of *busy*, if another process holds the lock.
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
