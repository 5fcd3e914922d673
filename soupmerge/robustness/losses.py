"""Losses that attacks maximise: logits ``(B, C)``, labels and target classes ``(B,)`` → ``(B,)``.

They are computed in float32 or wider, whatever the network computes in. Only targeted losses use
the target classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from soupmerge.choices import LOSSES, implementation

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

TINY = 1e-12


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return −log softmax(logits)_y."""
    return F.cross_entropy(_wide(logits), y, reduction="none")


def margin(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return max_{i ≠ y} z_i − z_y (Carlini & Wagner 2017), which is above 0 for wrong answers."""
    z = _wide(logits)
    others = z.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - _at(z, y)


def margin_to_target(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return z_t − z_y."""
    z = _wide(logits)
    return _at(z, target) - _at(z, y)


def dlr(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the difference of logits ratio, −(z_y − max_{i ≠ y} z_i) / (z_π1 − z_π3).

    z_π is z in descending order (Croce & Hein 2020, equation 6). Scaling the logits does not
    change the loss. With fewer than 3 classes there is no z_π3, and the margin is returned.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = _wide(logits).topk(3, 1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + TINY)


def dlr_to_target(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return −(z_y − z_t) / (z_π1 − (z_π3 + z_π4) / 2) (Croce & Hein 2020, equation 7).

    With fewer than 4 classes there is no z_π4, and the margin to the target is returned.
    """
    if logits.shape[1] < 4:
        return margin_to_target(logits, y, target)
    top = _wide(logits).topk(4, 1).values
    scale = top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])
    return margin_to_target(logits, y, target) / (scale + TINY)


def loss_of(name: str) -> Loss:
    """Return the loss *name* of `choices.LOSSES`.

    Raises:
        UsageError: there is none of that name.
    """
    loss: Loss = implementation(LOSSES, name, "loss")
    return loss


def is_right(logits: Tensor, y: Tensor) -> Tensor:
    """Return ``(B,)`` bool: whether each answer is right, and all its logits are finite.

    Args:
        logits: ``(B, C)``.
        y: labels ``(B,)``, or all right classes, ``(B, C)`` bool.
    """
    answers = logits.argmax(1)
    right = _at(y, answers) if y.ndim == 2 else answers == y
    return right & torch.isfinite(logits).all(1)


def _at(z: Tensor, index: Tensor) -> Tensor:
    return z.gather(1, index[:, None]).squeeze(1)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
