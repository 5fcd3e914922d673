"""Map-style data sets, such as torchvision's: objects with a length whose items are asked for."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from soupmerge.errors import InputError
from soupmerge.sources.images.containers.image_files import id_of
from soupmerge.sources.images.containers.items import FORM, Items
from soupmerge.sources.images.contents import Contents, numbered

LARGE = 10_000
"""Items of which reading all takes so long that it is told."""
TRIED = 16
"""Items that are asked for twice, to see whether they are the same each time."""


def is_map_style(value: object) -> bool:
    """Return whether *value* is a data set whose items can be asked for one by one.

    Example:
        >>> is_map_style(torch.utils.data.TensorDataset(torch.zeros(2, 3))), is_map_style([1, 2])
        (True, False)
    """
    has_items = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return has_items and not isinstance(value, (str, bytes, list, tuple, dict, np.ndarray, Tensor))


def contents(dataset: Any, ref: str) -> Contents:
    """Return the images and labels of the map-style data set *dataset*.

    Labels are its ``targets``, ``labels`` or ``samples``; without any of these, each item is asked
    for once. Its transforms are applied as they are.

    Raises:
        InputError: items cannot be read, are no images with labels, or are not the same each time.

    Warns:
        UserWarning: many items are asked for, to find out their labels.
    """
    items = Items(dataset, ref)
    try:
        n = len(items)
    except Exception as error:  # foreign code may raise anything
        raise InputError(f"has no length: {error!r}", where=ref, fix=FORM) from error
    if not n:
        raise InputError("holds no items", where=ref, fix=FORM)
    _require_same(items, n)
    labels = known if (known := _labels(dataset, n)) else _read_labels(items, n)
    names = _class_names(dataset) or max(labels) + 1
    return Contents(_ids(dataset, n), replace(items, labels=labels), torch.tensor(labels), names)


def _require_same(items: Items, n: int) -> None:
    """Refuse a data set whose images change from one time to the next, as by random transforms."""
    for index in sorted({i * (n - 1) // max(TRIED - 1, 1) for i in range(TRIED)}):
        first, second = (np.asarray(items.read(index)) for _ in range(2))
        if not np.array_equal(first, second):
            what = "has other pixels when it is asked for again"
            fix = "leave out random transforms; training has its own (--augment)"
            raise InputError(what, where=items.where(index), fix=fix)


def _labels(dataset: Any, n: int) -> list[int] | None:
    """Return the labels that *dataset* has for its *n* items, if it has any."""
    if isinstance(dataset, Subset):
        known = _labels(dataset.dataset, len(dataset.dataset))  # type: ignore[arg-type]
        return None if known is None else [known[i] for i in dataset.indices]
    for name in ("targets", "labels"):
        found = getattr(dataset, name, None)
        if isinstance(found, (Sequence, np.ndarray, Tensor)) and len(found) == n:
            break
    else:
        samples = _samples(dataset)
        found = [label for _, label in samples] if len(samples) == n else []
    change = getattr(dataset, "target_transform", None) or (lambda label: label)
    try:
        return [operator.index(change(label)) for label in found] or None
    except (TypeError, ValueError):
        return None


def _samples(dataset: Any) -> list[tuple[str, Any]]:
    """Return the paths and labels that a folder of torchvision lists; none if *dataset* is none."""
    found = getattr(dataset, "samples", None)
    is_list = isinstance(found, list) and all(
        isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in found
    )
    return found if is_list and found else []


def _read_labels(items: Items, n: int) -> list[int]:
    if n > LARGE:
        what = f"{items.ref}: reading all {n:,} items for their labels"
        warnings.warn(f"{what}, which a list called targets would save", stacklevel=3)
    return [items.item(index)[1] for index in range(n)]


def _class_names(dataset: Any) -> list[str] | None:
    """Return the names of the classes, if *dataset* has them; several names of one are joined."""
    if isinstance(dataset, Subset):
        return _class_names(dataset.dataset)
    found = getattr(dataset, "classes", None)
    if not isinstance(found, (list, tuple)):
        return None
    names = [(each,) if isinstance(each, str) else each for each in found]
    is_named = all(isinstance(e, tuple) and all(isinstance(n, str) for n in e) for e in names)
    return [", ".join(each) for each in names] if names and is_named else None


def _ids(dataset: Any, n: int) -> Sequence[str]:
    """Return the paths of the files that *dataset* lists, below its root, or else numbers."""
    if isinstance(dataset, Subset):
        ids = _ids(dataset.dataset, len(dataset.dataset))  # type: ignore[arg-type]
        return [ids[i] for i in dataset.indices]
    samples, root = _samples(dataset), getattr(dataset, "root", None)
    if len(samples) != n or not isinstance(root, (str, os.PathLike)):
        return numbered(range(n))
    return [id_of(os.path.relpath(path, root)) for path, _ in samples]
