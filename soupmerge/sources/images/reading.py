"""References to data → labelled images: ``digits``, ``folder:PATH``, ``npz:PATH``, a function.

``blur-3:DATA`` applies that corruption to DATA. A split is written ``train``, or ``train[:45000]``
for a part of it. Parts are taken from one fixed shuffle, so that a part holds all classes, and
parts that do not overlap share no image.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

import torch

from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.schedule import stream
from soupmerge.sources import functions
from soupmerge.sources.images import arrays, corruptions
from soupmerge.sources.images.image_set import Images
from soupmerge.sources.images.readers import READERS

VAL_OF = {"cifar10": "train[45000:]", "cifar100": "train[45000:]"}
"""What ``val`` means for sets without one. To choose on it, train on ``train[:45000]`` only."""


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
        ids, pixels, labels, classes = arrays.function(ref, split)
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
