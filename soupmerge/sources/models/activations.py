"""Activations by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PSSiLU(nn.Module):
    """x (σ(|α| x) − |β|) / (1 − |β|), with learned α and β (Dai et al. 2021, arXiv 2110.05626)."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor([1e-8]))
        self.alpha = nn.Parameter(torch.tensor([1.0]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of each element of *x*."""
        floor = self.beta.abs()
        return x * (torch.sigmoid(self.alpha.abs() * x) - floor) / (1 - floor)


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "pssilu": PSSiLU}
"""Name → activation. Swish, as published for some of these networks, is SiLU."""


def activation_of(name: str) -> nn.Module:
    """Return the activation called *name*."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is none of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
