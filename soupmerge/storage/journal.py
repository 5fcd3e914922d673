"""Journals: append-only files of one JSON record per line, each with a checksum."""

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
    """The records at *path*, a list that survives a kill; for the single writer of a run.

    An incomplete last line, left by a kill, is dropped, and the damaged file is copied beside the
    journal. Damage anywhere else is an error, since later records may depend on what is lost.

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
            self.records, intact = _parse(path, data)
            if intact < len(data):
                self._drop_tail(data, intact)

    def append(self, record: dict[str, Any]) -> None:
        """Append *record*, and return once it is on disk."""
        line = (_encode(record) + "\n").encode()
        with commit.writing(self.path):
            new = not self.path.exists()
            with open(self.path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                commit.sync_folder(self.path.parent)
        self.records.append(record)

    def _drop_tail(self, data: bytes, intact: int) -> None:
        copy = self.path.with_name(self.path.name + ".torn")
        with commit.committed(copy, force=True) as file:
            file.write(data)
        with commit.committed(self.path, force=True) as file:
            file.write(data[:intact])
        warnings.warn(
            f"{self.path}: dropped an incomplete last line; {copy.name} keeps it", stacklevel=4
        )


def read(path: Path) -> list[dict[str, Any]]:
    """Return the complete records at *path*, even while it is being written; empty if missing.

    Raises:
        InputError: the file cannot be read, or a line before the last is damaged.
    """
    return _parse(path, read_bytes(path))[0] if os.path.lexists(path) else []


def _parse(path: Path, data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the records in *data*, and how many bytes they take up."""
    records, intact = [], 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        record = _decode(line)
        if record is None:
            if number < len(lines) - 1 or lines[-1]:
                raise InputError(
                    f"line {number} is damaged",
                    where=path,
                    fix=f"keep the first {number - 1} lines, or start over with --force",
                )
            break
        records.append(record)
        intact += len(line) + 1
    return records, intact


def _encode(record: dict[str, Any]) -> str:
    return _with_checksum(json.dumps(record, ensure_ascii=False, allow_nan=False))


def _with_checksum(text: str) -> str:
    """Return the JSON object *text* with its checksum as the last entry."""
    comma = ", " if len(text) > len("{}") else ""
    return f'{text[:-1]}{comma}"crc": "{zlib.crc32(text.encode()):08x}"}}'


def _decode(line: bytes) -> dict[str, Any] | None:
    """Return the record in *line*, or None if it is damaged."""
    try:
        text = line.decode()
        record = parse_json(text)
        del record["crc"]
        # Checked on the text, as serialising thousands of records takes longer than reading them.
        entries = text[: text.rindex('"crc": ')].removesuffix(", ")
        intact = _with_checksum(entries + "}") == text
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if intact else None
