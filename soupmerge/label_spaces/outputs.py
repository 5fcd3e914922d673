"""How the logits of a network become those of the classes of a data set, and who reads them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soupmerge.errors import InputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from soupmerge.types import Examples


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network that stand for each class of a data set.

    With one output for each class, the logits are restricted to these outputs. If some class has
    several, the logit of class j with the outputs G_j is the logarithm of their mean probability,

        log( (1/|G_j|) Σ_{i ∈ G_j} softmax(z)_i )

    as cue-conflict images are judged (Geirhos et al. 2019, arXiv 1811.12231).

    Attributes:
        groups: the outputs of each of the C classes, as indices from 0 to N − 1.
        of: the number N of outputs that the network has.
        names: what the N outputs stand for, in their order; empty if unknown.
        ref: the name of the label space, or of its file; empty if it is what networks record.

    Raises:
        UsageError: a class has no output, or one that the network lacks.

    Example:
        >>> import torch
        >>> outputs = Outputs(groups=((2,), (0,)), of=3)
        >>> outputs(torch.tensor([[1.0, 2.0, 3.0]])), outputs.describe()
        (tensor([[3., 1.]]), '2 of 3 outputs')
    """

    groups: tuple[tuple[int, ...], ...]
    of: int
    names: tuple[str, ...] = ()
    ref: str = ""

    def __post_init__(self) -> None:
        for place, group in enumerate(self.groups):
            if not group or min(group) < 0 or max(group) >= self.of:
                what = f"class {place} has the outputs {list(group)}"
                fix = f"give each class one or more of 0 to {self.of - 1}"
                raise UsageError(what, where="outputs", fix=fix)

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the logits ``(B, C)`` of the classes for logits ``(B, N)``; differentiable.

        Raises:
            InputError: the network has another number of outputs.
        """
        import torch

        self.require(logits.shape[1])
        if self._is_restriction:
            return _at(logits, [i for (i,) in self.groups])
        # In bfloat16, the logarithm of a mean of probabilities would be coarse.
        wide = logits if logits.dtype == torch.float64 else logits.float()
        log = wide.log_softmax(1)
        means = [_at(log, group).logsumexp(1) - math.log(len(group)) for group in self.groups]
        return torch.stack(means, 1)

    @property
    def _is_restriction(self) -> bool:
        return all(len(group) == 1 for group in self.groups)

    @property
    def is_identity(self) -> bool:
        """Whether every class is the output of the same number, and there are no others."""
        return self.groups == tuple((i,) for i in range(self.of))

    def require(self, outputs: int, where: object = "model") -> None:
        """Reject a network whose number of *outputs* is another.

        Raises:
            InputError: it is; *where* names the network.
        """
        if outputs != self.of:
            by = self.ref or "what it records"
            what = f"has {outputs:,} outputs, but {self.of:,} are named by {by}"
            fix = "name those that it has with --classes, or choose another network"
            raise InputError(what, where=where, fix=fix)

    def describe(self) -> str:
        """Return which outputs are used, in words.

        Example:
            >>> Outputs(groups=((0, 1), (2,)), of=1000).describe()
            '2 groups of 3 of 1,000 outputs'
        """
        used = len({i for group in self.groups for i in group})
        if not self._is_restriction:
            return f"{len(self.groups):,} groups of {used:,} of {self.of:,} outputs"
        return (
            f"{used:,} of {self.of:,} outputs"
            if used < self.of
            else f"all {used:,} outputs by name"
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return what is recorded of the mapping in the fingerprint of a data set."""
        digest = hashlib.sha256(json.dumps([self.groups, self.of]).encode()).hexdigest()
        ref = {"ref": self.ref} if self.ref else {}
        return {"outputs": self.describe(), "mapping": {**ref, "sha256": digest}}


def _at(z: Tensor, outputs: Sequence[int]) -> Tensor:
    """Return the columns *outputs* of *z*; the index is made where *z* is."""
    import torch

    return z.index_select(1, torch.tensor(outputs, dtype=torch.long, device=z.device))


def outputs_of(data: Examples) -> Outputs | None:
    """Return how logits become those of the classes of *data*; None if they are so already."""
    outputs: Outputs | None = getattr(data, "outputs", None)
    return outputs


def in_words(fingerprint: Mapping[str, Any]) -> str:
    """Return what an accuracy on the data of *fingerprint* counts as right; "" if it is usual.

    Example:
        >>> in_words({"ref": "folder:imagenet-r", "outputs": "200 of 1,000 outputs"})
        '200 of 1,000 outputs'
    """
    parts = [fingerprint.get("outputs"), fingerprint.get("labels")]
    return ", ".join(str(part) for part in parts if part)


def also_right(data: Examples) -> Tensor | None:
    """Return ``(N, C)`` bool: the classes of *data* that are right besides the labels; or None."""
    also: Tensor | None = getattr(data, "also_right", None)
    return also


def right_classes(data: Examples, indices: Tensor, labels: Tensor) -> Tensor:
    """Return the right answers to the images of *data* at *indices*.

    These are their *labels* ``(B,)``, or ``(B, C)`` bool if images may have several right classes.
    """
    also = also_right(data)
    if also is None:
        return labels
    return also[indices.cpu()].to(labels.device).scatter(1, labels[:, None], True)


def require_one_label(data: Examples, use: str) -> None:
    """Reject *data* whose images may have several right classes for a *use* that needs one.

    Raises:
        UsageError: they may.
    """
    if also_right(data) is not None:
        what = f"its images may have several right labels, but {use} needs one for each"
        fix = "judge clean accuracy alone, or give data with one label for each image"
        raise UsageError(what, where=data.ref, fix=fix)
