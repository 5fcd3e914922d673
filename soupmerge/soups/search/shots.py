"""Split data sets into a few images that choose and others that judge; short names for sets."""

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
KINDS = ("cifar", "folder", "hf", "npz", "tar", "wds")
"""Words of references that do not distinguish data sets."""


def draw(data: Examples, shots: int, seed: int) -> tuple[Subset, Subset]:
    """Return *shots* random examples of *data* to choose on, and all others to judge on.

    The rank of an example in the draw depends on *seed* and its id alone, so sets with the same
    ids, such as corruptions of the same images, share their choosing examples.

    Raises:
        UsageError: no image would be left to choose, or none to judge.
    """
    if not 0 < shots < len(data):
        what = f"{shots} of {len(data)} images cannot choose while others judge"
        fix = f"give 1 to {len(data) - 1}, or use more images"
        raise UsageError(what, where="shots", fix=fix)
    keys = [stream("shots", seed, id).initial_seed() for id in data.ids]
    ranked = sorted(range(len(data)), key=keys.__getitem__)
    first, others = torch.tensor(sorted(ranked[:shots])), torch.tensor(sorted(ranked[shots:]))
    return Subset(data, first, CHOOSE), Subset(data, others, JUDGE)


def short_names(refs: Sequence[str]) -> tuple[str, ...]:
    """Return a short, distinct name for each of *refs*, usable as a file name.

    Example:
        >>> short_names(["blur-3:folder:/photos/cats", "jpeg-1:folder:/photos/cats"])
        ('blur-3', 'jpeg-1')
        >>> short_names(["folder:/photos/sketches", "npz:drawings.npz"])
        ('sketches', 'drawings.npz')
    """
    words = [[Path(word).name or word for word in ref.split(":")] for ref in refs]
    tails = zip(*(reversed(parts) for parts in words), strict=False)
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, tails)))
    names: list[str] = []
    for parts in words:
        own = parts[: len(parts) - shared] if len(words) > 1 else parts
        distinctive = [word for word in own if word not in KINDS] or parts[-1:]
        name = free = re.sub(r"[^\w.]+", "-", "-".join(distinctive))
        while free in names:
            free = f"{name}-{names.index(free) + 2}"
        names.append(free)
    return tuple(names)
