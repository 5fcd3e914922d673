"""Batch norms in a step: whose statistics they use, and the gradients with respect to these.

With the policy ``average``, statistics are mixed like weights, so the loss depends on coefficients
through them, too. Torch does not compute these gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Norm:
    """A batch norm y = γ · (x − μ) / √v + β with v = σ² + eps, by the names of its tensors."""

    gamma: str
    beta: str
    mean: str
    variance: str
    eps: float

    @property
    def names(self) -> set[str]:
        """The names of all four tensors."""
        return {self.gamma, self.beta, self.mean, self.variance}

    def rename(self, names: Mapping[str, str]) -> Norm:
        """Return the norm with its tensors renamed by *names*, old name → new name."""
        gamma, beta = names[self.gamma], names[self.beta]
        return Norm(gamma, beta, names[self.mean], names[self.variance], self.eps)

    def gradients(
        self, theta: Mapping[str, Tensor], grads: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and values of ∂L/∂μ and ∂L/∂σ², ``(channels,)`` each.

        ∂y/∂μ = −γ / √v · ∂y/∂β and ∂y/∂σ² = −γ / 2v · ∂y/∂γ for each channel and any x.

        Args:
            theta: the weights, with γ and σ² among them.
            grads: gradients, with ∂L/∂γ and ∂L/∂β among them.
        """
        gamma, v = theta[self.gamma], theta[self.variance] + self.eps
        yield self.mean, -gamma / v.sqrt() * grads[self.beta]
        yield self.variance, -gamma / (2 * v) * grads[self.gamma]


def norms_of(net: nn.Module) -> Iterator[Norm]:
    """Yield the batch norms of *net* that have scale, shift and statistics."""
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
            prefix = f"{name}." if name else ""
            gamma, beta = f"{prefix}weight", f"{prefix}bias"
            yield Norm(gamma, beta, f"{prefix}running_mean", f"{prefix}running_var", module.eps)


@contextlib.contextmanager
def statistics_of_batch(net: nn.Module) -> Iterator[None]:
    """Let the batch norms of *net* use the statistics of the batch, updating none."""
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    before = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, tracked in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = False, tracked


class ThroughStatistics(TorchFunctionMode):
    """A context in which autograd differentiates batch norms in evaluation by their statistics."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call *func*, or `_batch_norm` in place of torch's."""
        function = _batch_norm if func is F.batch_norm else func
        return function(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return what torch's function of the same signature returns."""
    if training:
        options = (running_mean, running_var, weight, bias, training, momentum, eps)
        return F.batch_norm(input, *options)
    shape = (1, -1, *[1] * (input.ndim - 2))
    normal = (input - running_mean.view(shape)) / (running_var.view(shape) + eps).sqrt()
    scaled = normal if weight is None else normal * weight.view(shape)
    return scaled if bias is None else scaled + bias.view(shape)
