"""FGSM, PGD and APGD: frozen values that propose adversarial images when called.

What they share is `GradientAttack`: it feeds examples to the loop in `engine`, where each moves by
the attack's `rule` until it is fooled or out of steps. `rules` has the rules, `losses` the losses
and `queues` the examples that wait, such as those to be restarted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from soupmerge.choices import LOSSES
from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness import engine
from soupmerge.robustness.engine import Patience
from soupmerge.robustness.losses import Loss, loss_of
from soupmerge.robustness.queues import Retries, SingleTry, feed_once
from soupmerge.robustness.rules import Adaptive, Fixed, SparseAdaptive
from soupmerge.robustness.threats import Threat
from soupmerge.types import Classifier, Feed, Finished, Generators


class GradientAttack:
    """Base of the attacks that follow the gradient of a loss.

    A subclass is a frozen dataclass that defines `rule` and `describe`.

    Attributes:
        threat: the threat model.
        steps: gradient steps.
        loss: name of the loss to maximise, see `choices.LOSSES`.
        until_fooled: stop on an image at its first wrong answer; else return its highest loss.
        restarts: how many starts each image gets until it is fooled.
        patience: when to give an image up before its last step; None never does.
    """

    threat: Threat
    steps: int
    loss: str
    until_fooled: bool
    restarts: int = 1
    patience: Patience | None = None

    def rule(self) -> engine.Rule:
        """Return how the attack moves."""
        raise NotImplementedError

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*, in the threat model."""
        x_adv = x.clone()
        feed = feed_once(x, y, generator)
        for finished in self.propose(classifier, feed, width=max(len(x), 1)):
            x_adv[finished.indices] = finished.x_adv
        return x_adv

    def propose(self, classifier: Classifier, feed: Feed, *, width: int) -> Iterator[Finished]:
        """Yield adversarial images for the examples of *feed* as they finish, in any order.

        Args:
            classifier: the classifier under attack.
            feed: supplies the examples.
            width: how many examples are attacked at a time.
        """
        start = partial(self._start, classifier)
        queue = Retries(classifier, feed, start, targets=self._targets, tries=self.restarts)
        yield from engine.run(
            classifier,
            queue,
            self.rule(),
            steps=self._last_steps if self.threat.eps else 0,
            loss=loss_of(self.loss),
            until_fooled=self.until_fooled,
            width=width,
            patience=self.patience,
        )

    def _start(
        self, classifier: Classifier, x: Tensor, y: Tensor, target: Tensor, generator: Generators
    ) -> Tensor:
        """Return the starting points, of the shape of *x*."""
        return self.threat.sample(x, generator) if self.threat.eps else x

    @property
    def _last_steps(self) -> int:
        """Steps taken from the starting points."""
        return self.steps

    @property
    def _targets(self) -> int:
        """How many classes are targeted in turn; 0 if the loss has no targets."""
        return 0

    def _check(self, *counts: int) -> None:
        least = min(self.steps, *counts, 1)
        if least < 1:
            what, fix = f"{least} is not a number ≥ 1", "give a whole number of at least 1"
            raise UsageError(what, where="steps, restarts and targets", fix=fix)
        if self.loss not in LOSSES:
            fix = near_miss(self.loss, LOSSES)
            raise UsageError(f"unknown loss {self.loss!r}", where="loss", fix=fix)
        if LOSSES[self.loss].targeted and not self._targets:
            what = "this attack has no target classes"
            raise UsageError(what, where=f"loss {self.loss}", fix="use APGD")


@dataclass(frozen=True)
class FGSM(GradientAttack):
    """One step of size eps from the image itself (Goodfellow et al. 2015, arXiv 1412.6572).

    Attributes:
        threat: the threat model.
        loss: the loss to maximise: ``ce``, ``dlr`` or ``margin``.

    Raises:
        UsageError: the loss is unknown or needs target classes.

    Example:
        >>> from soupmerge.robustness.threats import Linf
        >>> FGSM(Linf("8/255")).describe()
        {'attack': 'fgsm-ce', 'steps': 1}
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

    def rule(self) -> engine.Rule:
        """Return steps of size eps."""
        return Fixed(self.threat, self.threat.eps)

    def _start(
        self, classifier: Classifier, x: Tensor, y: Tensor, target: Tensor, generator: Generators
    ) -> Tensor:
        return x


@dataclass(frozen=True)
class PGD(GradientAttack):
    """Projected gradient ascent with a fixed step size (Madry et al. 2018, arXiv 1706.06083).

    x ← project(x + step · steepest(∇ loss)), from a random start.

    Attributes:
        threat: the threat model.
        steps: gradient steps.
        step: step size, in the units of eps; by default 2.5 · eps / steps.
        loss: the loss to maximise: ``ce``, ``dlr`` or ``margin``.
        until_fooled: stop on an image at its first wrong answer; else return its highest loss.
        restarts: how many starts each image gets until it is fooled.

    Raises:
        UsageError: a number is below 1, or the loss is unknown or needs target classes.

    Example:
        >>> from soupmerge.robustness.threats import Linf
        >>> PGD(Linf(0.1), steps=10).describe()
        {'attack': 'pgd-ce', 'steps': 10, 'step': 0.025}
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
        settings = {"attack": f"pgd-{self.loss}", "steps": self.steps, "step": self.step_size}
        return settings | ({"restarts": self.restarts} if self.restarts > 1 else {})

    @property
    def step_size(self) -> float:
        """The step size, in the units of eps."""
        return 2.5 * self.threat.eps / self.steps if self.step is None else self.step

    def rule(self) -> engine.Rule:
        """Return steps of one size."""
        return Fixed(self.threat, self.step_size)


@dataclass(frozen=True)
class APGD(GradientAttack):
    """Auto-PGD (Croce & Hein 2020, arXiv 2003.01690); for L1, APGD-L1 (2021, arXiv 2103.01208).

    PGD with momentum and a step size that starts at 2 · eps. At checkpoints it is halved, with a
    return to the best point, if at most 75% of the steps since the last checkpoint raised the
    loss, or if neither the step size nor the highest loss has changed since. For L1, a step
    changes few coordinates, as many as the support of the best point suggests, without momentum.

    Attributes:
        threat: the threat model.
        steps: gradient steps: 100 to evaluate (`evaluation`), 2 to train (`training`).
        loss: the loss to maximise: ``ce``, ``dlr``, ``margin``, or ``dlr-t`` and ``margin-t``,
            which have target classes.
        until_fooled: stop on an image at its first wrong answer; else return its highest loss.
        restarts: how many starts each image gets until it is fooled, for each target class.
        targets: for a targeted loss: how many classes are targeted, the likeliest first.
        long_eps: L1 only: 30% of the steps within 3 · eps, 30% within 2 · eps, and the last 40%
            within eps, each from the best point of those before (Croce & Hein 2021, section 4.3).
        patience: when to give an image up before its last step; None never does.

    Raises:
        UsageError: a number is below 1, the loss is unknown, or *long_eps* does not apply.

    Example:
        >>> from soupmerge.robustness.threats import Linf
        >>> APGD.targeted(Linf("8/255")).describe()
        {'attack': 'apgd-dlr-t', 'steps': 100, 'targets': 9}
    """

    threat: Threat
    steps: int = 100
    loss: str = "ce"
    until_fooled: bool = True
    restarts: int = 1
    targets: int = 9
    long_eps: bool = False
    # Starting points depend on the repr, and patience is not to change them.
    patience: Patience | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._check(self.restarts, self.targets)
        if self.long_eps and (self.threat.norm != "l1" or self.steps < 3):
            what, fix = "is for L1 alone", "use an L1 threat and at least 3 steps"
            raise UsageError(what, where="long_eps", fix=fix)

    @classmethod
    def evaluation(cls, threat: Threat) -> APGD:
        """Return the attack that the papers evaluate with: 100 steps on the cross-entropy."""
        return cls(threat, steps=100)

    @classmethod
    def training(cls, threat: Threat, steps: int = 2) -> APGD:
        """Return the attack that the papers train with: 2 steps, the point of highest loss."""
        return cls(threat, steps=steps, until_fooled=False)

    @classmethod
    def targeted(cls, threat: Threat, steps: int = 100, targets: int = 9) -> APGD:
        """Return APGD-T, the targeted attack of AutoAttack."""
        return cls(threat, steps=steps, loss="dlr-t", targets=targets)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        settings: dict[str, Any] = {"attack": f"apgd-{self.loss}", "steps": self.steps}
        if self.restarts > 1:
            settings["restarts"] = self.restarts
        if LOSSES[self.loss].targeted:
            settings["targets"] = self.targets
        if self.patience:
            settings["gives up"] = asdict(self.patience)
        return settings | ({"long eps": True} if self.long_eps else {})

    def giving_up(self) -> APGD:
        """Return the attack with `Patience`, which was seen to change hardly any verdict.

        That holds for Linf and L2, the loss ``ce`` and 50 steps or more. Any other attack is
        returned as it is.
        """
        usual = self.threat.norm != "l1" and self.loss == "ce" and self.until_fooled
        return replace(self, patience=Patience()) if usual and self.steps >= 50 else self

    def rule(self) -> engine.Rule:
        """Return the adaptive steps of APGD, or those of APGD-L1."""
        if self.threat.norm == "l1":
            return SparseAdaptive(self.threat, self._last_steps, warm=self.long_eps)
        return Adaptive(self.threat, self._last_steps)

    @property
    def _targets(self) -> int:
        return self.targets if LOSSES[self.loss].targeted else 0

    @property
    def _last_steps(self) -> int:
        return _long_eps_steps(self.steps)[-1] if self.long_eps else self.steps

    def _start(
        self, classifier: Classifier, x: Tensor, y: Tensor, target: Tensor, generator: Generators
    ) -> Tensor:
        eps = self.threat.eps
        if not self.long_eps or not eps:
            return super()._start(classifier, x, y, target, generator)
        point = Threat("l1", 3 * eps).sample(x, generator)
        for factor, steps in zip((3, 2), _long_eps_steps(self.steps), strict=False):
            wider = Threat("l1", factor * eps)
            queue = SingleTry(x, y, target, wider.project(point, x))
            rule = SparseAdaptive(wider, steps, warm=True)
            point = ascend(classifier, queue, rule, steps=steps, loss=loss_of(self.loss))
        return self.threat.project(point, x)


def ascend(
    classifier: Classifier, queue: SingleTry, rule: engine.Rule, *, steps: int, loss: Loss
) -> Tensor:
    """Return the points of highest loss that *rule* reaches in *steps* steps, fooled or not."""
    (finished,) = engine.run(
        classifier, queue, rule, steps=steps, loss=loss, until_fooled=False, width=len(queue)
    )
    return finished.x_adv


def _long_eps_steps(steps: int) -> tuple[int, int, int]:
    """Return how many of *steps* are taken within 3 eps, 2 eps and eps, as in the reference."""
    first = math.ceil(0.3 * steps)
    return first, first, steps - 2 * first
