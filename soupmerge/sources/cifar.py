"""CIFAR-10 and CIFAR-100 as torchvision reads them, from archives that are fetched as all is."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

from soupmerge.sources import downloads, network
from soupmerge.storage.reading import StableFile

SHA256 = {
    "CIFAR10": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "CIFAR100": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
}
"""Of the archives at their authors' site; torchvision knows their MD5."""


def opened(name: str, *, train: bool) -> Any:
    """Return torchvision's set *name*; its archive is fetched if it is not here.

    torchvision itself would wait for its site for ever, and asks it even if that is not wanted.

    Raises:
        NetworkError: the archive is not here, and cannot be had.
        UnsafeError: what came is another file.
        OutputError: it cannot be kept.
    """
    import torchvision

    home = Path(os.environ.get("SOUPMERGE_HOME", Path.home() / ".cache" / "soupmerge"))
    kind = getattr(torchvision.datasets, name)
    with contextlib.suppress(RuntimeError):  # it is not here, or not as it should be
        return kind(home, train=train)
    archive = home / kind.filename
    if not archive.is_file() or StableFile.seen(archive).sha256() != SHA256[name]:
        where = name.lower()
        network.require_online(where, f"put {kind.filename} into {home}, or give folder:PATH")
        warnings.warn(f"{where} is not here: downloading it to {home}", stacklevel=4)
        archive.unlink(missing_ok=True)  # what a download has left that was cut off
        downloads.download(kind.url, archive, sha256=SHA256[name], wanted=downloads.GZIP)
    return kind(home, train=train, download=True)  # from the archive
