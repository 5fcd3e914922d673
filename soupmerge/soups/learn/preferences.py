"""Preferences between objectives: which ones a step learns, and how it weighs their losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from soupmerge.choices import SCALARISATIONS, implementation
from soupmerge.types import Scalarisation

SMOOTHNESS = 0.1
"""μ of the smooth Tchebycheff scalarisation, in units of the loss."""


def draw(objectives: int, corners: float, generator: torch.Generator) -> tuple[float, ...]:
    """Return a preference: shares of *objectives* that sum to 1.

    With probability *corners* it is one of the corners of the simplex, all equally likely, and
    otherwise uniform over the simplex, which is the Dirichlet distribution of parameter 1. A
    single objective has a share of 1, and draws nothing.
    """
    if objectives == 1:
        return (1.0,)
    is_corner, corner = torch.rand((), generator=generator) < corners, torch.eye(objectives)
    which = torch.randint(objectives, (), generator=generator)
    exponential = -torch.rand(objectives, generator=generator, dtype=torch.float64).log()
    shares = corner[which] if is_corner else exponential / exponential.sum()
    return tuple(shares.tolist())


def scalarisation(name: str) -> Scalarisation:
    """Return the scalarisation *name*, one of `soupmerge.choices.SCALARISATIONS`."""
    found: Scalarisation = implementation(SCALARISATIONS, name, "scalarisation")
    return found


def weighted_sum(losses: Tensor, shares: Tensor, ideal: Tensor) -> Tensor:
    """Return Σ_t λ_t · L_t, which reaches the convex parts of a front."""
    return (shares * losses).sum()


def smooth_tchebycheff(losses: Tensor, shares: Tensor, ideal: Tensor) -> Tensor:
    """Return μ · log Σ_t exp(λ_t · (L_t − z_t) / μ), which reaches concave parts, too.

    It is a smooth maximum of the weighted distances from the *ideal* losses z (Lin et al. 2024,
    arXiv 2402.19078, equation 9).
    """
    return SMOOTHNESS * torch.logsumexp(shares * (losses - ideal) / SMOOTHNESS, 0)


def used(shares: Sequence[float]) -> list[int]:
    """Return the indices of the objectives with a share, which are those that a step computes."""
    return [t for t, share in enumerate(shares) if share > 0]
