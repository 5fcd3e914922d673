"""Small files in: regular ones only, as UTF-8 and JSON, with errors that name them."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError

MOST_BYTES = 1 << 30
"""Of a text file; the largest are journals."""


def require_regular(path: Path | str) -> None:
    """Refuse what is no regular file: opening a pipe or a device may wait for ever.

    Raises:
        InputError: *path* is missing, out of reach, or something else than a file.
    """
    try:
        kind = Path(path).stat().st_mode
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=path) from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be reached: {error}", where=path) from error
    if not stat.S_ISREG(kind):
        raise InputError("is not a regular file", where=path, fix="name a file")


def read_bytes(path: Path | str) -> bytes:
    """Return what is in the regular file *path*.

    Raises:
        InputError: it cannot be read, or is larger than any such file should be.
    """
    require_regular(path)
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise InputError("is too large to be what it should be", where=path)
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path) from error


def read_json(path: Path | str) -> Any:
    """Return the JSON value in *path*.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"cannot be read as JSON: {reason}", where=path) from error
