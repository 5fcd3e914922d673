"""K checkpoints that fit together; names, shapes and dtypes are compared only here."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from soupmerge.errors import InputError, NumericsError, enumerated, near_miss
from soupmerge.references import unique_names
from soupmerge.weights import buffers
from soupmerge.weights.files import UNSOUND, Checkpoint
from soupmerge.weights.groups import group_by, rows_of
from soupmerge.weights.selection import EVERYTHING, Selection
from soupmerge.weights.tensors import TensorInfo, View

LISTED = 5
"""How many problems per checkpoint an error lists; `mismatches` returns all."""


def mismatches(
    checkpoints: Sequence[Checkpoint], selection: Selection = EVERYTHING
) -> dict[str, list[str]]:
    """Return ref → everything that prevents mixing it with the first of *checkpoints*.

    Tensors that *selection* copies or leaves out need not fit.
    """
    base = checkpoints[0]
    problems: dict[str, list[str]] = {}
    for other in checkpoints[1:]:
        problems.setdefault(other.ref, []).extend(_differences(base, other, selection))
    return {ref: lines for ref, lines in problems.items() if lines}


def _differences(base: Checkpoint, other: Checkpoint, selection: Selection) -> Iterator[str]:
    ours = {name for name in base if selection.mixes(name)}
    theirs = {name for name in other if selection.mixes(name)}
    if not ours & theirs:
        yield f"has no tensor name in common with {base.ref} ({len(theirs)} against {len(ours)})"
        return
    if base.model and other.model and base.model != other.model:
        yield f"is for the network {other.model}, but {base.ref} is for {base.model}"
    for name in sorted(ours - theirs):
        near = f" ({near_miss(name, theirs - ours)})" if theirs - ours else ""
        yield f"{name}: missing{near}"
    for name in sorted(theirs - ours):
        yield f"{name}: not in {base.ref}"
    for name in sorted(ours & theirs):
        yield from _difference(name, base, other)
    for tie in {*base.ties, *other.ties}:
        yield from _untied(tie, base, other)


def _difference(name: str, base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    ours, theirs = base.infos[name], other.infos[name]
    if ours.shape != theirs.shape:
        yield f"{name}: shape {theirs.shape}, expected {ours.shape}{_head(ours, theirs)}"
    elif ours.dtype.is_floating_point != theirs.dtype.is_floating_point:
        yield f"{name}: dtype {theirs.dtype}, expected {ours.dtype}"
    elif buffers.is_constant(name) and not _equal(base.views[name], other.views[name]):
        both = f"{other.views[name].array().tolist()} and {base.views[name].array().tolist()}"
        yield f"{name}: the normalisers differ ({both})"


def _head(ours: TensorInfo, theirs: TensorInfo) -> str:
    if len(ours.shape) in (1, 2) and ours.shape[1:] == theirs.shape[1:]:
        classes = f"{theirs.shape[0]} and {ours.shape[0]} classes"
        return f" (the head differs: {classes}? --head base keeps one)"
    return ""


def _untied(tie: Sequence[str], base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    for checkpoint in (base, other):
        views = [checkpoint.views[name] for name in tie if name in checkpoint]
        if not all(_equal(views[0], view) for view in views[1:]):
            yield f"{' and '.join(tie)} are one tensor elsewhere, but differ in {checkpoint.ref}"


def _equal(one: View, other: View) -> bool:
    return bool(np.array_equal(one.array().astype(np.float64), other.array().astype(np.float64)))


def require_fit(checkpoints: Sequence[Checkpoint], selection: Selection = EVERYTHING) -> None:
    """Reject checkpoints that cannot be mixed.

    Raises:
        InputError: some do not fit; the first problems of each are listed.
    """
    problems = []
    for ref, lines in mismatches(checkpoints, selection).items():
        problems += [f"{ref}: {line}" for line in lines[:LISTED]]
        if len(lines) > LISTED:
            problems.append(f"{ref}: and {len(lines) - LISTED} more (soupmerge check lists all)")
    if problems:
        fix = "only mix checkpoints of the same network"
        raise InputError("the ingredients do not fit together", problems=problems, fix=fix)


@dataclass(frozen=True)
class Ingredients:
    """K aligned checkpoints, in the order given; the first sets names, shapes and dtypes.

    Attributes:
        checkpoints: the K checkpoints.
        selection: which tensors are copied or left out instead of mixed.

    Raises:
        InputError: they do not fit; missing, unexpected and misshapen tensors are listed.
    """

    checkpoints: tuple[Checkpoint, ...]
    selection: Selection = EVERYTHING

    def __post_init__(self) -> None:
        require_fit(self.checkpoints, self.selection)
        self._require_copied()
        # Soups that were mixed from the same files differ in their digests.
        places = [(c.sources[0].stamp[:2], c.digest) for c in self.checkpoints]
        twice = [
            c.ref for c, p in zip(self.checkpoints, places, strict=True) if places.count(p) > 1
        ]
        if twice:
            listed = enumerated([*dict.fromkeys(twice)])
            warnings.warn(f"the same file is given more than once: {listed}", stacklevel=3)
        _warn_of_dtypes(self.checkpoints)

    def _require_copied(self) -> None:
        copied = self.selection.copied.items()
        missing = [f"{self[k].ref}: {name}" for name, k in copied if name not in self[k]]
        if missing:
            what = "the recipe copies tensors that are missing"
            raise InputError(what, problems=missing, fix="use the checkpoints that it names")

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.checkpoints)

    def __getitem__(self, k: int) -> Checkpoint:
        return self.checkpoints[k]

    @cached_property
    def infos(self) -> dict[str, TensorInfo]:
        """Name → dtype and shape of the soup's tensors."""
        copied = self.selection.copied
        mixed = {n: i for n, i in self.checkpoints[0].infos.items() if self.selection.mixes(n)}
        all_infos = {**mixed, **{n: self.checkpoints[k].infos[n] for n, k in copied.items()}}
        return dict(sorted(all_infos.items()))

    @property
    def bytes(self) -> int:
        """Size of the soup in bytes, in the dtypes of the first ingredient."""
        return sum(info.bytes for info in self.infos.values())

    @property
    def mixed(self) -> tuple[str, ...]:
        """Names of the tensors that have coefficients: parameters, not buffers or counters."""
        return tuple(
            name
            for name, info in self.infos.items()
            if self.selection.mixes(name) and buffers.is_mixed(name, info.dtype)
        )

    def groups(self, by: str) -> dict[str, tuple[str, ...]]:
        """Return group → tensor names; tied tensors are in one group.

        Raises:
            UsageError: there is no grouping *by*.
        """
        ties = sorted({tie for c in self.checkpoints for tie in c.ties})
        return group_by(by, self.mixed, ties)

    def rows(self, by: str, buffers: str) -> dict[str, int]:
        """Return tensor name → the index of its row of W; others are copied from `source_of`."""
        copied, infos = self.selection.copied, self.infos
        names = [n for n, i in infos.items() if n not in copied and i.dtype.is_floating_point]
        return rows_of(self.groups(by), names, buffers)

    def source_of(self, name: str, base: int) -> int:
        """Return the ingredient that *name*, a tensor without a row, is copied from."""
        return self.selection.copied.get(name, base)

    def alone(self, k: int) -> Checkpoint:
        """Return the soup of ingredient *k* alone, which differs from it by the selection."""
        views = {name: self[self.source_of(name, k)].views[name] for name in self.infos}
        return dataclasses.replace(self[k], views=views)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A short, unique name for each ingredient."""
        return unique_names(checkpoint.ref for checkpoint in self.checkpoints)

    @property
    def model(self) -> str | None:
        """The reference of the network, if all files name the same."""
        models = {c.model for c in self.checkpoints}
        return models.pop() if len(models) == 1 else None

    def require_sound(self) -> None:
        """Reject ingredients with NaN, Inf or variances below 0 in the tensors that are used.

        Raises:
            NumericsError: some have; they are listed with their tensors.
        """
        faults = {c.ref: c.faults(self._used(k)) for k, c in enumerate(self)}
        faults = {ref: lines for ref, lines in faults.items() if lines}
        if len(faults) == 1:
            [(ref, lines)] = faults.items()
            raise NumericsError(UNSOUND, problems=lines, where=ref, fix="leave it out")
        if faults:
            problems = [f"{ref}: {line}" for ref, lines in faults.items() for line in lines]
            what = f"more than one ingredient {UNSOUND}"
            raise NumericsError(what, problems=problems, fix="leave them out")

    def _used(self, k: int) -> set[str]:
        """Return the tensors of ingredient *k* that are used in the soup."""
        copied = self.selection.copied
        return {n for n in self[k] if self.selection.mixes(n) or copied.get(n) == k}

    @cached_property
    def variances_below_0(self) -> bool:
        """Whether any ingredient has a variance below 0 that is used in the soup."""
        return any(
            name in self._used(k) for k, c in enumerate(self) for name in c.negative_variances()
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the ingredients, which no output may replace."""
        return tuple(file for checkpoint in self.checkpoints for file in checkpoint.files)

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """The sha256 of each ingredient, computed in parallel."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            digests = tuple(pool.map(lambda checkpoint: checkpoint.sha256, self.checkpoints))
        for digest, times in Counter(digests).items():
            refs = [c.ref for c, d in zip(self.checkpoints, digests, strict=True) if d == digest]
            if times > 1 and len({*refs}) > 1:
                what = f"{' and '.join(refs)} are the same weights (sha256 {digest[:16]}…)"
                warnings.warn(what, stacklevel=3)
        return digests

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return the ref, sha256 and links of each ingredient, for a manifest."""
        return [
            {"ref": c.ref, "sha256": digest} | ({"links": list(c.links)} if c.links else {})
            for c, digest in zip(self.checkpoints, self.hashes, strict=True)
        ]


def _warn_of_dtypes(checkpoints: Sequence[Checkpoint]) -> None:
    base = checkpoints[0].infos
    differing = {
        f"{name} ({info.dtype})": None
        for c in checkpoints[1:]
        for name, info in c.infos.items()
        if name in base and info.dtype.is_floating_point and info.dtype != base[name].dtype
    }
    if differing:
        first, more = next(iter(differing)), len(differing) - 1
        listed = first + (f" and {more} more" if more else "")
        what = (
            f"ingredients of several dtypes, {listed}: the soup has those of {checkpoints[0].ref}"
        )
        warnings.warn(what, stacklevel=4)
