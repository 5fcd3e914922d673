"""What the steps of an epoch say about convergence: mean losses, and the Frank-Wolfe gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Convergence:
    """Losses of the objectives, and the Frank-Wolfe gap of the soup at each corner.

    For coefficients α on the simplex and a loss with gradient ∇ = ∂L/∂α, the gap of a group is
    ⟨∇, α⟩ − min_k ∇_k = max_k ⟨∂L/∂θ, θ − θ_k⟩: the most that L can fall, to first order, when the
    group moves all the way to an ingredient (Jaggi 2013, "Revisiting Frank-Wolfe"). It is 0 if and
    only if no such move helps, and needs nothing that a step of learning has not computed.

    The gradient of a batch is noisy, and the largest of noisy numbers is too large. So gradients
    are averaged over an epoch before the maximum is taken.

    Coefficients that may leave the simplex have no gap: out there, the loss can fall further than
    on the way to any ingredient.

    Args:
        objectives: names of the T objectives.
        groups: number of groups G.
        k: number of ingredients K.
        on_simplex: whether the coefficients stay on the simplex.
    """

    def __init__(
        self, objectives: Sequence[str], groups: int, k: int, *, on_simplex: bool = True
    ) -> None:
        self.objectives, self.on_simplex, count = tuple(objectives), on_simplex, len(objectives)
        self._sums = {
            "total": torch.zeros(2, dtype=torch.float64),  # sum of losses, images
            "losses": torch.zeros(2, count, dtype=torch.float64),
            "steps": torch.zeros(count, groups),
            "inner": torch.zeros(count, groups),
            "gradients": torch.zeros(count, groups, k),
        }

    def add_losses(self, losses: Sequence[float], total: float, images: int) -> None:
        """Add the *losses* of a step, NaN for those that it did not compute, and their *total*."""
        self._sums["total"] += torch.tensor([total * images, images], dtype=torch.float64)
        for t, loss in enumerate(losses):
            if loss == loss:
                self._sums["losses"][:, t] += torch.tensor([loss * images, images])

    def add_gradient(
        self, shares: Sequence[float], alpha: Tensor, gradient: Tensor, active: Tensor
    ) -> None:
        """Add the *gradient* ∂L/∂α ``(G, K)`` of a step at *alpha*, if *shares* are a corner.

        Groups that are not *active* ``(G,)`` have no gradient, and are not counted.
        """
        if self.on_simplex and max(shares) == 1:
            t, gradient = shares.index(1), gradient.cpu().float()
            self._sums["steps"][t] += active.float()
            self._sums["gradients"][t] += gradient
            self._sums["inner"][t] += (gradient * alpha.cpu()).sum(1)

    @property
    def loss(self) -> float:
        """The mean of what the steps minimised."""
        total, images = self._sums["total"].tolist()
        return float(total / images)

    def losses(self) -> dict[str, float | None]:
        """Return objective → its mean loss; None where no step has computed it."""
        sums, images = self._sums["losses"].tolist()
        means = (s / n if n else None for s, n in zip(sums, images, strict=True))
        return dict(zip(self.objectives, means, strict=True))

    def gaps(self) -> dict[str, float | None]:
        """Return objective → the gap at its corner; None where no step has been taken there."""
        steps = self._sums["steps"]
        each = (self._sums["inner"] - self._sums["gradients"].amin(2)) / steps.clamp(min=1)
        taken, gaps = steps.any(1).tolist(), each.sum(1).tolist()
        values = (gap if was_taken else None for gap, was_taken in zip(gaps, taken, strict=True))
        return dict(zip(self.objectives, values, strict=True))

    def note(self) -> str:
        """Return losses and gaps in words, for progress."""
        several = len(self.objectives) > 1
        losses = self.losses() if several else {"loss": self.loss}
        words = [f"{name} {loss:.4f}" for name, loss in losses.items() if loss is not None]
        gaps = [f"{gap:.3f}" for gap in self.gaps().values() if gap is not None]
        return ", ".join([*words, f"gap {'/'.join(gaps)}"] if gaps else words)

    def record(self) -> dict[str, Any]:
        """Return losses and gaps as JSON values."""
        several, gaps = len(self.objectives) > 1, self.gaps()
        record = {"loss": self.loss, **({"losses": self.losses()} if several else {})}
        if self.on_simplex:
            record |= {"gaps": gaps} if several else {"gap": gaps[self.objectives[0]]}
        return record

    def reset(self) -> None:
        """Forget all steps, for the next epoch."""
        for sums in self._sums.values():
            sums.zero_()

    def state(self) -> dict[str, Tensor]:
        """Return the sums so far, name → tensor."""
        return {f"convergence.{name}": sums for name, sums in self._sums.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, sums in self.state().items():
            sums.copy_(state[name])


def described(middle: Tensor, corners: Tensor, start: Tensor) -> dict[str, Any]:
    """Return what coefficients are like, as JSON values.

    Args:
        middle: coefficients ``(G, K)`` where all objectives count alike.
        corners: coefficients ``(T, G, K)`` where one of them counts alone.
        start: the logits ``(T, G, K)`` from which the corners came.

    Returns:
        ``entropy``, the mean over the rows of *middle*, in nats; ``moved``, by how much a row of
        *corners* has changed on average, from 0 to 1 on the simplex; and ``weights``, the mean
        coefficient of each ingredient in *middle*.
    """
    alpha, ends, before = (tensor.cpu().double() for tensor in (middle, corners, start))
    return {
        "entropy": -(alpha * alpha.abs().clamp(min=1e-30).log()).sum(1).mean().item(),
        "moved": ((ends - before.softmax(2)).abs().sum(2).mean() / 2).item(),
        "weights": [round(w, 6) for w in alpha.mean(0).tolist()],
    }
