"""Files of the zoo: where they are stored, and the hashes that pin them."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from soupmerge.errors import UnsafeError
from soupmerge.sources import cache, connections, downloads
from soupmerge.sources.robustbench.zoo import ZooEntry
from soupmerge.storage import commit
from soupmerge.storage.reading import read_bytes
from soupmerge.weights.files import Checkpoint

if TYPE_CHECKING:
    from soupmerge.types import Progress

MODELS = "SOUPMERGE_RB_MODELS"
"""Environment variable: a folder laid out like RobustBench's; ``models`` if unset."""

DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


def file_of(entry: ZooEntry, *, progress: Progress | None = None) -> Path:
    """Return the file of *entry*: RobustBench's own, one that was pulled before, or pulled now.

    Raises:
        NetworkError: it is missing and cannot be pulled.
        UnsafeError: the pulled file is not the one that was pulled first.
    """
    for root in (_models_folder(), _pulled_folder()):
        for suffix in (".pt", ".safetensors"):
            if (path := root / (entry.name + suffix)).is_file():
                return path
    target = (_models_folder() if os.environ.get(MODELS) else _pulled_folder()) / f"{entry.name}.pt"
    if not connections.is_offline():
        warnings.warn(f"{entry.ref} is missing: downloading it to {target}", stacklevel=4)
    address = address_of(entry)
    in_name = re.search(r"-([0-9a-f]{8})\.pth$", address)  # as torch names files
    pinned = _pin(target)
    expected = pinned or (in_name[1] if in_name else "")
    digest = downloads.download(address, target, sha256=expected, progress=progress)
    if not pinned:
        commit.write_text(_pin_of(target), f"{digest}  {target.name}\n")
    return target


def address_of(entry: ZooEntry) -> str:
    """Return the address of the file of *entry*."""
    kind, _, place = entry.source.partition(":")
    return DRIVE + place if kind == "gdrive" else entry.source


def require_pinned(path: Path, checkpoint: Checkpoint) -> None:
    """Refuse the file at *path* if it is not the one that was pulled first.

    Raises:
        UnsafeError: its hash differs.
    """
    pinned = _pin(path)
    if pinned and checkpoint.sha256 != pinned:
        what = f"is not the file that was pulled: sha256 {checkpoint.sha256}, pinned {pinned}"
        fix = f"remove it to pull it again, or {_pin_of(path).name} if the change is intended"
        raise UnsafeError(what, where=path, fix=fix)


def _models_folder() -> Path:
    return Path(os.environ.get(MODELS) or "models")


def _pulled_folder() -> Path:
    return cache.home() / "robustbench"


def _pin_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _pin(path: Path) -> str:
    """Return the hash that was written when *path* was first pulled, or nothing."""
    pin = _pin_of(path)
    return read_bytes(pin).decode("ascii", "replace").split(" ")[0] if pin.is_file() else ""
