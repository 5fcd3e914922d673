"""K checkpoints that fit together: the one place that compares names, shapes and dtypes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from soupmerge.errors import InputError, near_miss
from soupmerge.weights import buffers
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.formats import TensorInfo


def mismatches(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return all that keeps *checkpoints* from being mixed, compared with the first; sorted."""
    base = checkpoints[0]
    problems = []
    for other in checkpoints[1:]:
        problems += [f"{other.ref}: {line}" for line in _differences(base, other)]
    return problems


def _differences(base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    if not set(base) & set(other):
        yield f"has no tensor name in common with {base.ref} ({len(other)} against {len(base)})"
        return
    for name in sorted(set(base) - set(other)):
        yield (
            f"{name}: missing ({near_miss(name, set(other) - set(base))})"
            if set(other) - set(base)
            else f"{name}: missing"
        )
    for name in sorted(set(other) - set(base)):
        yield f"{name}: not in {base.ref}"
    for name in sorted(set(base) & set(other)):
        yield from _difference(name, base, other)


def _difference(name: str, base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    ours, theirs = base.infos[name], other.infos[name]
    if ours.shape != theirs.shape:
        yield f"{name}: shape {theirs.shape}, expected {ours.shape}{_head(base, name, theirs)}"
    elif ours.dtype.is_floating_point != theirs.dtype.is_floating_point:
        yield f"{name}: dtype {theirs.dtype}, expected {ours.dtype}"
    elif buffers.is_constant(name) and not torch.equal(base[name].double(), other[name].double()):
        yield f"{name}: the normalisers differ ({other[name].tolist()} and {base[name].tolist()})"


def _head(base: Checkpoint, name: str, theirs: TensorInfo) -> str:
    ours = base.infos[name].shape
    if len(ours) in (1, 2) and ours[1:] == theirs.shape[1:]:
        return f" (the head differs: {theirs.shape[0]} and {ours[0]} classes?)"
    return ""


@dataclass(frozen=True)
class Ingredients:
    """K aligned checkpoints, in the order given; the first sets names, shapes and dtypes.

    Raises:
        InputError: they do not fit; every missing, foreign or misshapen tensor is listed.
    """

    checkpoints: tuple[Checkpoint, ...]

    def __post_init__(self) -> None:
        problems = mismatches(self.checkpoints)
        if problems:
            raise InputError(
                "the ingredients do not fit together",
                problems=problems,
                fix="soup only checkpoints of one network",
            )
        twice = [ref for ref, n in Counter(c.ref for c in self.checkpoints).items() if n > 1]
        if twice:
            warnings.warn(f"{twice[0]} is given more than once", stacklevel=3)
        mixed = {
            i.dtype for c in self.checkpoints for i in c.infos.values() if i.dtype.is_floating_point
        }
        if len(mixed) > 1:
            first = ", ".join(sorted(str(d).removeprefix("torch.") for d in mixed))
            warnings.warn(
                f"ingredients of several dtypes ({first}): the first one's are kept", stacklevel=3
            )

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.checkpoints)

    def __getitem__(self, k: int) -> Checkpoint:
        return self.checkpoints[k]

    @property
    def infos(self) -> dict[str, TensorInfo]:
        """Name → dtype and shape of the soup's tensors."""
        return dict(self.checkpoints[0].infos)

    @property
    def mixed(self) -> tuple[str, ...]:
        """Names of the tensors that have coefficients: parameters, not buffers or counters."""
        return tuple(n for n, info in self.infos.items() if buffers.is_mixed(n, info.dtype))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A short, distinct name for each ingredient."""
        names: list[str] = []
        for checkpoint in self.checkpoints:
            path = Path(checkpoint.ref)
            name = path.stem if path.suffix else path.name
            if name in names:
                name = f"{path.parent.name}/{name}"
            names.append(name if name not in names else f"{name}#{len(names) + 1}")
        return tuple(names)

    @property
    def model(self) -> str | None:
        """The network's written form, if the files name one and name the same."""
        named = {c.model for c in self.checkpoints}
        return named.pop() if len(named) == 1 else None

    def require_finite(self) -> None:
        """Refuse ingredients that hold NaN or Inf.

        Raises:
            NumericsError: one does; it is named, with its tensors.
        """
        for checkpoint in self.checkpoints:
            checkpoint.require_finite()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files behind the ingredients, which no output may replace."""
        return tuple(file for checkpoint in self.checkpoints for file in checkpoint.files)

    def fingerprint(self) -> list[dict[str, str]]:
        """Return each source with its hash, for a manifest."""
        return [{"ref": c.ref, "sha256": c.sha256} for c in self.checkpoints]
