"""What the tests of attacks share: radii, and the question that decides."""

from __future__ import annotations

from torch import Tensor, nn

import soupmerge as sm

CALIBRATED = [sm.Linf(0.02), sm.L2(0.15), sm.L1(1.0)]
"""Radii at which some images of `network` hold and some fall."""


def right(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return network(x).argmax(1) == y
