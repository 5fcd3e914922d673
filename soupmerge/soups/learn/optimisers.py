"""Optimisers of coefficients, and the parameters that they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soupmerge.choices import FAMILIES, OPTIMISERS, implementation
from soupmerge.weights.families import Family, Parameters, coefficients


class Coefficients:
    """The parameters of a family of coefficients, in training.

    Args:
        family: the form, one of `soupmerge.choices.FAMILIES`.
        logits: the start: logits ``(T, G, K)`` of a soup for each of T objectives.
        optimiser: one of `soupmerge.choices.OPTIMISERS`.
        device: device of torch.

    Attributes:
        parameters: name → tensor that is learned.
    """

    def __init__(
        self, family: str, logits: Tensor, optimiser: str, device: torch.device | str
    ) -> None:
        self.family: Family = implementation(FAMILIES, family, "family")()
        start = self.family.start(logits.numpy())
        self.parameters = {
            name: torch.tensor(array, device=device).requires_grad_()
            for name, array in start.items()
        }
        entry = OPTIMISERS[optimiser]
        make = implementation(OPTIMISERS, optimiser, "optimiser")
        self.is_mirrored = entry.mirrored and not self.family.affine
        self.optimiser: torch.optim.Optimizer = make([*self.parameters.values()])

    def rows(self, at: Sequence[float]) -> Tensor:
        """Return the rows of the family ``(G, K)`` at the preference *at*, with a graph."""
        rows: Tensor = self.family.rows(self.parameters, at, torch)
        return rows

    def alpha(self, rows: Tensor) -> Tensor:
        """Return the coefficients ``(G, K)`` of *rows*."""
        alpha: Tensor = coefficients(self.family, rows, torch)
        return alpha

    def step(self, rows: Tensor, alpha: Tensor, gradient: Tensor, lr: float) -> None:
        """Take a step down the *gradient* ∂L/∂α ``(G, K)`` at *alpha*, the coefficients of *rows*.

        Those of n preferences, one below the other ``(n · G, K)``, are added up.

        A mirrored optimiser takes ∂L/∂α, made to sum to 0 over each row, for the gradient of the
        logits. With plain descent, that multiplies coefficients by exp(−lr · ∂L/∂α): exponentiated
        gradient descent (Kivinen & Warmuth 1997). The softmax's own gradient is α times as large,
        so that small coefficients hardly move.
        """
        parameters = list(self.parameters.values())
        if self.is_mirrored:
            centred = gradient - (gradient * alpha.detach()).sum(1, keepdim=True)
            grads = torch.autograd.grad(rows, parameters, centred, allow_unused=True)
        else:
            grads = torch.autograd.grad(alpha, parameters, gradient, allow_unused=True)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = torch.zeros_like(parameter) if grad is None else grad
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()

    @torch.no_grad()
    def replace_corners(self, change: Callable[[Tensor], Tensor]) -> None:
        """Let *change* replace the coefficients ``(G, K)`` at each corner of an affine family."""
        rows = self.parameters["rows"]
        for t, at in enumerate(torch.eye(len(rows)).tolist()):
            rows[t] = change(self.rows(at))

    def arrays(self) -> Parameters:
        """Return the parameters as arrays in float32."""
        return {n: p.detach().cpu().numpy().astype(np.float32) for n, p in self.parameters.items()}

    def state(self) -> dict[str, Tensor]:
        """Return the parameters and the state of the optimiser, name → tensor."""
        state = {f"parameters.{name}": p.detach() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state[parameter].items():
                state[f"optimiser.{name}.{key}"] = torch.as_tensor(value)
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError, RuntimeError, ValueError: it is the state of other parameters.
        """
        for name, parameter in self.parameters.items():
            parameter.data.copy_(state[f"parameters.{name}"])
            prefix = f"optimiser.{name}."
            entries: dict[str, Any] = {
                key.removeprefix(prefix): value.clone()
                for key, value in state.items()
                if key.startswith(prefix)
            }
            for key, value in entries.items():
                if value.ndim and value.shape != parameter.shape:
                    shapes = f"{tuple(value.shape)}, not {tuple(parameter.shape)}"
                    raise ValueError(f"{key} of {name} has the shape {shapes}")
                entries[key] = value if key == "step" else value.to(parameter.device)
            if entries:
                self.optimiser.state[parameter] = entries


def sgd(parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """Return gradient descent without momentum, as in Huang 2023."""
    return torch.optim.SGD(parameters, lr=0.0)


def adam(parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """Return Adam with its usual constants (Kingma & Ba 2015)."""
    return torch.optim.Adam(parameters, lr=0.0)
