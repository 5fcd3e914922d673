"""What readers return: ids, labels and classes, and pixels or the place where images are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from soupmerge.errors import UsageError

T = TypeVar("T")

SPLITS = ("train", "val", "test")


@runtime_checkable
class Source(Protocol):
    """Stored images, which are read one by one by their index; no pixel is known yet."""

    @property
    def stamps(self) -> NDArray[np.int64]:
        """``(N, 2)``: the size of each stored image in bytes, and when it was last changed, in ns.

        Sizes are part of the fingerprint of the set. Both decide whether what was found out about
        the images before still holds.
        """

    def __len__(self) -> int:
        """Return the number of images N."""

    def read(self, index: int) -> bytes | Image.Image:
        """Return an image as its file holds it, or as Pillow does.

        Raises:
            InputError: it cannot be read.
        """

    def where(self, index: int) -> str:
        """Return where an image is stored, for errors."""


class Contents(NamedTuple):
    """What a reader returns.

    Attributes:
        ids: one name per image, stable across runs.
        pixels: ``(N, C_in, H, W)``, or where the images are stored.
        labels: ``(N,)`` int64.
        classes: the names of the classes in the order of their labels, or the number of classes if
            they have no names.
        check_ranks: refuses labels, or warns of them, that may be others than networks mean; called
            unless labels are found by name.
    """

    ids: Sequence[str]
    pixels: Tensor | Source
    labels: Tensor
    classes: Sequence[str] | int
    check_ranks: Callable[[], None] = lambda: None


def part(parts: Mapping[str, T], split: str, where: str) -> T:
    """Return what *parts* has for *split*.

    Raises:
        UsageError: it has no such split; *where* names the set.
    """
    if split not in parts:
        some = next(iter(parts))
        fix = f"it has {', '.join(parts)}, and parts such as {some}[:500]"
        raise UsageError(f"unknown split {split!r}", where=where, fix=fix)
    return parts[split]


def numbered(indices: Any) -> tuple[str, ...]:
    """Return ids that are the numbers *indices*."""
    return tuple(str(int(i)) for i in indices)
