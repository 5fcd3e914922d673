"""Where downloads, and what was found out about images, are kept."""

from __future__ import annotations

import os
from pathlib import Path

HOME = "SOUPMERGE_HOME"
"""Environment variable: the folder of the cache; ``~/.cache/soupmerge`` if unset."""


def home() -> Path:
    """Return the folder of soupmerge's cache."""
    return Path(os.environ.get(HOME) or Path.home() / ".cache" / "soupmerge")
