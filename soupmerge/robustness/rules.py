"""The rules by which PGD and APGD move.

The examples of a batch are at different steps, so schedules are tables indexed by the step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from soupmerge.robustness.engine import AttackState
from soupmerge.robustness.threats import Threat


class Fixed:
    """PGD: steps of one size."""

    def __init__(self, threat: Threat, size: float) -> None:
        self.threat, self.size = threat, size

    def begin(self, state: AttackState) -> None:
        """Set the step size."""
        state.step = torch.full_like(state.step, self.size)

    def adapt(self, state: AttackState) -> None:
        """Change nothing."""

    def move(self, state: AttackState) -> Tensor:
        """Return the points one step further along the gradient."""
        ahead = state.x_adv + state.step * self.threat.steepest(state.grad)
        return self.threat.project(ahead, state.x)


class Adaptive:
    """APGD for Linf and L2: momentum, and step sizes halved at checkpoints (algorithm 1)."""

    def __init__(self, threat: Threat, steps: int) -> None:
        self.threat = threat
        window, least = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
        shrink, at = max(int(0.03 * steps), 1), 0
        self.window = torch.zeros(steps + 1)
        """For each step that is a checkpoint, the steps since the one before; otherwise 0."""
        while at + window <= steps:
            at += window
            self.window[at] = window
            window = max(window - shrink, least)

    def begin(self, state: AttackState) -> None:
        """Set the step size to 2 · eps."""
        state.step = torch.full_like(state.step, 2 * self.threat.eps)

    def move(self, state: AttackState) -> Tensor:
        """Return the points one step further, a quarter of it along the step before."""
        a = state.over_images(torch.where(state.i > 0, 0.75, 1.0).to(state.x))
        ahead = state.x_adv + state.step * self.threat.steepest(state.grad)
        ahead = self.threat.project(ahead, state.x)
        momentum = (state.x_adv - state.x_old) * (1 - a)
        return self.threat.project(state.x_adv + (ahead - state.x_adv) * a + momentum, state.x)

    def adapt(self, state: AttackState) -> None:
        """At checkpoints, halve steps that oscillate or are stuck and return to the best points."""
        window = self.window.to(state.i.device)[state.i]
        due = window > 0
        if not bool(due.any()):
            return
        oscillates = state.rises <= 0.75 * window
        stuck = ~state.halved & (state.loss_mark >= state.loss_best)
        halve = due & (oscillates | stuck)
        state.halved = torch.where(due, halve, state.halved)
        state.loss_mark = torch.where(due, state.loss_best, state.loss_mark)
        state.rises = torch.where(due, torch.zeros_like(state.rises), state.rises)
        state.step = torch.where(state.over_images(halve), state.step / 2, state.step)
        _return_to_best(state, halve)


class SparseAdaptive:
    """APGD for L1: steps in few coordinates, whose number follows the support of the best points.

    Args:
        threat: an L1 threat.
        steps: number of steps.
        warm: the starting points were found by an attack, so that their support counts.
    """

    def __init__(self, threat: Threat, steps: int, *, warm: bool = False) -> None:
        self.threat, self.window, self.warm = threat, max(int(0.04 * steps), 1), warm

    def begin(self, state: AttackState) -> None:
        """Set the step size to eps, in a fifth of the coordinates."""
        state.step = torch.full_like(state.step, self.threat.eps)
        state.density = torch.full_like(state.density, 0.2)
        state.support = torch.full_like(state.support, float(state.x[0].numel()))
        if self.warm:
            state.support = _support(state.x_best, state.x)
            state.density = _density(state.support, state.x)

    def move(self, state: AttackState) -> Tensor:
        """Return the points one step further along the largest entries of the gradient."""
        direction = self.threat.steepest(state.grad, state.density)
        return self.threat.project(state.x_adv + state.step * direction, state.x)

    def adapt(self, state: AttackState) -> None:
        """At checkpoints, adapt density and step size; where sparser, return to the best points."""
        due = (state.i > 0) & (state.i % self.window == 0)
        if not bool(due.any()):
            return
        eps = self.threat.eps
        support = _support(state.x_best, state.x)
        sparser = support / state.support < 0.95
        step = torch.where(state.over_images(sparser), eps, state.step / 1.5).clamp(eps / 10, eps)
        state.density = torch.where(due, _density(support, state.x), state.density)
        state.step = torch.where(state.over_images(due), step, state.step)
        state.support = torch.where(due, support, state.support)
        _return_to_best(state, due & sparser)


def _support(x_adv: Tensor, x: Tensor) -> Tensor:
    """Return ``(B,)``: the number of coordinates in which the images differ."""
    return (x_adv != x).flatten(1).sum(1).to(x)


def _density(support: Tensor, x: Tensor) -> Tensor:
    return support / x[0].numel() / 1.5


def _return_to_best(state: AttackState, mask: Tensor) -> None:
    mask = state.over_images(mask)
    state.x_adv = torch.where(mask, state.x_best, state.x_adv)
    state.grad = torch.where(mask, state.grad_best, state.grad)
