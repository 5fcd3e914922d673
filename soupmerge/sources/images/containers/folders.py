"""Folders of images, one for each class, on a disk or in an archive."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from soupmerge.errors import InputError, UsageError, enumerated
from soupmerge.sources.images.containers.image_files import (
    SUFFIXES,
    ImageFiles,
    id_of,
    is_image,
    stamps_of,
)
from soupmerge.sources.images.containers.lists import listed
from soupmerge.sources.images.containers.queries import options
from soupmerge.sources.images.containers.written_labels import natural, warn_of_order
from soupmerge.sources.images.contents import SPLITS, Contents, part


class Tree(Protocol):
    """Folders of files. Paths are relative to its root, which is the empty path."""

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in the folder *path*, without hidden ones."""

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """Return what is in the folder *path*: each name, sorted, and whether it is a file.

        Hidden entries are left out.
        """

    def where(self, path: str) -> str:
        """Return where *path* is, for messages."""


@dataclass(frozen=True)
class Disk:
    """The folders and files below *root*, as a `Tree`; links are followed."""

    root: Path

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in the folder *path*, without hidden ones."""
        return [entry.name for entry in self._scanned(path) if _holds(entry.is_dir)]

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """Return what is in the folder *path*: each name, sorted, and whether it is a file."""
        return sorted((entry.name, _holds(entry.is_file)) for entry in self._scanned(path))

    def where(self, path: str) -> str:
        """Return the path of *path*."""
        return str(self.root / path)

    def _scanned(self, path: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / path) as entries:
                return [entry for entry in entries if entry.name[0] != "."]
        except OSError as error:
            what = f"cannot be listed: {error.strerror or error}"
            raise InputError(what, where=self.where(path), fix="check its permissions") from error


def _holds(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:  # a loop of links
        return False


class ClassFolders(NamedTuple):
    """What class folders hold.

    Attributes:
        home: the folder that they are in, such as that of a split.
        names: ``(N,)``: paths of images, relative to *home*.
        labels: ``(N,)``: the rank of the folder of each.
        classes: the names of the folders in the order of their labels.
    """

    home: str
    names: list[str]
    labels: list[int]
    classes: list[str]


def folder(rest: str, split: str) -> Contents:
    """List one folder of images per class, from ``PATH/split`` if it exists, else from ``PATH``.

    With ``PATH?list=FILE``, the images and their labels are those of a list.
    """
    where = f"folder:{rest}"
    place, asked = options(rest, ("list", "classes"), where)
    root = Path(place)
    if not root.is_dir():
        raise InputError("there is no such folder", where=f"folder:{place}")
    if "list" in asked:
        return listed(root, asked["list"], asked.get("classes"))
    if asked:
        fix = "give a list, too: ?list=FILE&classes=FILE"
        raise UsageError("names the classes of a list", where=where, fix=fix)
    tree = Disk(root)
    home, names, labels, classes = class_folders(tree, split)
    files = ImageFiles(root / home, names, stamps_of(root / home, names))
    check = partial(check_ranks, tree, home, classes)
    return Contents([*map(id_of, names)], files, torch.tensor(labels), classes, check)


def class_folders(tree: Tree, split: str) -> ClassFolders:
    """Return the images in the class folders of *tree*, in those of *split* if it has splits.

    Raises:
        UsageError: it has other splits.
        InputError: it holds no images in class folders, or entries named as images are no files.

    Warns:
        UserWarning: entries are no images, or classes have none.
    """
    home = ""
    if _is_split(tree, split):
        home = split
    elif splits := [s for s in SPLITS if _is_split(tree, s)]:
        part(dict.fromkeys(splits), split, tree.where(""))
    classes = _classes_in(tree, home)
    names, labels = _images_in(tree, home, classes)
    return ClassFolders(home, names, labels, classes)


def _is_split(tree: Tree, name: str) -> bool:
    """Return whether the folder *name* has class folders; with images only, it may be a class."""
    return name in tree.folders("") and bool(tree.folders(name))


def _classes_in(tree: Tree, path: str) -> list[str]:
    """Return the names of the class folders in *path*, in the order of their labels."""
    return sorted(tree.folders(path), key=natural)


def check_ranks(tree: Tree, home: str, names: Sequence[str]) -> None:
    """Refuse a split in which classes would have other labels than in ``train``; warn of others.

    Such labels are the ranks of the folders *names* in *home*.

    Raises:
        InputError: the class folders of the split are not those of ``train``.

    Warns:
        UserWarning: the folders are in another order than text.
    """
    known = _classes_in(tree, "train") if home and _is_split(tree, "train") else names
    if known != names:
        problems = [f"{name}: only in train" for name in known if name not in names]
        problems += [f"{name}: only in {home}" for name in names if name not in known]
        what = "its class folders are not those of train, so that labels would differ"
        fix = (
            "give both the same class folders (a class without images is an empty folder), or say "
            "with --classes what the outputs of the network stand for"
        )
        raise InputError(what, problems=problems, where=tree.where(home), fix=fix)
    warn_of_order(names, tree.where(home))


def _images_in(tree: Tree, home: str, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the images in the folders *classes* and their labels; warn of other entries."""
    names: list[str] = []
    labels: list[int] = []
    broken: list[str] = []
    others: list[str] = []
    for label, folder in enumerate(classes):
        for name, is_file in tree.entries(f"{home}/{folder}".lstrip("/")):
            path = f"{folder}/{name}"
            if not is_image(name):
                others.append(path)
            elif is_file:
                names.append(path)
                labels.append(label)
            else:
                broken.append(path)
    where = tree.where(home)
    if broken:
        what = "entries are named as images, but are not files or links to files"
        fix = "remove them, or repair the links"
        raise InputError(what, problems=broken, where=where, fix=fix)
    if not names:
        _refuse_empty(tree, home, classes)
    if others:
        what = f"{where}: {len(others)} entries of class folders are not images ({others[0]})"
        warnings.warn(f"{what}; known are {' '.join(SUFFIXES)}", stacklevel=2)
    filled = set(labels)
    if empty := [name for label, name in enumerate(classes) if label not in filled]:
        what = f"{where}: no images of {len(empty)} of {len(classes)} classes"
        warnings.warn(f"{what}: {enumerated(empty)}", stacklevel=2)
    return names, labels


def _refuse_empty(tree: Tree, home: str, classes: Sequence[str]) -> None:
    fix = "give a folder with one folder of images per class"
    paths = [f"{home}/{name}".lstrip("/") for name in classes]
    if sets := [tree.where(path) for path in paths if tree.folders(path)]:
        fix = f"it holds data sets one level below: {enumerated(sets)}"
    raise InputError("holds no images in class folders", where=tree.where(home), fix=fix)
