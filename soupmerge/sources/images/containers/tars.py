"""Class folders in a tar archive."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from soupmerge.sources.images.containers.folders import check_ranks, class_folders
from soupmerge.sources.images.containers.image_files import id_of, is_image
from soupmerge.sources.images.containers.kept_arrays import Arrays, kept, packed, unpacked
from soupmerge.sources.images.containers.shards import TarImages, members
from soupmerge.sources.images.contents import SPLITS, Contents
from soupmerge.storage.reading import StableFile


def tar(rest: str, split: str) -> Contents:
    """List one folder of images per class, from ``split/`` in an archive if it has splits."""
    file = StableFile.seen(rest)

    def make() -> Arrays:
        names, spans = members(file)
        return {"names": packed(names), "spans": spans}

    listed = kept("shards", file, "members", make)
    names, spans = unpacked(listed["names"]), listed["spans"]
    tree = Archive(rest, names)
    home, chosen, labels, classes = class_folders(tree, split)
    above = "".join(f"{part}/" for part in (tree.top, home) if part)
    place_of = {name: place for place, name in enumerate(names)}
    places = [place_of[above + name] for name in chosen]
    places_in = np.column_stack([np.zeros(len(places), np.int64), spans[places, :2]])
    images = TarImages([file], [names[place] for place in places], places_in, spans[places, 2])
    check = partial(check_ranks, tree, home, classes)
    return Contents([*map(id_of, chosen)], images, torch.tensor(labels), classes, check)


class Archive:
    """The files and folders of an archive, as a `folders.Tree`.

    Archives are often made of one folder. If all images are in folders of that, it is the root.

    Attributes:
        path: the archive.
        top: the path of the root in it.
    """

    def __init__(self, path: str, names: Sequence[str]) -> None:
        self.path, self.top = path, ""
        self._files: dict[str, list[str]] = {}
        self._folders: dict[str, dict[str, None]] = {"": {}}
        for name in names:
            folder, _, base = name.rpartition("/")
            self._add(folder)
            if base:
                self._files.setdefault(folder, []).append(base)
        while (inner := self._only_folder()) is not None:
            self.top = inner

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in the folder *path*, without hidden ones."""
        return [name for name in self._folders[self._full(path)] if name[0] != "."]

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """Return what is in the folder *path*: each name, sorted, and whether it is a file."""
        files = [(name, True) for name in self._files.get(self._full(path), ()) if name[0] != "."]
        return sorted([*files, *((name, False) for name in self.folders(path))])

    def where(self, path: str) -> str:
        """Return the archive and *path* in it."""
        return f"{self.path}: {full}" if (full := self._full(path)) else self.path

    def _full(self, path: str) -> str:
        return "/".join(filter(None, (self.top, path)))

    def _add(self, folder: str) -> None:
        """Note that there is this *folder*, and all that it is in."""
        while folder:
            parent, _, name = folder.rpartition("/")
            is_known = parent in self._folders
            self._folders.setdefault(folder, {})
            self._folders.setdefault(parent, {})[name] = None
            folder = "" if is_known else parent

    def _only_folder(self) -> str | None:
        """Return the folder in the root that holds everything, in folders, if there is one."""
        found = self.folders("")
        if len(found) != 1 or found[0] in SPLITS or not self.folders(found[0]):
            return None
        files = (name for path in ("", found[0]) for name, is_file in self.entries(path) if is_file)
        return None if any(map(is_image, files)) else self._full(found[0])
