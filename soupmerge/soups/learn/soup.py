"""The learned soup as a function of its coefficients: θ(W), where W is the softmax of logits."""

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
from soupmerge.weights.buffers import is_statistic, is_variance
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.mixing import combine
from soupmerge.weights.recipe import Recipe

LEAST = 0.1
"""The smallest share of the uniform soup's variance that coefficients beyond [0, 1] may leave."""


class LearnedSoup:
    """K ingredients and the network their mix is loaded into (Huang 2023, section 3).

    Each of the G groups has its own softmax, whose K outputs are the coefficients of all tensors in
    the group. Batch-norm statistics follow *buffers*: ``average`` mixes them with the coefficients
    of their module's weight, ``base`` takes those of one ingredient, as in the paper.

    Args:
        net: the network; a copy of it without weights computes in its dtype.
        ingredients: the ingredients.
        by: grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        buffers: policy for batch-norm statistics.
        base: index of the ingredient that counters (and ``base`` statistics) come from.
        device: device of torch.
        place: where the ingredients are kept, one of `soupmerge.choices.PLACES`.
        store: their form, one of `soupmerge.choices.STORES`.
        statistics: whether the network will use its statistics, so that averaged statistics have a
            gradient. Otherwise they are constants, as are those of norms whose scale and shift are
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
        self.net, self.device = hollow(net, device), torch.device(device)
        self.ingredients, self.by, self.buffers, self.base = ingredients, by, buffers, base
        self.dtype = next((p.dtype for p in net.parameters()), torch.float32)
        self.groups = ingredients.groups(by)
        # Tensor names of the ingredients → those of the network.
        self._in_net = dict(zip(ingredients.infos, align(ingredients.alone(0), net), strict=True))
        self.row = ingredients.rows(by, buffers)
        sources = {
            n: ingredients.source_of(n, base) for n in ingredients.infos if n not in self.row
        }
        self.fixed = {name: ingredients[k][name].to(device) for name, k in sources.items()}
        options: dict[str, Any] = {"device": device, "place": place, "store": store, "base": base}
        self.stacks = {n: stack_of(ingredients, n, self.dtype, **options) for n in self.row}
        in_ingredients = {theirs: name for name, theirs in self._in_net.items()}
        norms = (norm.rename(in_ingredients) for norm in norms_of(net) if statistics)
        self.norms = [norm for norm in norms if norm.names <= self.row.keys()]
        self._with_gradient = {name for norm in self.norms for name in (norm.mean, norm.variance)}

    def by_depth(self) -> list[str]:
        """Return the groups from input to output, by the first tensor of each in the network."""
        depth = {name: i for i, name in enumerate(self.net.state_dict())}
        names = sorted(self.row, key=lambda name: depth[self._in_net[name]])
        rows, groups = dict.fromkeys(self.row[name] for name in names), list(self.groups)
        return [groups[g] for g in rows if g < len(groups)]

    def weights(self, alpha: Tensor, active: Tensor | None = None) -> dict[str, Tensor]:
        """Return θ, tensor name of the network → tensor, differentiable in *alpha*.

        This is the definition: the methods below must agree with it and with autograd through it.

        Args:
            alpha: coefficients ``(G, K)``.
            active: ``(G,)`` bool; other groups are detached, that is, mixed without gradient.
        """
        detached = alpha.detach()
        rows = [
            row if active is None or bool(active[g]) else detached[g] for g, row in enumerate(alpha)
        ]
        theta = {self._in_net[name]: tensor for name, tensor in self.fixed.items()}
        for name, row in self._by_tensor(rows):
            row = row if name in self._with_gradient or not is_statistic(name) else row.detach()
            theta[self._in_net[name]] = combine(row, self.stacks[name].whole())
        return theta

    @torch.no_grad()
    def mix(self, alpha: Tensor) -> dict[str, Tensor]:
        """Return θ at *alpha* ``(G, K)`` without gradient, tensor name of the network → tensor."""
        theta = {self._in_net[name]: tensor for name, tensor in self.fixed.items()}
        for name, row in self._by_tensor(list(alpha)):
            theta[self._in_net[name]] = self.stacks[name].mix(row)
        return theta

    def _by_tensor(self, rows: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
        every = [*rows, torch.stack(rows).mean(0)]  # the last is row G of `Ingredients.rows`
        return ((name, every[self.row[name]]) for name in self.stacks)

    def leaves(self, active: Tensor, mixed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensor name of the ingredients → its tensor in *mixed*, as a leaf of autograd.

        The leaves are the tensors of active groups, and the shifts of batch norms whose statistics
        are in an active group. Statistics are never leaves, because torch has no gradient for them:
        `gradient` derives it from the gradients of scale and shift.
        """
        shifts = {norm.beta for norm in self.norms if active[self.row[norm.mean]]}
        return {
            name: mixed[self._in_net[name]].detach().requires_grad_()
            for name in self.stacks
            if not is_statistic(name) and (active[self.row[name]] or name in shifts)
        }

    def substitute(
        self, leaves: Mapping[str, Tensor], mixed: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return *mixed* with *leaves* substituted, tensor name of the network → tensor."""
        return {**mixed, **{self._in_net[name]: leaf for name, leaf in leaves.items()}}

    @torch.no_grad()
    def gradient(
        self, grads: Mapping[str, Tensor], active: Tensor, mixed: Mapping[str, Tensor]
    ) -> Tensor:
        """Return ∂L/∂α ``(G, K)``, which is zero outside *active*.

        θ[g] = Σ_k α[g, k] · θ_k[g], so ∂L/∂α[g, k] is the inner product ⟨∂L/∂θ[g], θ_k[g]⟩.
        Autograd through `weights` gives the same, but mixes a second time and keeps the mix.

        Args:
            grads: ∂L/∂θ for the `leaves` of *active* and *mixed*, by their names.
            active: ``(G,)`` bool, the groups to differentiate.
            mixed: what `mix` returned.
        """
        shape = (len(self.groups), len(self.ingredients))
        out = torch.zeros(shape, dtype=self.dtype, device=self.device)
        norms = (norm for norm in self.norms if active[self.row[norm.mean]])
        statistics = (norm.gradients(self._norm_tensors(norm, mixed), grads) for norm in norms)
        for name, grad in chain(grads.items(), *statistics):
            if active[self.row[name]]:
                out[self.row[name]] += self.stacks[name].dots(grad)
        return out

    def _norm_tensors(self, norm: Norm, mixed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: mixed[self._in_net[name]] for name in (norm.gamma, norm.variance)}

    def classifier(self, weights: Mapping[str, Tensor]) -> Classifier:
        """Return the network with *weights*, through `torch.func.functional_call`."""

        # Only `weights` gives statistics that need a gradient; torch's own batch norm is faster.
        through = any(weights[self._in_net[name]].requires_grad for name in self._with_gradient)

        def call(x: Tensor, /) -> Tensor:
            with ThroughStatistics() if through else nullcontext():
                # Tied tensors are mixed separately with the same result; their gradients add up.
                logits: Tensor = functional_call(self.net, dict(weights), (x,), tie_weights=False)
            return logits

        return call

    @torch.no_grad()
    def with_positive_variances(self, alpha: Tensor) -> Tensor:
        """Return *alpha* ``(G, K)``, whose rows may leave [0, 1], with every variance positive.

        A row that makes a mixed variance fall below `LEAST` of that of the uniform soup is moved
        towards the uniform row, no further than needed. Norms without a scale follow the mean of
        all rows; if that makes a variance too small, all rows are moved alike.
        """
        uniform, share = torch.full_like(alpha, 1 / alpha.shape[1]), torch.ones_like(alpha[:, 0])
        variances = [(name, g) for name, g in self.row.items() if is_variance(name)]
        for name, g in variances:
            if g < len(alpha):
                share[g] = torch.minimum(share[g], self._reach(name, alpha[g]))
        alpha = uniform + share[:, None] * (alpha - uniform)
        mean = alpha.mean(0)
        common = [self._reach(name, mean) for name, g in variances if g == len(alpha)]
        return uniform + min([torch.ones(()), *common]) * (alpha - uniform)

    def _reach(self, name: str, row: Tensor) -> Tensor:
        """Return how much of the way from the uniform row to *row* ``(K,)`` variance *name* bears.

        It is 1 if *row* leaves `LEAST` of the uniform soup's variance, and less otherwise.
        """
        now, middle = (self.stacks[name].mix(r) for r in (row, torch.full_like(row, 1 / len(row))))
        reach = (1 - LEAST) * middle / (middle - now)
        return torch.where(now < LEAST * middle, reach, 1.0).min()

    def recipe(self) -> Recipe:
        """Return the recipe of the uniform soup, with the groups and buffers of all soups here."""
        uniform = [[1 / len(self.ingredients)] * len(self.ingredients)] * len(self.groups)
        options: dict[str, Any] = {"by": self.by, "buffers": self.buffers, "base": self.base}
        return Recipe.of(self.ingredients, uniform, **options, origin="learn")


def draw_active(groups: int, dropout: float, generator: torch.Generator) -> Tensor:
    """Return ``(G,)`` bool: the groups that detach dropout leaves active, at least one.

    Each group is detached with probability *dropout*. If all are, one drawn at random stays active,
    so that every step has a gradient (with one group, four of five steps would have none at 0.8).
    """
    active = torch.rand(groups, generator=generator) >= dropout
    spare = torch.randint(groups, (), generator=generator)
    if not bool(active.any()):
        active[spare] = True
    return active
