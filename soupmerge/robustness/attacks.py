"""PGD and APGD: frozen values that, called, propose adversarial images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness import engine
from soupmerge.robustness.engine import Climb
from soupmerge.robustness.losses import LOSSES
from soupmerge.robustness.threats import Threat
from soupmerge.types import Classifier, Generators


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent with a fixed step (Madry et al. 2018, arXiv 1706.06083).

    x ← project(x + step · steepest(∇ loss)), from a random start.

    Attributes:
        threat: what the attack may do.
        steps: gradient steps.
        step: length of one, in the units of eps; 2.5 · eps / steps if not given.
        loss: what it raises: ``ce``.
        until_fooled: stop an image at its first wrong answer; else return its highest loss.
    """

    threat: Threat
    steps: int = 20
    step: float | None = None
    loss: str = "ce"
    until_fooled: bool = True

    def __post_init__(self) -> None:
        _check(self.steps, self.loss)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        return {"attack": f"pgd-{self.loss}", "steps": self.steps, "step": self.step_size}

    @property
    def step_size(self) -> float:
        """Length of a step."""
        return 2.5 * self.threat.eps / self.steps if self.step is None else self.step

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*, in the threat model."""
        return _run(self, _Fixed(self.threat, self.step_size), classifier, x, y, generator)


@dataclass(frozen=True)
class APGD:
    """Auto-PGD (Croce & Hein 2020, arXiv 2003.01690); for L1, APGD-L1 (2021, arXiv 2103.01208).

    PGD with momentum whose step starts at 2 · eps and is halved, with a return to the best point,
    whenever at a checkpoint the loss has risen in at most 75% of the steps since the last one, or
    neither step nor best loss has changed. For L1 the step moves few coordinates, their number
    adapted to the support of the best point, without momentum.

    Attributes:
        threat: what the attack may do.
        steps: gradient steps: 100 to evaluate (`evaluation`), 2 to train (`training`).
        loss: what it raises: ``ce``.
        until_fooled: stop an image at its first wrong answer; else return its highest loss.
    """

    threat: Threat
    steps: int = 100
    loss: str = "ce"
    until_fooled: bool = True

    def __post_init__(self) -> None:
        _check(self.steps, self.loss)

    @classmethod
    def evaluation(cls, threat: Threat) -> APGD:
        """Return the attack the papers evaluate with: 100 steps, cross-entropy."""
        return cls(threat, steps=100)

    @classmethod
    def training(cls, threat: Threat, steps: int = 2) -> APGD:
        """Return the attack the papers train with: 2 steps, the point of highest loss."""
        return cls(threat, steps=steps, until_fooled=False)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        return {"attack": f"apgd-{self.loss}", "steps": self.steps}

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*, in the threat model."""
        sparse = self.threat.norm == "l1"
        rule = (
            _SparseAdaptive(self.threat, self.steps)
            if sparse
            else _Adaptive(self.threat, self.steps)
        )
        return _run(self, rule, classifier, x, y, generator)


def _check(steps: int, loss: str) -> None:
    if steps < 1:
        raise UsageError(f"{steps} is not a number of steps ≥ 1", where="steps")
    if loss not in LOSSES:
        raise UsageError(f"no loss {loss!r}", where="loss", fix=near_miss(loss, LOSSES))


def _run(
    attack: PGD | APGD,
    rule: engine.Rule,
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    generator: Generators,
) -> Tensor:
    if attack.threat.eps == 0 or not len(x):
        return x.clone()
    return engine.climb(
        classifier,
        x,
        y,
        attack.threat.sample(x, generator),
        rule,
        steps=attack.steps,
        loss=LOSSES[attack.loss],
        until_fooled=attack.until_fooled,
    )


@dataclass
class _Fixed:
    """PGD: the same step always."""

    threat: Threat
    size: float

    def begin(self, climb: Climb) -> None:
        climb.step = torch.full_like(climb.step, self.size)

    def move(self, climb: Climb, i: int) -> Tensor:
        return self.threat.project(
            climb.x_adv + climb.step * self.threat.steepest(climb.grad), climb.x
        )

    def adapt(self, climb: Climb, i: int) -> None:
        pass


class _Adaptive:
    """APGD for Linf and L2: momentum, and halving at checkpoints."""

    def __init__(self, threat: Threat, steps: int) -> None:
        self.threat = threat
        self.window = max(int(0.22 * steps), 1)
        self.least = max(int(0.06 * steps), 1)
        self.shrink = max(int(0.03 * steps), 1)
        self.next = self.window

    def begin(self, climb: Climb) -> None:
        climb.step = torch.full_like(climb.step, 2 * self.threat.eps)
        # The reference compares the first step's loss with an empty slot (zero), not the start's.
        climb.loss = torch.zeros_like(climb.loss)

    def move(self, climb: Climb, i: int) -> Tensor:
        a = 0.75 if i > 0 else 1.0
        ahead = climb.x_adv + climb.step * self.threat.steepest(climb.grad)
        ahead = self.threat.project(ahead, climb.x)
        inertia = (climb.x_adv - climb.x_old) * (1 - a)
        return self.threat.project(climb.x_adv + (ahead - climb.x_adv) * a + inertia, climb.x)

    def adapt(self, climb: Climb, i: int) -> None:
        if i < self.next:
            return
        oscillates = climb.wins <= 0.75 * self.window
        stuck = ~climb.halved & (climb.loss_mark >= climb.loss_best)
        climb.halved = oscillates | stuck
        climb.loss_mark, climb.wins = climb.loss_best, torch.zeros_like(climb.wins)
        wide = climb.halved.view(-1, *[1] * (climb.x.ndim - 1))
        climb.step = torch.where(wide, climb.step / 2, climb.step)
        _return_to_best(climb, wide)
        self.window = max(self.window - self.shrink, self.least)
        self.next = i + self.window


class _SparseAdaptive:
    """APGD for L1: few coordinates a step, adapted to the support of the best point."""

    def __init__(self, threat: Threat, steps: int) -> None:
        self.threat = threat
        self.window = max(int(0.04 * steps), 1)
        self.next = self.window

    def begin(self, climb: Climb) -> None:
        climb.step = torch.full_like(climb.step, self.threat.eps)
        climb.density = torch.full_like(climb.density, 0.2)
        climb.support = torch.full_like(climb.support, float(climb.x[0].numel()))

    def move(self, climb: Climb, i: int) -> Tensor:
        direction = self.threat.steepest(climb.grad, climb.density)
        return self.threat.project(climb.x_adv + climb.step * direction, climb.x)

    def adapt(self, climb: Climb, i: int) -> None:
        if i < self.next:
            return
        support = (climb.x_best != climb.x).flatten(1).sum(1).to(climb.density)
        sparser = support / climb.support < 0.95
        climb.density = support / climb.x[0].numel() / 1.5
        wide = sparser.view(-1, *[1] * (climb.x.ndim - 1))
        eps = self.threat.eps
        climb.step = torch.where(wide, eps, climb.step / 1.5).clamp(eps / 10, eps)
        climb.support = support
        _return_to_best(climb, wide)
        self.next = i + self.window


def _return_to_best(climb: Climb, wide: Tensor) -> None:
    climb.x_adv = torch.where(wide, climb.x_best, climb.x_adv)
    climb.grad = torch.where(wide, climb.grad_best, climb.grad)
