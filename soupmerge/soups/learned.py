"""The learned soup as a function of its coefficients: θ(W), W = softmax of trainable logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from soupmerge.binding import align, hollow
from soupmerge.soups.stacks import stack_of
from soupmerge.types import Classifier
from soupmerge.weights.buffers import is_statistic
from soupmerge.weights.groups import rows_of
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.mixing import combine
from soupmerge.weights.recipe import Recipe


class LearnedSoup:
    """K ingredients, and the network their mix is poured into (Huang 2023, section 3).

    Every group g has a softmax of its own; its K outputs are the coefficients of all tensors of
    the group. Batch-norm statistics follow *buffers*: ``average`` mixes them with the coefficients
    of their module's weight, ``base`` takes those of one ingredient, as in the paper. Either way
    they are constants to the gradient.

    Args:
        net: the network; an own copy of it, without numbers, computes in its dtype.
        pots: the ingredients.
        by: grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        buffers: policy for batch-norm statistics.
        base: the ingredient that counters (and ``base`` statistics) come from.
        device: where to compute.
        place: where the ingredients are kept, see `soupmerge.soups.stacks.PLACES`.
        store: in what, see `soupmerge.soups.stacks.STORES`.
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
        place: str = "device",
        store: str = "fp32",
    ) -> None:
        self.net, self.pots, self.device = hollow(net, device), pots, torch.device(device)
        self.by, self.buffers, self.base = by, buffers, base
        self.dtype = next((p.dtype for p in net.parameters()), torch.float32)
        self.groups = pots.groups(by)
        self._renamed = dict(zip(pots.infos, align(pots[0], net), strict=True))
        self.row = rows_of(self.groups, pots.infos, buffers)
        self.fixed = {n: pots[base][n].to(device) for n in pots.infos if n not in self.row}
        kept: dict[str, Any] = {"device": device, "place": place, "store": store, "base": base}
        self.stacks = {name: stack_of(pots, name, self.dtype, **kept) for name in self.row}

    def by_depth(self) -> list[str]:
        """Return the groups as the network has the first tensor of each: from input to output."""
        place = {name: i for i, name in enumerate(self.net.state_dict())}
        names = sorted(self.row, key=lambda name: place[self._renamed[name]])
        rows, groups = dict.fromkeys(self.row[name] for name in names), list(self.groups)
        return [groups[g] for g in rows if g < len(groups)]

    def weights(self, alpha: Tensor, live: Tensor | None = None) -> dict[str, Tensor]:
        """Return θ: tensor name of the network → tensor, differentiable in *alpha* ``(G, K)``.

        This is the definition: all that follows must give what this gives, and autograd through it.

        Args:
            alpha: coefficients.
            live: ``(G,)`` bool; groups outside it are detached: mixed alike, without gradient.
        """
        fixed = alpha.detach()
        rows = [a if live is None or bool(live[g]) else fixed[g] for g, a in enumerate(alpha)]
        theta = {self._renamed[name]: tensor for name, tensor in self.fixed.items()}
        for name, row in self._by_tensor(rows):
            # torch's batch norm has no gradient in its statistics
            row = row.detach() if is_statistic(name) else row
            theta[self._renamed[name]] = combine(row, self.stacks[name].whole())
        return theta

    @torch.no_grad()
    def held(self, alpha: Tensor) -> dict[str, Tensor]:
        """Return θ of *alpha* without gradient, one tensor after the other."""
        theta = {self._renamed[name]: tensor for name, tensor in self.fixed.items()}
        for name, row in self._by_tensor(list(alpha)):
            theta[self._renamed[name]] = self.stacks[name].mix(row)
        return theta

    def _by_tensor(self, rows: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
        every = [*rows, torch.stack(rows).mean(0)]  # the last is row G of `rows_of`
        return ((name, every[self.row[name]]) for name in self.stacks)

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
        shape = (len(self.groups), len(self.pots))
        out = torch.zeros(shape, dtype=self.dtype, device=self.device)
        for name, grad in grads.items():
            out[self.row[name]] += self.stacks[name].dots(grad)
        return out

    def classifier(self, weights: Mapping[str, Tensor]) -> Classifier:
        """Return the network with *weights*, through `torch.func.functional_call`."""

        def call(x: Tensor, /) -> Tensor:
            # Tied tensors are mixed alike, each by itself, and their gradients are added.
            logits: Tensor = functional_call(self.net, dict(weights), (x,), tie_weights=False)
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
