"""Functions written ``package.module:function``, for networks and data sets of one's own."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from soupmerge.errors import UsageError

FORM = "package.module:function"


def is_function(ref: str) -> bool:
    """Return whether *ref* has the form ``package.module:function``."""
    module, colon, _ = ref.partition(":")
    return bool(colon) and module.replace(".", "").isidentifier()


def imported(ref: str, where: str) -> Any:
    """Return the object that *ref*, ``package.module:function``, names.

    The module is looked for on Python's path and in the current folder.

    Raises:
        UsageError: it cannot be imported; *where* is the option or argument to name.
    """
    module, _, name = ref.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a console script does not look here by itself
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        fix = how_to_write(ref) or f"write {FORM}, importable from the current folder or PYTHONPATH"
        raise UsageError(f"{ref!r} cannot be imported: {error!r}", where=where, fix=fix) from error


def how_to_write(ref: str) -> str | None:
    """Return how to write *ref* as a function if it names a Python file, or a module alone.

    Example:
        >>> how_to_write("nets/mine.py:make")
        'write nets.mine:make, importable from the current folder or PYTHONPATH'
        >>> how_to_write("/home/me/mine.py")
        'write mine:FUNCTION, with /home/me on PYTHONPATH'
    """
    path, _, name = ref.partition(":")
    file = Path(path.removesuffix(".py"))
    module = ".".join(file.parts)
    importable = all(part.replace(".", "").isidentifier() for part in file.parts)
    is_path = path.endswith(".py") or (name and "/" in path) or os.path.isfile(f"{path}.py")
    if not is_path and (name or "." not in path or not importable):
        return None
    name = name or "FUNCTION"
    if importable:
        return f"write {module}:{name}, importable from the current folder or PYTHONPATH"
    return f"write {file.name}:{name}, with {file.parent} on PYTHONPATH"
