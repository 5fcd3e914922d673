"""What is here of the Hub: files in the client's own cache, and what the Hub said of them."""

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
from soupmerge.sources.hub.refs import COMMIT, HubRef
from soupmerge.storage import commit
from soupmerge.storage.reading import StableFile, read_json

FORMAT = "soupmerge-listing/1"
ABANDONED = 3600.0
"""Seconds after which a download that nobody writes to is taken for dead."""
OURS = ".soupmerge"
"""Folder of a cached repository that holds our notes; the client leaves it alone."""


@dataclass(frozen=True)
class Stored:
    """A file as the Hub stores it: its bytes, and their sha256 or (of small files) git's sha1."""

    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """What the Hub said that a repository holds at one commit; no commit ever changes."""

    repo: str
    commit: str
    files: Mapping[str, Stored]
    licence: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the listing as JSON values."""
        files = {name: [stored.size, stored.digest] for name, stored in self.files.items()}
        return {"format": FORMAT, "licence": self.licence, "files": files}


def folder_of(repo: str) -> Path:
    """Return the folder that the client keeps *repo* in; ``HF_HOME`` and the like say where."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, f"models--{repo.replace('/', '--')}")


def known_commit(ref: HubRef) -> str | None:
    """Return the commit that *ref* stood for when the Hub was last asked."""
    if ref.pinned:
        return ref.revision
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (folder_of(ref.repo) / "refs" / ref.revision).read_text(encoding="ascii")
        return text if COMMIT.fullmatch(text) else None
    return None


def path_of(repo: str, sha: str, name: str) -> Path | None:
    """Return where *name* of *repo* at the commit *sha* lies, if it does."""
    path = folder_of(repo) / "snapshots" / sha / name
    return path if path.is_file() else None


def held(repo: str, sha: str) -> list[str]:
    """Return the names of all files that lie here of *repo* at the commit *sha*."""
    root = folder_of(repo) / "snapshots" / sha
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def read(repo: str, sha: str) -> Listing | None:
    """Return what the Hub said of *repo* at the commit *sha*, if we asked and can read it."""
    try:
        value = read_json(folder_of(repo) / OURS / f"{sha}.json")
        files = {str(n): Stored(int(s), str(d)) for n, (s, d) in value["files"].items()}
        return Listing(repo, sha, files, value["licence"]) if value["format"] == FORMAT else None
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return None  # it can be asked for again


def keep(listing: Listing, ref: HubRef) -> None:
    """Note *listing*, and that *ref* stands for its commit now."""
    notes = folder_of(listing.repo) / OURS / f"{listing.commit}.json"
    with commit.writing(notes):
        notes.parent.mkdir(parents=True, exist_ok=True)
    commit.write_json(notes, listing.to_json(), force=True)
    if not ref.pinned:
        pointer = folder_of(ref.repo) / "refs" / ref.revision
        with commit.writing(pointer):
            pointer.parent.mkdir(parents=True, exist_ok=True)
        commit.write_text(pointer, listing.commit, force=True)


def sweep(repo: str) -> None:
    """Remove what killed downloads of *repo* have left; one that goes on is written to."""
    for orphan in (folder_of(repo) / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):
            if time.time() - orphan.stat().st_mtime > ABANDONED:
                orphan.unlink()


def require_intact(repo: str, path: Path, stored: Stored | None, where: object) -> None:
    """Refuse a cached file of *repo* that is not what the Hub stores, and remove it.

    A file that was found right, and has not been touched since, is not read again. If nobody says
    what the Hub stores, the client's name for it does: that is the hash which the Hub gave.

    Raises:
        UnsafeError: its hash is another.
    """
    file, blob = StableFile.seen(path), path
    if path.is_symlink():  # one step only: the client may share one file between repositories
        blob = path.parent / os.readlink(path)
    wanted = stored.digest if stored else blob.name
    mark = folder_of(repo) / OURS / "checked" / hashlib.sha256(str(path).encode()).hexdigest()[:32]
    stamp = json.dumps([wanted, *file.stamp])
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if mark.read_text(encoding="ascii") == stamp:
            return
    if len(wanted) not in (40, 64):
        return  # a cache without links has no such names; the hash is noted where it is used
    found = digest_of(file, wanted)
    if found != wanted:
        for broken in (path, blob):
            with contextlib.suppress(OSError):
                os.unlink(broken)
        what = f"{path.name} has the hash {found}, the Hub's is {wanted}; it was removed"
        raise UnsafeError(what, where=where, fix="pull it again, from where it is trusted")
    with contextlib.suppress(OutputError, OSError):  # a cache that is read-only serves as well
        mark.parent.mkdir(parents=True, exist_ok=True)
        commit.write_text(mark, stamp, force=True)


def digest_of(file: StableFile, like: str) -> str:
    """Return the hash of *file* of the kind of *like*: sha256, or git's sha1 of a blob."""
    if len(like) == 64:
        return file.sha256()
    digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    for part in file.chunks():
        digest.update(part)
    return digest.hexdigest()
