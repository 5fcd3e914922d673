"""Ensembles: several networks judged as one, which cost a forward pass each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from soupmerge.choices import AVERAGES, implementation
from soupmerge.errors import UsageError


def mean_probabilities(logits: Tensor) -> Tensor:
    """Return log((1/K) Σ_k softmax(logits_k)) ``(B, C)`` for logits ``(K, B, C)``.

    Log-probabilities are logits whose softmax is the mean, so losses on logits apply to them.
    """
    return torch.logsumexp(logits.log_softmax(-1), 0) - math.log(len(logits))


def mean_logits(logits: Tensor) -> Tensor:
    """Return (1/K) Σ_k logits_k ``(B, C)`` for logits ``(K, B, C)``."""
    return logits.mean(0)


class Ensemble(nn.Module):
    """A classifier that averages the outputs of K *members*; attacks differentiate all of them.

    The ensemble is in evaluation mode; the modes of its members are left as they are.

    Args:
        members: K ≥ 1 networks, images ``(B, C_in, H, W)`` to logits ``(B, C)``.
        average: ``prob`` averages softmax probabilities and returns their logarithms, as deep
            ensembles do (Lakshminarayanan et al. 2017); ``logit`` averages logits.

    Raises:
        UsageError: the average is unknown or there is no member; when called, if the members
            differ in their number of classes.

    Example:
        >>> import soupmerge as sm
        >>> pair = Ensemble([sm.model("digits-cnn", seed=s) for s in (0, 1)], "prob")
        >>> pair(torch.rand(2, 1, 8, 8)).exp().sum(1).allclose(torch.ones(2))
        True
    """

    def __init__(self, members: Sequence[nn.Module], average: str) -> None:
        super().__init__()
        if not members:
            raise UsageError("has no members", where="ensemble", fix="give at least two networks")
        self.members = nn.ModuleList(members)
        self.average = average
        self._averaged: Callable[[Tensor], Tensor] = implementation(AVERAGES, average, "average")
        self.training = self.members.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(B, C)`` of the average for images *x*."""
        logits = [member(x) for member in self.members]
        shapes = [tuple(out.shape) for out in logits]
        if len(set(shapes)) > 1:
            classes = ", ".join(str(shape[-1]) for shape in shapes)
            fix = "choose networks with the same classes"
            raise UsageError(f"its members have {classes} classes", where="ensemble", fix=fix)
        return self._averaged(torch.stack(logits))
