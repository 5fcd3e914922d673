"""Atomic writes: a file is written beside its target, synced and renamed, or does not appear."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from soupmerge.errors import OutputError, UsageError
from soupmerge.numbers import count


@contextlib.contextmanager
def committed(path: Path | str, *, force: bool = False, room: int = 0) -> Iterator[BinaryIO]:
    """Open a file that appears at *path* only if and when the block succeeds.

    The bytes go to a temporary file in the target's folder, are synced to disk, and replace the
    target in one rename, after which the folder is synced. If *path* is a symbolic link, the file
    it points to is replaced and the link stays.

    Raises:
        OutputError: *path* exists (without *force*) or cannot be written, or fewer than *room*
            bytes are free.
    """
    check_free(path, force=force)
    target = Path(os.path.realpath(path))
    _sweep(target)
    _require_bytes(path, target.parent, room)
    draft = _draft(target)
    try:
        # 0o666 leaves the mode to the umask, as for any file a user makes; tempfile uses 0o600.
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
        sync_folder(target.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def committed_folder(path: Path | str, *, room: int = 0) -> Iterator[Path]:
    """Make a folder that appears at *path* only if and when the block succeeds.

    An existing folder is never replaced: there is no portable call that swaps two folders.

    Raises:
        OutputError: *path* exists or cannot be written, or fewer than *room* bytes are free.
    """
    check_free_folder(path)
    target = Path(os.path.realpath(path))
    with writing(path):
        _sweep(target)
        _require_bytes(path, target.parent, room)
        draft = _draft(target)
        try:
            os.mkdir(draft)
            yield draft
            sync_folder(draft)
            os.rename(draft, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def write_text(path: Path | str, text: str, *, force: bool = False) -> None:
    """Write *text* to *path*, whole or not at all."""
    with committed(path, force=force) as file:
        file.write(text.encode())


def write_json(path: Path | str, value: Any, *, force: bool = False) -> None:
    """Write *value* to *path* as indented JSON; equal values give equal bytes."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", force=force)


def check_free(path: Path | str, *, force: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Reject an invalid output path before any work is done for it.

    Raises:
        UsageError: *path* is one of *inputs*, possibly through a link.
        OutputError: *path* exists (without *force*), or its folder is missing or read-only.
    """
    path = Path(path)
    check_not_input(path, inputs)
    try:
        if path.is_dir():
            raise OutputError("is a folder", where=path, fix="name a file in it")
        if path.exists() and not path.is_file():
            raise OutputError("is not a regular file", where=path, fix="choose another -o")
        if path.exists() and not force:
            raise OutputError(
                "already exists", where=path, fix="choose another -o, or give --force"
            )
        if path.is_symlink() and Path(os.path.realpath(path)).is_symlink():
            raise OutputError("is a link to itself", where=path, fix="choose another -o")
        parent = Path(os.path.realpath(path)).parent
        if not parent.is_dir():
            raise OutputError(f"there is no folder {parent}", where=path, fix="create it first")
        if not os.access(parent, os.W_OK):
            raise OutputError(
                f"the folder {parent} is read-only", where=path, fix="choose another -o"
            )
    except OutputError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def check_free_folder(path: Path | str) -> None:
    """Reject the path of a new folder that already exists or cannot be created.

    Raises:
        OutputError: it does, or it cannot.
    """
    if os.path.lexists(path):
        fix = "choose another -o: existing folders are never replaced"
        raise OutputError("already exists", where=path, fix=fix)
    check_free(path)


def require_room(path: Path | str, needed: int) -> None:
    """Check, before long work, that a file can be created at *path* and that the disk has room.

    Args:
        path: the future file or folder; an existing one is not counted as free space.
        needed: how many bytes will be written there.

    Raises:
        OutputError: nothing can be written there, or fewer bytes are free.
    """
    target = Path(os.path.realpath(path))
    with writing(path):
        _sweep(target)
        draft = _draft(target)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.close(handle)
        finally:
            draft.unlink()
        _require_bytes(path, target.parent, needed)


def _require_bytes(path: Path | str, folder: Path, needed: int) -> None:
    with writing(path):
        free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"needs {needed:,} bytes, but only {free:,} are free there"
        raise OutputError(what, where=path, fix="free some space, or choose another -o")


def check_not_input(path: Path, inputs: Iterable[Path]) -> None:
    """Reject an output that is also an input, possibly through links.

    Raises:
        UsageError: *path* is one of *inputs*.
    """
    for source in inputs:
        with contextlib.suppress(OSError):
            if path.samefile(source):
                raise UsageError("the output is also an input", where=path, fix="choose another -o")


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn an `OSError` about writing to *path* into an `OutputError`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make a rename in *folder* survive a loss of power."""
    if os.name == "nt":  # pragma: no cover - folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _draft(target: Path) -> Path:
    """Return the temporary path at which *target* is written."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def _sweep(target: Path) -> None:
    """Remove drafts of *target* whose process has died."""
    for draft in target.parent.glob(f".{_escaped(target.name)}.*.tmp"):
        pid = count(draft.name.rsplit(".", 2)[-2])
        if pid is not None and not _alive(pid):
            with contextlib.suppress(OSError):
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the latter: no valid process id
        return False
    except OSError:  # the process belongs to another user
        pass
    return True


def _unwritable(path: Path | str, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"cannot be written: {reason}", where=path, fix="check its folder and the free space"
    )
