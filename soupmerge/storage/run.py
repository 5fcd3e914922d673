"""A run folder: a manifest that says what is done, journals of what was done, one writer."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from soupmerge.errors import InputError, OutputError, UsageError, itemised
from soupmerge.storage import commit
from soupmerge.storage.journal import Journal

MANIFEST = "manifest.json"
BEST, FIGURES = "best", "figures"
OWN = (
    "trials.jsonl",
    "history.jsonl",
    "recipe.json",
    "soup.safetensors",
    "state.safetensors",
    "flags.csv",
    f"{BEST}/*.json",
    f"{FIGURES}/*.png",
)
"""What a run leaves beside its manifest; ``--force`` removes these and nothing else."""


class RunFolder:
    """An open run folder at *path*; *resumed* tells whether it held work of the same settings."""

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self.path, self.resumed = path, resumed

    def journal(self, name: str) -> Journal:
        """Return the journal ``NAME.jsonl`` of this run."""
        return Journal(self.path / f"{name}.jsonl")

    def file(self, name: str) -> Path:
        """Return where this run keeps the file *name*."""
        return self.path / name

    def best(self, metric: str) -> Path:
        """Return where this run keeps the best recipe by *metric*."""
        folder = self.path / BEST
        folder.mkdir(exist_ok=True)
        return folder / (re.sub(r"[^\w.]+", "-", metric) + ".json")


@contextlib.contextmanager
def opened(
    path: Path | str, manifest: dict[str, Any], *, force: bool = False
) -> Iterator[RunFolder]:
    """Open the run folder at *path* for the work *manifest* describes; resume it if it has begun.

    The manifest holds whatever changes a number: ``command``, ``inputs``, ``settings``. The
    ``environment`` (versions, threads) is added here; resuming in another one is a warning.

    Raises:
        UsageError: the folder holds a run with other settings; the differences are listed.
        OutputError: another process is writing to it, it is no run folder, or cannot be written.
    """
    path = Path(path)
    manifest = {**manifest, "environment": environment()}
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made a folder: {error.strerror}", where=path) from error
    with _locked(path):
        if force:
            _clear(path)
        resumed = _begun(path, manifest)
        if not resumed:
            commit.write_json(path / MANIFEST, manifest)
        yield RunFolder(path, resumed=resumed)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Return the manifest of the run folder at *path*.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = Path(path) / MANIFEST
    try:
        manifest = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise InputError(f"is not a run folder: it has no {MANIFEST}", where=path) from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=file) from error
    if not isinstance(manifest, dict):
        raise InputError("is not a manifest", where=file)
    return manifest


def environment() -> dict[str, str]:
    """Return the versions a result may depend on."""
    versions = {name: importlib.metadata.version(name) for name in ("soupmerge", "torch")}
    return {"python": platform.python_version(), **versions}


def _begun(path: Path, manifest: dict[str, Any]) -> bool:
    if not (path / MANIFEST).exists():
        foreign = [
            f.name
            for f in path.iterdir()
            if not f.name.startswith(".") and f.name not in (BEST, FIGURES)
        ]
        if foreign:
            raise OutputError(
                f"is not empty and not a run folder (it holds {sorted(foreign)[0]!r})",
                where=path,
                fix="choose another -o",
            )
        return False
    # Through JSON, so that tuples and lists compare as they will be read back.
    old, new = read_manifest(path), json.loads(json.dumps(manifest))
    if old.pop("environment", None) != new.pop("environment"):
        warnings.warn(f"{path}: resuming a run that began with other versions", stacklevel=5)
    if old != new:
        raise UsageError(
            "holds a run with other settings: " + itemised(_differences(old, new)),
            where=path,
            fix="choose another -o, or give --force to start over",
        )
    return True


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [
            line
            for k in keys
            for line in _differences(old.get(k), new.get(k), f"{key}.{k}" if key else k)
        ]
    return [] if old == new else [f"{key} was {old!r}, now {new!r}"]


def _clear(path: Path) -> None:
    if (path / MANIFEST).exists():
        for pattern in (*OWN, MANIFEST):
            for file in path.glob(pattern):
                file.unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    holder = path / ".holder"
    lock = filelock.FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        who = holder.read_text() if holder.exists() else "another process"
        raise OutputError(f"is being written by {who}", where=path, fix="wait for it") from error
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=path) from error
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
