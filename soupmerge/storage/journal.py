"""A journal: one JSON record a line, each with its checksum, only ever appended to."""

from __future__ import annotations

import json
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError
from soupmerge.storage import commit
from soupmerge.storage.reading import parse_json, read_bytes


class Journal:
    """The records at *path*, as a list that survives a kill; for the one writer of a run.

    A last line that was torn by a kill is dropped (a copy is kept beside the journal); damage
    anywhere else is an error, since later records may depend on what is lost.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp(), "trials.jsonl")
        >>> Journal(path).append({"trial": 0})
        >>> Journal(path).records
        [{'trial': 0}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        if os.path.lexists(path):
            data = read_bytes(path)
            self.records, good = _parse(path, data)
            if good < len(data):
                self._drop_tail(data, good)

    def append(self, record: dict[str, Any]) -> None:
        """Add *record*, and return when it is on disk."""
        line = (_sealed(record) + "\n").encode()
        with commit.writing(self.path):
            new = not self.path.exists()
            with open(self.path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                commit.sync_folder(self.path.parent)
        self.records.append(record)

    def _drop_tail(self, data: bytes, good: int) -> None:
        copy = self.path.with_name(self.path.name + ".torn")
        with commit.committed(copy, force=True) as file:
            file.write(data)
        with commit.committed(self.path, force=True) as file:
            file.write(data[:good])
        warnings.warn(f"{self.path}: dropped a torn last line; {copy.name} keeps it", stacklevel=4)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the whole records at *path*, which someone may be writing to; empty if it is missing.

    Raises:
        InputError: it cannot be read, or a line before the last is damaged.
    """
    return _parse(path, read_bytes(path))[0] if os.path.lexists(path) else []


def _parse(path: Path, data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the records in *data*, and how many bytes of it are whole lines."""
    records, good = [], 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        record = _opened(line)
        if record is None:
            if number < len(lines) - 1 or lines[-1]:
                raise InputError(
                    f"line {number} is damaged",
                    where=path,
                    fix=f"keep the first {number - 1} lines, or start over with --force",
                )
            break
        records.append(record)
        good += len(line) + 1
    return records, good


def _sealed(record: dict[str, Any]) -> str:
    return _with_checksum(json.dumps(record, ensure_ascii=False, allow_nan=False))


def _with_checksum(text: str) -> str:
    """Return the JSON object *text* with its checksum as the last entry."""
    comma = ", " if len(text) > len("{}") else ""
    return f'{text[:-1]}{comma}"crc": "{zlib.crc32(text.encode()):08x}"}}'


def _opened(line: bytes) -> dict[str, Any] | None:
    try:
        text = line.decode()
        record = parse_json(text)
        del record["crc"]
        # Checked on the text: to write thousands of records anew takes longer than to read them.
        entries = text[: text.rindex('"crc": ')].removesuffix(", ")
        intact = _with_checksum(entries + "}") == text
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if intact else None
