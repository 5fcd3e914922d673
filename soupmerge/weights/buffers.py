"""Tensors that are no parameters: batch-norm statistics, counters, a normaliser's constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

VARIANCE = "running_var"
STATISTICS = ("running_mean", VARIANCE)
CONSTANTS = ("mean", "std", "mu", "sigma", "new_mean", "new_std")


class _HasKind(Protocol):
    """A dtype, of torch or of a file."""

    @property
    def is_floating_point(self) -> bool:
        """Whether it is for real numbers."""


@dataclass(frozen=True)
class Buffers:
    """Where the buffers of a soup come from: batch-norm statistics, and counters.

    Args:
        policy: ``average`` mixes statistics like the weights beside them; ``base`` copies them from
            one ingredient, as Huang 2023 does.
        base: index of the ingredient that counters, and with ``base`` statistics, come from.

    Example:
        >>> Buffers("base", base=1)
        Buffers(policy='base', base=1)
    """

    policy: str = "average"
    base: int = 0


def is_statistic(name: str) -> bool:
    """Return whether *name* is a batch-norm statistic."""
    return name.rpartition(".")[2] in STATISTICS


def is_variance(name: str) -> bool:
    """Return whether *name* is a batch-norm variance, which cannot be below 0."""
    return name.rpartition(".")[2] == VARIANCE


def is_constant(name: str) -> bool:
    """Return whether *name* is a normaliser's mean or standard deviation, which must agree."""
    return name.rpartition(".")[2] in CONSTANTS


def is_mixed(name: str, dtype: _HasKind) -> bool:
    """Return whether *name* has coefficients of its own: a parameter, not a buffer or a counter."""
    return dtype.is_floating_point and not is_statistic(name) and not is_constant(name)


def weight_beside(name: str) -> str:
    """Return the name of the weight in the module of the statistic *name*."""
    return name.rpartition(".")[0] + ".weight"
