"""A small network on which attacks are compared, and images that it takes for what they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
        ]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 10)).eval()


@pytest.fixture(scope="module")
def batch(network: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(48, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, network(x).argmax(1)


@pytest.fixture(scope="module")
def exact(network: nn.Module) -> nn.Module:
    """The network in float64, where rounding that depends on the batch size decides nothing."""
    return copy.deepcopy(network).double()
