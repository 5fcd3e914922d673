"""A run folder: a manifest of the work, journals of what is done, and one writer at a time."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import socket
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, OutputError, UsageError, short_repr
from soupmerge.storage import commit
from soupmerge.storage.journal import Journal
from soupmerge.storage.locking import locked
from soupmerge.storage.names import BEST, FIGURES, MANIFEST, OWN
from soupmerge.storage.reading import read_json

FORMAT = "soupmerge-run/1"
LOCK, HOLDER = ".lock", ".holder"
SMALL = 1 << 20
"""Bytes to reserve for the journals and tables of a run."""


class RunFolder:
    """An open run folder at *path*; *resumed* says whether it already held this run."""

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self.path, self.resumed = path, resumed

    def journal(self, name: str) -> Journal:
        """Return the journal *name* of this run."""
        return Journal(self.path / name)

    def file(self, name: str) -> Path:
        """Return the path of the file *name* of this run."""
        return self.path / name

    def best(self, metric: str) -> Path:
        """Return the path of the best recipe by *metric*."""
        folder = self.path / BEST
        with commit.writing(folder):
            folder.mkdir(exist_ok=True)
        return folder / (re.sub(r"[^\w.]+", "-", metric) + ".json")


@contextlib.contextmanager
def opened(
    path: Path | str,
    manifest: dict[str, Any],
    *,
    inputs: Iterable[Path] = (),
    force: bool = False,
    room: int = 0,
) -> Iterator[RunFolder]:
    """Create or resume the run folder at *path* for the work that *manifest* describes.

    The manifest holds everything that affects the results: ``command``, ``inputs``, ``settings``.
    The ``environment`` (versions) is added here; resuming under other versions is a warning. Files
    and data sets that have a hash are compared by the hash, not by their path.

    Args:
        path: the run folder, which is created if it does not exist.
        manifest: describes the work, as JSON values.
        inputs: files that the run must not replace.
        force: discard the run that the folder holds, if any, and start over.
        room: bytes of the large files that the work writes, most of them at its end.

    Raises:
        UsageError: the folder holds a run with other settings (the differences are listed), or
            contains one of *inputs*.
        OutputError: another process is writing to the folder, it holds foreign files, it cannot be
            written, or the disk has too little free space.
    """
    path = Path(path)
    manifest = {"format": FORMAT, **manifest, "environment": environment()}
    for file in inputs:
        if path.resolve() in file.resolve().parents:
            fix = "choose another -o"
            raise UsageError(f"the run folder contains an input, {file.name}", where=path, fix=fix)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot create the folder: {error.strerror}"
        raise OutputError(what, where=path, fix="choose another -o") from error
    with _locked(path):
        with commit.writing(path):
            freed = sum(file.stat().st_size for file in _run_files(path)) if force else 0
        commit.require_room(path / MANIFEST, room + SMALL - freed)
        cleared = force and _clear(path)
        resumed = not cleared and _holds_run(path, manifest)
        if not resumed:
            commit.write_json(path / MANIFEST, manifest, force=True)
        yield RunFolder(path, resumed=resumed)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Return the manifest of the run folder at *path*.

    Raises:
        InputError: the folder has no manifest, or a damaged one.
    """
    file = Path(path) / MANIFEST
    if not file.exists():
        fix = "name the folder given to -o"
        raise InputError(f"is not a run folder: it has no {MANIFEST}", where=path, fix=fix)
    manifest: dict[str, Any] = read_json(file)
    form = manifest.get("format") if isinstance(manifest, dict) else None
    if form == FORMAT and not isinstance(manifest.get("command"), str):
        raise InputError("names no command", where=file, fix="choose another folder")
    if form != FORMAT:
        newer = isinstance(form, str) and form.startswith("soupmerge-run/")
        what = f"is not the manifest of a run: expected format {FORMAT!r}, found {short_repr(form)}"
        fix = "install a newer soupmerge" if newer else "choose another folder"
        raise InputError(what, where=file, fix=fix)
    return manifest


def environment() -> dict[str, str]:
    """Return the versions of Python and of the packages that results may depend on."""
    packages = ("soupmerge", "torch", "timm", "torchvision")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


def essence(value: Any) -> Any:
    """Return *value* without the paths and class names of what has a hash: files may move."""
    if isinstance(value, dict):
        ignored = ("ref", "links", "classes") if "sha256" in value else ()
        return {k: essence(v) for k, v in value.items() if k not in ignored}
    return [essence(v) for v in value] if isinstance(value, (list, tuple)) else value


def _holds_run(path: Path, manifest: dict[str, Any]) -> bool:
    """Return whether the folder holds the run that *manifest* describes; refuse any other."""
    if not (path / MANIFEST).exists():
        ours = (BEST, FIGURES)
        foreign = [f.name for f in path.iterdir() if f.name[0] != "." and f.name not in ours]
        if foreign:
            raise OutputError(
                f"is neither empty nor a run folder (it contains {sorted(foreign)[0]!r})",
                where=path,
                fix="choose another -o",
            )
        return False
    old, new = essence(read_manifest(path)), essence(manifest)
    if old.pop("environment", None) != new.pop("environment"):
        warnings.warn(f"{path}: resuming a run started with other versions", stacklevel=5)
    if old != new:
        raise UsageError(
            "holds a run with other settings",
            problems=_differences(old, new),
            where=path,
            fix="choose another -o, or give --force to start over",
        )
    return True


ABSENT = object()
"""Stands for the value of a missing key."""


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [
            line
            for k in keys
            for line in _differences(
                old.get(k, ABSENT), new.get(k, ABSENT), f"{key}.{k}" if key else k
            )
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in _differences(a, b, f"{key}[{i}]")]
    was, now = ("absent" if value is ABSENT else short_repr(value) for value in (old, new))
    return [] if old == new else [f"{key} was {was}, now {now}"]


def _clear(path: Path) -> bool:
    """Remove the files of an earlier run, and return whether there was one.

    Its manifest stays until the new one replaces it, so that the folder is a run folder at any
    moment. Files that no run writes are kept. `_holds_run` refuses a folder without a manifest.
    """
    if not (path / MANIFEST).exists():
        return False
    read_manifest(path)
    with commit.writing(path):
        for file in _run_files(path):
            file.unlink()
    return True


def _run_files(path: Path) -> list[Path]:
    """Return the files of an earlier run apart from its manifest."""
    return [file for pattern in OWN for file in path.glob(pattern)]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    holder = path / HOLDER
    with _lock_taken(path):
        try:
            with commit.writing(path):
                text = f"process {os.getpid()} on {socket.gethostname()}"
                holder.write_text(text, encoding="utf-8")
            yield
        finally:
            with contextlib.suppress(OSError):
                holder.unlink(missing_ok=True)


def _lock_taken(path: Path) -> contextlib.AbstractContextManager[None]:
    def busy() -> OutputError:
        holder = path / HOLDER
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
        return OutputError(f"is being written by {who}", where=path, fix="wait until it ends")

    return locked(path / LOCK, busy=busy)


def require_free(path: Path | str) -> None:
    """Reject a run folder that another process is writing to.

    `opened` does so as well, but commands ask first, before they load anything.

    Raises:
        OutputError: another process holds it, or it cannot be opened.
    """
    with commit.writing(path):
        has_lock = (Path(path) / LOCK).exists()
    if has_lock:
        with _lock_taken(Path(path)):
            pass
