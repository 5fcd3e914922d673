"""What an attack raises: a loss per example, logits ``(B, C)`` and labels ``(B,)`` → ``(B,)``."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return −log softmax(logits)_y."""
    return F.cross_entropy(logits, y, reduction="none")


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy}
"""The name of a loss → the loss."""
