"""Benchmarks: data and attacks, which make a report of a classifier."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.asking import probe
from soupmerge.choices import PRECISIONS
from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.label_spaces.outputs import require_one_label
from soupmerge.robustness.adversarial_cache import AdversarialCache
from soupmerge.robustness.cascade import stages_of
from soupmerge.robustness.judge import Judge, Ledger, NullLedger
from soupmerge.robustness.meter import Meter
from soupmerge.robustness.report import CLEAN, UNION, Report
from soupmerge.types import (
    Attack,
    Classifier,
    Examples,
    Progress,
    StreamingAttack,
    SupportsGivingUp,
    quiet,
)

FEW = 10
"""Steps within which most of the images are fooled that are fooled at all."""


@dataclass(frozen=True)
class Benchmark:
    """Judges classifiers on *data*, without and under *attacks*: calling it returns a `Report`.

    An image counts as robust if it is classified correctly as it is and after each attack. Every
    adversarial image is projected onto its threat model and classified once more, in float32. The
    starting point for an image depends on *seed*, the attack and the image's id alone, so its
    verdict does not depend on its batch.

    Attributes:
        data: the examples.
        attacks: one attack for each threat.
        name: the purpose of the data: ``val`` to choose, ``test`` to judge.
        seed: seed of the attacks' starting points.
        batch_size: images at a time; changes speed, not verdicts.
        precision: the precision in which attacks run, ``fp32`` or ``bf16``. With ``bf16``, images
            that are fooled are confirmed in float32, and attacked again in float32 if they are not
            fooled there. Of the survivors, a sample is attacked again in float32, and the report
            notes the outcome.
        only_union: judge the union of threats alone; images fooled under one threat are not
            attacked under the others.
        transfer: in a search, first try the images that fooled earlier soups; verdicts then depend
            on those soups.

    Raises:
        UsageError: two attacks have the same threat, the precision is unknown or does not go with
            the attacks, or images that may have several right labels are attacked.
        InputError: the data set is empty.

    Example:
        >>> import soupmerge as sm
        >>> test = sm.Benchmark(sm.data("digits", limit=8), [sm.APGD(sm.Linf(0.1), steps=5)])
        >>> report = test(sm.model("digits-cnn"))
        >>> sorted(report.metrics)
        ['clean', 'linf:0.1', 'union']
    """

    data: Examples
    attacks: Sequence[Attack] = ()
    name: str = "test"
    seed: int = 0
    batch_size: int = 256
    precision: str = "fp32"
    only_union: bool = False
    transfer: bool = False

    def __post_init__(self) -> None:
        threats = [str(attack.threat) for attack in self.attacks]
        twice = sorted({t for t in threats if threats.count(t) > 1})
        if twice:
            fix = "give one attack for each threat"
            raise UsageError(f"{twice[0]} is given more than once", where="threat", fix=fix)
        if self.precision not in PRECISIONS:
            fix = near_miss(self.precision, PRECISIONS)
            raise UsageError(f"unknown precision {self.precision!r}", where="precision", fix=fix)
        if self.precision != "fp32" and not all(map(_is_streaming, self.attacks)):
            fix = "use apgd-ce+t, or fp32"
            raise UsageError("AutoAttack computes in float32", where="precision", fix=fix)
        if not len(self.data):
            raise InputError("holds no images", where=self.data.ref)
        if self.attacks:
            require_one_label(self.data, "an attack")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of its reports; searches maximise the last unless told otherwise."""
        threats = tuple(str(attack.threat) for attack in self.attacks)
        single = () if self.only_union and len(threats) > 1 else threats
        return (CLEAN, *single, UNION) if threats else (CLEAN,)

    def describe(self) -> dict[str, Any]:
        """Return everything that can change a verdict, for a manifest."""
        return {
            "data": self.data.fingerprint(),
            "name": self.name,
            "attacks": self._attacks(),
            "seed": self.seed,
            **({"precision": self.precision} if self.precision != "fp32" else {}),
            **({"only union": True} if self.only_union else {}),
        }

    def _attacks(self) -> dict[str, dict[str, Any]]:
        transfer = {"transfer": True} if self.transfer else {}
        return {str(attack.threat): {**attack.describe(), **transfer} for attack in self.attacks}

    def giving_up(self) -> Benchmark:
        """Return the benchmark with attacks that give up on hopeless images, where they can.

        It is meant for comparing many soups with each other; see `engine.Patience`.
        """
        attacks = [a.giving_up() if isinstance(a, SupportsGivingUp) else a for a in self.attacks]
        return replace(self, attacks=attacks)

    def __call__(
        self,
        classifier: Classifier,
        *,
        progress: Progress = quiet,
        ledger: Ledger | None = None,
        cache: AdversarialCache | None = None,
    ) -> Report:
        """Return the report on *classifier*.

        Args:
            classifier: the classifier; if it is a module, it must be in evaluation mode.
            progress: callback for progress, in images; see `types.Progress`.
            ledger: keeps verdicts; those that it has are not reached again.
            cache: adversarial images that are tried first, at one forward evaluation each; those
                that fool this classifier are added.

        Raises:
            InputError: the classifier is in training mode, it does not return a row of logits for
                each image, its classes do not cover the labels, or an attack left its threat model.
        """
        if isinstance(classifier, nn.Module):
            _require_evaluation(classifier)
        began, meter = time.perf_counter(), Meter(classifier, self.data)
        probe(classifier, self.data, meter.device)
        judge = Judge(
            meter,
            self.data,
            seed=self.seed,
            width=self.batch_size,
            precision=self.precision,
            ledger=NullLedger() if ledger is None else ledger,
            progress=progress,
            cache=cache,
        )
        clean = judge.clean()
        if self.only_union and len(self.attacks) > 1:
            flags = {CLEAN: clean, UNION: self._union(judge, clean)}
        else:
            todo = clean.nonzero().squeeze(1)
            robust = {str(a.threat): judge.survivors(a, todo) for a in self.attacks}
            flags = {CLEAN: clean, **robust}
        cost = {**meter.counts, "seconds": round(time.perf_counter() - began, 3)}
        return Report(self.data.fingerprint(), flags, self._attacks(), cost, judge.notes)

    def _union(self, judge: Judge, clean: Tensor) -> Tensor:
        """Return ``(N,)`` bool: which images survive under every threat.

        The first batch is attacked under every threat. The other images are attacked until they
        are fooled, under the threat first that fooled most images per gradient evaluation.
        """
        todo = clean.nonzero().squeeze(1)
        pilot, rest = todo[: self.batch_size], todo[self.batch_size :]
        on_pilot = {attack: judge.survivors(attack, pilot) for attack in self.attacks}
        robust = torch.stack(list(on_pilot.values())).all(0)
        fooled = {a: 1 - int(flags.sum()) / max(len(pilot), 1) for a, flags in on_pilot.items()}
        ordered = sorted(self.attacks, key=lambda a: -fooled[a] / _expected_cost(a, fooled[a]))
        for attack in ordered:
            rest = judge.survivors(attack, rest).nonzero().squeeze(1)
        judge.notes["order"] = [str(attack.threat) for attack in ordered]
        robust[rest] = True
        return robust


def _is_streaming(attack: Attack) -> bool:
    return all(isinstance(stage, StreamingAttack) for stage in stages_of(attack))


def _expected_cost(attack: Attack, fooled: float) -> float:
    """Return the expected gradient evaluations for an image, if a fraction *fooled* is fooled."""
    stages = [stage.describe() for stage in stages_of(attack)]
    steps = [s.get("steps", 1) * s.get("restarts", 1) * s.get("targets", 1) for s in stages]
    most = max(sum(steps), 1)
    return float(fooled * min(FEW, most) + (1 - fooled) * most)


def evaluate(classifier: Classifier, benchmark: Benchmark, *, progress: Progress = quiet) -> Report:
    """Return the report of *benchmark* on *classifier*; see `Benchmark`.

    Example:
        >>> import soupmerge as sm
        >>> test = sm.Benchmark(sm.data("digits", limit=8))
        >>> evaluate(sm.model("digits-cnn"), test).n
        8
    """
    return benchmark(classifier, progress=progress)


def _require_evaluation(net: nn.Module) -> None:
    training = training_modules(net)
    if training:
        fix = "call its eval(), or use bind()"
        raise InputError(f"{training[0]} is in training mode", where="model", fix=fix)


def training_modules(net: nn.Module) -> list[str]:
    """Return the names of the modules of *net* that are in training mode."""
    return [name or "the model" for name, module in net.named_modules() if module.training]
