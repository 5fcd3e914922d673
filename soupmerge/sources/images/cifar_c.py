"""CIFAR-10-C and CIFAR-100-C: an array of all strengths for each kind of corruption."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soupmerge.errors import InputError
from soupmerge.sources.images.contents import Contents, numbered
from soupmerge.storage.reading import StableFile

HEADER = 1 << 12
"""Bytes in which the header of an array fits."""


def read(images: Path, labels: Path, strength: int, each: int) -> Contents:
    """Return the images of one *strength*, and read no others.

    Args:
        images: a file of images ``(32, 32, 3)``, uint8, strength by strength.
        labels: a file of their labels.
        strength: 1 to 5.
        each: the images of each strength, those of the test set in its order; 10,000.

    Raises:
        InputError: the files are not such arrays.
    """
    pixels = _part(images, strength, ("uint8",), (each, 32, 32, 3))
    y = _part(labels, strength, ("uint8", "int32", "int64"), (each,))
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    numbers = torch.from_numpy(y.astype(np.int64))
    return Contents(numbered(range(each)), tensor, numbers, int(numbers.max()) + 1)


def _part(
    path: Path, strength: int, dtypes: tuple[str, ...], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Return the rows of *strength*, of that *shape*, in the array at *path*."""
    file = StableFile.seen(path)
    wanted = (5 * shape[0], *shape[1:])
    start, found, dtype = _header(file.read(0, min(HEADER, file.size)), path)
    if found != wanted or dtype.name not in dtypes:
        what = f"is an array of {dtype.name} {found}, expected {dtypes[0]} {wanted}"
        raise InputError(what, where=path, fix="unpack the archive again")
    size = int(np.prod(shape)) * dtype.itemsize
    data = file.read(start + (strength - 1) * size, size)
    if len(data) < size:
        raise InputError("ends too early", where=path, fix="unpack the archive again")
    rows: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape).copy()
    return rows


def _header(data: bytes, path: Path) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Return where the numbers of a NumPy array begin, its shape and its dtype."""
    buffer = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(buffer)
        read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
        shape, fortran, dtype = read(buffer)
    except (ValueError, AttributeError) as error:
        raise InputError(f"is not a NumPy array: {error}", where=path) from error
    if fortran or dtype.hasobject:
        raise InputError("holds no plain rows of numbers", where=path)
    return buffer.tell(), shape, dtype
