"""Tar archives, read as data: which files they hold, and where in them these are.

Nothing is unpacked. Only files and folders are accepted, with names that stay below where the
archive would be unpacked: anything else would have to be followed or left out.
"""

from __future__ import annotations

import posixpath
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from soupmerge.errors import InputError
from soupmerge.sources.images.containers.slices import Slices
from soupmerge.storage.reading import StableFile

BLOCK = tarfile.BLOCKSIZE
MOST_HEADER = 1 << 20
"""Bytes of one header; tarfile itself would read as many as the header says."""

LONGEST_NAME = 4096
"""Characters of a name: the length of paths in Linux."""

COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}
"""How compressed files begin → the command that unpacks them."""

CODING: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
DAMAGE = (
    tarfile.TarError, ValueError, OverflowError, EOFError, LookupError, TypeError, RecursionError,
    struct.error,
)  # fmt: skip
"""What tarfile raises about damaged archives."""


class Members(NamedTuple):
    """What an archive holds.

    Attributes:
        names: ``(N,)``: paths, without ``./``; those of folders end in a slash.
        spans: ``(N, 3)``: where the contents of a file begin, their size in bytes, and the
            checksum of the header before them.
    """

    names: list[str]
    spans: NDArray[np.int64]


@dataclass(frozen=True)
class TarImages(Slices):
    """Images in tar archives, which are known again by the *checksums* of their headers.

    Attributes:
        checksums: ``(N,)``: see `Members`.
    """

    checksums: NDArray[np.int64]

    def read(self, index: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            InputError: its archive has changed or cannot be read, or it is too large.
        """
        _, start, size = self.places[index].tolist()
        data = self.part(index, start - BLOCK, size + BLOCK)
        if _checksum(data[:BLOCK]) != self.checksums[index]:
            what = "is not where it was when the archive, of this size and time, was indexed"
            fix = "touch the archive, and it is indexed again"
            raise InputError(what, where=self.where(index), fix=fix)
        return data[BLOCK:]


def _checksum(header: bytes) -> int | None:
    try:
        return tarfile.TarInfo.frombuf(header, **CODING).chksum
    except DAMAGE:
        return None


def members(file: StableFile) -> Members:
    """Return what the tar archive *file* holds, from its headers.

    Raises:
        InputError: it is not a tar archive, is compressed or ends early, or holds links, devices,
            names that lead out of it, or two files of one name; all of these are listed.
    """
    _require_plain(file)
    names: dict[str, None] = {}
    spans: list[tuple[int, int, int]] = []
    problems: list[str] = []
    with file.opened() as raw:
        for member in _headers(file, raw):
            name = posixpath.normpath(member.name) + "/" * member.isdir()
            if problem := _problem(member):
                problems.append(f"{member.name[:LONGEST_NAME]} {problem}")
            elif name in names and not member.isdir():
                problems.append(f"{name} is in it twice")
            elif name not in names and name != "./":
                names[name] = None
                spans.append((member.offset_data, member.size, member.chksum))
    if problems:
        what = "holds what is not read from archives"
        fix = "pack plain files under relative names, each once; tar's --dereference and "
        fix += "--hard-dereference pack files in the place of links"
        raise InputError(what, problems=problems, where=file.path, fix=fix)
    return Members(list(names), np.array(spans, np.int64).reshape(-1, 3))


def _require_plain(file: StableFile) -> None:
    head = file.read(0, BLOCK)
    for magic, command in COMPRESSED.items():
        if head.startswith(magic):
            what = "is compressed, so that images in it cannot be read one by one"
            raise InputError(what, where=file.path, fix=f"run {command} on it first")


def _problem(member: tarfile.TarInfo) -> str:
    """Return why *member* is not accepted; empty if it is."""
    if len(member.name) > LONGEST_NAME:
        return f"has a name of {len(member.name):,} characters"
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname}"
    if member.issparse() or not (member.isfile() or member.isdir()):
        return "is not a plain file"
    parts = member.name.split("/")
    return "leads out of the archive" if ".." in parts or not parts[0] else ""


def _headers(file: StableFile, raw: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the members of *file*, opened as *raw*, which must be complete."""
    last, end = "its beginning", 0
    headers: Any = _Headers(raw)
    try:
        with tarfile.open(fileobj=headers, mode="r:", **CODING) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                stop = member.offset_data + (member.size if member.isfile() else 0)
                if member.size < 0 or tar.offset <= end or "\0" in member.name:
                    raise tarfile.ReadError("a header makes no sense")
                if stop > file.size:
                    _ended_early(file, member.name)
                last, end = member.name, tar.offset
                yield member
            raw.seek(tar.offset)
            after = raw.read(BLOCK)
    except InputError:
        raise
    except DAMAGE as error:
        what = f"is not a tar archive, or is damaged after {last}: {error}"
        raise InputError(what, where=file.path, fix="download or pack it again") from error
    if len(after) < BLOCK:
        _ended_early(file, last)
    if any(after):  # tarfile takes an invalid header for the end
        what = f"is damaged after {last}: there is no header at byte {end:,}"
        raise InputError(what, where=file.path, fix="download or pack it again")


def _ended_early(file: StableFile, name: str) -> None:
    what = f"the archive ends early, at byte {file.size:,}: in this member or right after it"
    where = f"{file.path}: {name}"
    raise InputError(what, where=where, fix="download or pack the archive again")


class _Headers:
    """A file of which only headers are read: a limited number of bytes at once."""

    def __init__(self, raw: BinaryIO) -> None:
        self.seek, self.tell, self._read = raw.seek, raw.tell, raw.read

    def read(self, count: int) -> bytes:
        if not 0 <= count <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {count:,} bytes")
        return self._read(count)
