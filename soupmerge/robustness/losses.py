"""What an attack raises: a loss per example, logits ``(B, C)`` and labels ``(B,)`` → ``(B,)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return −log softmax(logits)_y, in float32 or wider whatever the network computes in."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide, y, reduction="none")


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy}
"""The name of a loss → the loss."""
