"""References to data → labelled images: ``digits``, ``folder:PATH``, ``npz:PATH``, a function.

``blur-3:DATA`` applies that corruption to DATA. A split is written ``train``, or ``train[:45000]``
for a part of it. Parts are taken from one fixed shuffle, so that a part holds all classes, and
parts that do not overlap share no image.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.schedule import stream
from soupmerge.sources import corruptions, functions, readers

READERS = {
    "digits": readers.digits,
    "cifar10": readers.cifar10,
    "cifar100": readers.cifar100,
    "folder": readers.folder,
    "npz": readers.npz,
}
"""The word before the colon → its reader, called with what follows the colon and the split."""


VAL_OF = {"cifar10": "train[45000:]", "cifar100": "train[45000:]"}
"""What ``val`` means for sets without one. To choose on it, train on ``train[:45000]`` only."""


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images in memory.

    Attributes:
        ref: the reference of the set.
        split: its split or part.
        ids: one name per example, stable across runs.
        pixels: ``(N, C_in, H, W)``, uint8 or float32 in ``[0, 1]``; 1 or 3 channels.
        labels: ``(N,)`` int64, from 0 to C − 1.
        classes: number of classes C.
        class_names: their names in the order of the labels; empty if unknown.

    Raises:
        InputError: shapes, pixels or labels are not as above.

    Example:
        >>> images = Images.of(torch.zeros(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2]))
        >>> len(images), images.classes, images.batch(torch.tensor([4]))[1]
        (6, 3, tensor([1]))
    """

    ref: str
    split: str
    ids: Sequence[str]
    pixels: Tensor
    labels: Tensor
    classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, Tensor) or not isinstance(self.labels, Tensor):
            what = "pixels and labels are not tensors"
            raise InputError(what, where=self.ref, fix="Images.of(x, y) takes arrays, too")
        _require_images(self.ref, self.pixels)
        _require_labels(self.ref, self.pixels, self.labels, self.classes)

    @classmethod
    def of(cls, x: Any, y: Any, *, ref: str = "arrays", classes: int | None = None) -> Images:
        """Return a set of images from arrays or tensors.

        Args:
            x: ``(N, C_in, H, W)``, uint8, or numbers in ``[0, 1]``.
            y: ``(N,)`` integers.
            ref: the reference to give the set.
            classes: number of classes C; default the largest label + 1.

        Raises:
            InputError: they are not as above.
        """
        ids, pixels, labels, labelled = readers.from_arrays(x, y, ref)
        return cls(ref, "all", ids, pixels, labels, classes or labelled)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images ``(B, C_in, H, W)``, float32 in ``[0, 1]``, and labels at *indices*."""
        x = self.pixels[indices]
        return (x.float() / 255 if x.dtype == torch.uint8 else x), self.labels[indices]

    def take(self, indices: Tensor, split: str) -> Images:
        """Return the examples at *indices* as a set of their own, whose part is called *split*."""
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
        """Return what identifies the set, with the names of its classes if they are known."""
        named = {"classes": list(self.class_names)} if self.class_names else {}
        return {
            "ref": self.ref,
            "split": self.split,
            "n": len(self),
            "sha256": self.sha256,
            **named,
        }


def data(ref: str, *, split: str = "test", limit: int | None = None) -> Images:
    """Return the images that *ref* names.

    Args:
        ref: ``digits``, ``cifar10``, ``cifar100``, ``folder:PATH`` (one folder per class, below a
            folder per split if there are splits), ``npz:PATH`` (arrays x and y), or
            ``package.module:function``, which is called with the split and returns images and
            labels; ``blur-3:DATA`` applies a corruption to DATA.
        split: ``train``, ``val`` or ``test``, or a part: ``train[:45000]``, ``train[45000:]``.
        limit: number of images to keep, drawn with a fixed seed; default all.

    Raises:
        UsageError: there is no such set or split, or *limit* is out of range.
        InputError: the data are not labelled images in ``[0, 1]``.
        NetworkError: a set must be downloaded, and cannot be.
        UnsafeError: reading the data would run code or fill the memory.

    Example:
        >>> len(data("digits", split="train")), len(data("digits", split="test", limit=100))
        (1197, 100)
    """
    _require_text(ref)
    if corruptions.parse(ref) is not None:
        return data_sets([ref], split=split, limit=limit)[0]
    name, start, stop = _parse_split(VAL_OF.get(ref, split) if split == "val" else split)
    images = _read(ref, name)
    shuffled = torch.randperm(len(images), generator=stream("split", len(images)))
    if start is not None or stop is not None:
        shuffled = shuffled[start:stop]
    if limit is not None:
        if not isinstance(limit, int) or not 0 < limit <= len(shuffled):
            raise UsageError(f"limit {limit} is not in 1…{len(shuffled)}", where=f"{ref} {split}")
        shuffled = shuffled[:limit]
    if not len(shuffled):
        raise InputError("holds no images", where=f"{ref} {split}")
    whole = len(shuffled) == len(images)
    return images.take(
        shuffled.sort().values, split if whole or limit is None else f"{split}, {limit} of it"
    )


def data_sets(refs: Sequence[str], *, split: str, limit: int | None = None) -> list[Images]:
    """Return the images of each of *refs*, as `data` does; corruptions of one set read it once."""
    clean: dict[str, Images] = {}
    sets = []
    for ref in refs:
        _require_text(ref)
        corruption = corruptions.parse(ref)
        plain = ref if corruption is None else corruption[2]
        if plain not in clean:
            clean[plain] = data(plain, split=split, limit=limit)
        images = clean[plain]
        if corruption is not None:
            pixels = corruptions.corrupt(images.pixels, images.ids, *corruption[:2])
            images = dataclasses.replace(images, ref=ref, pixels=pixels)
        sets.append(images)
    return sets


def _require_text(ref: object) -> None:
    if not isinstance(ref, str):
        what = f"expected a reference such as 'folder:PATH', found a {type(ref).__name__}"
        raise UsageError(what, where="data", fix="Images.of(x, y) takes arrays and tensors")


def _read(ref: str, split: str) -> Images:
    kind, colon, rest = ref.partition(":")
    if colon and not rest:
        fix = "leave out the colon, or write what belongs after it"
        raise UsageError("ends with a colon", where=ref, fix=fix)
    if kind in READERS:
        ids, pixels, labels, classes = READERS[kind](rest, split)
    elif functions.is_function(ref):
        ids, pixels, labels, classes = readers.function(ref, split)
    else:
        raise UsageError(f"no data set {ref!r}", where="data", fix=_how_to_write(ref))
    if isinstance(classes, int):
        return Images(ref, split, ids, pixels, labels, classes)
    return Images(ref, split, ids, pixels, labels, len(classes), tuple(classes))


def _how_to_write(ref: str) -> str:
    """Return how to write *ref*, which has none of the forms."""
    if os.path.isdir(ref):
        return f"write folder:{ref}"
    if ref.endswith(".npz"):
        return f"write npz:{ref}"
    if "/" in ref and ".py" not in ref:
        return "a folder of images is written folder:PATH, arrays npz:PATH; this path is neither"
    known = [*READERS, functions.FORM]
    return functions.how_to_write(ref) or near_miss(ref, known)


def _parse_split(text: object) -> tuple[str, int | None, int | None]:
    form = r"(\w+)(?:\[(-?[0-9]{1,18})?:(-?[0-9]{1,18})?\])?"
    match = re.fullmatch(form, text) if isinstance(text, str) else None
    if match is None:
        fix = "write train, test, or a part such as train[:45000]"
        raise UsageError(f"{text!r} is not a split", where="split", fix=fix)
    name, start, stop = match.groups()
    return name, int(start) if start else None, int(stop) if stop else None


def _require_images(ref: str, pixels: Tensor) -> None:
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape[2:]:
        fix = "give (N, channels, height, width) with 1 or 3 channels"
        if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
            fix += "; transpose from (N, height, width, channels)?"
        raise InputError(f"images of shape {tuple(pixels.shape)}", where=ref, fix=fix)
    if pixels.dtype == torch.uint8 or not len(pixels):
        return
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 1:
        return
    broken = (~pixels.isfinite()).nonzero()
    if len(broken):
        index, images = broken[0].tolist(), len(broken[:, 0].unique())
        value = {"nan": "NaN"}.get(text := str(float(pixels[tuple(index)])), text)
        what = f"pixel {index} is {value}; {images} of {len(pixels)} images are not finite"
        raise InputError(what, where=ref, fix="repair these images, or leave them out")
    fix = "give raw images; put mean and std into the model" if low < 0 else "divide by 255"
    raise InputError(f"pixels range from {low:g} to {high:g}, not in [0, 1]", where=ref, fix=fix)


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
