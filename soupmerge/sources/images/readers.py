"""Readers of data sets, by the word before the colon of a reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from soupmerge.errors import UsageError
from soupmerge.known_sets import KNOWN_SETS
from soupmerge.sources.images import cifar, known
from soupmerge.sources.images.arrays import npz
from soupmerge.sources.images.containers.cifar_files import cifar_files
from soupmerge.sources.images.containers.folders import folder
from soupmerge.sources.images.containers.hugging_face import hf
from soupmerge.sources.images.containers.tars import tar
from soupmerge.sources.images.containers.webdataset import wds
from soupmerge.sources.images.contents import Contents, numbered, part


def digits(rest: str, split: str) -> Contents:
    """Read scikit-learn's embedded 8×8 digits: 1197 to train, 300 to choose, 300 to judge."""
    _require_no_rest("digits", rest)
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    index, y = np.arange(len(bunch.target)), bunch.target
    train, others = train_test_split(index, test_size=600, random_state=0, stratify=y)
    val, test = train_test_split(others, test_size=300, random_state=0, stratify=y[others])
    parts = {"train": train, "val": val, "test": test}
    indices = np.sort(part(parts, split, "digits"))
    pixels = torch.from_numpy(bunch.images[indices]).float().div(16).unsqueeze(1)
    return Contents(numbered(indices), pixels, torch.from_numpy(y[indices]).long(), 10)


def cifar10(rest: str, split: str) -> Contents:
    """Read CIFAR-10, which is downloaded once."""
    _require_no_rest("cifar10", rest)
    return _cifar("CIFAR10", split)


def cifar100(rest: str, split: str) -> Contents:
    """Read CIFAR-100, which is downloaded once."""
    _require_no_rest("cifar100", rest)
    return _cifar("CIFAR100", split)


def _cifar(name: str, split: str) -> Contents:
    is_train = part({"train": True, "test": False}, split, name.lower())
    images = cifar.load(name, train=is_train)
    pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(images.targets)
    return Contents(numbered(range(len(pixels))), pixels, labels, list(images.classes))


def _require_no_rest(name: str, rest: str) -> None:
    if rest:
        raise UsageError(f"{name} takes nothing after a colon, found {rest!r}", where="data")


READERS: dict[str, Callable[[str, str], Contents]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cifar": cifar_files,
    "folder": folder,
    "hf": hf,
    "npz": npz,
    "tar": tar,
    "wds": wds,
    **{name: known.reader(name) for name in KNOWN_SETS},
}
"""The word before the colon → its reader, called with what follows the colon and the split."""
