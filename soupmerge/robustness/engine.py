"""The climb that all gradient attacks share. Every piece of state is per example, so that an
example leaves the batch the moment it is fooled, and its verdict depends on no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from soupmerge.types import Classifier


@dataclass
class Climb:
    """Where each example is on its way up; every field has the leading dimension B.

    Attributes:
        x: clean images; y: labels; place: each example's index in the batch that was given.
        x_adv: the current point, *x_old* the one before; grad: the loss's gradient at *x_adv*.
        loss: at *x_adv*; x_best, grad_best, loss_best: where the loss was highest so far.
        step: current step size; wins: rises since the last checkpoint.
        loss_mark: best loss at the last checkpoint; halved: was the step cut there?
        density, support: L1 only: fraction of coordinates to move, and ‖x_best − x‖₀ at the mark.
    """

    x: Tensor
    y: Tensor
    place: Tensor
    x_adv: Tensor
    x_old: Tensor
    grad: Tensor
    loss: Tensor
    x_best: Tensor
    grad_best: Tensor
    loss_best: Tensor
    step: Tensor
    wins: Tensor
    loss_mark: Tensor
    halved: Tensor
    density: Tensor
    support: Tensor

    def keep(self, mask: Tensor) -> None:
        """Drop the examples outside *mask*."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name)[mask])


class Rule(Protocol):
    """How an attack moves: where to go next, and what to learn from having gone."""

    def begin(self, climb: Climb) -> None:
        """Set step sizes and whatever else the rule keeps."""

    def adapt(self, climb: Climb, i: int) -> None:
        """Before step *i*, adapt step sizes to what was seen, and perhaps go back to the best."""

    def move(self, climb: Climb, i: int) -> Tensor:
        """Return the points of step *i*."""


def climb(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    rule: Rule,
    *,
    steps: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    until_fooled: bool,
) -> Tensor:
    """Return images of higher loss, reached from *start* in at most *steps* gradient steps.

    With *until_fooled* an example stops at the first point that the classifier gets wrong;
    otherwise every example takes all steps, and its point of highest loss is returned.
    """
    out = start.clone()
    state, fooled = _begin(classifier, x, y, start, loss, need_grad=steps > 0)
    rule.begin(state)
    for i in range(steps):
        if until_fooled:
            _release(state, fooled, out)
        if not len(state.x):
            return out
        rule.adapt(state, i)
        state.x_old, state.x_adv = state.x_adv, rule.move(state, i)
        # The last point is only judged: no step follows that would need its gradient.
        more = i + 1 < steps
        values, state.grad, fooled = _ask(classifier, state.x_adv, state.y, loss, need_grad=more)
        _remember(state, values)
    if until_fooled:
        _release(state, fooled, out)
    out[state.place] = state.x_best
    return out


def _release(state: Climb, fooled: Tensor, out: Tensor) -> None:
    """Let the fooled examples go, each with the point that fooled the classifier."""
    if bool(fooled.any()):
        out[state.place[fooled]] = state.x_adv[fooled]
        state.keep(~fooled)


def _begin(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    need_grad: bool,
) -> tuple[Climb, Tensor]:
    values, grad, fooled = _ask(classifier, start, y, loss, need_grad=need_grad)
    per_example = torch.zeros_like(values)
    state = Climb(
        x=x,
        y=y,
        place=torch.arange(len(x), device=x.device),
        x_adv=start,
        x_old=start,
        grad=grad,
        loss=values,
        x_best=start,
        grad_best=grad,
        loss_best=values,
        step=per_example.view(-1, *[1] * (x.ndim - 1)),
        wins=per_example,
        loss_mark=values,
        halved=torch.ones_like(values, dtype=torch.bool),
        density=per_example,
        support=per_example,
    )
    return state, fooled


def _ask(
    classifier: Classifier,
    x_adv: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    need_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss ``(B,)``, its gradient, and which examples are fooled."""
    with torch.set_grad_enabled(need_grad):
        point = x_adv.detach().requires_grad_(need_grad)
        logits = classifier(point)
        values = loss(logits, y)
        grad = torch.autograd.grad(values.sum(), point)[0] if need_grad else torch.zeros_like(x_adv)
    logits = logits.detach()
    # Logits that are not finite are no right answer, and their gradient leads nowhere.
    fooled = (logits.argmax(1) != y) | ~torch.isfinite(logits).all(1)
    return values.detach(), torch.nan_to_num(grad, 0.0, 0.0, 0.0), fooled


def _remember(state: Climb, values: Tensor) -> None:
    better = values > state.loss_best
    wide = better.view(-1, *[1] * (state.x.ndim - 1))
    state.wins = state.wins + (values > state.loss)
    state.loss = values
    state.x_best = torch.where(wide, state.x_adv, state.x_best)
    state.grad_best = torch.where(wide, state.grad, state.grad_best)
    state.loss_best = torch.where(better, values, state.loss_best)
