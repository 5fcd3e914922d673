"""CIFAR-10 and CIFAR-100 in the files of their authors: the Python and the binary version.

The Python version is pickles, which are read as data: nothing in them is looked up or called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soupmerge.errors import InputError, UnsafeError, enumerated
from soupmerge.sources.images.containers.written_labels import read_text
from soupmerge.sources.images.contents import Contents, numbered, part
from soupmerge.storage.reading import read_bytes
from soupmerge.weights import pickles
from soupmerge.weights.pickles import Call
from soupmerge.weights.rebuilding import name_of

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
MOST = 1 << 16
"""Of a label that is read at all."""
PLAIN = re.compile(r"numpy\.(\w+\.)*(_reconstruct|_frombuffer|ndarray|dtype)|_codecs\.encode")
"""What a batch may refer to: arrays of numpy, and text that stands for bytes."""

Batch = tuple[NDArray[np.uint8], list[int]]


@dataclass(frozen=True)
class Version:
    """How a version of a data set is stored.

    Attributes:
        folder: what its authors call its folder.
        classes: the number of classes.
        parts: split → its files.
        names: the file with the names of the classes.
        keys: the keys of labels and names in pickles; None if files are binary.
        offset: number of bytes before the pixels of an image, the last of which is its label.
    """

    folder: str
    classes: int
    parts: dict[str, tuple[str, ...]]
    names: str
    keys: tuple[str, str] | None = None
    offset: int = 0


def _batches(suffix: str) -> dict[str, tuple[str, ...]]:
    train = tuple(f"data_batch_{i}{suffix}" for i in range(1, 6))
    return {"train": train, "test": (f"test_batch{suffix}",)}


def _wholes(suffix: str) -> dict[str, tuple[str, ...]]:
    return {"train": (f"train{suffix}",), "test": (f"test{suffix}",)}


FINE = ("fine_labels", "fine_label_names")
VERSIONS = (
    Version("cifar-10-batches-py", 10, _batches(""), "batches.meta", ("labels", "label_names")),
    Version("cifar-100-python", 100, _wholes(""), "meta", FINE),
    Version("cifar-10-batches-bin", 10, _batches(".bin"), "batches.meta.txt", offset=1),
    Version("cifar-100-binary", 100, _wholes(".bin"), "fine_label_names.txt", offset=2),
)


def cifar_files(rest: str, split: str) -> Contents:
    """Read CIFAR-10, or CIFAR-100 with its fine labels, from the folder of its files."""
    root = Path(rest)
    version = _version(root)
    paths = [root / name for name in part(version.parts, split, f"cifar:{rest}")]
    if missing := [path.name for path in paths if not path.is_file()]:
        fix = "unpack its archive again"
        raise InputError(f"lacks files of {split}", problems=missing, where=root, fix=fix)
    batches = [_batch(path, version) for path in paths]
    pixels = np.concatenate([found for found, _ in batches]).reshape(-1, *SHAPE)
    labels = torch.tensor([label for _, found in batches for label in found])
    ids = numbered(range(len(pixels)))
    return Contents(ids, torch.from_numpy(pixels), labels, _names(root / version.names, version))


def _version(root: Path) -> Version:
    """Return the version whose files are in *root*."""
    for version in VERSIONS:
        if any((root / name).is_file() for names in version.parts.values() for name in names):
            return version
    inside = [str(root / v.folder) for v in VERSIONS if (root / v.folder).is_dir()]
    known = enumerated([version.folder for version in VERSIONS])
    fix = f"give {' or '.join(inside)}" if inside else f"give one of {known}, unpacked"
    raise InputError("is not a folder with files of CIFAR", where=f"cifar:{root}", fix=fix)


def _batch(path: Path, version: Version) -> Batch:
    """Return the pixels ``(N, 3072)`` and the labels in a file."""
    return _pickled_batch(path, version.keys[0]) if version.keys else _binary_batch(path, version)


def _binary_batch(path: Path, version: Version) -> Batch:
    data, size = np.frombuffer(read_bytes(path), np.uint8), version.offset + PIXELS
    if len(data) % size:
        what = f"ends early: {len(data):,} bytes are not a number of images of {size:,} bytes"
        raise InputError(what, where=path, fix="unpack its archive again")
    rows = data.reshape(-1, size)
    return rows[:, version.offset :], rows[:, version.offset - 1].tolist()


def _pickled_batch(path: Path, key: str) -> Batch:
    value = _unpickled(path)
    try:
        data, shape = _array(value["data"])
        pixels: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(shape)
        labels = [label for label in value[key] if isinstance(label, int) and 0 <= label < MOST]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        what = f"is not a batch of CIFAR: its data and {key} are not as expected"
        raise InputError(what, where=path, fix="unpack its archive again") from error
    if pixels.shape != (len(labels), PIXELS) or len(labels) != len(value[key]):
        what = f"has pixels of shape {pixels.shape} and {len(value[key])} {key}"
        raise InputError(what, where=path, fix="unpack its archive again")
    return pixels, labels


def _unpickled(path: Path) -> dict[Any, Any]:
    """Return the dictionary in a pickle, in which arrays are calls that are not made."""
    try:
        found = pickles.read(read_bytes(path))
    except pickles.PickleError as error:
        fix = "unpack its archive again"
        raise InputError(f"is not a pickle: it {error}", where=path, fix=fix) from error
    if code := [name for name in found.globals if not PLAIN.fullmatch(name)]:
        what = f"refers to {enumerated(code)}, which may be code"
        raise UnsafeError(what, where=path, fix="take the files of CIFAR's authors")
    if not isinstance(found.value, dict):
        raise InputError("holds no dictionary", where=path, fix="unpack its archive again")
    return found.value


def _array(call: Call) -> tuple[bytes, tuple[int, ...]]:
    """Return the bytes and the shape of the array that *call* would make.

    Raises:
        ValueError: its elements are not bytes in C's order.
        AttributeError, IndexError, TypeError: it is not such a call.
    """
    if name_of(call).endswith("._frombuffer"):
        data, dtype, shape, order = call.args
    else:
        _, shape, dtype, is_fortran, data = call.state
        order = "F" if is_fortran else "C"
    if dtype.args[0] != "u1" or order != "C":
        raise ValueError(f"numbers of type {dtype.args[0]} in the order {order}")
    if name_of(data) == "_codecs.encode":  # how Python 3 writes bytes in protocol 2
        data = data.args[0]
    return data.encode("latin-1") if isinstance(data, str) else data, shape


def _names(path: Path, version: Version) -> list[str] | int:
    """Return the names of the classes, or their number if they are not there."""
    if not path.is_file():
        return version.classes
    found: Iterable[Any]
    if version.keys:
        found = _unpickled(path).get(version.keys[1], ())
    else:
        found = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return [name for name in found if isinstance(name, str)] or version.classes
