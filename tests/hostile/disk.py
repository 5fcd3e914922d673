"""A disk whose every call can be made to fail, or to be the last before a kill."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAILING = ("fsync", "replace", "rename", "mkdir")
"""Calls whose failure must be said; a file that cannot be removed is no matter."""
CHANGING = (*FAILING, "unlink", "rmdir")
"""Calls, beside those that open and write, that change what is on disk."""

Act = Callable[[str], Any]


class Disk:
    """Counts the calls that write under *home*, notes them, and does *act* in place of one.

    Args:
        home: the folder that is watched.
        patch: replaces an attribute of a module.
        bad: the number of the call, from 1 on; a write is half done before.
        act: what is done, with the place as its argument.
        names: functions of `os` that are counted beside those that open and write.
    """

    def __init__(
        self,
        home: Path,
        patch: Callable[[Any, str, Any], None],
        bad: int = 0,
        act: Act = lambda place: None,
        names: tuple[str, ...] = FAILING,
    ) -> None:
        self.home, self.bad, self.act = str(home), bad, act
        self.calls: list[str] = []
        self.handles: dict[int, str] = {}
        for name in names:
            patch(os, name, self.counted(name, getattr(os, name)))
        self.open, self.fdopen, self.builtin = os.open, os.fdopen, builtins.open
        patch(os, "open", self.opens)
        patch(os, "fdopen", self.fdopens)
        patch(builtins, "open", self.builtin_opens)

    def count(self, what: str, place: object, first: Callable[[], object] = lambda: None) -> None:
        self.calls.append(f"{what} {os.path.basename(str(place))}")
        if len(self.calls) == self.bad:
            first()
            self.act(str(place))

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(place: Any, *args: Any, **more: Any) -> Any:
            where = self.handles.get(place, "") if isinstance(place, int) else str(place)
            there = name == "mkdir" and os.path.isdir(place)  # asked for, to be sure
            gone = name in ("unlink", "rmdir") and not os.path.lexists(place)
            if where.startswith(self.home) and not there and not gone:
                self.count(name, where)
            return real(place, *args, **more)

        return call

    def opens(self, path: Any, flags: int, *args: Any, **more: Any) -> int:
        ours = str(path).startswith(self.home)
        if ours and flags & (os.O_WRONLY | os.O_RDWR):
            self.count("open", path)
        handle = self.open(path, flags, *args, **more)
        self.handles[handle] = str(path)
        return handle

    def fdopens(self, handle: int, *args: Any, **more: Any) -> Any:
        return Written(self.fdopen(handle, *args, **more), self, self.handles.get(handle, ""))

    def builtin_opens(self, path: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        if not (set(mode) & set("wax+")) or not str(path).startswith(self.home):
            return self.builtin(path, mode, *args, **more)
        self.count("open", path)
        file = self.builtin(path, mode, *args, **more)
        self.handles[file.fileno()] = str(path)
        return Written(file, self, str(path))


class Written:
    """A file whose writes are counted; of the bad one, half comes to the disk."""

    def __init__(self, file: Any, disk: Disk, path: str) -> None:
        self.file, self.disk, self.path = file, disk, path

    def write(self, data: Any) -> int:
        def half() -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()

        if self.path.startswith(self.disk.home):
            self.disk.count("write", self.path, half)
        return int(self.file.write(data))

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def drafts(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if path.name.endswith(".tmp")]


def whole(path: Path) -> dict[str, bytes]:
    """Return what is at *path*, a file or a folder of files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def files(home: Path) -> dict[str, bytes]:
    """Return all that a run leaves, but for its lock and copies of what was torn."""
    found = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    kept = [path for path in found if path.suffix != ".torn"]
    return {str(path.relative_to(home)): path.read_bytes() for path in kept}
