"""Image files below one folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soupmerge.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MOST_BYTES = 1 << 28
"""Of one stored image."""


def is_image(name: str) -> bool:
    """Return whether a file called *name* should be an image.

    Example:
        >>> is_image("cat/1.JPEG"), is_image("cat/1.txt")
        (True, False)
    """
    return os.path.splitext(name)[1].lower() in SUFFIXES


def require_size(size: int, where: str) -> None:
    """Refuse to read *size* bytes as one image.

    Raises:
        InputError: they are more than `MOST_BYTES`; *where* names the image.
    """
    if size > MOST_BYTES:
        raise InputError(f"has {size:,} bytes, which is too large for an image", where=where)


def stamps_of(root: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the sizes, and the times of the last change, of the files *names* in *root*.

    Raises:
        InputError: one cannot be read.
    """
    stamps = []
    for name in names:
        path = os.path.join(root, name)
        try:
            status = os.stat(path)
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise InputError(what, where=path) from error
        stamps.append((status.st_size, status.st_mtime_ns))
    return np.array(stamps, np.int64)


def id_of(name: str) -> str:
    r"""Return the file name *name* as an id, with bytes that are not UTF-8 escaped.

    Example:
        >>> id_of(b"caf\xe9.png".decode("utf-8", "surrogateescape"))
        'caf\\xe9.png'
    """
    return name.encode("utf-8", "surrogateescape").decode(errors="backslashreplace")


@dataclass(frozen=True)
class ImageFiles:
    """Image files below one folder, as a `contents.Source`.

    Attributes:
        root: the folder.
        names: paths of the files, relative to it.
        stamps: ``(N, 2)``: their sizes and the times of their last change, in ns.
    """

    root: Path
    names: Sequence[str]
    stamps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            InputError: it cannot be read, or is too large for an image.
        """
        require_size(int(self.stamps[index, 0]), self.where(index))
        try:
            with open(self.root / self.names[index], "rb") as file:
                return file.read(MOST_BYTES)
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise InputError(what, where=self.where(index)) from error

    def where(self, index: int) -> str:
        """Return the path of a file."""
        return str(self.root / self.names[index])
