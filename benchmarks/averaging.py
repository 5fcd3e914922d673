"""Gradient descent with averaged iterates, an optimiser that the benchmark of fronts adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class PrimalAveraging(torch.optim.Optimizer):
    """Gradient descent whose gradients are taken at the mean of its iterates.

    z_{t+1} = z_t − lr · g(x_t) and x_{t+1} = (1 − c) · x_t + c · z_{t+1} with c = 1 / (t + 1), from
    z_0 = x_0 on. So x, the parameter, is the mean of the iterates z_1, z_2, … so far (Tao et al.
    2020, "Primal averaging: a new gradient evaluation step to attain the optimal individual
    convergence"; Defazio 2020, arXiv 2010.00406).

    Args:
        parameters: tensors that have gradients when a step is taken.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(parameters, {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step; the learning rate is that of the group of each parameter."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state |= {"step": torch.zeros(()), "z": parameter.clone()}
                state["step"] += 1
                state["z"] -= group["lr"] * parameter.grad
                parameter.lerp_(state["z"], 1 / float(state["step"]))
