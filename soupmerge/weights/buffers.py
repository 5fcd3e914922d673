"""Tensors that are no parameters: batch-norm statistics, counters, a normaliser's constants."""

from __future__ import annotations

from collections.abc import Collection

import torch

POLICIES = ("average", "base")
"""``average``: statistics are mixed like the weights of their module; ``base``: they come from one
ingredient, as in the paper, where buffers are not averaged."""

STATISTICS = ("running_mean", "running_var")
CONSTANTS = ("mean", "std", "mu", "sigma", "new_mean", "new_std")


def is_statistic(name: str) -> bool:
    """Return whether *name* is a batch-norm statistic."""
    return name.rpartition(".")[2] in STATISTICS


def is_constant(name: str) -> bool:
    """Return whether *name* is a normaliser's mean or standard deviation, which must agree."""
    return name.rpartition(".")[2] in CONSTANTS


def is_mixed(name: str, dtype: torch.dtype) -> bool:
    """Return whether *name* has coefficients of its own: a parameter, not a buffer or a counter."""
    return dtype.is_floating_point and not is_statistic(name) and not is_constant(name)


def companion(name: str, mixed: Collection[str]) -> str | None:
    """Return the parameter whose coefficients the statistic *name* shares: its module's weight."""
    weight = name.rpartition(".")[0] + ".weight"
    return weight if weight in mixed else None
