"""CIFAR-10 and CIFAR-100, read by torchvision from archives that soupmerge downloads itself."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

from soupmerge.sources import cache, connections, downloads
from soupmerge.storage.reading import StableFile

SHA256 = {
    "CIFAR10": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "CIFAR100": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
}
"""Hashes of the archives at their authors' site; torchvision has only their MD5."""


def load(name: str, *, train: bool) -> Any:
    """Return torchvision's data set *name*, ``CIFAR10`` or ``CIFAR100``.

    Its archive is downloaded if it is missing. torchvision's own download has no time limit, and
    asks the site even when offline.

    Raises:
        NetworkError: the archive is missing and cannot be downloaded.
        UnsafeError: another file was downloaded.
        OutputError: the archive cannot be written.
    """
    import torchvision

    home = cache.home()
    kind = getattr(torchvision.datasets, name)
    with contextlib.suppress(RuntimeError):  # missing or damaged
        return kind(home, train=train)
    archive = home / kind.filename
    if not archive.is_file() or StableFile.seen(archive).sha256() != SHA256[name]:
        where = name.lower()
        connections.require_online(where, f"put {kind.filename} into {home}, or give folder:PATH")
        warnings.warn(f"{where} is missing: downloading it to {home}", stacklevel=4)
        archive.unlink(missing_ok=True)  # the rest of an interrupted download
        downloads.download(kind.url, archive, sha256=SHA256[name], wanted=downloads.GZIP)
    return kind(home, train=train, download=True)  # unpacks the archive
