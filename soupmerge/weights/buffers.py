"""Tensors that are not parameters: batch-norm statistics, counters, normalisers' constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

VARIANCE = "running_var"
STATISTICS = ("running_mean", VARIANCE)
CONSTANTS = ("mean", "std", "mu", "sigma", "new_mean", "new_std")


class _FloatingPoint(Protocol):
    """A dtype, of torch or of a file."""

    @property
    def is_floating_point(self) -> bool:
        """Whether it represents real numbers."""


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
    """Return whether *name* is a batch-norm variance, which must not be negative."""
    return name.rpartition(".")[2] == VARIANCE


def is_constant(name: str) -> bool:
    """Return whether *name* is a normaliser's mean or standard deviation: they must all agree."""
    return name.rpartition(".")[2] in CONSTANTS


def is_mixed(name: str, dtype: _FloatingPoint) -> bool:
    """Return whether *name* is a parameter, which has coefficients, and not a buffer or counter."""
    return dtype.is_floating_point and not is_statistic(name) and not is_constant(name)


def weight_beside(name: str) -> str:
    """Return the name of the weight in the module to which the statistic *name* belongs."""
    return name.rpartition(".")[0] + ".weight"
