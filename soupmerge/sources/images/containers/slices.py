"""Stored images that are parts of larger files, such as the members of a tar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupmerge.errors import InputError
from soupmerge.sources.images.containers.image_files import require_size
from soupmerge.storage.reading import StableFile


@dataclass(frozen=True)
class Slices:
    """Images that are parts of *files*, as a `contents.Source`.

    A file is opened for each read, so that several threads may read at once, and must be as it was
    when its images were found.

    Attributes:
        files: the files.
        names: ``(N,)``: the name of each image in its file.
        places: ``(N, 3)``: index of its file, where in it the image begins, and its size in bytes.
    """

    files: Sequence[StableFile]
    names: Sequence[str]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def stamps(self) -> NDArray[np.int64]:
        """``(N, 2)``: sizes of the images, and when their files were last changed, in ns."""
        changed = np.array([file.stamp[-1] for file in self.files], np.int64)
        return np.stack([self.places[:, 2], changed[self.places[:, 0]]], axis=1)

    def read(self, index: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            InputError: its file has changed or cannot be read, or it is too large for an image.
        """
        return self.part(index, *self.places[index, 1:].tolist())

    def part(self, index: int, start: int, count: int) -> bytes:
        """Return *count* bytes from *start* on in the file of an image, for which errors are."""
        where = self.where(index)
        require_size(count, where)
        try:
            return self._file(index).read(start, count)
        except InputError as error:
            raise InputError(error.what, where=where, fix=error.fix) from error

    def where(self, index: int) -> str:
        """Return the file of an image and its name in it."""
        return f"{self._file(index).path}: {self.names[index]}"

    def _file(self, index: int) -> StableFile:
        return self.files[int(self.places[index, 0])]
