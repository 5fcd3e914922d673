"""Queries that halve their batch when GPU memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def halving(query: Callable[..., Sequence[Tensor]], *batch: Tensor) -> tuple[Tensor, ...]:
    """Return ``query(*batch)``; if memory runs out, query each half and concatenate the results.

    Args:
        query: takes the tensors of *batch* and returns tensors, all of leading dimension B.
        batch: tensors of leading dimension B.

    Raises:
        torch.OutOfMemoryError: a single example does not fit.
    """
    try:
        return tuple(query(*batch))
    except torch.OutOfMemoryError:
        if len(batch[0]) == 1:
            raise
    # Outside the handler, which would keep the tensors of the failed query alive.
    torch.cuda.empty_cache()
    halves = zip(*(tensor.chunk(2) for tensor in batch), strict=True)
    answers = [halving(query, *half) for half in halves]
    return tuple(torch.cat(both) for both in zip(*answers, strict=True))
