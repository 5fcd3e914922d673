"""The loop that all gradient attacks share.

Each pass of `run` over the batch does four things:

1. It queries the classifier at the current points, and records loss, gradient and best points.
2. Examples that are fooled, out of steps or given up leave: they are yielded as `Finished`, or
   their `Queue` takes them back for another try.
3. The others move one step, as the attack's `Rule` says.
4. New examples from the queue take the free places.

All state has one row for each example, so what becomes of an example depends on no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from soupmerge.robustness.losses import Loss, is_right, margin
from soupmerge.robustness.memory import halving
from soupmerge.robustness.threats import over_images
from soupmerge.types import Classifier, Finished

REFILL = 1 / 16
"""Fraction of the batch that must be free before new examples join, which copies the batch."""


@dataclass
class AttackState:
    """The state of the examples under attack; every field has the leading dimension B.

    Attributes:
        x, y: clean images and labels; target: classes that a targeted loss aims at.
        indices: which of the caller's examples these are; i: steps taken.
        x_adv: current points; x_old: those one step before; grad: gradient of the loss at *x_adv*.
        loss: at *x_adv*; x_best, loss_best, grad_best: where the loss was highest so far.
        step: current step sizes; rises: steps since the last checkpoint that raised the loss.
        loss_mark: highest loss at the last checkpoint; halved: whether the step was halved there.
        density: L1 only: fraction of the coordinates that the next step changes.
        support: L1 only: ‖x_best − x‖₀ at the last checkpoint.
        margin: lowest lead so far of the label's logit over all others; margin_start: at the start.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    indices: Tensor
    i: Tensor
    x_adv: Tensor
    x_old: Tensor
    grad: Tensor
    loss: Tensor
    x_best: Tensor
    grad_best: Tensor
    loss_best: Tensor
    step: Tensor
    rises: Tensor
    loss_mark: Tensor
    halved: Tensor
    density: Tensor
    support: Tensor
    margin: Tensor
    margin_start: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def keep(self, mask: Tensor) -> None:
        """Drop the examples outside *mask*."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name)[mask])

    def join(self, other: AttackState) -> None:
        """Add the examples of *other*."""
        for field in dataclasses.fields(self):
            both = (getattr(self, field.name), getattr(other, field.name))
            setattr(self, field.name, torch.cat(both))

    def over_images(self, values: Tensor) -> Tensor:
        """Return *values* ``(B,)`` in a shape that broadcasts over images."""
        return over_images(values, self.x)


class NewExamples(NamedTuple):
    """Examples about to be attacked: as in `AttackState`, and their starting points."""

    x: Tensor
    y: Tensor
    target: Tensor
    indices: Tensor
    start: Tensor


class Queue(Protocol):
    """Examples that wait to be attacked."""

    def take(self, count: int) -> NewExamples | None:
        """Return at most *count* examples, or None if there are no more."""

    def requeue(self, state: AttackState, unsuccessful: Tensor) -> Tensor:
        """Take back examples of the mask *unsuccessful* for another try; return which, a mask."""


class Rule(Protocol):
    """How an attack moves: in each pass, `adapt` and then `move`."""

    def begin(self, state: AttackState) -> None:
        """Set the step sizes, and whatever else the rule uses, of new examples."""

    def adapt(self, state: AttackState) -> None:
        """Adapt step sizes to the losses so far, and possibly return to the best points."""

    def move(self, state: AttackState) -> Tensor:
        """Return the next points."""


@dataclass(frozen=True)
class Patience:
    """Gives an image up after *after* steps that left more than *share* of its margin.

    Most images that survive many steps hardly move in the first few, and images that are fooled
    late come close early. An image that is given up counts as one that survived all steps.

    Attributes:
        after: number of steps.
        share: of the margin at the start, which is the label's logit minus the highest other.
    """

    after: int = 10
    share: float = 0.2

    def is_over(self, state: AttackState) -> Tensor:
        """Return ``(B,)`` bool: which examples are given up."""
        return (state.i >= self.after) & (state.margin > self.share * state.margin_start)


def run(
    classifier: Classifier,
    queue: Queue,
    rule: Rule,
    *,
    steps: int,
    loss: Loss,
    until_fooled: bool,
    width: int,
    patience: Patience | None = None,
) -> Iterator[Finished]:
    """Yield points of higher loss for the examples of *queue*, as each of them finishes.

    Args:
        classifier: the classifier under attack.
        queue: supplies the examples, and takes back those that are to be tried again.
        rule: how to move.
        steps: gradient steps for each example.
        loss: what to maximise.
        until_fooled: an example finishes at the first point that the classifier gets wrong.
            Otherwise, or if there is no such point, it finishes with its point of highest loss.
        width: how many examples are attacked at a time.
        patience: when to give an example up before its last step.
    """
    state = _refilled(None, queue, rule, width)
    while state is not None and len(state):
        # Examples that have taken their last step are only judged, which needs no gradient.
        need_grad = bool((state.i < steps).any())
        query = partial(_query, classifier, loss=loss, need_grad=need_grad)
        response = _Response(*halving(query, state.x_adv, state.y, state.target))
        _record(state, response)
        fooled = response.fooled & until_fooled
        leaving = fooled | (state.i >= steps)
        if patience:
            leaving |= patience.is_over(state)
        if bool(leaving.any()):
            done = leaving & ~queue.requeue(state, leaving & ~fooled)
            x_adv = torch.where(state.over_images(fooled), state.x_adv, state.x_best)
            yield Finished(state.indices[done], x_adv[done], fooled[done])
            state.keep(~leaving)
        if len(state):
            rule.adapt(state)
            state.x_old, state.x_adv = state.x_adv, rule.move(state)
            state.i = state.i + 1
        state = _refilled(state, queue, rule, width)


def _refilled(
    state: AttackState | None, queue: Queue, rule: Rule, width: int
) -> AttackState | None:
    """Return *state* with new examples from *queue* in its free places, if there are enough."""
    free = width - (len(state) if state else 0)
    if state and free < max(1, width * REFILL):
        return state
    new = queue.take(free)
    if new is None:
        return state
    joining = _initial_state(new)
    rule.begin(joining)
    if state:
        state.join(joining)
    return state or joining


def _initial_state(new: NewExamples) -> AttackState:
    zero = new.x.new_zeros(len(new.x))
    return AttackState(
        x=new.x,
        y=new.y,
        target=new.target,
        indices=new.indices,
        i=torch.zeros_like(new.y),
        x_adv=new.start,
        x_old=new.start,
        grad=torch.zeros_like(new.start),
        loss=zero,
        x_best=new.start,
        grad_best=torch.zeros_like(new.start),
        loss_best=torch.full_like(zero, -torch.inf),
        step=over_images(zero, new.x),
        rises=zero,
        loss_mark=zero,
        halved=torch.ones_like(new.y, dtype=torch.bool),
        density=zero,
        support=zero,
        margin=torch.full_like(zero, torch.inf),
        margin_start=zero,
    )


class _Response(NamedTuple):
    """The classifier's response at the points of a batch; all but the gradient are ``(B,)``."""

    loss: Tensor
    grad: Tensor
    fooled: Tensor
    margin: Tensor


def _query(
    classifier: Classifier,
    x_adv: Tensor,
    y: Tensor,
    target: Tensor,
    *,
    loss: Loss,
    need_grad: bool,
) -> _Response:
    with torch.set_grad_enabled(need_grad):
        point = x_adv.detach().requires_grad_(need_grad)
        logits = classifier(point)
        values = loss(logits, y, target)
        grad = torch.autograd.grad(values.sum(), point)[0] if need_grad else torch.zeros_like(x_adv)
    logits = logits.detach()
    # The gradient of logits that are not finite leads nowhere.
    grad = torch.nan_to_num(grad, 0.0, 0.0, 0.0)
    return _Response(values.detach(), grad, ~is_right(logits, y), -margin(logits, y))


def _record(state: AttackState, response: _Response) -> None:
    first, values = state.i == 0, response.loss
    state.margin = torch.minimum(state.margin, response.margin)
    state.margin_start = torch.where(first, response.margin, state.margin_start)
    state.grad = response.grad
    better = values > state.loss_best
    state.x_best = torch.where(state.over_images(better), state.x_adv, state.x_best)
    state.grad_best = torch.where(state.over_images(better), state.grad, state.grad_best)
    state.loss_best = torch.where(better, values, state.loss_best)
    state.loss_mark = torch.where(first, values, state.loss_mark)
    state.rises = state.rises + ((values > state.loss) & ~first)
    # The reference compares the loss after the first step with an empty slot, zero, and not with
    # the loss at the start.
    state.loss = torch.where(first, torch.zeros_like(values), values)
