"""Tiny ImageNet, whose validation images are in one folder, with a table of their classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from soupmerge.errors import InputError
from soupmerge.sources.images.containers.image_files import ImageFiles
from soupmerge.sources.images.contents import Contents
from soupmerge.storage.reading import read_bytes


def read(root: Path, split: str) -> Contents:
    """Return the images of *split*: ``train/CLASS/images/*``, or ``val/images/*`` and a table.

    Classes are in the order of their synsets, as class folders would be.

    Raises:
        InputError: a file is missing, or the table names classes that ``wnids.txt`` does not.
    """
    classes = sorted(_lines(root / "wnids.txt"))
    home = root / split
    table = home / "val_annotations.txt"
    if table.exists():
        rows = [line.split("\t") for line in _lines(table)]
        images = [(f"images/{row[0]}", row[1] if len(row) > 1 else "") for row in rows]
    else:
        images = [(path, path.partition("/")[0]) for path in _below(home, classes)]
    if unknown := sorted({name for _, name in images} - {*classes}):
        what = "names classes that are not in wnids.txt"
        raise InputError(what, problems=unknown, where=table, fix="unpack the archive again")
    names = [path for path, _ in images]
    labels = torch.tensor([classes.index(name) for _, name in images])
    return Contents(names, ImageFiles(home, names, _stamps(home, names)), labels, classes)


def _lines(path: Path) -> list[str]:
    return read_bytes(path).decode("utf-8", "replace").splitlines()


def _below(home: Path, classes: list[str]) -> list[str]:
    """Return the paths of the images in the folders of *classes*, relative to *home*."""
    try:
        return [
            f"{name}/images/{file}"
            for name in classes
            for file in sorted(os.listdir(home / name / "images"))
        ]
    except OSError as error:
        what = f"cannot be listed: {error.strerror}"
        raise InputError(what, where=error.filename, fix="unpack the archive again") from error


def _stamps(home: Path, names: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    try:
        found = [os.stat(home / name) for name in names]
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InputError(what, where=error.filename, fix="unpack the archive again") from error
    return np.array([(status.st_size, status.st_mtime_ns) for status in found], np.int64)
