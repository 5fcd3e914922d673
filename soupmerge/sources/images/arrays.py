"""Images from arrays: those of a NumPy archive, of a function, or of the caller."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soupmerge.errors import InputError, UnsafeError, enumerated
from soupmerge.sources.functions import imported
from soupmerge.sources.images.containers import map_style
from soupmerge.sources.images.contents import Contents, numbered
from soupmerge.storage.reading import require_regular

UNPACKED = 1 << 30
"""Bytes that an array of an archive may always unpack to, however small it is packed."""


def npz(rest: str, split: str) -> Contents:
    """Read arrays ``x``, ``y`` (or ``SPLIT_x``, ``SPLIT_y``) from a NumPy archive."""
    path = Path(rest)
    require_regular(path)
    try:
        with zipfile.ZipFile(path) as packed, np.load(path, allow_pickle=False) as archive:
            _require_no_bomb(packed, path)
            x, y = _arrays_in(archive, split, path)
    except InputError:
        raise
    except ValueError as error:
        if "pickle" in str(error):
            what, fix = "holds Python objects, which would run code", "save arrays of numbers"
            raise UnsafeError(what, where=path, fix=fix) from error
        raise InputError(f"is not a NumPy archive: {error}", where=path) from error
    except (OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(f"is not a NumPy archive: {error}", where=path) from error
    return Contents(*from_arrays(x, y, str(path)))


def _arrays_in(archive: Any, split: str, path: Path) -> tuple[Any, Any]:
    names = archive.files
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        what = f"has several arrays named {', '.join(repeated)}"
        raise InputError(what, where=path, fix="save each once")
    prefix = f"{split}_" if f"{split}_x" in names else ""
    if f"{prefix}x" not in names or f"{prefix}y" not in names:
        found = enumerated(names) or "nothing"
        raise InputError(f"has no arrays x and y for {split!r}, found {found}", where=path)
    return archive[f"{prefix}x"], archive[f"{prefix}y"]


def _require_no_bomb(packed: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive that unpacks to many times its size, as images never do."""
    for info in packed.infolist():
        if info.file_size > max(UNPACKED, 100 * info.compress_size):
            what = f"{info.filename} has {info.compress_size:,} bytes and unpacks to"
            raise UnsafeError(f"{what} {info.file_size:,}", where=path, fix="save it again")


def function(ref: str, split: str) -> Contents:
    """Call ``package.module:function`` with the split.

    It returns images and labels, or a map-style data set, such as torchvision's.
    """
    called = imported(ref, "data")
    try:
        result = called(split)
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        raise InputError(f"failed: {error!r}", where=ref) from error
    if map_style.is_map_style(result):
        return map_style.contents(result, ref)
    if not isinstance(result, tuple) or len(result) != 2:
        what = f"returned a {type(result).__name__}, not (images, labels)"
        fix = "return those, or a data set with __len__ and __getitem__"
        raise InputError(what, where=ref, fix=fix)
    return Contents(*from_arrays(*result, ref))


def from_arrays(x: Any, y: Any, where: str) -> tuple[Sequence[str], Tensor, Tensor, int]:
    """Return numbered examples from images *x*, ``(N, C_in, H, W)``, and labels *y*, ``(N,)``.

    Both are copied, so that nobody can change them afterwards; labels may also be ``(N, 1)``.

    Raises:
        InputError: they are not arrays of numbers, or labels are not integers, one per image.
    """
    pixels, labels = _array(x, "images", where), _array(y, "labels", where)
    if labels.dtype.kind not in "iu":
        raise InputError(f"labels are {labels.dtype}, not integers", where=where)
    if labels.ndim > 1 and labels.size != len(labels):
        what = f"labels of shape {labels.shape}, expected ({len(labels)},)"
        raise InputError(what, where=where, fix="convert one-hot labels with y.argmax(1)")
    if pixels.dtype.kind not in "iuf":
        raise InputError(f"images are {pixels.dtype}, not numbers", where=where)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32)
    numbers = torch.from_numpy(labels.astype(np.int64).reshape(-1))
    classes = int(numbers.max()) + 1 if len(numbers) else 0
    count = len(pixels) if pixels.ndim else 0
    return numbered(range(count)), torch.from_numpy(pixels), numbers, classes


def _array(value: Any, what: str, where: str) -> np.ndarray[Any, Any]:
    try:
        if isinstance(value, Tensor):
            value = (value.float() if value.is_floating_point() else value).numpy(force=True)
        array = np.array(value)  # a copy, in the machine's byte order, as torch needs it
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what} are no array of numbers: {error}", where=where) from error
