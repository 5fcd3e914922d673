"""One way to put a file on disk: beside the target, synced, renamed; whole or not at all."""

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
    """Open a file that appears at *path* when the block ends well, and not before.

    The bytes go to a temporary file in the target's folder, are synced to disk, and replace the
    target in one rename, after which the folder is synced. If *path* is a symbolic link, the file
    it points to is replaced and the link stays.

    Raises:
        OutputError: *path* exists (without *force*), cannot be written, or has not *room* bytes.
    """
    check_free(path, force=force)
    target = Path(os.path.realpath(path))
    _sweep(target)
    _require_bytes(path, target.parent, room)
    draft = _draft(target)
    try:
        # 0o666 lets the umask decide, as for any file a user makes; tempfile would give 0o600.
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
    """Make a folder that appears at *path* when the block ends well, and not before.

    A folder that is there is never replaced: no system call swaps two of them at once.

    Raises:
        OutputError: *path* exists, cannot be written, or has not *room* bytes.
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
    """Put *text* at *path*, whole or not at all."""
    with committed(path, force=force) as file:
        file.write(text.encode())


def write_json(path: Path | str, value: Any, *, force: bool = False) -> None:
    """Put *value* at *path* as indented JSON; equal values give equal bytes."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", force=force)


def check_free(path: Path | str, *, force: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output that cannot be meant, before any work is done for it.

    Raises:
        UsageError: *path* is one of *inputs*, also through a link.
        OutputError: *path* exists (without *force*), or its folder is missing or read-only.
    """
    path = Path(path)
    check_not_input(path, inputs)
    try:
        if path.is_dir():
            raise OutputError("is a folder", where=path, fix="name a file in it")
        if path.exists() and not path.is_file():
            raise OutputError("is no regular file", where=path, fix="choose another -o")
        if path.exists() and not force:
            raise OutputError(
                "exists already", where=path, fix="choose another -o, or give --force"
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
    """Refuse a folder to be made that is there already, or cannot be made.

    Raises:
        OutputError: as it says.
    """
    if os.path.lexists(path):
        fix = "choose another -o: a folder is never replaced"
        raise OutputError("exists already", where=path, fix=fix)
    check_free(path)


def require_room(path: Path | str, needed: int) -> None:
    """Try the place *path*, before long work is done for it: a file can be made, and there is room.

    Args:
        path: a file or folder that is to appear; what is there already still takes its room.
        needed: the bytes that will be written there.

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
        what = f"needs {needed:,} bytes, {free:,} are free there"
        raise OutputError(what, where=path, fix="free some, or choose another -o")


def check_not_input(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is also an input, through whatever links.

    Raises:
        UsageError: *path* is one of *inputs*.
    """
    for source in inputs:
        with contextlib.suppress(OSError):
            if path.samefile(source):
                raise UsageError("the output is also an input", where=path, fix="choose another -o")


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn what the system says against writing to *path* into an `OutputError`."""
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
    """Return where *target* is written before it appears."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def _sweep(target: Path) -> None:
    """Remove drafts of *target* whose writer is dead."""
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
    except (ProcessLookupError, OverflowError):  # the latter: no system has such a process
        return False
    except OSError:  # it is another user's
        pass
    return True


def _unwritable(path: Path | str, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"cannot be written: {reason}", where=path, fix="check the place and its space"
    )
