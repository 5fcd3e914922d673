"""Files of the Hub in the client's own cache, and listings of their repositories."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, OutputError, UnsafeError
from soupmerge.sources.hub.refs import COMMIT, HubRef, kind_of
from soupmerge.storage import commit
from soupmerge.storage.reading import StableFile, read_json

FORMAT = "soupmerge-listing/1"
ABANDONED = 3600.0
"""Seconds without a write after which a download counts as abandoned."""
NOTES = ".soupmerge"
"""Folder of a cached repository for soupmerge's own notes; the client leaves it alone."""


@dataclass(frozen=True)
class StoredFile:
    """A file at the Hub: its size in bytes, and its sha256 or (for small files) git's sha1."""

    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """The contents of a repository at one commit, according to the Hub; they never change."""

    repo: str
    commit: str
    files: Mapping[str, StoredFile]
    licence: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the listing as JSON values."""
        files = {name: [stored.size, stored.digest] for name, stored in self.files.items()}
        return {"format": FORMAT, "licence": self.licence, "files": files}


def folder_of(repo: str) -> Path:
    """Return the client's folder for *repo*, which depends on ``HF_HOME`` and similar variables."""
    from huggingface_hub import constants

    kind, name = kind_of(repo)
    return Path(constants.HF_HUB_CACHE, f"{kind}s--{name.replace('/', '--')}")


def known_commit(ref: HubRef) -> str | None:
    """Return the commit that *ref* stood for when the Hub was last asked."""
    if ref.pinned:
        return ref.revision
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (folder_of(ref.repo) / "refs" / ref.revision).read_text(encoding="ascii")
        return text if COMMIT.fullmatch(text) else None
    return None


def path_of(repo: str, sha: str, name: str) -> Path | None:
    """Return the path of *name* of *repo* at the commit *sha*, or None if it is not there."""
    path = folder_of(repo) / "snapshots" / sha / name
    return path if path.is_file() else None


def names_in(repo: str, sha: str) -> list[str]:
    """Return the names of all cached files of *repo* at the commit *sha*."""
    root = folder_of(repo) / "snapshots" / sha
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def read(repo: str, sha: str) -> Listing | None:
    """Return the listing of *repo* at the commit *sha*, or None if there is no readable one."""
    try:
        value = read_json(folder_of(repo) / NOTES / f"{sha}.json")
        files = {str(n): StoredFile(int(s), str(d)) for n, (s, d) in value["files"].items()}
        return Listing(repo, sha, files, value["licence"]) if value["format"] == FORMAT else None
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return None  # the Hub can be asked again


def write(listing: Listing, ref: HubRef) -> None:
    """Write *listing* to the cache, and that *ref* now stands for its commit."""
    notes = folder_of(listing.repo) / NOTES / f"{listing.commit}.json"
    with commit.writing(notes):
        notes.parent.mkdir(parents=True, exist_ok=True)
    commit.write_json(notes, listing.to_json(), force=True)
    if not ref.pinned:
        pointer = folder_of(ref.repo) / "refs" / ref.revision
        with commit.writing(pointer):
            pointer.parent.mkdir(parents=True, exist_ok=True)
        commit.write_text(pointer, listing.commit, force=True)


def remove_abandoned(repo: str) -> None:
    """Remove what killed downloads of *repo* left behind, unless it was written to lately."""
    for orphan in (folder_of(repo) / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):
            if time.time() - orphan.stat().st_mtime > ABANDONED:
                orphan.unlink()


def require_intact(repo: str, path: Path, stored: StoredFile | None, where: object) -> None:
    """Refuse a cached file of *repo* that differs from the Hub's, and remove it.

    A file that was checked before and has not been touched since is not read again. Without
    *stored*, the hash is the client's name for the file, which is the hash that the Hub gave.

    Raises:
        UnsafeError: its hash differs.
    """
    file, blob = StableFile.seen(path), path
    if path.is_symlink():  # one step only: the client may share one file between repositories
        blob = path.parent / os.readlink(path)
    expected = stored.digest if stored else blob.name
    mark = folder_of(repo) / NOTES / "checked" / hashlib.sha256(str(path).encode()).hexdigest()[:32]
    stamp = json.dumps([expected, *file.stamp])
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if mark.read_text(encoding="ascii") == stamp:
            return
    if len(expected) not in (40, 64):
        return  # no hash is known: in a cache without links, files have their own names
    found = digest_of(file, expected)
    if found != expected:
        for broken in (path, blob):
            with contextlib.suppress(OSError):
                os.unlink(broken)
        what = f"{path.name} has the hash {found}, the Hub's is {expected}; it was removed"
        raise UnsafeError(what, where=where, fix="pull it again, over a network that you trust")
    with contextlib.suppress(OutputError, OSError):  # a read-only cache is fine
        mark.parent.mkdir(parents=True, exist_ok=True)
        commit.write_text(mark, stamp, force=True)


def digest_of(file: StableFile, like: str) -> str:
    """Return the hash of *file* of the same kind as *like*: sha256, or git's sha1 of a blob."""
    if len(like) == 64:
        return file.sha256()
    digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    for part in file.chunks():
        digest.update(part)
    return digest.hexdigest()
