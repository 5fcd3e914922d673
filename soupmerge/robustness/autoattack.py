"""AutoAttack, the reference evaluation, as a sequence of attacks that can be resumed.

The evaluation of pyautoattack cannot be resumed from its state file. Here each of its attacks is
a stage, which runs on the images that survived those before. APGD is soupmerge's own, from the
reference's starting points; FAB and Square are the reference's.
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

from soupmerge.choices import AUTOATTACK_VERSIONS
from soupmerge.errors import OutputError, UsageError, near_miss
from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.cascade import run_stages
from soupmerge.robustness.threats import Threat
from soupmerge.types import Attack, Classifier, Generators

ATTACKS = AUTOATTACK_VERSIONS["plus"]
"""All attacks of AutoAttack."""
REFERENCE_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
STEPS = 100


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack (Croce & Hein 2020, arXiv 2003.01690; L1: 2021, arXiv 2103.01208).

    APGD is run by soupmerge's engine, which reaches the reference's verdicts from the same starting
    points and stops on images once they are fooled. FAB, Square and the version ``rand`` are those
    of pyautoattack or of an installed ``autoattack``. By default they take their seed from the
    clock, and they seed the whole process; here the seed is fixed and the caller's random state is
    restored. *generator* is ignored.

    Attributes:
        threat: the threat model.
        version: ``standard`` (APGD-CE, APGD-T, FAB-T, Square), ``plus``, ``rand`` or ``custom``.
        attacks: the attacks of the version ``custom``, in the order in which they run: some of
            ``apgd-ce``, ``apgd-dlr``, ``fab``, ``square``, ``apgd-t`` and ``fab-t``.
        seed: seed of the starting points.

    Raises:
        UsageError: the version or an attack is unknown, or attacks do not go with the version.

    Example:
        >>> [stage.describe()["attack"] for stage in AutoAttack(Threat("linf", 0.1)).stages]
        ['apgd-ce', 'apgd-t', 'fab-t', 'square']
    """

    threat: Threat
    version: str = "standard"
    attacks: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.version not in AUTOATTACK_VERSIONS:
            fix = near_miss(self.version, AUTOATTACK_VERSIONS)
            raise UsageError(f"unknown version {self.version!r}", where="autoattack", fix=fix)
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if unknown:
            fix = near_miss(unknown[0], ATTACKS)
            raise UsageError(f"unknown attack {unknown[0]!r}", where="autoattack", fix=fix)
        if (self.version == "custom") != bool(self.attacks):
            fix = "attacks are given with the version custom, and only with it"
            raise UsageError(
                f"version {self.version} with attacks {self.attacks}", where="autoattack", fix=fix
            )

    @property
    def stages(self) -> tuple[Attack, ...]:
        """Its attacks, in the order in which they run."""
        names = self.attacks or AUTOATTACK_VERSIONS[self.version]
        return tuple(self._stage(name) for name in names)

    def _stage(self, name: str) -> Attack:
        sparse = self.threat.norm == "l1" and self.version == "standard"
        if self.version == "rand" or not name.startswith("apgd"):
            return _ReferenceAttack(self.threat, self.version, name, self.seed)
        if name == "apgd-t":
            settings: dict[str, Any] = {"loss": "dlr-t", "targets": 5 if sparse else 9}
        else:
            once = self.version == "standard" and not sparse
            settings = {"loss": name.removeprefix("apgd-"), "restarts": 1 if once else 5}
        return _SeededAPGD(APGD(self.threat, STEPS, long_eps=sparse, **settings), name, self.seed)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        return {
            "attack": f"autoattack-{self.version}",
            "steps": STEPS,
            "attacks": list(self.attacks or AUTOATTACK_VERSIONS[self.version]),
            "seed": self.seed,
        }

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*; images that no attack fools are returned clean."""
        if self.threat.eps == 0 or not len(x):
            return x.clone()
        return run_stages(self, classifier, x, y, generator)


@dataclass(frozen=True)
class _SeededAPGD:
    """APGD from the reference's starting points, which are drawn for a batch as a whole."""

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
        seeded = torch.Generator().manual_seed(self.seed)
        return self.apgd(classifier, x, y, generator=seeded)


@dataclass(frozen=True)
class _ReferenceAttack:
    """One attack of the reference implementation."""

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
        with _process_state_restored(x.device):
            evaluator = _reference_evaluator(classifier, self, x.device)
            evaluator.attacks_to_run = [self.name]
            _limit_targets(evaluator, classifier, x)
            x_adv = _evaluate(evaluator, x, y)
        # FAB measures distances in float32, and may end slightly outside the threat model.
        return self.threat.project(x_adv.to(x), x)


def _reference_evaluator(
    classifier: Classifier, stage: _ReferenceAttack, device: torch.device
) -> Any:
    """Return the evaluator of pyautoattack, or else that of the original ``autoattack``."""
    settings: dict[str, Any] = {
        "norm": REFERENCE_NORMS[stage.threat.norm],
        "eps": stage.threat.eps,
        "seed": stage.seed,
        "version": stage.version,
        "device": device,
    }
    listed = [stage.name] if stage.version == "custom" else []
    with contextlib.suppress(ImportError):
        evaluator = importlib.import_module("pyautoattack").AutoAttack
        return evaluator(classifier, attacks=listed or None, **settings)
    try:
        evaluator = importlib.import_module("autoattack").AutoAttack
    except ImportError as error:
        what = "neither pyautoattack nor autoattack is installed"
        raise OutputError(what, where="autoattack", fix="pip install pyautoattack") from error
    return evaluator(classifier, attacks_to_run=listed, verbose=False, **settings)


def _evaluate(evaluator: Any, x: Tensor, y: Tensor) -> Tensor:
    """Return the adversarial images of *evaluator*, whichever of the two packages it is from."""
    evaluate = evaluator.run_standard_evaluation
    if type(evaluator).__module__.partition(".")[0] == "autoattack":
        x_adv: Tensor = evaluate(x, y, bs=len(x))
        return x_adv
    x_adv, _ = evaluate(x, y, batch_size=len(x))
    return x_adv


def _limit_targets(evaluator: Any, classifier: Classifier, x: Tensor) -> None:
    """Target no more classes than there are; with fewer than ten, it would index past the last."""
    with torch.no_grad():
        others = classifier(x[:1]).shape[1] - 1
    for attack in (evaluator.apgd_targeted, evaluator.fab):
        attack.n_target_classes = min(attack.n_target_classes, others)


@contextlib.contextmanager
def _process_state_restored(device: torch.device) -> Iterator[None]:
    """Undo the reference's changes to random states and to the trace function of the process."""
    trace, numpy_state, python_state = sys.gettrace(), np.random.get_state(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        # Its check for dynamic defences ends with sys.settrace(None), which disables debuggers.
        sys.settrace(trace)
