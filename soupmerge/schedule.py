"""Randomness and time of a run, as functions of its seed and position: nothing to save, nothing
to restore, so a resumed run is the same run.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def stream(*keys: object) -> torch.Generator:
    """Return a CPU generator that depends on *keys* alone: equal keys, equal numbers."""
    digest = hashlib.blake2b("\x1f".join(map(str, keys)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def order(n: int, seed: int, epoch: int) -> Tensor:
    """Return ``(n,)``: the order in which *epoch* sees *n* examples."""
    return torch.randperm(n, generator=stream("order", seed, epoch))


def cosine(peak: float, done: int, total: int, warmup: int = 0) -> float:
    """Return the learning rate after *done* of *total* steps.

    peak · (1 + cos(π · done / total)) / 2, reached linearly over the first *warmup* steps.
    """
    rise = min(1.0, (done + 1) / (warmup + 1))
    return rise * 0.5 * peak * (1 + math.cos(math.pi * done / total))
