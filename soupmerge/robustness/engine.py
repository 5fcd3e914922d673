"""The climb that all gradient attacks share.

Every piece of state is per example: one that is fooled leaves at once, a fresh one takes its place,
and its verdict depends on no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from soupmerge.robustness.losses import Loss
from soupmerge.types import Classifier

REFILL = 1 / 16
"""Part of a batch that must be free before fresh examples are let in: joining copies the batch."""


@dataclass
class AttackState:
    """Where each example is on its way up; every field has the leading dimension B.

    Attributes:
        x: clean images; y: labels; target: classes to be taken for, if the loss has targets.
        place: what the example is known by outside; i: steps it has taken.
        x_adv: the current point, *x_old* the one before; grad: the loss's gradient at *x_adv*.
        loss: at *x_adv*; x_best, grad_best, loss_best: where the loss was highest so far.
        step: current step size; wins: rises since the last checkpoint.
        loss_mark: best loss at the last checkpoint; halved: was the step cut there?
        density, support: L1 only: fraction of coordinates to move, and ‖x_best − x‖₀ at the mark.
        margin: lowest so far, of the label's logit over all others; margin_start: at the start.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    place: Tensor
    i: Tensor
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

    def wide(self, values: Tensor) -> Tensor:
        """Return *values* ``(B,)`` in a shape that spreads over images."""
        return values.view(-1, *[1] * (self.x.ndim - 1))


class Fresh(NamedTuple):
    """Examples about to begin: clean, labels, targets, places, and where they start."""

    x: Tensor
    y: Tensor
    target: Tensor
    place: Tensor
    start: Tensor


class Finished(NamedTuple):
    """Examples that have left: their places, their points, and which of them fooled."""

    place: Tensor
    x_adv: Tensor
    fooled: Tensor


class Source(Protocol):
    """Where examples come from, and where those go whose steps are over."""

    def take(self, count: int) -> Fresh | None:
        """Return *count* examples at most; None if there are no more."""

    def back(self, state: AttackState, over: Tensor) -> Tensor:
        """Take back the examples of the mask *over* that shall try again; return which."""


class Rule(Protocol):
    """How an attack moves: where to go next, and what to learn from having gone."""

    def begin(self, state: AttackState) -> None:
        """Set step sizes and whatever else the rule keeps."""

    def adapt(self, state: AttackState) -> None:
        """Before a step, adapt step sizes to what was seen, and perhaps go back to the best."""

    def move(self, state: AttackState) -> Tensor:
        """Return the next points."""


@dataclass(frozen=True)
class Patience:
    """When to give an image up: after so many steps, if they left more than a share of its margin.

    Most images that hold against many steps have hardly moved in the first few, and those that fall
    late are close to it early. An image that is given up holds, as one does that took all steps.

    Attributes:
        after: steps.
        share: of the margin at the start, logit of the label over the highest other.
    """

    after: int = 10
    share: float = 0.2

    def over(self, state: AttackState) -> Tensor:
        """Return ``(B,)`` bool: who is given up."""
        return (state.i >= self.after) & (state.margin > self.share * state.margin_start)


def run(
    classifier: Classifier,
    source: Source,
    rule: Rule,
    *,
    steps: int,
    loss: Loss,
    until_fooled: bool,
    width: int,
    patience: Patience | None = None,
) -> Iterator[Finished]:
    """Yield images of higher loss, each reached in at most *steps* gradient steps.

    With *until_fooled* an example leaves at the first point that the classifier gets wrong;
    otherwise every example takes all steps. What was not fooled leaves with its point of highest
    loss. At most *width* examples are on their way at a time. With *patience* some leave early.
    """
    state = _filled(None, source, rule, width)
    while state is not None and len(state):
        # Where all have taken their last step, it is only judged: no gradient is needed.
        more = bool((state.i < steps).any())
        found = ask(classifier, state.x_adv, state.y, state.target, loss, need_grad=more)
        _remember(state, found)
        fooled = found.fooled & until_fooled
        leaving = fooled | (state.i >= steps)
        if patience:
            leaving |= patience.over(state)
        if bool(leaving.any()):
            gone = leaving & ~source.back(state, leaving & ~fooled)
            x_adv = torch.where(state.wide(fooled), state.x_adv, state.x_best)
            yield Finished(state.place[gone], x_adv[gone], fooled[gone])
            state.keep(~leaving)
        if len(state):
            rule.adapt(state)
            state.x_old, state.x_adv = state.x_adv, rule.move(state)
            state.i = state.i + 1
        state = _filled(state, source, rule, width)


def _filled(
    state: AttackState | None, source: Source, rule: Rule, width: int
) -> AttackState | None:
    """Return *state* with fresh examples in the places of those that have left."""
    room = width - (len(state) if state else 0)
    if state and room < max(1, width * REFILL):
        return state
    fresh = source.take(room)
    if fresh is None:
        return state
    begun = _begun(fresh)
    rule.begin(begun)
    if state:
        state.join(begun)
    return state or begun


def _begun(fresh: Fresh) -> AttackState:
    zero = fresh.x.new_zeros(len(fresh.x))
    return AttackState(
        x=fresh.x,
        y=fresh.y,
        target=fresh.target,
        place=fresh.place,
        i=torch.zeros_like(fresh.y),
        x_adv=fresh.start,
        x_old=fresh.start,
        grad=torch.zeros_like(fresh.start),
        loss=zero,
        x_best=fresh.start,
        grad_best=torch.zeros_like(fresh.start),
        loss_best=torch.full_like(zero, -torch.inf),
        step=zero.view(-1, *[1] * (fresh.x.ndim - 1)),
        wins=zero,
        loss_mark=zero,
        halved=torch.ones_like(fresh.y, dtype=torch.bool),
        density=zero,
        support=zero,
        margin=torch.full_like(zero, torch.inf),
        margin_start=zero,
    )


class Answer(NamedTuple):
    """What the classifier says of points: loss ``(B,)``, its gradient, who is fooled, margin."""

    loss: Tensor
    grad: Tensor
    fooled: Tensor
    margin: Tensor


def ask(
    classifier: Classifier,
    x_adv: Tensor,
    y: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    need_grad: bool,
) -> Answer:
    """Return the classifier's answer; where memory does not do, by halves of the batch."""
    try:
        return _asked(classifier, x_adv, y, target, loss, need_grad)
    except torch.OutOfMemoryError:
        if len(x_adv) == 1:
            raise
        torch.cuda.empty_cache()
    parts = zip(*(t.chunk(2) for t in (x_adv, y, target)), strict=True)
    halves = [ask(classifier, a, b, c, loss, need_grad=need_grad) for a, b, c in parts]
    return Answer(*(torch.cat(both) for both in zip(*halves, strict=True)))


def _asked(
    classifier: Classifier, x_adv: Tensor, y: Tensor, target: Tensor, loss: Loss, need_grad: bool
) -> Answer:
    with torch.set_grad_enabled(need_grad):
        point = x_adv.detach().requires_grad_(need_grad)
        logits = classifier(point)
        values = loss(logits, y, target)
        grad = torch.autograd.grad(values.sum(), point)[0] if need_grad else torch.zeros_like(x_adv)
    logits = logits.detach()
    # Logits that are not finite are no right answer, and their gradient leads nowhere.
    fooled = (logits.argmax(1) != y) | ~torch.isfinite(logits).all(1)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, y[:, None]).squeeze(1) - others
    return Answer(values.detach(), torch.nan_to_num(grad, 0.0, 0.0, 0.0), fooled, margin)


def _remember(state: AttackState, found: Answer) -> None:
    first, values = state.i == 0, found.loss
    state.margin = torch.minimum(state.margin, found.margin)
    state.margin_start = torch.where(first, found.margin, state.margin_start)
    state.grad = found.grad
    better = values > state.loss_best
    state.x_best = torch.where(state.wide(better), state.x_adv, state.x_best)
    state.grad_best = torch.where(state.wide(better), state.grad, state.grad_best)
    state.loss_best = torch.where(better, values, state.loss_best)
    state.loss_mark = torch.where(first, values, state.loss_mark)
    state.wins = state.wins + ((values > state.loss) & ~first)
    # The reference compares the first step's loss with an empty slot (zero), not the start's.
    state.loss = torch.where(first, torch.zeros_like(values), values)
