"""Items of map-style data sets: images and labels that are asked for by number."""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from soupmerge.errors import InputError

ROUNDING = 1e-3
"""By how many levels of 255 a number may differ from one that stands for 8 bits."""
FORM = "an item is an image (Pillow's, or uint8 as a tensor or array) and the number of its class"


@dataclass(frozen=True)
class Items:
    """Images of a map-style data set, as a `contents.Source`.

    Items are asked for by one thread at a time, because data sets are written for one.

    Attributes:
        dataset: the data set.
        ref: its reference.
        labels: ``(N,)``: the labels that its items have; none while they are unknown.
        lock: held while an item is asked for.
    """

    dataset: Any
    ref: str
    labels: Sequence[int] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def stamps(self) -> NDArray[np.int64]:
        """``(N, 2)``: neither sizes nor times are known, which is written 0."""
        return np.zeros((len(self), 2), np.int64)

    def read(self, index: int) -> Image.Image:
        """Return the image of an item.

        Raises:
            InputError: the data set fails, or the item is not an image with the label that it had.
        """
        image, label = self.item(index)
        if self.labels and label != self.labels[index]:
            what = f"has the label {label}, but the data set says {self.labels[index]}"
            raise InputError(what, where=self.where(index), fix="make labels the same each time")
        return image

    def item(self, index: int) -> tuple[Image.Image, int]:
        """Return the image and the label of an item."""
        where = self.where(index)
        with self.lock:
            try:
                item = self.dataset[index]
            except (Exception, SystemExit) as error:  # foreign code may raise anything
                raise InputError(f"cannot be read: {error!r}", where=where) from error
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise InputError(f"is a {type(item).__name__}, not a pair", where=where, fix=FORM)
        return _image(item[0], where), _label(item[1], where)

    def where(self, index: int) -> str:
        """Return the number of an item."""
        return f"{self.ref}: item {index}"


def _image(value: Any, where: str) -> Image.Image:
    """Return *value* as an image with 8 bits per channel.

    Tensors have their channels first, arrays last. Numbers in ``[0, 1]`` must stand for 8 bits.
    """
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Tensor):
        value = value.movedim(0, -1) if value.ndim == 3 else value
        value = (value.float() if value.is_floating_point() else value).numpy(force=True)
    if not isinstance(value, np.ndarray):
        raise InputError(f"its image is a {type(value).__name__}", where=where, fix=FORM)
    if value.dtype.kind == "f":
        value = _in_bytes(value, where)
    array = value[..., 0] if value.ndim == 3 and value.shape[-1] == 1 else value
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.ndim == 3 and array.shape[-1] == 3):
        what = f"its image has the shape {value.shape}, channels last, and is {value.dtype}"
        raise InputError(what, where=where, fix=FORM)
    return Image.fromarray(np.ascontiguousarray(array))


def _in_bytes(value: np.ndarray[Any, Any], where: str) -> NDArray[np.uint8]:
    """Return numbers in ``[0, 1]`` as the bytes that they were made of."""
    levels = value.astype(np.float64) * 255
    rounded = levels.round()
    if np.isnan(levels).any() or rounded.min() < 0 or rounded.max() > 255:
        what = f"its pixels range from {value.min():g} to {value.max():g}, not in [0, 1]"
        raise InputError(what, where=where, fix="leave out Normalize, and give raw images")
    if np.abs(levels - rounded).max() > ROUNDING:
        what = "its pixels are not multiples of 1/255, as those of images are"
        fix = "resize images before they become tensors, or with ?resize=256&crop=224"
        raise InputError(what, where=where, fix=fix)
    found: NDArray[np.uint8] = rounded.astype(np.uint8)
    return found


def _label(value: Any, where: str) -> int:
    try:
        return operator.index(value)
    except (TypeError, ValueError) as error:
        what = f"its label is a {type(value).__name__}, not the number of a class"
        raise InputError(what, where=where, fix=FORM) from error
