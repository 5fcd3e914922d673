"""Which tensors are mixed, which are copied from one ingredient, and which are left out.

Copied tensors and those left out have no coefficients and no gradients, and need not fit the other
ingredients. A copied tensor is in the soup exactly as in its ingredient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from soupmerge import choices
from soupmerge.errors import UsageError, near_miss
from soupmerge.weights.files import Checkpoint

HEADS = ("fc", "head", "heads", "classifier", "linear", "logits", "last_linear")
"""Names of the last layer: the first component of its tensors' names."""


@dataclass(frozen=True)
class Selection:
    """The tensors that are not mixed.

    Attributes:
        copied: tensor name → the ingredient it is copied from; the others need not have it.
        skipped: names that are left out of the soup.
    """

    copied: Mapping[str, int] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()

    def mixes(self, name: str) -> bool:
        """Return whether *name* is mixed, and so must fit in all ingredients."""
        return name not in self.copied and name not in self.skipped

    def noted(self) -> dict[str, Any]:
        """Return an entry for a manifest; empty if everything is mixed."""
        selection = {"copied": dict(self.copied), "skipped": sorted(self.skipped)}
        return {"selection": selection} if any(selection.values()) else {}


EVERYTHING = Selection()


def select(
    checkpoints: Sequence[Checkpoint],
    *,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    head: str | None = None,
    base: int = 0,
) -> Selection:
    """Return the selection that excludes tensors of *checkpoints* from mixing.

    Args:
        exclude: patterns of names to copy from the base ingredient.
        only: patterns of names to mix; all others are copied from the base ingredient.
        head: where the classifier comes from: ``base``, ``first``, or ``skip`` to leave it out;
            None mixes it like everything else.
        base: index of the base ingredient.

    Raises:
        UsageError: a pattern matches nothing, *head* is not one of these, or no head is found.
    """
    names = sorted({name for checkpoint in checkpoints for name in checkpoint})
    for pattern in (*exclude, *only):
        if not any(fnmatchcase(name, pattern) for name in names):
            fix = near_miss(pattern.strip("*."), names)
            raise UsageError(f"{pattern!r} matches no tensor", where="--exclude/--only", fix=fix)
    apart = {n for n in names if any(fnmatchcase(n, p) for p in exclude)}
    if only:
        apart |= {n for n in names if not any(fnmatchcase(n, p) for p in only)}
    sources = dict.fromkeys(apart, base)
    if head is None:
        return _present(checkpoints, sources, frozenset())
    if head not in choices.HEADS:
        fix = near_miss(head, choices.HEADS)
        raise UsageError(f"unknown choice {head!r}", where="--head", fix=fix)
    heads = head_of(checkpoints)
    if not heads:
        fix = "name its tensors with --exclude"
        raise UsageError("no classifier was found", where="--head", fix=fix)
    if head == "skip":
        return _present(checkpoints, sources, frozenset(heads))
    return _present(checkpoints, {**sources, **dict.fromkeys(heads, base if head == "base" else 0)})


def head_of(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return the classifier's tensors, found by name or by differing numbers of classes."""
    names = {name for checkpoint in checkpoints for name in checkpoint}
    by_name = {name for name in names if name.split(".")[0] in HEADS}
    shapes = {n: {c.infos[n].shape for c in checkpoints if n in c} for n in names}
    by_shape = {n for n, several in shapes.items() if len(several) > 1 and _are_heads(several)}
    return sorted(by_name | by_shape)


def _are_heads(shapes: set[tuple[int, ...]]) -> bool:
    return {len(shape) for shape in shapes} <= {1, 2} and len({shape[1:] for shape in shapes}) == 1


def _present(
    checkpoints: Sequence[Checkpoint],
    sources: Mapping[str, int],
    skipped: frozenset[str] = frozenset(),
) -> Selection:
    """Return the selection; tensors that the ingredient to copy from does not have are left out."""
    absent = {name for name, k in sources.items() if name not in checkpoints[k]}
    copied = {n: k for n, k in sorted(sources.items()) if n not in absent and n not in skipped}
    return Selection(copied, skipped | absent)
