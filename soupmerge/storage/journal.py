"""A journal: one JSON record a line, each with its checksum, only ever appended to."""

from __future__ import annotations

import json
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, OutputError
from soupmerge.storage import commit


class Journal:
    """The records at *path*, as a list that survives a kill.

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
        if path.exists():
            self._read()

    def append(self, record: dict[str, Any]) -> None:
        """Add *record*, and return when it is on disk."""
        line = (_sealed(record) + "\n").encode()
        try:
            new = not self.path.exists()
            with open(self.path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                commit.sync_folder(self.path.parent)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", where=self.path) from error
        self.records.append(record)

    def _read(self) -> None:
        data = self.path.read_bytes()
        lines = data.split(b"\n")
        good = 0
        for number, line in enumerate(lines[:-1], start=1):
            record = _opened(line)
            if record is None:
                if number < len(lines) - 1 or lines[-1]:
                    raise InputError(
                        f"line {number} is damaged",
                        where=self.path,
                        fix=f"keep the first {number - 1} lines, or start over with --force",
                    )
                break
            self.records.append(record)
            good += len(line) + 1
        if good < len(data):
            self._drop_tail(data, good)

    def _drop_tail(self, data: bytes, good: int) -> None:
        copy = self.path.with_name(self.path.name + ".torn")
        with commit.committed(copy, force=True) as file:
            file.write(data)
        with commit.committed(self.path, force=True) as file:
            file.write(data[:good])
        warnings.warn(f"{self.path}: dropped a torn last line; {copy.name} keeps it", stacklevel=4)


def _sealed(record: dict[str, Any]) -> str:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return json.dumps({**record, "crc": f"{zlib.crc32(text.encode()):08x}"}, ensure_ascii=False)


def _opened(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        del record["crc"]
        intact = _sealed(record).encode() == line
    except (ValueError, KeyError, TypeError):
        return None
    return record if intact else None
