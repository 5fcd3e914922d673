"""The label spaces that are known by name, and those of files."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from soupmerge.choices import LABEL_SPACES, implementation
from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.label_spaces.space import LabelClass, LabelSpace
from soupmerge.storage.reading import read_bytes

VALIDATION = "ILSVRC2012_val_{:08}"
"""How ImageNet calls its validation images, counted from 1."""


def label_space(ref: str) -> LabelSpace:
    """Return the label space *ref*: one of `choices.LABEL_SPACES`, or a file.

    A file has a line for each output of the network, in their order: a name, and further names
    separated by tabs.

    Raises:
        UsageError: there is no such space or file.
        InputError: the file is not as above; all its offences are listed.

    Example:
        >>> space = label_space("imagenet-r")
        >>> len(space.classes), len(space.outputs), space.classes[0].names[1]
        (200, 1000, 'goldfish')
    """
    if ref in LABEL_SPACES:
        space: LabelSpace = implementation(LABEL_SPACES, ref, "label space")()
        return space
    if not os.path.exists(ref):
        fix = f"{near_miss(ref, LABEL_SPACES)}, or name a file"
        raise UsageError(f"no label space or file {ref!r}", where="classes", fix=fix)
    return from_file(Path(ref))


def from_file(path: Path) -> LabelSpace:
    """Return the label space in the file at *path*; see `label_space`."""
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"is not text in UTF-8: {error}", where=path, fix=LINES) from error
    outputs = [tuple(filter(None, map(str.strip, line.split("\t")))) for line in lines]
    problems = [f"line {i} has no name" for i, names in enumerate(outputs, 1) if not names]
    if not outputs:
        raise InputError("names no outputs", where=path, fix=LINES)
    space = LabelSpace.of(path.name, outputs)
    problems += [
        f"{name!r} is on lines {' and '.join(str(place + 1) for place in places)}"
        for name, places in space.named_alike().items()
    ]
    if problems:
        raise InputError("does not name each output", problems=problems, where=path, fix=LINES)
    return space


LINES = "write one line for each output, in order: its names, separated by tabs"


@lru_cache(maxsize=1)
def imagenet() -> LabelSpace:
    """Return the 1,000 classes of ImageNet (ILSVRC 2012) by synset and by lemma."""
    lemmas = dict(line.split("\t", 1) for line in _timm("imagenet_synset_to_lemma.txt"))
    synsets = _timm("imagenet_synsets.txt")
    return LabelSpace.of("imagenet", [(s, *lemmas[s].split(", ")) for s in synsets])


def imagenet_a() -> LabelSpace:
    """Return the 200 classes of ImageNet-A (Hendrycks et al. 2021, arXiv 1907.07174)."""
    return _subset("imagenet-a", _numbers("imagenet_a_indices.txt"))


def imagenet_r() -> LabelSpace:
    """Return the 200 classes of ImageNet-R (Hendrycks et al. 2021, arXiv 2006.16241)."""
    return _subset("imagenet-r", _numbers("imagenet_r_indices.txt"))


def imagenet_real() -> LabelSpace:
    """Return ImageNet with the labels of Beyer et al. 2020, "Are we done with ImageNet?".

    A validation image has any number of them, or none (arXiv 2006.07159).
    """
    right = json.loads("\n".join(_timm("imagenet_real_labels.json")))
    by_image = {VALIDATION.format(i): classes for i, classes in enumerate(right, 1)}
    return replace(imagenet(), ref="imagenet-real", whole=True, right_by_image=by_image)


def conflict() -> LabelSpace:
    """Return 16 coarse classes of ImageNet, of which cue-conflict images show two each."""
    groups = dict(line.split("\t") for line in _table("conflict.txt"))
    classes = tuple(LabelClass((name,), _ranges(group)) for name, group in groups.items())
    return replace(imagenet(), ref="conflict", classes=classes, whole=True)


def cifar10() -> LabelSpace:
    """Return the ten classes of CIFAR-10."""
    return LabelSpace.of("cifar10", [(name,) for name in _table("cifar10.txt")])


def cifar100() -> LabelSpace:
    """Return the hundred fine classes of CIFAR-100."""
    return LabelSpace.of("cifar100", [(name,) for name in _table("cifar100.txt")])


def _subset(ref: str, outputs: Sequence[int]) -> LabelSpace:
    whole = imagenet()
    classes = tuple(whole.classes[i] for i in outputs)
    return replace(whole, ref=ref, classes=classes, whole=True)


def _numbers(name: str) -> list[int]:
    return [int(line) for line in _timm(name)]


def _ranges(text: str) -> tuple[int, ...]:
    """Return the numbers in *text*, such as ``294-297 385``."""
    ends = (re.split("-", part) for part in text.split())
    return tuple(i for both in ends for i in range(int(both[0]), int(both[-1]) + 1))


def _table(name: str) -> list[str]:
    """Return the lines of one of our own tables, without comments."""
    text = (files("soupmerge.label_spaces") / "tables" / name).read_text("utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def _timm(name: str) -> list[str]:
    """Return the lines of a table that timm ships, without importing timm, which takes seconds."""
    spec: Any = importlib.util.find_spec("timm")
    path = Path(spec.origin).parent / "data" / "_info" / name
    return path.read_text("utf-8").splitlines()
