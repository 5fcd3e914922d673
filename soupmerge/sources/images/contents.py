"""What readers return, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from soupmerge.errors import UsageError

T = TypeVar("T")

SPLITS = ("train", "val", "test")

Contents: TypeAlias = tuple[Sequence[str], Tensor, Tensor, Sequence[str] | int]
"""Ids, pixels, labels, and the names of the classes in the order of their labels, or the number of
classes if they have no names."""


def part(parts: Mapping[str, T], split: str, where: str) -> T:
    """Return what *parts* has for *split*.

    Raises:
        UsageError: it has no such split; *where* names the set.
    """
    if split not in parts:
        some = next(iter(parts))
        fix = f"it has {', '.join(parts)}, and parts such as {some}[:500]"
        raise UsageError(f"unknown split {split!r}", where=where, fix=fix)
    return parts[split]


def numbered(indices: Any) -> tuple[str, ...]:
    """Return ids that are the numbers *indices*."""
    return tuple(str(int(i)) for i in indices)
