"""Benchmark: data + attacks → a report. The one place that decides what counts as fooled."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.binding import probe
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.report import CLEAN, UNION, Report
from soupmerge.schedule import stream
from soupmerge.types import Attack, Classifier, Examples, Progress, quiet


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

    def __post_init__(self) -> None:
        threats = [str(attack.threat) for attack in self.attacks]
        twice = sorted({t for t in threats if threats.count(t) > 1})
        if twice:
            raise UsageError(f"{twice[0]} is given more than once", where="threat")
        if not len(self.data):
            raise InputError("holds no images", where=self.data.ref)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of its reports; the last is what chooses if none is named."""
        threats = tuple(str(attack.threat) for attack in self.attacks)
        return (CLEAN, *threats, UNION) if threats else (CLEAN,)

    def describe(self) -> dict[str, Any]:
        """Return all that changes a verdict, for a manifest."""
        attacks = {str(a.threat): a.describe() for a in self.attacks}
        return {
            "data": self.data.fingerprint(),
            "name": self.name,
            "attacks": attacks,
            "seed": self.seed,
        }

    def __call__(self, classifier: Classifier, *, progress: Progress = quiet) -> Report:
        """Return the report on *classifier*, which must be in evaluation mode if it is a module.

        Raises:
            InputError: the classifier does not give a row of logits for an image, or its classes
                do not cover the labels, or an attack left its threat model.
        """
        if isinstance(classifier, nn.Module):
            _require_evaluation(classifier)
        began, meter = time.perf_counter(), _Meter(classifier)
        probe(classifier, self.data, meter.device)
        flags = {CLEAN: self._clean(meter, progress)}
        for attack in self.attacks:
            flags[str(attack.threat)] = self._attacked(meter, attack, flags[CLEAN], progress)
        cost = {**meter.counts, "seconds": round(time.perf_counter() - began, 3)}
        attacks = {str(a.threat): a.describe() for a in self.attacks}
        return Report(self.data.fingerprint(), flags, attacks, cost)

    def _clean(self, meter: _Meter, progress: Progress) -> Tensor:
        right = torch.zeros(len(self.data), dtype=torch.bool)
        for indices in self._batches(torch.arange(len(self.data))):
            x, y = self._load(indices, meter)
            right[indices] = _right(meter, x, y).cpu()
            progress("clean", int(indices[-1]) + 1, len(self.data))
        return right

    def _attacked(self, meter: _Meter, attack: Attack, clean: Tensor, progress: Progress) -> Tensor:
        robust, done = torch.zeros_like(clean), 0
        todo = clean.nonzero().squeeze(1)
        for indices in self._batches(todo):
            x, y = self._load(indices, meter)
            generators = [stream(self.seed, attack, self.data.ids[i]) for i in indices.tolist()]
            x_adv = attack(meter, x, y, generator=generators)
            robust[indices] = _confirm(meter, attack, x_adv, x, y).cpu()
            done += len(indices)
            progress(str(attack.threat), done, len(todo))
        return robust

    def _batches(self, indices: Tensor) -> Iterator[Tensor]:
        return iter(indices.split(self.batch_size)) if len(indices) else iter(())

    def _load(self, indices: Tensor, meter: _Meter) -> tuple[Tensor, Tensor]:
        x, y = self.data.batch(indices)
        return x.to(meter.device), y.to(meter.device)


def evaluate(classifier: Classifier, benchmark: Benchmark, *, progress: Progress = quiet) -> Report:
    """Return what *benchmark* says of *classifier*."""
    return benchmark(classifier, progress=progress)


def _right(classifier: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Return ``(B,)`` bool: right, with finite logits. What is not finite is never right."""
    with torch.no_grad():
        logits = classifier(x)
    return (logits.argmax(1) == y) & torch.isfinite(logits).all(1)


def _confirm(classifier: Classifier, attack: Attack, x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return ``(B,)`` bool: which images hold against *x_adv*, judged here, inside the threat."""
    if x_adv.shape != x.shape:
        raise InputError(
            f"gave images of shape {tuple(x_adv.shape)}, not {tuple(x.shape)}", where=attack
        )
    x_adv = x_adv.detach().float()
    outside = ~attack.threat.contains(x_adv, x)
    if bool(outside.any()):
        raise InputError(
            f"left its threat model {attack.threat} on {int(outside.sum())} of {len(x)} images",
            where=attack,
            fix="its verdicts cannot be used",
        )
    return _right(classifier, attack.threat.project(x_adv, x), y)


def _require_evaluation(net: nn.Module) -> None:
    training = [name or "the model" for name, module in net.named_modules() if module.training]
    if training:
        raise InputError(
            f"{training[0]} is in training mode", where="model", fix="use bind(), or eval()"
        )


class _Meter:
    """A classifier that counts what it is asked, image by image."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.counts = {"gradient_evaluations": 0, "forward_evaluations": 0}
        parameters = iter(classifier.parameters() if isinstance(classifier, nn.Module) else ())
        self.device = next((p.device for p in parameters), torch.device("cpu"))

    def __call__(self, x: Tensor) -> Tensor:
        kind = "gradient" if torch.is_grad_enabled() and x.requires_grad else "forward"
        self.counts[f"{kind}_evaluations"] += len(x)
        return self.classifier(x)
