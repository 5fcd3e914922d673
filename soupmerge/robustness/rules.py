"""How attacks move. Each example is at a step of its own, so schedules are tables over steps."""

from __future__ import annotations

import torch
from torch import Tensor

from soupmerge.robustness.engine import AttackState
from soupmerge.robustness.threats import Threat


class Fixed:
    """PGD: the same step always."""

    def __init__(self, threat: Threat, size: float) -> None:
        self.threat, self.size = threat, size

    def begin(self, state: AttackState) -> None:
        """Set the step."""
        state.step = torch.full_like(state.step, self.size)

    def adapt(self, state: AttackState) -> None:
        """Learn nothing."""

    def move(self, state: AttackState) -> Tensor:
        """Return the points a step further along the gradient."""
        return self.threat.project(
            state.x_adv + state.step * self.threat.steepest(state.grad), state.x
        )


class Adaptive:
    """APGD for Linf and L2: momentum, and halving at checkpoints (algorithm 1)."""

    def __init__(self, threat: Threat, steps: int) -> None:
        self.threat = threat
        window, least = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
        shrink, at = max(int(0.03 * steps), 1), 0
        self.window = torch.zeros(steps + 1)
        """Steps since the last checkpoint, where there is one."""
        while at + window <= steps:
            at += window
            self.window[at] = window
            window = max(window - shrink, least)

    def begin(self, state: AttackState) -> None:
        """Set the step to 2 · eps."""
        state.step = torch.full_like(state.step, 2 * self.threat.eps)

    def move(self, state: AttackState) -> Tensor:
        """Return the points a step further, 25% of it in the direction of the last one."""
        a = state.wide(torch.where(state.i > 0, 0.75, 1.0).to(state.x))
        ahead = state.x_adv + state.step * self.threat.steepest(state.grad)
        ahead = self.threat.project(ahead, state.x)
        inertia = (state.x_adv - state.x_old) * (1 - a)
        return self.threat.project(state.x_adv + (ahead - state.x_adv) * a + inertia, state.x)

    def adapt(self, state: AttackState) -> None:
        """At a checkpoint, halve steps that oscillate or are stuck, and go back to the best."""
        window = self.window.to(state.i.device)[state.i]
        due = window > 0
        if not bool(due.any()):
            return
        oscillates = state.wins <= 0.75 * window
        stuck = ~state.halved & (state.loss_mark >= state.loss_best)
        halve = due & (oscillates | stuck)
        state.halved = torch.where(due, halve, state.halved)
        state.loss_mark = torch.where(due, state.loss_best, state.loss_mark)
        state.wins = torch.where(due, torch.zeros_like(state.wins), state.wins)
        state.step = torch.where(state.wide(halve), state.step / 2, state.step)
        _return_to_best(state, halve)


class SparseAdaptive:
    """APGD for L1: few coordinates a step, adapted to the support of the best point.

    *warm* is for a start that an earlier climb found: its support is the first to adapt to.
    """

    def __init__(self, threat: Threat, steps: int, *, warm: bool = False) -> None:
        self.threat, self.window, self.warm = threat, max(int(0.04 * steps), 1), warm

    def begin(self, state: AttackState) -> None:
        """Set the step to eps, on a fifth of the coordinates."""
        state.step = torch.full_like(state.step, self.threat.eps)
        state.density = torch.full_like(state.density, 0.2)
        state.support = torch.full_like(state.support, float(state.x[0].numel()))
        if self.warm:
            state.support = _support(state.x_best, state.x)
            state.density = state.support / state.x[0].numel() / 1.5

    def move(self, state: AttackState) -> Tensor:
        """Return the points a step further along the largest entries of the gradient."""
        direction = self.threat.steepest(state.grad, state.density)
        return self.threat.project(state.x_adv + state.step * direction, state.x)

    def adapt(self, state: AttackState) -> None:
        """At a checkpoint, adapt sparsity and step; where it is sparser, begin from the best."""
        due = (state.i > 0) & (state.i % self.window == 0)
        if not bool(due.any()):
            return
        eps = self.threat.eps
        support = _support(state.x_best, state.x)
        sparser = support / state.support < 0.95
        density = support / state.x[0].numel() / 1.5
        step = torch.where(state.wide(sparser), eps, state.step / 1.5).clamp(eps / 10, eps)
        state.density = torch.where(due, density, state.density)
        state.step = torch.where(state.wide(due), step, state.step)
        state.support = torch.where(due, support, state.support)
        _return_to_best(state, due & sparser)


def _support(x_adv: Tensor, x: Tensor) -> Tensor:
    """Return ``(B,)``: how many coordinates differ."""
    return (x_adv != x).flatten(1).sum(1).to(x)


def _return_to_best(state: AttackState, mask: Tensor) -> None:
    wide = state.wide(mask)
    state.x_adv = torch.where(wide, state.x_best, state.x_adv)
    state.grad = torch.where(wide, state.grad_best, state.grad)
