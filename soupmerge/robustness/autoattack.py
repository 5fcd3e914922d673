"""AutoAttack, the reference evaluation: APGD is ours, from its own starts; FAB and Square are its.

Its own evaluation keeps no verdict that it could go on from (its state file cannot be resumed), so
each of its attacks is a stage here, on survivors of our own counting.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soupmerge.errors import OutputError, UsageError, near_miss
from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.cascade import in_turn
from soupmerge.robustness.threats import Threat
from soupmerge.types import Attack, Classifier, Generators

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
    "custom": (),
}
"""Version → its attacks, in order."""

ATTACKS = ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
STEPS = 100


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack (Croce & Hein 2020, arXiv 2003.01690; L1: 2021, arXiv 2103.01208).

    APGD is run by soupmerge's engine, which gives the reference's verdicts from the same starts and
    lets fooled images go; FAB, Square and the version ``rand`` are pyautoattack's, or those of an
    installed ``autoattack``. Their seed is the clock, and they seed the whole process: here the
    seed is fixed and the caller's random state is put back. *generator* is ignored.

    Attributes:
        threat: what the attack may do.
        version: ``standard`` (APGD-CE, APGD-T, FAB-T, Square), ``plus``, ``rand`` or ``custom``.
        attacks: which attacks ``custom`` runs, in order, of ``apgd-ce apgd-dlr fab square apgd-t
            fab-t``.
        seed: for its starting points.
    """

    threat: Threat
    version: str = "standard"
    attacks: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            fix = near_miss(self.version, VERSIONS)
            raise UsageError(f"no version {self.version!r}", where="autoattack", fix=fix)
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if unknown:
            fix = near_miss(unknown[0], ATTACKS)
            raise UsageError(f"no attack {unknown[0]!r}", where="autoattack", fix=fix)
        if (self.version == "custom") != bool(self.attacks):
            fix = "give attacks with the version custom, and only with it"
            raise UsageError(
                f"version {self.version} with attacks {self.attacks}", where="autoattack", fix=fix
            )

    @property
    def stages(self) -> tuple[Attack, ...]:
        """Its attacks, each an attack by itself."""
        names = self.attacks or VERSIONS[self.version]
        return tuple(self._stage(name) for name in names)

    def _stage(self, name: str) -> Attack:
        sparse = self.threat.norm == "l1" and self.version == "standard"
        if self.version == "rand" or not name.startswith("apgd"):
            return _Foreign(self.threat, self.version, name, self.seed)
        if name == "apgd-t":
            how: dict[str, Any] = {"loss": "dlr-t", "targets": 5 if sparse else 9}
        else:
            once = self.version == "standard" and not sparse
            how = {"loss": name.removeprefix("apgd-"), "restarts": 1 if once else 5}
        return _Seeded(APGD(self.threat, STEPS, long_eps=sparse, **how), name, self.seed)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        listed = {"attacks": list(self.attacks or VERSIONS[self.version])}
        name = f"autoattack-{self.version}"
        return {"attack": name, "steps": STEPS, **listed, "seed": self.seed}

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*; those it cannot fool come back clean."""
        if self.threat.eps == 0 or not len(x):
            return x.clone()
        return in_turn(self.stages, classifier, x, y, generator)


@dataclass(frozen=True)
class _Seeded:
    """APGD from the reference's starts, which it draws for a batch as a whole."""

    apgd: APGD
    name: str
    seed: int

    @property
    def threat(self) -> Threat:
        return self.apgd.threat

    def describe(self) -> dict[str, Any]:
        return {**self.apgd.describe(), "attack": self.name, "seed": self.seed}

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        start = torch.Generator().manual_seed(self.seed)
        return self.apgd(classifier, x, y, generator=start)


@dataclass(frozen=True)
class _Foreign:
    """One attack of the reference."""

    threat: Threat
    version: str
    name: str
    seed: int

    def describe(self) -> dict[str, Any]:
        return {"attack": self.name, "steps": STEPS, "seed": self.seed}

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        if self.threat.eps == 0:
            return x.clone()
        with _fenced(x.device):
            adversary = _reference(classifier, self, x.device)
            adversary.attacks_to_run = [self.name]
            _clamp_targets(adversary, classifier, x)
            x_adv = _evaluated(adversary, x, y)
        # FAB measures its distance in float32 and may end a hair outside.
        return self.threat.project(x_adv.to(x), x)


def _reference(classifier: Classifier, stage: _Foreign, device: torch.device) -> Any:
    """Return the reference's evaluator: pyautoattack's, or of the original under its own name."""
    how: dict[str, Any] = {
        "norm": NORMS[stage.threat.norm],
        "eps": stage.threat.eps,
        "seed": stage.seed,
        "version": stage.version,
        "device": device,
    }
    listed = [stage.name] if stage.version == "custom" else []
    with contextlib.suppress(ImportError):
        made = importlib.import_module("pyautoattack").AutoAttack
        return made(classifier, attacks=listed or None, **how)
    try:
        made = importlib.import_module("autoattack").AutoAttack
    except ImportError as error:
        what = "neither pyautoattack nor autoattack is installed"
        raise OutputError(what, where="autoattack", fix="pip install pyautoattack") from error
    return made(classifier, attacks_to_run=listed, verbose=False, **how)


def _evaluated(adversary: Any, x: Tensor, y: Tensor) -> Tensor:
    """Return the images it finds, whichever interface it has."""
    evaluate = adversary.run_standard_evaluation
    if type(adversary).__module__.partition(".")[0] == "autoattack":
        found: Tensor = evaluate(x, y, bs=len(x))
        return found
    found, _ = evaluate(x, y, batch_size=len(x))
    return found


def _clamp_targets(adversary: Any, classifier: Classifier, x: Tensor) -> None:
    """Target no more classes than there are: it indexes past the end below ten."""
    with torch.no_grad():
        others = classifier(x[:1]).shape[1] - 1
    for attack in (adversary.apgd_targeted, adversary.fab):
        attack.n_target_classes = min(attack.n_target_classes, others)


@contextlib.contextmanager
def _fenced(device: torch.device) -> Iterator[None]:
    """Keep foreign seeding and tracing from the rest of the process."""
    trace, numpy_state, python_state = sys.gettrace(), np.random.get_state(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        # Its check for dynamic defences ends with sys.settrace(None), which kills debuggers.
        sys.settrace(trace)
