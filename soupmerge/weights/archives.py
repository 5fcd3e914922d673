"""Files written by ``torch.save``: a pickle, and the positions of the storages it refers to.

Since torch 1.6 they are zip archives with a record for each storage. Before, they were five pickles
in a row, followed by the storages.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from soupmerge.errors import InputError, UnsafeError, short_repr
from soupmerge.storage.reading import StableFile
from soupmerge.weights import pickles
from soupmerge.weights.pickles import Pickled, PickleError

MOST_PICKLE = 1 << 26
"""Largest size of a pickle without its storages: more than any network needs."""

MOST_DIRECTORY = 1 << 23
"""Largest size of a zip archive's directory."""

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
AGAIN = "download or save it again"
TRUSTED = "save its state_dict() on a machine where it is trusted"


@dataclass(frozen=True)
class Storage:
    """Numbers in a file: *size* bytes from *start* on, with the checksum *crc* if there is one."""

    start: int
    size: int
    record: str
    crc: int | None = None


@dataclass(frozen=True)
class Archive:
    """A torch file: the contents of its pickle, and storage key → storage."""

    file: StableFile
    pickled: Pickled
    storages: Mapping[str, Storage]

    def verify(self, keys: Iterable[str]) -> None:
        """Compare the storages *keys* with their checksums.

        Raises:
            InputError: some do not match; all are listed.
        """
        bad = []
        for key in dict.fromkeys(keys):
            storage, crc = self.storages[key], 0
            if storage.crc is not None:
                for part in self.file.chunks(storage.start, storage.size):
                    crc = zlib.crc32(part, crc)
                if crc != storage.crc:
                    bad.append(f"record {storage.record!r}")
        if bad:
            raise InputError(
                "holds bytes that do not match their checksums",
                problems=bad,
                where=self.file.path,
                fix=AGAIN,
            )


def open_zip(file: StableFile) -> Archive:
    """Open the zip archive *file*.

    Raises:
        InputError: the file is damaged, or was not written by torch.
        UnsafeError: it is a program, is compressed, or names a path outside itself.
    """
    _check_directory(file)
    try:
        with file.opened() as handle, zipfile.ZipFile(handle) as archive:
            records = archive.infolist()
            _check_records(file, records)
            stored = {r.filename: _located(file, r, archive.start_dir) for r in records}
            _check_apart(file, records, stored)
    except InputError:
        raise
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OverflowError) as error:
        raise _broken(file, f"its directory is broken ({error})") from error
    pickle = [name for name in stored if name.split("/")[1:] == ["data.pkl"]]
    if len(pickle) != 1:
        what = "is a zip archive, but not one written by torch"
        raise InputError(what, where=file.path, fix="give a file that torch.save wrote")
    home = pickle[0].removesuffix("data.pkl")
    order = stored.get(f"{home}byteorder")
    if order and file.read(order.start, order.size) != b"little":
        raise InputError("was written on a big-endian machine", where=file.path, fix=TRUSTED)
    record = stored[pickle[0]]
    Archive(file, Pickled(None, (), 0), {"": record}).verify([""])
    data = f"{home}data/"
    storages = {n.removeprefix(data): s for n, s in stored.items() if n.startswith(data)}
    return Archive(file, _parsed(file, record.start, record.size), storages)


def open_legacy(file: StableFile, itemsize: Callable[[Any], tuple[str, int]]) -> Archive:
    """Open *file*, written before torch 1.6 or with ``_use_new_zipfile_serialization=False``.

    Args:
        itemsize: the id of a storage → its key, and the bytes per number.

    Raises:
        InputError: the file is damaged, or was not written by torch.
    """
    data = file.read(0, MOST_PICKLE)
    values, at = [], 0
    for _ in range(5):
        pickled = _parse(file, data, at)
        values.append(pickled)
        at = pickled.end
        if len(values) == 1 and pickled.value != MAGIC:  # the caller looks at what it refers to
            return Archive(file, pickled, {})
    if values[1].value != PROTOCOL or not isinstance(values[4].value, list):
        what = "is a pickle, but not one written by torch"
        raise InputError(what, where=file.path, fix="give a file that torch.save wrote")
    sizes = {}
    for id in _ids(values[3].value):
        key, size = itemsize(id)
        sizes[key] = size
    storages = {}
    for value in values[4].value:
        key = _legacy_key(file, value)
        if key in storages:
            raise _broken(file, f"storage {key!r} appears twice")
        count = int.from_bytes(file.read(at, 8), "little", signed=True)
        size = count * sizes.get(key, 0)
        if key not in sizes or count < 0 or at + 8 + size > file.size:
            raise _broken(file, f"storage {key!r} does not end within the file")
        storages[key] = Storage(at + 8, size, key)
        at += 8 + size
    return Archive(file, values[3], storages)


def key_of(value: Any) -> str:
    """Return the key of a storage as text.

    Raises:
        ValueError: *value* is neither a string nor a number.
    """
    if not isinstance(value, (str, int)):
        raise ValueError(f"storage {short_repr(value)} has no name")
    return str(value)


def _legacy_key(file: StableFile, value: Any) -> str:
    try:
        return key_of(value)
    except ValueError as error:
        raise _broken(file, f"storage {short_repr(value)} has no name") from error


def _check_directory(file: StableFile) -> None:
    tail = file.read(max(0, file.size - 65_558), 65_558)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise _broken(file, "its directory is missing, so it was cut short")
    sizes = [int.from_bytes(tail[at + 12 : at + 16], "little")]
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        # The 64-bit end record lies right in front, and takes precedence.
        large = file.read(max(0, file.size - len(tail) + at - 76), 56)
        sizes.append(int.from_bytes(large[40:48], "little"))
        sizes = [size for size in sizes if size != 0xFFFFFFFF]
    if max(sizes, default=0) > MOST_DIRECTORY:
        raise UnsafeError("has more records than any network needs", where=file.path, fix=AGAIN)


def _check_records(file: StableFile, records: list[zipfile.ZipInfo]) -> None:
    names = [record.filename for record in records]
    if any(n.endswith("/constants.pkl") or "/code/" in n for n in names):
        raise UnsafeError("is a TorchScript program, which is code", where=file.path, fix=TRUSTED)
    astray = [f"record {short_repr(name)}" for name in names if _leads_out(name)]
    if astray:
        what = "has records that would be unpacked outside their folder"
        raise UnsafeError(what, problems=astray, where=file.path, fix=TRUSTED)
    packed = [f"record {r.filename!r}" for r in records if r.compress_type != zipfile.ZIP_STORED]
    if packed:
        what = "is compressed, which files from torch never are"
        raise UnsafeError(
            what, problems=packed, where=file.path, fix="unzip it, and zip it with -0"
        )
    twice = next((name for name, n in Counter(names).items() if n > 1), None)
    if twice is not None:
        raise _broken(file, f"record {twice!r} appears twice")


def _leads_out(name: str) -> bool:
    """Return whether unpacking a record of this *name* may write outside the archive's folder."""
    rooted = re.match(r"[\\/]|[A-Za-z]:[\\/]", name) is not None
    return rooted or ".." in re.split(r"[\\/]", name)


def _check_apart(
    file: StableFile, records: list[zipfile.ZipInfo], stored: Mapping[str, Storage]
) -> None:
    """Reject records that share bytes: a small file could otherwise hold any number of them."""
    places = sorted(
        (r.header_offset, stored[r.filename].start + stored[r.filename].size, r.filename)
        for r in records
    )
    over = [
        f"record {short_repr(name)} overlaps {short_repr(before)}"
        for (_, end, before), (start, _, name) in pairwise(places)
        if start < end
    ]
    if over:
        what = "has records that share bytes, which files from torch never do"
        raise UnsafeError(what, problems=over, where=file.path, fix=TRUSTED)


def _located(file: StableFile, record: zipfile.ZipInfo, directory: int) -> Storage:
    """Return the storage in *record*, whose position is in its local header."""
    head = file.read(record.header_offset, 30)
    start = record.header_offset + 30
    start += int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    whole = head[:4] == b"PK\x03\x04" and start + record.file_size <= directory
    if not whole or record.file_size != record.compress_size:
        raise _broken(file, f"record {record.filename!r} does not end where it should")
    return Storage(start, record.file_size, record.filename, record.CRC)


def _parsed(file: StableFile, start: int, size: int) -> Pickled:
    if size > MOST_PICKLE:
        what = f"has a pickle of {size:,} bytes, but at most {MOST_PICKLE:,} are allowed"
        raise UnsafeError(what, where=file.path, fix=TRUSTED)
    return _parse(file, file.read(start, size), 0)


def _parse(file: StableFile, data: bytes, at: int) -> Pickled:
    try:
        return pickles.read(data, at)
    except PickleError as error:
        raise _broken(file, f"its pickle {error}") from error


def _ids(value: Any) -> list[Any]:
    """Return the ids of all storages that *value* refers to."""
    ids, seen, todo = [], set(), [value]
    while todo:
        here = todo.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, pickles.Persistent):
            ids.append(here.id)
        elif isinstance(here, pickles.Call):
            todo += [here.args, here.items, here.state]
        elif isinstance(here, dict):
            todo += here.values()
        elif isinstance(here, (list, tuple)):
            todo += cast(Any, here)
    return ids


def _broken(file: StableFile, what: str) -> InputError:
    return InputError(f"is a damaged torch file: {what}", where=file.path, fix=AGAIN)
