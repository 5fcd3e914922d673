"""A labelled set of images."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import InputError
from soupmerge.label_spaces.outputs import Outputs
from soupmerge.sketch import marks_of
from soupmerge.sources.images.arrays import from_arrays
from soupmerge.sources.images.pixels import Pixels

SEVERAL = "any of several labels is right"
"""What a fingerprint says of labels if an image may have several right classes."""


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images. What it holds is known before any pixel is decoded.

    Attributes:
        ref: the reference of the set.
        split: its split or part.
        ids: one name per example, stable across runs.
        pixels: ``(N, C_in, H, W)``, uint8 or float32 in ``[0, 1]``; 1 or 3 channels. Images that
            are decoded when they are asked for are `Pixels`, not a tensor.
        labels: ``(N,)`` int64, from 0 to C − 1.
        classes: number of classes C.
        class_names: their names in the order of the labels; empty if unknown.
        outputs: how the logits of a network become those of the classes; None if they are so.
        also_right: ``(N, C)`` bool: classes that are right besides that of the label; None if none
            is. Only clean accuracy can then be judged.

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
    pixels: Tensor | Pixels
    labels: Tensor
    classes: int
    class_names: tuple[str, ...] = ()
    outputs: Outputs | None = None
    also_right: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, Tensor | Pixels) or not isinstance(self.labels, Tensor):
            what = "pixels and labels are not tensors"
            raise InputError(what, where=self.ref, fix="Images.of(x, y) takes arrays, too")
        if isinstance(self.pixels, Tensor):
            require_images(self.ref, self.pixels)
        require_labels(self.ref, len(self.pixels), self.labels, self.classes)
        _require_classes(self)

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
        ids, pixels, labels, labelled = from_arrays(x, y, ref)
        return cls(ref, "all", ids, pixels, labels, classes or labelled)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C_in, H, W)``."""
        return self.pixels.shape[-3:]  # type: ignore[return-value]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images ``(B, C_in, H, W)``, float32 in ``[0, 1]``, and labels at *indices*.

        Raises:
            InputError: a stored image cannot be read or decoded, or has another size than others.
        """
        x = self.pixels[indices]
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        if isinstance(self.pixels, Pixels) and torch.cuda.is_available():
            x = x.pin_memory()  # so that it is copied to a GPU while that computes
        return x, self.labels[indices]

    def image(self, index: int) -> Tensor:
        """Return one image, ``(C_in, H, W)`` float32 in ``[0, 1]``, whatever the others' sizes.

        Raises:
            InputError: it is stored, and cannot be read or decoded.
        """
        x = self.pixels[index] if isinstance(self.pixels, Tensor) else self.pixels.image(index)
        return x.float() / 255 if x.dtype == torch.uint8 else x

    def expect(self, indices: Tensor, draw: object = None) -> None:
        """Prepare for `batch` being asked for *indices*, in this order; see `Pixels.expect`."""
        if isinstance(self.pixels, Pixels):
            self.pixels.expect(indices, draw)

    def take(self, indices: Tensor, split: str) -> Images:
        """Return the examples at *indices* as a set of their own, whose part is called *split*."""
        ids = tuple(self.ids[i] for i in indices.tolist())
        in_memory = isinstance(self.pixels, Tensor)
        pixels = self.pixels[indices] if in_memory else self.pixels.take(indices)
        labels = self.labels[indices]
        also = None if self.also_right is None else self.also_right[indices]
        return dataclasses.replace(
            self, split=split, ids=ids, pixels=pixels, labels=labels, also_right=also
        )

    @cached_property
    def sha256(self) -> str:
        """Hash of ids, labels and pixels; of stored images, of what is stored."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for tensor in (self.labels, self.also_right):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
        if isinstance(self.pixels, Tensor):
            digest.update(self.pixels.contiguous().numpy().data)
        else:
            digest.update(self.pixels.digest.encode())
        return digest.hexdigest()

    def marks(self) -> tuple[list[str], bool]:
        """Return a hash of each image, and whether these are all images; see `sketch.Sketch`.

        Of large sets that are stored, a sample is hashed, and kept in the cache.
        """
        return (marks_of(self), True) if isinstance(self.pixels, Tensor) else self.pixels.marks()

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the set, with the names of its classes if they are known."""
        named = {"classes": list(self.class_names)} if self.class_names else {}
        outputs = self.outputs.fingerprint() if self.outputs else {}
        several = {"labels": SEVERAL} if self.also_right is not None else {}
        stored = {} if isinstance(self.pixels, Tensor) else self.pixels.describe()
        return {
            "ref": self.ref,
            "split": self.split,
            "n": len(self),
            "sha256": self.sha256,
            **stored,
            **named,
            **outputs,
            **several,
        }


def require_images(ref: str, pixels: Tensor) -> None:
    """Refuse *pixels* that are not ``(N, C_in, H, W)``, with 1 or 3 channels, in ``[0, 1]``.

    Raises:
        InputError: they are not; *ref* names the set.
    """
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


def require_labels(ref: str, images: int, labels: Tensor, classes: int) -> None:
    """Refuse *labels* that are not one for each of so many *images*, from 0 to *classes* − 1.

    Raises:
        InputError: they are not; *ref* names the set.
    """
    if len(labels) != images:
        raise InputError(f"{images} images, but {len(labels)} labels", where=ref)
    wrong = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"label {int(labels[first])} of example {first} is not one of {classes} classes",
            where=ref,
            fix="number the classes from 0",
        )


def _require_classes(images: Images) -> None:
    """Refuse `outputs` and `also_right` that are not those of the classes of *images*."""
    count = images.classes if images.outputs is None else len(images.outputs.groups)
    if count != images.classes:
        what = f"has {images.classes} classes, but outputs for {count}"
        raise InputError(what, where=images.ref, fix="give outputs for each class")
    shape = None if images.also_right is None else tuple(images.also_right.shape)
    if shape not in (None, (len(images.labels), images.classes)):
        what = f"has also_right of shape {shape}, not {(len(images.labels), images.classes)}"
        raise InputError(what, where=images.ref, fix="give a row for each image")
