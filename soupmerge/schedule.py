"""Random streams and learning rates as functions of seed and position.

They have no state to save or restore, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def stream(*keys: object) -> torch.Generator:
    """Return a CPU generator seeded by *keys* alone: equal keys give equal numbers."""
    digest = hashlib.blake2b("\x1f".join(map(str, keys)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def order(n: int, seed: int, epoch: int) -> Tensor:
    """Return ``(n,)``: the order in which *epoch* visits *n* examples."""
    return torch.randperm(n, generator=stream("order", seed, epoch))


def cosine(peak: float, done: int, total: int, warmup: int = 0) -> float:
    """Return the learning rate after *done* of *total* steps.

    It is peak · (1 + cos(π · done / total)) / 2, scaled up linearly over the *warmup* steps.
    """
    rise = min(1.0, (done + 1) / (warmup + 1))
    return rise * 0.5 * peak * (1 + math.cos(math.pi * done / total))
