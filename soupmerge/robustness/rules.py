"""How attacks move. Each example is at a step of its own, so schedules are tables over steps."""

from __future__ import annotations

import torch
from torch import Tensor

from soupmerge.robustness.engine import Climb
from soupmerge.robustness.threats import Threat


class Fixed:
    """PGD: the same step always."""

    def __init__(self, threat: Threat, size: float) -> None:
        self.threat, self.size = threat, size

    def begin(self, climb: Climb) -> None:
        """Set the step."""
        climb.step = torch.full_like(climb.step, self.size)

    def adapt(self, climb: Climb) -> None:
        """Learn nothing."""

    def move(self, climb: Climb) -> Tensor:
        """Return the points a step further along the gradient."""
        return self.threat.project(
            climb.x_adv + climb.step * self.threat.steepest(climb.grad), climb.x
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

    def begin(self, climb: Climb) -> None:
        """Set the step to 2 · eps."""
        climb.step = torch.full_like(climb.step, 2 * self.threat.eps)

    def move(self, climb: Climb) -> Tensor:
        """Return the points a step further, 25% of it in the direction of the last one."""
        a = climb.wide(torch.where(climb.i > 0, 0.75, 1.0).to(climb.x))
        ahead = climb.x_adv + climb.step * self.threat.steepest(climb.grad)
        ahead = self.threat.project(ahead, climb.x)
        inertia = (climb.x_adv - climb.x_old) * (1 - a)
        return self.threat.project(climb.x_adv + (ahead - climb.x_adv) * a + inertia, climb.x)

    def adapt(self, climb: Climb) -> None:
        """At a checkpoint, halve steps that oscillate or are stuck, and go back to the best."""
        window = self.window.to(climb.i.device)[climb.i]
        due = window > 0
        if not bool(due.any()):
            return
        oscillates = climb.wins <= 0.75 * window
        stuck = ~climb.halved & (climb.loss_mark >= climb.loss_best)
        halve = due & (oscillates | stuck)
        climb.halved = torch.where(due, halve, climb.halved)
        climb.loss_mark = torch.where(due, climb.loss_best, climb.loss_mark)
        climb.wins = torch.where(due, torch.zeros_like(climb.wins), climb.wins)
        climb.step = torch.where(climb.wide(halve), climb.step / 2, climb.step)
        _return_to_best(climb, halve)


class SparseAdaptive:
    """APGD for L1: few coordinates a step, adapted to the support of the best point.

    *warm* is for a start that an earlier climb found: its support is the first to adapt to.
    """

    def __init__(self, threat: Threat, steps: int, *, warm: bool = False) -> None:
        self.threat, self.window, self.warm = threat, max(int(0.04 * steps), 1), warm

    def begin(self, climb: Climb) -> None:
        """Set the step to eps, on a fifth of the coordinates."""
        climb.step = torch.full_like(climb.step, self.threat.eps)
        climb.density = torch.full_like(climb.density, 0.2)
        climb.support = torch.full_like(climb.support, float(climb.x[0].numel()))
        if self.warm:
            climb.support = _support(climb.x_best, climb.x)
            climb.density = climb.support / climb.x[0].numel() / 1.5

    def move(self, climb: Climb) -> Tensor:
        """Return the points a step further along the largest entries of the gradient."""
        direction = self.threat.steepest(climb.grad, climb.density)
        return self.threat.project(climb.x_adv + climb.step * direction, climb.x)

    def adapt(self, climb: Climb) -> None:
        """At a checkpoint, adapt sparsity and step; where it is sparser, begin from the best."""
        due = (climb.i > 0) & (climb.i % self.window == 0)
        if not bool(due.any()):
            return
        eps = self.threat.eps
        support = _support(climb.x_best, climb.x)
        sparser = support / climb.support < 0.95
        density = support / climb.x[0].numel() / 1.5
        step = torch.where(climb.wide(sparser), eps, climb.step / 1.5).clamp(eps / 10, eps)
        climb.density = torch.where(due, density, climb.density)
        climb.step = torch.where(climb.wide(due), step, climb.step)
        climb.support = torch.where(due, support, climb.support)
        _return_to_best(climb, due & sparser)


def _support(x_adv: Tensor, x: Tensor) -> Tensor:
    """Return ``(B,)``: how many coordinates differ."""
    return (x_adv != x).flatten(1).sum(1).to(x)


def _return_to_best(climb: Climb, mask: Tensor) -> None:
    wide = climb.wide(mask)
    climb.x_adv = torch.where(wide, climb.x_best, climb.x_adv)
    climb.grad = torch.where(wide, climb.grad_best, climb.grad)
