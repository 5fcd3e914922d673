"""Where files of the zoo are kept, and that they stay what they were."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from soupmerge.errors import UnsafeError
from soupmerge.sources import downloads, network
from soupmerge.sources.robustbench.zoo import Entry
from soupmerge.storage import commit
from soupmerge.storage.reading import read_bytes
from soupmerge.weights.files import Checkpoint

if TYPE_CHECKING:
    from soupmerge.types import Progress

MODELS = "SOUPMERGE_RB_MODELS"
"""The variable with a folder laid out like RobustBench's; ``models`` if it is not set."""

HOME = "SOUPMERGE_HOME"
"""The variable with the folder for what soupmerge pulls; ``~/.cache/soupmerge`` if not set."""

DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


def file_of(entry: Entry, *, progress: Progress | None = None) -> Path:
    """Return the file of *entry*: RobustBench's own, one that was pulled, or pulled now.

    Raises:
        NetworkError: it is not here and cannot be had.
        UnsafeError: what came is not what was pulled before.
    """
    for root in (_models(), _pulled()):
        for suffix in (".pt", ".safetensors"):
            if (found := root / (entry.name + suffix)).is_file():
                return found
    target = (_models() if os.environ.get(MODELS) else _pulled()) / f"{entry.name}.pt"
    if not network.is_offline():
        warnings.warn(f"{entry.ref} is not here: downloading it to {target}", stacklevel=4)
    address = address_of(entry)
    told = re.search(r"-([0-9a-f]{8})\.pth$", address)  # torch's files have a hash in their names
    pinned = _pin(target)
    sha256 = pinned or (told[1] if told else "")
    came = downloads.download(address, target, sha256=sha256, progress=progress)
    if not pinned:
        commit.write_text(_pin_of(target), f"{came}  {target.name}\n")
    return target


def address_of(entry: Entry) -> str:
    """Return where the file of *entry* is to be had."""
    kind, _, place = entry.source.partition(":")
    return DRIVE + place if kind == "gdrive" else entry.source


def require_pinned(path: Path, checkpoint: Checkpoint) -> None:
    """Refuse the file at *path* if it is not the one that was pulled first.

    Raises:
        UnsafeError: its hash is another.
    """
    pinned = _pin(path)
    if pinned and checkpoint.sha256 != pinned:
        what = f"is not the file that was pulled: sha256 {checkpoint.sha256}, pinned {pinned}"
        fix = (
            f"remove it to pull it again, or {_pin_of(path).name} beside it if the change is meant"
        )
        raise UnsafeError(what, where=path, fix=fix)


def _models() -> Path:
    return Path(os.environ.get(MODELS) or "models")


def _pulled() -> Path:
    home = os.environ.get(HOME)
    return Path(home) / "robustbench" if home else Path.home() / ".cache/soupmerge/robustbench"


def _pin_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _pin(path: Path) -> str:
    """Return the hash that was pinned when *path* was pulled first, or nothing."""
    pin = _pin_of(path)
    return read_bytes(pin).decode("ascii", "replace").split(" ")[0] if pin.is_file() else ""
