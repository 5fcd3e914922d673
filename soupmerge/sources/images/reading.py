"""References to data → labelled images: ``digits``, ``folder:PATH``, ``wds:SHARDS``, a function.

``blur-3:DATA`` applies that corruption to DATA. A split is written ``train``, or ``train[:45000]``
for a part of it. Parts are taken from one fixed shuffle, so that a part holds all classes, and
parts that do not overlap share no image.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from soupmerge.corruption_refs import CorruptionRef, expanded
from soupmerge.errors import InputError, UsageError, enumerated, near_miss
from soupmerge.schedule import stream
from soupmerge.sources import functions
from soupmerge.sources.images import arrays, fingerprints, known
from soupmerge.sources.images.contents import Contents
from soupmerge.sources.images.corrupted import CorruptedPixels
from soupmerge.sources.images.corruptions import corrupt
from soupmerge.sources.images.image_set import Images, require_images, require_labels
from soupmerge.sources.images.labelling import Classes, labelled, meant
from soupmerge.sources.images.opening import pixels_of, refuse
from soupmerge.sources.images.preprocessing import split_query
from soupmerge.sources.images.readers import READERS
from soupmerge.sources.images.stored import StoredPixels

VAL_OF = dict.fromkeys(("cifar", "cifar10", "cifar100"), "train[45000:]")
"""Reader → what ``val`` means. To choose on it, train on ``train[:45000]`` only."""
SUFFIXED = {".npz": "npz", ".tar": "tar", ".parquet": "hf", ".arrow": "hf"}
"""Suffix of a file → the reader that it is for."""


def data(
    ref: str,
    *,
    split: str = "test",
    limit: int | None = None,
    classes: Classes | None = None,
    like: Any = None,
    broken: str = "refuse",
    by: str = fingerprints.CONTENT,
) -> Images:
    """Return the images that *ref* names.

    Args:
        ref: ``digits``, ``cifar10``, ``cifar100``, ``folder:PATH`` (one folder per class, below a
            folder per split if there are splits; ``?list=FILE`` for a list of images and labels),
            ``tar:PATH`` (the same in a tar archive), ``wds:SHARDS`` (WebDataset), ``hf:PATH`` and
            ``hf:owner/name`` (Parquet), ``cifar:PATH`` (CIFAR's own files), ``npz:PATH`` (arrays x
            and y), or ``package.module:function``, which is called with the split and returns
            images and labels, or a map-style data set; ``blur-3:DATA`` applies a corruption to
            DATA. After any of these may follow how images are brought to one size, such as
            ``?resize=256&crop=224``; see `Preprocessing`.
        split: ``train``, ``val`` or ``test``, or a part: ``train[:45000]``, ``train[45000:]``.
        limit: number of images to keep, drawn with a fixed seed; default all.
        classes: what the outputs of the networks stand for, so that classes are found among them
            by name: a name or file of `label_space`, such as ``imagenet-r``; a `LabelSpace`; or
            the networks, if they record what they were trained on. By default, those of a published
            set, or else label i is output i.
        like: a network, whose own preprocessing brings images of several sizes to one size if the
            reference does not say how; or a `Preprocessing`.
        broken: what to do about images that cannot be decoded: ``refuse`` them when they are asked
            for, ``scan`` for all of them now, or ``skip`` them, with a warning.
        by: what the fingerprint of stored images is made of, ``content`` or ``ids``.

    Raises:
        UsageError: there is no such set, split or label space, or *limit* is out of range.
        InputError: the data are not labelled images in ``[0, 1]``, have several sizes, or have
            classes that *classes* does not name.
        NetworkError: a set must be downloaded, and cannot be.
        OutputError: a library that a set needs is missing, or its cache cannot be written.
        UnsafeError: reading the data would run code or fill the memory.

    Example:
        >>> len(data("digits", split="train")), len(data("digits", split="test", limit=100))
        (1197, 100)
    """
    _require_text(ref)
    if len(many := expanded([ref])) > 1:
        fix = f"name one of them, such as {many[0]}, or give all of them to eval or adapt"
        raise UsageError(f"{ref} stands for {len(many)} data sets", where="data", fix=fix)
    if CorruptionRef.parse(ref) is not None:
        options: Any = {"classes": classes, "like": like, "broken": broken, "by": by}
        return data_sets([ref], split=split, limit=limit, **options)[0]
    place, preprocessing = split_query(ref)
    held_out = VAL_OF.get(place.partition(":")[0], split)
    name, start, stop = _parse_split(held_out if split == "val" else split)
    ids, stored, labels, named, check_ranks = _read(place, name)
    names = () if isinstance(named, int) else tuple(named)
    count = named if isinstance(named, int) else len(named)
    space = meant(classes, names) or known.space_of(place)
    if space is None:
        check_ranks()
    if isinstance(stored, Tensor):
        require_images(ref, stored)
    require_labels(ref, len(stored), labels, count)
    chosen = _chosen(len(ids), slice(start, stop), limit, f"{ref} {split}")
    if limit is not None and len(chosen) < len(ids):
        split = f"{split}, {limit} of it"
    pixels = pixels_of(stored, chosen, ref=ref, ids=ids, preprocessing=preprocessing, like=like)
    if isinstance(pixels, StoredPixels):
        pixels = replace(pixels, by=by)
    ids = tuple(ids[i] for i in chosen.tolist())
    images = Images(ref, split, ids, pixels, labels[chosen], count, names)
    if broken != "refuse":
        images = _without_broken(images, broken)
    return images if space is None else labelled(images, space)


def _chosen(n: int, part: slice, limit: int | None, where: str) -> Tensor:
    """Return the indices of a part of *n* images, or of *limit* images of it, in order."""
    shuffled = torch.randperm(n, generator=stream("split", n))[part]
    if limit is not None:
        if not isinstance(limit, int) or not 0 < limit <= len(shuffled):
            raise UsageError(f"limit {limit} is not in 1…{len(shuffled)}", where=where)
        shuffled = shuffled[:limit]
    if not len(shuffled):
        raise InputError("holds no images", where=where)
    return shuffled.sort().values


def _without_broken(images: Images, broken: str) -> Images:
    """Return *images* without those that cannot be decoded, or refuse them, as *broken* says."""
    if not isinstance(images.pixels, StoredPixels):
        return images
    problems = images.pixels.broken()
    if not problems:
        return images
    if broken == "scan":
        refuse([*problems.values()], len(images), images.ref)
    whole = torch.tensor([i for i in range(len(images)) if i not in problems])
    if not len(whole):
        raise InputError("none of its images can be decoded", where=images.ref)
    lines = enumerated([str(problem) for problem in problems.values()])
    what = f"{images.ref}: left out {len(problems)} of {len(images)} images"
    warnings.warn(f"{what}, which cannot be decoded: {lines}", stacklevel=3)
    return images.take(whole, f"{images.split}, without {len(problems)} broken")


def data_sets(refs: Sequence[str], **options: Any) -> list[Images]:
    """Return the images of each of *refs*; corruptions of one set read it once.

    Args:
        refs: references, each as for `data`; ``corruptions:DATA`` stands for many.
        options: all others are those of `data`.
    """
    clean: dict[str, Images] = {}
    sets = []
    for ref in refs:
        _require_text(ref)
    for ref in expanded(refs):
        corruption = CorruptionRef.parse(ref)
        plain = ref if corruption is None else corruption.data
        if plain not in clean:
            clean[plain] = data(plain, **options)
        images = clean[plain]
        sets.append(images if corruption is None else _corrupted(images, corruption))
    return sets


def _corrupted(images: Images, corruption: CorruptionRef) -> Images:
    kind, strength, _ = corruption
    if isinstance(images.pixels, Tensor):
        pixels: Tensor | CorruptedPixels = corrupt(images.pixels, images.ids, kind, strength)
    else:
        pixels = CorruptedPixels(images.pixels, images.ids, kind, strength)
    return replace(images, ref=str(corruption), pixels=pixels)


def _require_text(ref: object) -> None:
    if not isinstance(ref, str):
        what = f"expected a reference such as 'folder:PATH', found a {type(ref).__name__}"
        raise UsageError(what, where="data", fix="Images.of(x, y) takes arrays and tensors")


def _read(ref: str, split: str) -> Contents:
    kind, colon, rest = ref.partition(":")
    if colon and not rest:
        fix = "leave out the colon, or write what belongs after it"
        raise UsageError("ends with a colon", where=ref, fix=fix)
    if kind in READERS:
        return Contents(*READERS[kind](rest, split))
    if functions.is_function(ref):
        return arrays.function(ref, split)
    raise UsageError(f"no data set {ref!r}", where="data", fix=_how_to_write(ref))


def _how_to_write(ref: str) -> str:
    """Return how to write *ref*, which has none of the forms."""
    if os.path.isdir(ref):
        return f"write folder:{ref}"
    if (kind := SUFFIXED.get(os.path.splitext(ref)[1])) is not None:
        return f"write {kind}:{ref}"
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
