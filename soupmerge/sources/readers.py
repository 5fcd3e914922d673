"""Readers of data sets: each returns ids, pixels ``(N, C_in, H, W)``, labels and classes."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from soupmerge.errors import InputError, UnsafeError, UsageError, enumerated
from soupmerge.sources import cifar
from soupmerge.sources.functions import imported
from soupmerge.storage.reading import require_regular

T = TypeVar("T")

Contents: TypeAlias = tuple[Sequence[str], Tensor, Tensor, Sequence[str] | int]
"""Ids, pixels, labels, and the names of the classes in the order of their labels, or the number of
classes if they have no names."""

SPLITS = ("train", "val", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
GREY = ("1", "L")
MODES = "P PA LA La RGB RGBA RGBa RGBX CMYK YCbCr LAB HSV"
EIGHT_BITS = {*GREY, *MODES.split()}
"""Pillow's modes of images with at most one byte per channel."""
UNPACKED = 1 << 30
"""Bytes that an array of an archive may always unpack to, however small it is packed."""
MOST_PIXELS = 89_000_000
"""Of one image: Pillow's own limit against decompression bombs."""


def digits(rest: str, split: str) -> Contents:
    """Read scikit-learn's embedded 8×8 digits: 1197 to train, 300 to choose, 300 to judge."""
    _require_no_rest("digits", rest)
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    index, y = np.arange(len(bunch.target)), bunch.target
    train, others = train_test_split(index, test_size=600, random_state=0, stratify=y)
    val, test = train_test_split(others, test_size=300, random_state=0, stratify=y[others])
    parts = {"train": train, "val": val, "test": test}
    indices = np.sort(_part(parts, split, "digits"))
    pixels = torch.from_numpy(bunch.images[indices]).float().div(16).unsqueeze(1)
    return _numbered(indices), pixels, torch.from_numpy(y[indices]).long(), 10


def cifar10(rest: str, split: str) -> Contents:
    """Read CIFAR-10, which is downloaded once."""
    _require_no_rest("cifar10", rest)
    return _cifar("CIFAR10", split)


def cifar100(rest: str, split: str) -> Contents:
    """Read CIFAR-100, which is downloaded once."""
    _require_no_rest("cifar100", rest)
    return _cifar("CIFAR100", split)


def folder(rest: str, split: str) -> Contents:
    """Read one folder of images per class, from ``rest/split`` if it exists, else from *rest*.

    Images have 3 channels, or 1 if all of them are grey.
    """
    root = Path(rest)
    if not root.is_dir():
        raise InputError("there is no such folder", where=f"folder:{rest}")
    if _is_split(root / split):
        _require_same_classes(root, split)
        root = root / split
    elif splits := [s for s in SPLITS if _is_split(root / s)]:
        _part(dict.fromkeys(splits), split, f"folder:{rest}")
    names = _classes_in(root)
    files = _images_in(root, names)
    _warn_of_order(root, names)
    arrays = _decode_all([file for file, _ in files], root)
    if any(array.shape[2] == 3 for array in arrays):
        arrays = [np.broadcast_to(array, (*array.shape[:2], 3)) for array in arrays]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        what = f"images of several shapes, such as {shapes[0]} and {shapes[-1]}"
        raise InputError(what, where=root, fix="resize them to one size first")
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    ids = [file.relative_to(root).as_posix() for file, _ in files]
    return ids, pixels, torch.tensor([label for _, label in files]), names


def _is_split(folder: Path) -> bool:
    """Return whether *folder* has class folders; with images only, it may be a class "train"."""
    return folder.is_dir() and bool(_classes_in(folder))


def _classes_in(root: Path) -> list[str]:
    """Return the names of the class folders in *root*, in the order of their labels."""
    folders = [f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith(".")]
    return sorted(folders, key=_natural)


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return the key that sorts as people do: case does not count, and 10 comes after 9."""
    parts = re.split("([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _require_same_classes(root: Path, split: str) -> None:
    """Refuse a split whose classes would have other labels than those of ``train``."""
    if split == "train" or not _is_split(root / "train"):
        return
    train, other = _classes_in(root / "train"), _classes_in(root / split)
    if other != train:
        problems = [f"{name}: only in train" for name in train if name not in other]
        problems += [f"{name}: only in {split}" for name in other if name not in train]
        what = "its class folders are not those of train, so that labels would differ"
        fix = "give both the same class folders; a class without images is an empty folder"
        raise InputError(what, problems=problems, where=root / split, fix=fix)


def _warn_of_order(root: Path, names: Sequence[str]) -> None:
    if names != (by_text := sorted(names)):
        i = next(i for i, (a, b) in enumerate(zip(names, by_text, strict=True)) if a != b)
        what = (
            f"{root}: label {i} is {names[i]!r}; sorted as text, as torchvision does, it would be "
            f"{by_text[i]!r}: make sure that the network was trained with this order"
        )
        warnings.warn(what, stacklevel=2)


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
    return from_arrays(x, y, str(path))


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
    """Call ``package.module:function`` with the split; it returns images and labels."""
    called = imported(ref, "data")
    try:
        result = called(split)
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        raise InputError(f"failed: {error!r}", where=ref) from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise InputError(f"returned a {type(result).__name__}, not (images, labels)", where=ref)
    return from_arrays(*result, ref)


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
    return _numbered(range(count)), torch.from_numpy(pixels), numbers, classes


def _array(value: Any, what: str, where: str) -> np.ndarray[Any, Any]:
    try:
        if isinstance(value, Tensor):
            value = (value.float() if value.is_floating_point() else value).numpy(force=True)
        array = np.array(value)  # a copy, in the machine's byte order, as torch needs it
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what} are no array of numbers: {error}", where=where) from error


def _require_no_rest(name: str, rest: str) -> None:
    if rest:
        raise UsageError(f"{name} takes nothing after a colon, found {rest!r}", where="data")


def _cifar(name: str, split: str) -> Contents:
    part = _part({"train": True, "test": False}, split, name.lower())
    images = cifar.load(name, train=part)
    pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(images.targets)
    return _numbered(range(len(pixels))), pixels, labels, list(images.classes)


def _part(parts: Mapping[str, T], split: str, where: str) -> T:
    if split not in parts:
        some = next(iter(parts))
        fix = f"it has {', '.join(parts)}, and parts such as {some}[:500]"
        raise UsageError(f"unknown split {split!r}", where=where, fix=fix)
    return parts[split]


def _numbered(indices: Any) -> tuple[str, ...]:
    return tuple(str(int(i)) for i in indices)


def _images_in(root: Path, names: Collection[str]) -> list[tuple[Path, int]]:
    """Return the images in the class folders *names* with their labels; warn of other entries."""
    files, broken, others = [], [], []
    for label, name in enumerate(names):
        for entry in sorted(f for f in (root / name).iterdir() if not f.name.startswith(".")):
            if entry.suffix.lower() not in SUFFIXES:
                others.append(entry.relative_to(root).as_posix())
            elif entry.is_file():
                files.append((entry, label))
            else:
                broken.append(entry.relative_to(root).as_posix())
    if broken:
        what = "entries are named as images, but are not files or links to files"
        raise InputError(what, problems=broken, where=root, fix="remove them, or repair the links")
    if not files:
        fix = "give a folder with one folder of images per class"
        if sets := [name for name in names if _is_split(root / name)]:
            shown = [f"folder:{root / name}" for name in sets]
            fix = f"it holds data sets one level below: {enumerated(shown)}"
        raise InputError("holds no images in class folders", where=root, fix=fix)
    if others:
        what = f"{root}: {len(others)} entries of class folders are not images ({others[0]})"
        warnings.warn(f"{what}; known are {' '.join(SUFFIXES)}", stacklevel=2)
    labels = {label for _, label in files}
    if empty := [name for label, name in enumerate(names) if label not in labels]:
        what = f"{root}: no images of {len(empty)} of {len(names)} classes"
        warnings.warn(f"{what}: {enumerated(empty)}", stacklevel=2)
    return files


def _decode_all(files: Sequence[Path], root: Path) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return the pixels of *files*.

    Raises:
        InputError: some cannot be read; all of them are listed.
    """
    arrays, problems = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for decoded in pool.map(_decode, files):
            if isinstance(decoded, InputError):
                problems.append(decoded)
            else:
                arrays.append(decoded)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        what = f"{len(problems)} of {len(files)} images cannot be read"
        raise InputError(what, problems=[str(p) for p in problems], where=root)
    return arrays


def _decode(file: Path) -> np.ndarray[Any, np.dtype[np.uint8]] | InputError:
    """Return the pixels of *file*, or why it cannot be read."""
    try:
        with Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                what = f"has {image.width}×{image.height} pixels, which is too many"
                return InputError(what, where=file)
            if image.mode not in EIGHT_BITS:  # Pillow would clip values above 255
                what = f"has pixels of more than 8 bits (Pillow's mode {image.mode})"
                return InputError(what, where=file, fix="save it with 8 bits per channel")
            pixels = np.array(image.convert("L" if image.mode in GREY else "RGB"))
            return pixels.reshape(*pixels.shape[:2], -1)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return InputError(f"is not a readable image: {error}", where=file)
