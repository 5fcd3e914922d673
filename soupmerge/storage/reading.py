"""Reading untrusted files: only regular ones, with errors that name them."""

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

from soupmerge.errors import InputError, near_miss, short_repr

MOST_BYTES = 1 << 30
"""Size limit of JSON files and journals; journals are the largest."""


class DuplicateKeyError(ValueError):
    """A key appears twice in a JSON object."""


@dataclass(frozen=True)
class StableFile:
    """A regular file that must not change while parts of it are read.

    It is opened for each read, not mapped into memory: if a mapped file is truncated, the process
    is killed by a signal; here the change is reported as an error.
    """

    path: Path
    size: int
    stamp: tuple[int, int, int, int]

    @classmethod
    def seen(cls, path: Path | str) -> StableFile:
        """Return the file at *path* in its present state.

        Raises:
            InputError: *path* is missing, inaccessible or not a regular file.
        """
        try:
            status = os.stat(path)
        except FileNotFoundError as error:
            raise InputError("there is no such file", where=path, fix="check the path") from error
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        _require_file(path, status)
        return cls(Path(path), status.st_size, _stamp(status))

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file for one read.

        Raises:
            InputError: the file cannot be read or has changed.
        """
        try:
            # Without O_NONBLOCK, opening a pipe put in its place would wait forever for a writer.
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            with open(handle, "rb", buffering=0) as file:
                status = os.fstat(handle)
                _require_file(self.path, status)
                if _stamp(status) != self.stamp:
                    what = "has changed since it was first read"
                    raise InputError(what, where=self.path, fix="run again when it is complete")
                yield file
        except InputError:
            raise
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill *buffer* with the bytes from *start* on.

        Raises:
            InputError: there are fewer, or the file has changed.
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
        """Yield the bytes from *start* on in pieces, all in one buffer that is reused."""
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
    """Reject anything but a regular file: opening a pipe or device may block forever.

    Raises:
        InputError: *path* is missing, inaccessible or not a regular file.
    """
    StableFile.seen(path)


def read_bytes(path: Path | str) -> bytes:
    """Return the contents of the regular file *path*.

    Raises:
        InputError: it cannot be read, or is larger than `MOST_BYTES`.
    """
    file = StableFile.seen(path)
    if file.size > MOST_BYTES:
        what = f"has {file.size:,} bytes, at most {MOST_BYTES:,} are expected"
        raise InputError(what, where=path, fix="choose another file")
    return file.read(0, file.size)


def read_json(path: Path | str) -> Any:
    """Return the JSON value in *path*.

    Raises:
        InputError: the file cannot be read, is not JSON, or has a duplicate key in an object.
    """
    try:
        return parse_json(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        fix = "write or download it again"
        raise InputError(f"cannot be read as JSON: {reason}", where=path, fix=fix) from error


def parse_json(text: str) -> Any:
    """Return the JSON value in *text*, in which no object may have a duplicate key.

    Of two values Python keeps the last and other readers the first, so the meaning is ambiguous.

    Raises:
        DuplicateKeyError: an object has a duplicate key.
        ValueError: *text* is not JSON.
        RecursionError: *text* is nested too deeply.
    """
    return _STRICT.decode(text)


def unknown_keys(value: Mapping[str, Any], known: Collection[str], place: str = "") -> list[str]:
    """Return a message for each key of *value* that is not *known*, with the closest known key.

    For files in soupmerge's own formats; other programs' files may hold more than is read.
    """
    keys = sorted(set(value) - set(known))
    return [f"{place}unknown key {short_repr(key)}; {near_miss(key, known)}" for key in keys]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        times = Counter(key for key, _ in pairs)
        key = next(key for key in times if times[key] > 1)
        raise DuplicateKeyError(f"the key {short_repr(key)} appears twice")
    return value


_STRICT = json.JSONDecoder(object_pairs_hook=_object)


def _require_file(path: Path | str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError("is not a regular file", where=path, fix="name a file")


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _unreadable(path: Path | str, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(f"cannot be read: {reason}", where=path, fix="check its path and permissions")
