"""Written forms of data → labelled images: ``digits``, ``folder:PATH``, ``npz:PATH``, a function;
``blur-3:DATA`` and its like are the same images, corrupted.

A split is written ``train``, or ``train[:45000]`` for part of it: parts are taken from one fixed
shuffle, so that any part holds all classes, and two parts that do not overlap share no image.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.schedule import stream
from soupmerge.sources import corrupting, readers

READERS = {
    "digits": readers.digits,
    "cifar10": readers.cifar10,
    "cifar100": readers.cifar100,
    "folder": readers.folder,
    "npz": readers.npz,
}
"""The word before the colon → reader of (what follows it, split)."""


VAL_OF = {"cifar10": "train[45000:]", "cifar100": "train[45000:]"}
"""What ``val`` means for sets without one: choose on it only what was trained on the rest."""


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images, in memory.

    Attributes:
        ref: the written form of the set.
        split: the written form of the part of it.
        ids: one name per example, stable across runs.
        pixels: ``(N, C_in, H, W)``, uint8 or float32 in ``[0, 1]``.
        labels: ``(N,)`` int64.
        classes: number of classes C.
        class_names: their names in the order of the labels; empty if nobody names them.

    Raises:
        InputError: shapes, range of pixels or labels are not as above.
    """

    ref: str
    split: str
    ids: Sequence[str]
    pixels: Tensor
    labels: Tensor
    classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_images(self.ref, self.pixels)
        _require_labels(self.ref, self.pixels, self.labels, self.classes)

    @classmethod
    def of(cls, x: Any, y: Any, *, ref: str = "arrays", classes: int | None = None) -> Images:
        """Return a set of the images *x* and labels *y* (arrays or tensors)."""
        pixels, labels = torch.as_tensor(x), torch.as_tensor(y).long().flatten()
        if pixels.dtype != torch.uint8:
            pixels = pixels.float()
        top = int(labels.max()) + 1 if len(labels) else 0
        ids = tuple(str(i) for i in range(len(pixels)))
        return cls(ref, "all", ids, pixels, labels, classes or top)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 images and labels at *indices*."""
        x = self.pixels[indices]
        return (x.float() / 255 if x.dtype == torch.uint8 else x), self.labels[indices]

    def take(self, indices: Tensor, split: str) -> Images:
        """Return the examples at *indices*, as the part called *split*."""
        ids = tuple(self.ids[i] for i in indices.tolist())
        pixels, labels = self.pixels[indices], self.labels[indices]
        return dataclasses.replace(self, split=split, ids=ids, pixels=pixels, labels=labels)

    @cached_property
    def sha256(self) -> str:
        """Hash of ids, labels and pixels."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for tensor in (self.labels, self.pixels):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the set, and its classes where they have names."""
        named = {"classes": list(self.class_names)} if self.class_names else {}
        told = {"ref": self.ref, "split": self.split, "n": len(self), "sha256": self.sha256}
        return {**told, **named}


def data(ref: str, *, split: str = "test", limit: int | None = None) -> Images:
    """Return the images that *ref* names.

    Args:
        ref: ``digits``, ``cifar10``, ``cifar100``, ``folder:PATH`` (class folders, perhaps below
            a folder per split), ``npz:PATH`` (arrays x and y), or ``package.module:function``,
            called with the split and giving images and labels; ``blur-3:DATA`` corrupts them.
        split: ``train``, ``val`` or ``test``, or a part: ``train[:45000]``, ``train[45000:]``.
        limit: keep so many examples, drawn by a fixed seed.

    Raises:
        UsageError: the reference, split or limit cannot be meant.
        InputError: what is there is not a set of images in ``[0, 1]`` with labels.

    Example:
        >>> len(data("digits", split="train")), len(data("digits", split="test", limit=100))
        (1197, 100)
    """
    if corrupting.parse(ref) is not None:
        return data_sets([ref], split=split, limit=limit)[0]
    name, start, stop = _parse_split(VAL_OF.get(ref, split) if split == "val" else split)
    images = _read(ref, name)
    shuffled = torch.randperm(len(images), generator=stream("split", len(images)))
    if start is not None or stop is not None:
        shuffled = shuffled[start:stop]
    if limit is not None:
        if not 0 < limit <= len(shuffled):
            raise UsageError(f"limit {limit} is not in 1…{len(shuffled)}", where=f"{ref} {split}")
        shuffled = shuffled[:limit]
    if not len(shuffled):
        raise InputError("holds no images", where=f"{ref} {split}")
    whole = len(shuffled) == len(images)
    return images.take(
        shuffled.sort().values, split if whole or limit is None else f"{split}, {limit} of it"
    )


def data_sets(refs: Sequence[str], *, split: str, limit: int | None = None) -> list[Images]:
    """Return the images of each of *refs*, as `data` does; what several corrupt is read once."""
    plain: dict[str, Images] = {}
    found = []
    for ref in refs:
        shift = corrupting.parse(ref)
        name = ref if shift is None else shift[2]
        if name not in plain:
            plain[name] = data(name, split=split, limit=limit)
        images = plain[name]
        if shift is not None:
            pixels = corrupting.corrupt(images.pixels, images.ids, *shift[:2])
            images = dataclasses.replace(images, ref=ref, pixels=pixels)
        found.append(images)
    return found


def _read(ref: str, split: str) -> Images:
    kind, colon, rest = ref.partition(":")
    if colon and not rest:
        fix = "leave the colon out, or name what comes after it"
        raise UsageError("ends where a name should follow", where=ref, fix=fix)
    if kind in READERS:
        ids, pixels, labels, classes = READERS[kind](rest, split)
    elif colon and kind.replace(".", "").isidentifier():
        ids, pixels, labels, classes = readers.function(ref, split)
    else:
        fix = near_miss(ref, [*READERS, "package.module:function"])
        raise UsageError(f"no data set {ref!r}", where="data", fix=fix)
    if isinstance(classes, int):
        return Images(ref, split, ids, pixels, labels, classes)
    return Images(ref, split, ids, pixels, labels, len(classes), tuple(classes))


def _parse_split(text: str) -> tuple[str, int | None, int | None]:
    match = re.fullmatch(r"(\w+)(?:\[(-?[0-9]{1,18})?:(-?[0-9]{1,18})?\])?", text)
    if match is None:
        fix = "write train, test, or a part such as train[:45000]"
        raise UsageError(f"{text!r} is not a split", where="split", fix=fix)
    name, start, stop = match.groups()
    return name, int(start) if start else None, int(stop) if stop else None


def _require_images(ref: str, pixels: Tensor) -> None:
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        fix = "give (N, channels, height, width)"
        if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
            fix += "; transpose from (N, height, width, channels)?"
        raise InputError(f"images of shape {tuple(pixels.shape)}", where=ref, fix=fix)
    if pixels.dtype == torch.uint8:
        return
    low, high = (float(pixels.min()), float(pixels.max())) if len(pixels) else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        fix = "give raw images; put mean and std into the model" if low < 0 else "divide by 255"
        raise InputError(
            f"pixels range from {low:g} to {high:g}, not in [0, 1]", where=ref, fix=fix
        )


def _require_labels(ref: str, pixels: Tensor, labels: Tensor, classes: int) -> None:
    if len(labels) != len(pixels):
        raise InputError(f"{len(pixels)} images, but {len(labels)} labels", where=ref)
    wrong = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"label {int(labels[first])} of example {first} is not one of {classes} classes",
            where=ref,
            fix="number the classes from 0",
        )
