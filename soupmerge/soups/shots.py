"""A few images of a data set choose, the rest judge; and short names for several sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import UsageError
from soupmerge.schedule import stream
from soupmerge.types import Examples
from soupmerge.weights.files import sha256_of

CHOOSE, JUDGE = "choose", "judge"
KINDS = ("folder", "npz")
"""Words of written forms that tell no set from another."""


@dataclass(frozen=True, eq=False)
class Part:
    """The examples of *data* at *indices*; *role* says what for."""

    data: Examples
    indices: Tensor
    role: str

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ref(self) -> str:
        """The written form of the whole set."""
        return self.data.ref

    @cached_property
    def ids(self) -> Sequence[str]:
        """One name per example."""
        return tuple(self.data.ids[i] for i in self.indices.tolist())

    @property
    def labels(self) -> Tensor:
        """``(N,)`` int64."""
        return self.data.labels[self.indices]

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.data.classes

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 images and labels at *indices* of this part."""
        return self.data.batch(self.indices[indices])

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole set's hash and of the ids of this part."""
        return sha256_of([str(self.data.fingerprint()["sha256"]), self.role, *self.ids])

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the part."""
        whole = self.data.fingerprint()
        split = f"{whole['split']}, {len(self)} to {self.role}"
        return {**whole, "split": split, "n": len(self), "sha256": self.sha256}


def draw(data: Examples, shots: int, seed: int) -> tuple[Part, Part]:
    """Return *shots* examples of *data* to choose on, and all others to judge on.

    An example's place in the draw depends on *seed* and its id alone: of several sets with the same
    ids, such as corruptions of the same images, the same examples choose.

    Raises:
        UsageError: none would choose, or none judge.
    """
    if not 0 < shots < len(data):
        what = f"{shots} of {len(data)} images to choose leave some to neither choose nor judge"
        fix = f"take 1 to {len(data) - 1}, or more images"
        raise UsageError(what, where="shots", fix=fix)
    keys = [stream("shots", seed, id).initial_seed() for id in data.ids]
    drawn = sorted(range(len(data)), key=keys.__getitem__)
    parts = [torch.tensor(sorted(some)) for some in (drawn[:shots], drawn[shots:])]
    return Part(data, parts[0], CHOOSE), Part(data, parts[1], JUDGE)


def short_names(refs: Sequence[str]) -> tuple[str, ...]:
    """Return a short, distinct name for each of *refs*, fit for a file.

    Example:
        >>> short_names(["blur-3:folder:/photos/cats", "jpeg-1:folder:/photos/cats"])
        ('blur-3', 'jpeg-1')
        >>> short_names(["folder:/photos/sketches", "npz:drawings.npz"])
        ('sketches', 'drawings.npz')
    """
    words = [[Path(word).name or word for word in ref.split(":")] for ref in refs]
    tails = zip(*(reversed(some) for some in words), strict=False)
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, tails)))
    names: list[str] = []
    for some in words:
        own = some[: len(some) - shared] if len(words) > 1 else some
        told = [word for word in own if word not in KINDS] or some[-1:]
        name = free = re.sub(r"[^\w.]+", "-", "-".join(told))
        while free in names:
            free = f"{name}-{names.index(free) + 2}"
        names.append(free)
    return tuple(names)
