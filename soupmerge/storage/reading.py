"""Reading files that are not to be trusted: regular ones only, with errors that name them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from soupmerge.errors import InputError, brief, near_miss

MOST_BYTES = 1 << 30
"""Of a text file; the largest are journals."""


class TwiceError(ValueError):
    """A JSON object has a key twice."""


@dataclass(frozen=True)
class StableFile:
    """A regular file that must stay as it was when it was first seen, while parts of it are read.

    It is opened for each read and not mapped: if someone cuts or replaces a mapped file, the
    process dies of it; here that is an error with a name.
    """

    path: Path
    size: int
    stamp: tuple[int, int, int, int]

    @classmethod
    def seen(cls, path: Path | str) -> StableFile:
        """Return the file at *path* as it is now.

        Raises:
            InputError: *path* is missing, out of reach, or something else than a file.
        """
        try:
            found = os.stat(path)
        except FileNotFoundError as error:
            raise InputError("there is no such file", where=path, fix="check the path") from error
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        _require_file(path, found)
        return cls(Path(path), found.st_size, _stamp(found))

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file for one look at it.

        Raises:
            InputError: it cannot be read, or is not the file it was.
        """
        try:
            # Without O_NONBLOCK, a pipe put in its place would wait for a writer for ever.
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            with open(handle, "rb", buffering=0) as file:
                found = os.fstat(handle)
                _require_file(self.path, found)
                if _stamp(found) != self.stamp:
                    what = "has changed since it was first read"
                    raise InputError(what, where=self.path, fix="run again when it is whole")
                yield file
        except InputError:
            raise
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill *buffer* with the bytes from *start* on.

        Raises:
            InputError: there are not so many, or the file is not what it was.
        """
        with self.opened() as file:
            file.seek(start)
            done = 0
            while done < len(buffer):
                more = file.readinto(buffer[done:])  # type: ignore[attr-defined]
                if not more:
                    what = f"ends {len(buffer) - done} bytes too early"
                    raise InputError(what, where=self.path, fix="download it again")
                done += more

    def read(self, start: int, count: int) -> bytes:
        """Return *count* bytes from *start* on, or as many as there are."""
        buffer = bytearray(max(0, min(count, self.size - start)))
        self.read_into(start, memoryview(buffer))
        return bytes(buffer)

    def chunks(self, start: int = 0, count: int | None = None) -> Iterator[memoryview]:
        """Yield the bytes from *start* on, some at a time, in a buffer that is used again."""
        end = self.size if count is None else start + count
        buffer = memoryview(bytearray(min(1 << 20, max(end - start, 1))))
        while start < end:
            part = buffer[: end - start]
            self.read_into(start, part)
            yield part
            start += len(part)

    def sha256(self) -> str:
        """Return the hash of all bytes."""
        digest = hashlib.sha256()
        for part in self.chunks():
            digest.update(part)
        return digest.hexdigest()


def require_regular(path: Path | str) -> None:
    """Refuse what is no regular file: opening a pipe or a device may wait for ever.

    Raises:
        InputError: *path* is missing, out of reach, or something else than a file.
    """
    StableFile.seen(path)


def read_bytes(path: Path | str) -> bytes:
    """Return what is in the regular file *path*.

    Raises:
        InputError: it cannot be read, or is larger than any such file should be.
    """
    file = StableFile.seen(path)
    if file.size > MOST_BYTES:
        raise InputError("is too large to be what it should be", where=path, fix="name another")
    return file.read(0, file.size)


def read_json(path: Path | str) -> Any:
    """Return the JSON value in *path*.

    Raises:
        InputError: it cannot be read, is not JSON, or has an object with a key twice.
    """
    try:
        return parse_json(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        fix = "write or download it again"
        raise InputError(f"cannot be read as JSON: {reason}", where=path, fix=fix) from error


def parse_json(text: str) -> Any:
    """Return the JSON value in *text*, of which no object has a key twice.

    Python keeps the last of two values, other readers the first: what is meant is not known.

    Raises:
        TwiceError: a key stands there twice.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return _STRICT.decode(text)


def strangers(value: Mapping[str, Any], known: Collection[str], place: str = "") -> list[str]:
    """Return, in words, each key of *value* that is not *known*, with what may have been meant.

    For files of soupmerge's own format; those of others may hold more than is read of them.
    """
    keys = sorted(set(value) - set(known))
    return [f"{place}{brief(key)} is not known; {near_miss(key, known)}" for key in keys]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)
        raise TwiceError(
            f"{brief(next(key for key in times if times[key] > 1))} stands there twice"
        )
    return found


_STRICT = json.JSONDecoder(object_pairs_hook=_once)


def _require_file(path: Path | str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InputError("is not a regular file", where=path, fix="name a file")


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _unreadable(path: Path | str, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(f"cannot be read: {reason}", where=path, fix="check its path and its mode")
