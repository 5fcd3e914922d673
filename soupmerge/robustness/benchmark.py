"""Benchmark: data + attacks → a report. The one place that decides what counts as fooled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.binding import PRECISIONS, probe
from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.robustness.adversarial_cache import AdversarialCache
from soupmerge.robustness.judging import Judge, Ledger, Meter, NullLedger
from soupmerge.robustness.report import CLEAN, UNION, Report
from soupmerge.types import Attack, Classifier, Examples, Progress, quiet

FEW = 10
"""Steps after which most images that fall have fallen."""


@dataclass(frozen=True)
class Benchmark:
    """Judges classifiers on *data*, clean and under *attacks*: called with one, gives a `Report`.

    An image counts as robust if it is right clean and after each attack; every adversarial image
    is projected onto its threat model and asked once more here, in float32. The start noise of an
    image depends on *seed*, attack and the image's id alone, so its verdict does not depend on
    its batch.

    Attributes:
        data: the examples.
        attacks: one for each threat.
        name: what the set is for: ``val`` chooses, ``test`` judges.
        seed: for the attacks' starting points.
        batch_size: images at a time; changes speed, not verdicts.
        precision: ``fp32``; or ``bf16``, in which attacks only propose: what they fool is confirmed
            in float32 and attacked on if it holds there, and of what they cannot fool a sample is
            attacked again in float32, the outcome being noted.
        transfer: in a search, try on each image first what fooled the soups before: a verdict then
            depends on them.
        only_union: judge the union of threats alone: an image that one has broken is left alone
            by the others.

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
            raise UsageError(f"{twice[0]} is given more than once", where="threat")
        if self.precision not in PRECISIONS:
            fix = near_miss(self.precision, PRECISIONS)
            raise UsageError(f"no precision {self.precision!r}", where="precision", fix=fix)
        if self.precision != "fp32" and not all(map(_streams, self.attacks)):
            fix = "take apgd-ce+t, or judge in fp32"
            raise UsageError("AutoAttack computes in float32", where="precision", fix=fix)
        if not len(self.data):
            raise InputError("holds no images", where=self.data.ref)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of its reports; the last is what chooses if none is named."""
        threats = tuple(str(attack.threat) for attack in self.attacks)
        single = () if self.only_union and len(threats) > 1 else threats
        return (CLEAN, *single, UNION) if threats else (CLEAN,)

    def describe(self) -> dict[str, Any]:
        """Return all that changes a verdict, for a manifest."""
        return {
            "data": self.data.fingerprint(),
            "name": self.name,
            "attacks": self._attacks(),
            "seed": self.seed,
            **({"precision": self.precision} if self.precision != "fp32" else {}),
            **({"only union": True} if self.only_union else {}),
        }

    def _attacks(self) -> dict[str, dict[str, Any]]:
        more = {"transfer": True} if self.transfer else {}
        return {str(attack.threat): {**attack.describe(), **more} for attack in self.attacks}

    def brief(self) -> Benchmark:
        """Return the benchmark with attacks that give hopeless images up early, where they can.

        For comparing many soups with each other; see `engine.Patience`.
        """
        attacks = [getattr(attack, "brief", lambda a=attack: a)() for attack in self.attacks]
        return replace(self, attacks=attacks)

    def __call__(
        self,
        classifier: Classifier,
        *,
        progress: Progress = quiet,
        ledger: Ledger | None = None,
        fooling: AdversarialCache | None = None,
    ) -> Report:
        """Return the report on *classifier*, which must be in evaluation mode if it is a module.

        Verdicts that *ledger* keeps are not found out again. What *fooling* holds is tried first,
        one forward evaluation each, and what fools this classifier is held for the next.

        Raises:
            InputError: the classifier does not give a row of logits for an image, or its classes
                do not cover the labels, or an attack left its threat model.
        """
        if isinstance(classifier, nn.Module):
            _require_evaluation(classifier)
        began, meter = time.perf_counter(), Meter(classifier)
        probe(classifier, self.data, meter.device)
        keeps = NullLedger() if ledger is None else ledger
        how = (self.seed, self.batch_size, self.precision, keeps, progress, fooling)
        judge = Judge(meter, self.data, *how)
        clean = judge.clean()
        if self.only_union and len(self.attacks) > 1:
            flags = {CLEAN: clean, UNION: self._under_all(judge, clean)}
        else:
            todo = clean.nonzero().squeeze(1)
            found = {str(a.threat): judge.holding(a, todo) for a in self.attacks}
            flags = {CLEAN: clean, **found}
        cost = {**meter.counts, "seconds": round(time.perf_counter() - began, 3)}
        return Report(self.data.fingerprint(), flags, self._attacks(), cost, judge.notes)

    def _under_all(self, judge: Judge, clean: Tensor) -> Tensor:
        """Return ``(N,)`` bool: who holds under every threat; nobody is broken twice.

        The first batch is attacked under every threat; for the others, threats come in the order
        of the images that they broke there for a gradient evaluation.
        """
        todo = clean.nonzero().squeeze(1)
        pilot, rest = todo[: self.batch_size], todo[self.batch_size :]
        under = {attack: judge.holding(attack, pilot) for attack in self.attacks}
        holds = torch.stack(list(under.values())).all(0)
        broken = {a: 1 - int(flags.sum()) / max(len(pilot), 1) for a, flags in under.items()}
        ordered = sorted(self.attacks, key=lambda a: -broken[a] / _expected_cost(a, broken[a]))
        for attack in ordered:
            rest = judge.holding(attack, rest).nonzero().squeeze(1)
        judge.notes["order"] = [str(attack.threat) for attack in ordered]
        holds[rest] = True
        return holds


def _streams(attack: Attack) -> bool:
    """Return whether *attack* can be run in another precision than that of the verdicts."""
    return all(hasattr(stage, "stream") for stage in getattr(attack, "stages", (attack,)))


def _expected_cost(attack: Attack, broken: float) -> float:
    """Return gradient evaluations for an image: some for one that falls, all for one that holds."""
    stages = getattr(attack, "stages", (attack,))
    told = [stage.describe() for stage in stages]
    whole = sum(t["steps"] * t.get("restarts", 1) * t.get("targets", 1) for t in told)
    return float(broken * min(FEW, whole) + (1 - broken) * max(whole, 1))


def evaluate(classifier: Classifier, benchmark: Benchmark, *, progress: Progress = quiet) -> Report:
    """Return what *benchmark* says of *classifier*."""
    return benchmark(classifier, progress=progress)


def _require_evaluation(net: nn.Module) -> None:
    training = [name or "the model" for name, module in net.named_modules() if module.training]
    if training:
        raise InputError(
            f"{training[0]} is in training mode", where="model", fix="use bind(), or eval()"
        )
