"""A few images of a data set choose, the rest judge; and short names for several sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import torch

from soupmerge.errors import UsageError
from soupmerge.schedule import stream
from soupmerge.soups.judge.subset import Subset
from soupmerge.types import Examples

CHOOSE, JUDGE = "choose", "judge"
KINDS = ("folder", "npz")
"""Words of written forms that tell no set from another."""


def draw(data: Examples, shots: int, seed: int) -> tuple[Subset, Subset]:
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
    return Subset(data, parts[0], CHOOSE), Subset(data, parts[1], JUDGE)


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
