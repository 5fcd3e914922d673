"""Folders of images, one for each class."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from soupmerge.errors import InputError, enumerated
from soupmerge.sources.images.contents import SPLITS, Contents, part

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MOST_BYTES = 1 << 28
"""Of one image file."""


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
        if self.stamps[index, 0] > MOST_BYTES:
            what = f"has {self.stamps[index, 0]:,} bytes, which is too large for an image"
            raise InputError(what, where=self.where(index))
        try:
            with open(self.root / self.names[index], "rb") as file:
                return file.read(MOST_BYTES)
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise InputError(what, where=self.where(index)) from error

    def where(self, index: int) -> str:
        """Return the path of a file."""
        return str(self.root / self.names[index])


def folder(rest: str, split: str) -> Contents:
    """List one folder of images per class, from ``rest/split`` if it exists, else from *rest*."""
    root = Path(rest)
    if not root.is_dir():
        raise InputError("there is no such folder", where=f"folder:{rest}")
    train = root / "train"
    if _is_split(root / split):
        root = root / split
    elif splits := [s for s in SPLITS if _is_split(root / s)]:
        part(dict.fromkeys(splits), split, f"folder:{rest}")
    classes = _classes_in(root)
    files, labels = _images_in(root, classes)
    ids = [os.fsencode(name).decode(errors="backslashreplace") for name in files.names]
    check = partial(_check_ranks, root, classes, train)
    return Contents(ids, files, torch.tensor(labels), classes, check)


def _is_split(folder: Path) -> bool:
    """Return whether *folder* has class folders; with images only, it may be a class "train"."""
    return folder.is_dir() and bool(_classes_in(folder))


def _classes_in(root: Path) -> list[str]:
    """Return the names of the class folders in *root*, in the order of their labels."""
    with os.scandir(root) as entries:
        folders = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    return sorted(folders, key=_natural)


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return the key that sorts as people do: case does not count, and 10 comes after 9."""
    parts = re.split("([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _check_ranks(root: Path, names: Sequence[str], train: Path) -> None:
    """Refuse a split in which classes would have other labels than in *train*; warn of others.

    Such labels are the ranks of the folders *names* in *root*.
    """
    is_split = root.parent == train.parent and _is_split(train)
    known = _classes_in(train) if is_split else names
    if known != names:
        problems = [f"{name}: only in train" for name in known if name not in names]
        problems += [f"{name}: only in {root.name}" for name in names if name not in known]
        what = "its class folders are not those of train, so that labels would differ"
        fix = (
            "give both the same class folders (a class without images is an empty folder), or say "
            "with --classes what the outputs of the network stand for"
        )
        raise InputError(what, problems=problems, where=root, fix=fix)
    _warn_of_order(root, names)


def _warn_of_order(root: Path, names: Sequence[str]) -> None:
    if names != (by_text := sorted(names)):
        i = next(i for i, (a, b) in enumerate(zip(names, by_text, strict=True)) if a != b)
        what = (
            f"{root}: label {i} is {names[i]!r}; sorted as text, as torchvision does, it would be "
            f"{by_text[i]!r}: make sure that the network was trained with this order"
        )
        warnings.warn(what, stacklevel=2)


def _images_in(root: Path, classes: Sequence[str]) -> tuple[ImageFiles, list[int]]:
    """Return the images in the folders *classes* and their labels; warn of other entries."""
    names: list[str] = []
    stamps: list[tuple[int, int]] = []
    labels: list[int] = []
    broken: list[str] = []
    others: list[str] = []
    for label, name in enumerate(classes):
        with os.scandir(root / name) as entries:
            listed = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        for entry in listed:
            path = f"{name}/{entry.name}"
            if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
                others.append(path)
            elif _is_file(entry):
                status = entry.stat()
                names.append(path)
                stamps.append((status.st_size, status.st_mtime_ns))
                labels.append(label)
            else:
                broken.append(path)
    if broken:
        what = "entries are named as images, but are not files or links to files"
        raise InputError(what, problems=broken, where=root, fix="remove them, or repair the links")
    if not names:
        _refuse_empty(root, classes)
    if others:
        what = f"{root}: {len(others)} entries of class folders are not images ({others[0]})"
        warnings.warn(f"{what}; known are {' '.join(SUFFIXES)}", stacklevel=2)
    filled = set(labels)
    if empty := [name for label, name in enumerate(classes) if label not in filled]:
        what = f"{root}: no images of {len(empty)} of {len(classes)} classes"
        warnings.warn(f"{what}: {enumerated(empty)}", stacklevel=2)
    return ImageFiles(root, names, np.array(stamps, np.int64)), labels


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


def _refuse_empty(root: Path, classes: Sequence[str]) -> None:
    fix = "give a folder with one folder of images per class"
    if sets := [name for name in classes if _is_split(root / name)]:
        shown = [f"folder:{root / name}" for name in sets]
        fix = f"it holds data sets one level below: {enumerated(shown)}"
    raise InputError("holds no images in class folders", where=root, fix=fix)
