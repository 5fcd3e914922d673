"""AutoAttack, the reference evaluation, through pyautoattack: a foreign process behind one door."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soupmerge.errors import OutputError, UsageError, near_miss
from soupmerge.robustness.threats import Threat
from soupmerge.types import Classifier, Generators

VERSIONS = ("standard", "plus", "rand", "custom")
ATTACKS = ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack (Croce & Hein 2020, arXiv 2003.01690).

    Its own seed is the clock, and it seeds the whole process: here the seed is fixed and the
    caller's random state is put back. *generator* is ignored, since it takes none.

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

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        name = f"autoattack-{self.version}"
        listed = {"attacks": list(self.attacks)} if self.attacks else {}
        return {"attack": name, "steps": 100, **listed, "seed": self.seed}

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*; those it cannot fool come back clean."""
        if self.threat.eps == 0 or not len(x):
            return x.clone()
        reference = _reference()
        with _fenced(x.device):
            adversary = reference(
                classifier,
                norm=NORMS[self.threat.norm],
                eps=self.threat.eps,
                version=self.version,
                attacks=list(self.attacks) or None,
                seed=self.seed,
                device=x.device,
            )
            _clamp_targets(adversary, classifier, x)
            x_adv, _ = adversary.run_standard_evaluation(x, y, batch_size=len(x))
        # FAB measures its distance in float32 and may end a hair outside.
        return self.threat.project(x_adv.to(x), x)


def _reference() -> Any:
    try:
        import pyautoattack
    except ImportError as error:  # pragma: no cover - a declared dependency
        raise OutputError(
            "pyautoattack is not installed", fix="pip install pyautoattack"
        ) from error
    return pyautoattack.AutoAttack


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
