"""Folders of images, one for each class."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from soupmerge.errors import InputError, enumerated
from soupmerge.sources.images.contents import SPLITS, Contents, part
from soupmerge.sources.images.decoding import decode_all

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


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
        part(dict.fromkeys(splits), split, f"folder:{rest}")
    names = _classes_in(root)
    files = _images_in(root, names)
    _warn_of_order(root, names)
    arrays = decode_all([file for file, _ in files], root)
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
