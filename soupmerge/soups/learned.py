"""The learned soup as a function of its coefficients: θ(W), W = softmax of trainable logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from soupmerge.binding import align
from soupmerge.errors import UsageError, near_miss
from soupmerge.types import Classifier
from soupmerge.weights.buffers import is_statistic
from soupmerge.weights.groups import rows_of
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.mixing import combine
from soupmerge.weights.recipe import Recipe

STARTS = ("xavier", "uniform")


class LearnedSoup:
    """K stacked ingredients, and the network they are poured into (Huang 2023, section 3).

    Every group g has a softmax of its own; its K outputs are the coefficients of all tensors of
    the group. Batch-norm statistics follow *buffers*: ``average`` mixes them with the coefficients
    of their module's weight, ``base`` takes those of one ingredient, as in the paper. Either way
    they are constants to the gradient.

    Args:
        net: an own copy, in evaluation mode: its statistics stay as mixed, and are not updated.
        pots: the ingredients; all are held in memory, in the dtype of *net*.
        by: grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        buffers: policy for batch-norm statistics.
        base: the ingredient that counters (and ``base`` statistics) come from.
        device: where the stacks live.
    """

    def __init__(
        self,
        net: nn.Module,
        pots: Ingredients,
        *,
        by: str = "tensor",
        buffers: str = "average",
        base: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.net, self.pots = net, pots
        self.by, self.buffers, self.base = by, buffers, base
        self.dtype = next((p.dtype for p in net.parameters()), torch.float32)
        groups = pots.groups(by)
        self.groups = tuple(groups)
        self._renamed = dict(zip(pots.infos, align(pots[0], net), strict=True))
        self.row = rows_of(groups, pots.infos, buffers)
        self.fixed = {n: pots[base][n].to(device) for n in pots.infos if n not in self.row}
        self.stacks = {n: self._stack(n).to(device) for n in self.row}

    def _stack(self, name: str) -> Tensor:
        return torch.stack([pot[name].to(self.dtype) for pot in self.pots])

    def by_depth(self) -> list[str]:
        """Return the groups as the network has the first tensor of each: from input to output."""
        place = {name: i for i, name in enumerate(self.net.state_dict())}
        names = sorted(self.row, key=lambda name: place[self._renamed[name]])
        rows = dict.fromkeys(self.row[name] for name in names)
        return [self.groups[g] for g in rows if g < len(self.groups)]

    def start(self, how: str, generator: torch.Generator) -> Tensor:
        """Return the logits ``(G, K)`` to start from.

        ``xavier``: Glorot-uniform for each group's softmax by itself, a matrix ``(1, K)``, so that
        its scale √(6 / (1 + K)) is the same for any number of groups. ``uniform``: zeros, from
        which the paper saw learning stick.

        Raises:
            UsageError: there is no such start.
        """
        if how not in STARTS:
            raise UsageError(f"no start {how!r}", where="init", fix=near_miss(how, STARTS))
        k = len(self.pots)
        if how == "uniform":
            return torch.zeros(len(self.groups), k)
        rows = [torch.empty(1, k) for _ in self.groups]
        return torch.cat([nn.init.xavier_uniform_(row, generator=generator) for row in rows])

    def weights(
        self, alpha: Tensor, live: Tensor | None = None, held: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return θ: tensor name of the network → tensor, differentiable in *alpha* ``(G, K)``.

        Args:
            alpha: coefficients.
            live: ``(G,)`` bool; groups outside it are detached: mixed alike, without gradient.
            held: θ of the same *alpha* without gradient, to take detached tensors from.
        """
        fixed = alpha.detach()
        rows = [a if live is None or bool(live[g]) else fixed[g] for g, a in enumerate(alpha)]
        rows.append(torch.stack(rows).mean(0))  # row G of `rows_of`
        theta = {self._renamed[name]: tensor for name, tensor in self.fixed.items()}
        for name, stack in self.stacks.items():
            row, target = rows[self.row[name]], self._renamed[name]
            if is_statistic(name):
                row = row.detach()  # torch's batch norm has no gradient in its statistics
            reuse = held is not None and not row.requires_grad
            theta[target] = held[target] if held and reuse else combine(row, stack)
        return theta

    def leaves(self, live: Tensor, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensor name of the ingredients → its mix in *held*, as a leaf to differentiate.

        Those of live groups alone; statistics never, as torch has no gradient in them.
        """
        return {
            name: held[self._renamed[name]].detach().requires_grad_()
            for name in self.stacks
            if not is_statistic(name) and bool(live[self.row[name]])
        }

    def placed(self, leaves: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return θ of the network: *held*, with *leaves* in their places."""
        return {**held, **{self._renamed[name]: leaf for name, leaf in leaves.items()}}

    def gradient(self, grads: Mapping[str, Tensor]) -> Tensor:
        """Return ∂L/∂α ``(G, K)`` of ∂L/∂θ, by tensor name of the ingredients.

        θ[g] = Σ_k α[g, k] · θ_k[g], so ∂L/∂α[g, k] is the inner product ⟨∂L/∂θ[g], θ_k[g]⟩: what
        autograd finds through `weights`, without mixing a second time and keeping the mix.
        """
        out = torch.zeros(len(self.groups), len(self.pots), dtype=self.dtype)
        out = out.to(next(iter(grads.values())).device) if grads else out
        for name, grad in grads.items():
            out[self.row[name]] += self.stacks[name].flatten(1) @ grad.flatten()
        return out

    def classifier(self, weights: Mapping[str, Tensor]) -> Classifier:
        """Return the network with *weights*, through `torch.func.functional_call`."""

        def call(x: Tensor, /) -> Tensor:
            logits: Tensor = functional_call(self.net, dict(weights), (x,), strict=True)
            return logits

        return call

    def recipe(self, logits: Tensor) -> Recipe:
        """Return the recipe of the soup at *logits*, its softmax taken in float64."""
        rows = logits.detach().cpu().double().softmax(1).tolist()
        how: dict[str, Any] = {"by": self.by, "buffers": self.buffers, "base": self.base}
        return Recipe.of(self.pots, rows, **how, origin="learn")


def draw_live(groups: int, dropout: float, generator: torch.Generator) -> Tensor:
    """Return ``(G,)`` bool: the groups that detach dropout leaves attached, at least one.

    Each group is detached with probability *dropout*; if all are, one drawn at random stays, so
    that no step is without gradient (with one group, that would be four steps of five at 0.8).
    """
    live = torch.rand(groups, generator=generator) >= dropout
    spare = torch.randint(groups, (), generator=generator)
    if not bool(live.any()):
        live[spare] = True
    return live
