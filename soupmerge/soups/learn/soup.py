"""The learned soup as a function of its coefficients: θ(W), W = softmax of trainable logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from soupmerge.binding import align, hollow
from soupmerge.soups.learn.batch_norms import Norm, ThroughStatistics, norms_of
from soupmerge.soups.learn.stacks import stack_of
from soupmerge.types import Classifier
from soupmerge.weights.buffers import is_statistic
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.mixing import combine
from soupmerge.weights.recipe import Recipe


class LearnedSoup:
    """K ingredients, and the network their mix is poured into (Huang 2023, section 3).

    Every group g has a softmax of its own; its K outputs are the coefficients of all tensors of
    the group. Batch-norm statistics follow *buffers*: ``average`` mixes them with the coefficients
    of their module's weight, ``base`` takes those of one ingredient, as in the paper.

    Args:
        net: the network; an own copy of it, without numbers, computes in its dtype.
        ingredients: the ingredients.
        by: grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        buffers: policy for batch-norm statistics.
        base: the ingredient that counters (and ``base`` statistics) come from.
        device: where to compute.
        place: where the ingredients are kept, see `soupmerge.choices.PLACES`.
        store: in what, see `soupmerge.choices.STORES`.
        statistics: whether the network will use its statistics, so that averaged ones have a
            gradient; else they are constants, as they are of norms whose scale and shift are
            not mixed.
    """

    def __init__(
        self,
        net: nn.Module,
        ingredients: Ingredients,
        *,
        by: str = "tensor",
        buffers: str = "average",
        base: int = 0,
        device: torch.device | str = "cpu",
        place: str = "device",
        store: str = "fp32",
        statistics: bool = True,
    ) -> None:
        self.net, self.ingredients, self.device = (
            hollow(net, device),
            ingredients,
            torch.device(device),
        )
        self.by, self.buffers, self.base = by, buffers, base
        self.dtype = next((p.dtype for p in net.parameters()), torch.float32)
        self.groups = ingredients.groups(by)
        self._renamed = dict(zip(ingredients.infos, align(ingredients.alone(0), net), strict=True))
        self.row = ingredients.rows(by, buffers)
        alone = {n: ingredients.source_of(n, base) for n in ingredients.infos if n not in self.row}
        self.fixed = {name: ingredients[k][name].to(device) for name, k in alone.items()}
        kept: dict[str, Any] = {"device": device, "place": place, "store": store, "base": base}
        self.stacks = {name: stack_of(ingredients, name, self.dtype, **kept) for name in self.row}
        named = {own: name for name, own in self._renamed.items()}
        norms = (norm.renamed(named) for norm in norms_of(net) if statistics)
        self.norms = [norm for norm in norms if norm.names <= self.row.keys()]
        self._moving = {name for norm in self.norms for name in (norm.mean, norm.variance)}

    def by_depth(self) -> list[str]:
        """Return the groups as the network has the first tensor of each: from input to output."""
        place = {name: i for i, name in enumerate(self.net.state_dict())}
        names = sorted(self.row, key=lambda name: place[self._renamed[name]])
        rows, groups = dict.fromkeys(self.row[name] for name in names), list(self.groups)
        return [groups[g] for g in rows if g < len(groups)]

    def weights(self, alpha: Tensor, active: Tensor | None = None) -> dict[str, Tensor]:
        """Return θ: tensor name of the network → tensor, differentiable in *alpha* ``(G, K)``.

        This is the definition: all that follows must give what this gives, and autograd through it.

        Args:
            alpha: coefficients.
            active: ``(G,)`` bool; groups outside it are detached: mixed alike, without gradient.
        """
        fixed = alpha.detach()
        rows = [a if active is None or bool(active[g]) else fixed[g] for g, a in enumerate(alpha)]
        theta = {self._renamed[name]: tensor for name, tensor in self.fixed.items()}
        for name, row in self._by_tensor(rows):
            row = row if name in self._moving or not is_statistic(name) else row.detach()
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

    def leaves(self, active: Tensor, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensor name of the ingredients → its mix in *held*, as a leaf to differentiate.

        These are the tensors of active groups, and the shifts of batch norms whose statistics are
        in an active group. Statistics themselves are never among them, as torch has no gradient in
        them: `gradient` derives it from those of the scale and shift.
        """
        shifts = {norm.beta for norm in self.norms if active[self.row[norm.mean]]}
        return {
            name: held[self._renamed[name]].detach().requires_grad_()
            for name in self.stacks
            if not is_statistic(name) and (active[self.row[name]] or name in shifts)
        }

    def placed(self, leaves: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return θ of the network: *held*, with *leaves* in their places."""
        return {**held, **{self._renamed[name]: leaf for name, leaf in leaves.items()}}

    @torch.no_grad()
    def gradient(
        self, grads: Mapping[str, Tensor], active: Tensor, held: Mapping[str, Tensor]
    ) -> Tensor:
        """Return ∂L/∂α ``(G, K)``, zero outside of *active*.

        θ[g] = Σ_k α[g, k] · θ_k[g], so ∂L/∂α[g, k] is the inner product ⟨∂L/∂θ[g], θ_k[g]⟩: what
        autograd finds through `weights`, without mixing a second time and keeping the mix.

        Args:
            grads: ∂L/∂θ of the `leaves` of *active* and *held*, by their names.
        """
        shape = (len(self.groups), len(self.ingredients))
        out = torch.zeros(shape, dtype=self.dtype, device=self.device)
        moving = (norm for norm in self.norms if active[self.row[norm.mean]])
        statistics = (norm.gradients(self._by_our_names(norm, held), grads) for norm in moving)
        for name, grad in chain(grads.items(), *statistics):
            if active[self.row[name]]:
                out[self.row[name]] += self.stacks[name].dots(grad)
        return out

    def _by_our_names(self, norm: Norm, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: held[self._renamed[name]] for name in (norm.gamma, norm.variance)}

    def classifier(self, weights: Mapping[str, Tensor]) -> Classifier:
        """Return the network with *weights*, through `torch.func.functional_call`."""

        # Only the definition's statistics ask for a gradient; torch's own batch norm is faster.
        through = any(weights[self._renamed[name]].requires_grad for name in self._moving)

        def call(x: Tensor, /) -> Tensor:
            with ThroughStatistics() if through else nullcontext():
                # Tied tensors are mixed alike, each by itself, and their gradients are added.
                logits: Tensor = functional_call(self.net, dict(weights), (x,), tie_weights=False)
            return logits

        return call

    def recipe(self, logits: Tensor) -> Recipe:
        """Return the recipe of the soup at *logits*, its softmax taken in float64."""
        rows = logits.detach().cpu().double().softmax(1).tolist()
        how: dict[str, Any] = {"by": self.by, "buffers": self.buffers, "base": self.base}
        return Recipe.of(self.ingredients, rows, **how, origin="learn")


def draw_active(groups: int, dropout: float, generator: torch.Generator) -> Tensor:
    """Return ``(G,)`` bool: the groups that detach dropout leaves attached, at least one.

    Each group is detached with probability *dropout*; if all are, one drawn at random stays, so
    that no step is without gradient (with one group, that would be four steps of five at 0.8).
    """
    active = torch.rand(groups, generator=generator) >= dropout
    spare = torch.randint(groups, (), generator=generator)
    if not bool(active.any()):
        active[spare] = True
    return active
