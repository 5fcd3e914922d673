"""Gradients in the statistics of batch norms, which torch leaves out.

With the policy ``average`` statistics are mixed like weights, so coefficients move the loss through
them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Norm:
    """A batch norm y = γ · (x − μ) / √v + β, v = σ² + eps, by the names of its tensors."""

    gamma: str
    beta: str
    mean: str
    variance: str
    eps: float

    @property
    def names(self) -> set[str]:
        """All four."""
        return {self.gamma, self.beta, self.mean, self.variance}

    def renamed(self, names: Mapping[str, str]) -> Norm:
        """Return the norm by other *names* of its tensors."""
        gamma, beta = names[self.gamma], names[self.beta]
        return Norm(gamma, beta, names[self.mean], names[self.variance], self.eps)

    def gradients(
        self, theta: Mapping[str, Tensor], grads: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield ∂L/∂μ and ∂L/∂σ² at *theta*, given ∂L/∂γ and ∂L/∂β among *grads*.

        ∂y/∂μ = −γ / √v · ∂y/∂β and ∂y/∂σ² = −γ / 2v · ∂y/∂γ, channel by channel, whatever x is.
        """
        gamma, v = theta[self.gamma], theta[self.variance] + self.eps
        yield self.mean, -gamma / v.sqrt() * grads[self.beta]
        yield self.variance, -gamma / (2 * v) * grads[self.gamma]


def norms_of(net: nn.Module) -> Iterator[Norm]:
    """Yield the batch norms of *net* that scale, shift and keep statistics."""
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
            at = f"{name}." if name else ""
            scale, shift = f"{at}weight", f"{at}bias"
            yield Norm(scale, shift, f"{at}running_mean", f"{at}running_var", module.eps)


class ThroughStatistics(TorchFunctionMode):
    """Within it, a batch norm in evaluation is computed so that autograd reaches its statistics."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call *func*, or compute what it would."""
        given = kwargs or {}
        return _normed(*args, **given) if func is F.batch_norm else func(*args, **given)


def _normed(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return what torch's function of these arguments does."""
    if training:
        how = (running_mean, running_var, weight, bias, training, momentum, eps)
        return F.batch_norm(input, *how)
    wide = (1, -1, *[1] * (input.ndim - 2))
    normal = (input - running_mean.view(wide)) / (running_var.view(wide) + eps).sqrt()
    scaled = normal if weight is None else normal * weight.view(wide)
    return scaled if bias is None else scaled + bias.view(wide)
