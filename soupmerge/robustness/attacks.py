"""FGSM, PGD and APGD: frozen values that, called, propose adversarial images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness import engine
from soupmerge.robustness.engine import Finished, Patience
from soupmerge.robustness.losses import LOSSES, is_targeted
from soupmerge.robustness.rules import Adaptive, Fixed, SparseAdaptive
from soupmerge.robustness.threats import Threat
from soupmerge.robustness.waiting import Feed, Given, Waiting, once
from soupmerge.types import Classifier, Generators


class _Gradient:
    """What all of them share: one climb, of a batch at hand or of examples as they come."""

    threat: Threat
    steps: int
    loss: str
    until_fooled: bool

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*, in the threat model."""
        out = x.clone()
        for left in self.stream(classifier, once(x, y, generator), width=max(len(x), 1)):
            out[left.place] = left.x_adv
        return out

    def stream(self, classifier: Classifier, feed: Feed, *, width: int) -> Iterator[Finished]:
        """Yield adversarial images for what *feed* gives, at most *width* on their way at a time.

        Images come out as they are done, in no order.
        """
        start = partial(self._start, classifier)
        source = Waiting(classifier, feed, start, targets=self._targets, tries=self._tries)
        yield from engine.run(
            classifier,
            source,
            self._rule(),
            steps=self._steps if self.threat.eps else 0,
            loss=LOSSES[self.loss],
            until_fooled=self.until_fooled,
            width=width,
            patience=self._patience,
        )

    def _rule(self) -> engine.Rule:
        raise NotImplementedError

    def _start(
        self, classifier: Classifier, x: Tensor, y: Tensor, target: Tensor, generator: Generators
    ) -> Tensor:
        return self.threat.sample(x, generator) if self.threat.eps else x

    @property
    def _steps(self) -> int:
        return self.steps

    @property
    def _targets(self) -> int:
        return 0

    @property
    def _tries(self) -> int:
        return 1

    @property
    def _patience(self) -> Patience | None:
        return None

    def _check(self, *counts: int) -> None:
        if min(self.steps, *counts, 1) < 1:
            found = min(self.steps, *counts)
            what, fix = f"{found} is not a number ≥ 1", "give a whole number from 1 on"
            raise UsageError(what, where="steps, restarts and targets", fix=fix)
        if self.loss not in LOSSES:
            fix = near_miss(self.loss, LOSSES)
            raise UsageError(f"no loss {self.loss!r}", where="loss", fix=fix)
        if is_targeted(self.loss) and not self._targets:
            raise UsageError("needs targets", where=f"loss {self.loss}", fix="take APGD")


@dataclass(frozen=True)
class FGSM(_Gradient):
    """One step of length eps, from the image itself (Goodfellow et al. 2015, arXiv 1412.6572).

    Attributes:
        threat: what the attack may do.
        loss: what it raises: ``ce``, ``dlr`` or ``margin``.
    """

    threat: Threat
    loss: str = "ce"
    steps = 1
    until_fooled = True

    def __post_init__(self) -> None:
        self._check()

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        return {"attack": f"fgsm-{self.loss}", "steps": 1}

    def _rule(self) -> engine.Rule:
        return Fixed(self.threat, self.threat.eps)

    def _start(
        self, classifier: Classifier, x: Tensor, y: Tensor, target: Tensor, generator: Generators
    ) -> Tensor:
        return x


@dataclass(frozen=True)
class PGD(_Gradient):
    """Projected gradient ascent with a fixed step (Madry et al. 2018, arXiv 1706.06083).

    x ← project(x + step · steepest(∇ loss)), from a random start.

    Attributes:
        threat: what the attack may do.
        steps: gradient steps.
        step: length of one, in the units of eps; 2.5 · eps / steps if not given.
        loss: what it raises: ``ce``, ``dlr`` or ``margin``.
        until_fooled: stop an image at its first wrong answer; else return its highest loss.
        restarts: how often an image that holds is attacked again, from another start.
    """

    threat: Threat
    steps: int = 20
    step: float | None = None
    loss: str = "ce"
    until_fooled: bool = True
    restarts: int = 1

    def __post_init__(self) -> None:
        self._check(self.restarts)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        told = {"attack": f"pgd-{self.loss}", "steps": self.steps, "step": self.step_size}
        return told | ({"restarts": self.restarts} if self.restarts > 1 else {})

    @property
    def step_size(self) -> float:
        """Length of a step."""
        return 2.5 * self.threat.eps / self.steps if self.step is None else self.step

    @property
    def _tries(self) -> int:
        return self.restarts

    def _rule(self) -> engine.Rule:
        return Fixed(self.threat, self.step_size)


@dataclass(frozen=True)
class APGD(_Gradient):
    """Auto-PGD (Croce & Hein 2020, arXiv 2003.01690); for L1, APGD-L1 (2021, arXiv 2103.01208).

    PGD with momentum whose step starts at 2 · eps and is halved, with a return to the best point,
    whenever at a checkpoint the loss has risen in at most 75% of the steps since the last one, or
    neither step nor best loss has changed. For L1 the step moves few coordinates, their number
    adapted to the support of the best point, without momentum.

    Attributes:
        threat: what the attack may do.
        steps: gradient steps: 100 to evaluate (`evaluation`), 2 to train (`training`).
        loss: what it raises: ``ce``, ``dlr``, ``margin``, or ``dlr-t``, ``margin-t`` with targets.
        until_fooled: stop an image at its first wrong answer; else return its highest loss.
        restarts: how often an image that holds is attacked again, from another start.
        targets: with a targeted loss: how many classes are tried, the likeliest first.
        long_eps: L1 only: 30% of the steps within 3 · eps, 30% within 2 · eps, and the last 40%
            within eps, each from the best point of those before (Croce & Hein 2021, section 4.3).
        patience: when an image is given up before its last step; None never.
    """

    threat: Threat
    steps: int = 100
    loss: str = "ce"
    until_fooled: bool = True
    restarts: int = 1
    targets: int = 9
    long_eps: bool = False
    # Start noise depends on the repr: with patience or without, images begin at the same points.
    patience: Patience | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._check(self.restarts, self.targets)
        if self.long_eps and (self.threat.norm != "l1" or self.steps < 3):
            fix = "take an L1 threat and 3 steps or more"
            raise UsageError("is for L1 alone", where="long_eps", fix=fix)

    @classmethod
    def evaluation(cls, threat: Threat) -> APGD:
        """Return the attack the papers evaluate with: 100 steps, cross-entropy."""
        return cls(threat, steps=100)

    @classmethod
    def training(cls, threat: Threat, steps: int = 2) -> APGD:
        """Return the attack the papers train with: 2 steps, the point of highest loss."""
        return cls(threat, steps=steps, until_fooled=False)

    @classmethod
    def targeted(cls, threat: Threat, steps: int = 100, targets: int = 9) -> APGD:
        """Return APGD-T, the targeted attack of AutoAttack."""
        return cls(threat, steps=steps, loss="dlr-t", targets=targets)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        told: dict[str, Any] = {"attack": f"apgd-{self.loss}", "steps": self.steps}
        if self.restarts > 1:
            told["restarts"] = self.restarts
        if is_targeted(self.loss):
            told["targets"] = self.targets
        if self.patience:
            told["gives up"] = asdict(self.patience)
        return told | ({"long eps": True} if self.long_eps else {})

    def brief(self) -> APGD:
        """Return the attack with `Patience`, where that was seen to change next to nothing.

        For Linf and L2, the loss ``ce`` and 50 steps or more: elsewhere it is the attack as it is.
        """
        usual = self.threat.norm != "l1" and self.loss == "ce" and self.until_fooled
        return replace(self, patience=Patience()) if usual and self.steps >= 50 else self

    @property
    def _targets(self) -> int:
        return self.targets if is_targeted(self.loss) else 0

    @property
    def _tries(self) -> int:
        return self.restarts

    @property
    def _patience(self) -> Patience | None:
        return self.patience

    @property
    def _steps(self) -> int:
        return _stages(self.steps)[-1] if self.long_eps else self.steps

    def _rule(self) -> engine.Rule:
        sparse = self.threat.norm == "l1"
        if sparse:
            return SparseAdaptive(self.threat, self._steps, warm=self.long_eps)
        return Adaptive(self.threat, self._steps)

    def _start(
        self, classifier: Classifier, x: Tensor, y: Tensor, target: Tensor, generator: Generators
    ) -> Tensor:
        eps = self.threat.eps
        if not self.long_eps or not eps:
            return super()._start(classifier, x, y, target, generator)
        point = Threat("l1", 3 * eps).sample(x, generator)
        for factor, steps in zip((3, 2), _stages(self.steps), strict=False):
            wider = Threat("l1", factor * eps)
            source = Given(x, y, target, wider.project(point, x))
            rule, loss = SparseAdaptive(wider, steps, warm=True), LOSSES[self.loss]
            (left,) = engine.run(
                classifier,
                source,
                rule,
                steps=steps,
                loss=loss,
                until_fooled=False,
                width=len(x),
            )
            point = point.index_copy(0, left.place, left.x_adv)
        return self.threat.project(point, x)


def _stages(steps: int) -> tuple[int, int, int]:
    """Return how *steps* are shared out among 3 eps, 2 eps and eps, as the reference does."""
    first = math.ceil(0.3 * steps)
    return first, first, steps - 2 * first
