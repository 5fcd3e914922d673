"""The case of one classifier: images and verdicts to look at, a fence to look from.

All of it depends on the benchmark's seed and the images alone, and leaves classifier and process
as they were.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from soupmerge.errors import InputError
from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.losses import cross_entropy
from soupmerge.robustness.report import CLEAN, UNION, Report
from soupmerge.robustness.threats import Threat
from soupmerge.schedule import stream
from soupmerge.types import Classifier

STEPS = 20
"""Of APGD: without masking it breaks most of what 100 steps break."""

CHANCE = 0.02
"""Accuracy above chance that says nothing yet."""


@dataclass(eq=False)
class Case:
    """A classifier, images that it was right on, and what was reported of them.

    Attributes:
        classifier: the one examined.
        benchmark, report: what judged it, and the verdicts.
        n: how many images, at most; the benchmark's seed draws them, and those that are wrong
            come last.
        sources: classifiers whose adversarial images are tried on it.

    Raises:
        InputError: the report is not of this benchmark.
    """

    classifier: Classifier
    benchmark: Benchmark
    report: Report
    n: int
    sources: Sequence[Classifier] = ()
    _logits: dict[APGD, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        threats = {str(attack.threat) for attack in self.benchmark.attacks}
        judged = set(self.report.attacks if UNION in self.report.flags else self.report.flags)
        if self.report.n != len(self.benchmark.data) or threats - judged:
            fix = "give the benchmark that made the report"
            raise InputError("is not of this benchmark", where="report", fix=fix)

    @cached_property
    def indices(self) -> Tensor:
        """``(n,)``: which images of the data."""
        drawn = torch.randperm(self.report.n, generator=stream("doubts", self.benchmark.seed))
        wrong = (~self.clean_by_report[drawn]).int()
        return drawn[wrong.argsort(stable=True)][: self.n].sort().values

    @property
    def clean_by_report(self) -> Tensor:
        """``(N,)`` bool: right without attack, by the report."""
        return self.report.flags[CLEAN].cpu()

    @cached_property
    def images(self) -> tuple[Tensor, Tensor]:
        """Images ``(n, C_in, H, W)`` and labels ``(n,)``, where the classifier is."""
        parameters = self.classifier.parameters() if isinstance(self.classifier, nn.Module) else ()
        device = next((p.device for p in parameters), torch.device("cpu"))
        x, y = self.benchmark.data.batch(self.indices)
        return x.to(device), y.to(device)

    @cached_property
    def held(self) -> dict[Threat, Tensor]:
        """Threat → ``(n,)`` bool: robust by the report? Radii of 0 are left out.

        Where the report is of the union alone, robust under all.
        """
        threats = [a.threat for a in self.benchmark.attacks if isinstance(a.threat, Threat)]
        flags = {t: self.report.flags.get(str(t)) for t in threats if t.eps > 0}
        union = self.report.right(UNION)
        where = self.images[1].device
        return {
            t: (union if f is None else f).cpu()[self.indices].to(where) for t, f in flags.items()
        }

    @property
    def parts(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        """Images, labels and ids, no more at a time than the benchmark takes."""
        size = self.benchmark.batch_size
        ids = [self.benchmark.data.ids[i] for i in self.indices.tolist()]
        x, y = (t.split(size) for t in self.images)
        starts = range(0, len(ids), size)
        yield from zip(x, y, (ids[i : i + size] for i in starts), strict=True)

    def logits(self, x: Tensor) -> Tensor:
        """Return the classifier's logits ``(B, C)``, without gradient."""
        with torch.no_grad():
            return torch.cat([self.classifier(p) for p in x.split(self.benchmark.batch_size)])

    def right(self, logits: Tensor) -> Tensor:
        """Return ``(n,)`` bool: is the answer right, and finite?"""
        return (logits.argmax(1) == self.images[1]) & torch.isfinite(logits).all(1)

    @cached_property
    def clean(self) -> Tensor:
        """``(n,)`` bool: right without attack, now."""
        return self.right(self.logits(self.images[0]))

    def steepness(self) -> Tensor:
        """Return ``(n,)``: Σ |∂ cross-entropy / ∂ pixel| at each image."""
        return torch.cat([_steepness(self.classifier, x, y) for x, y, _ in self.parts])

    def robust(self, attack: APGD, made_on: Classifier | None = None) -> Tensor:
        """Return ``(n,)`` bool: right without and under *attack*, made on this or another."""
        return self.clean & self.right(self.under(attack, made_on))

    def under(self, attack: APGD, made_on: Classifier | None = None) -> Tensor:
        """Return the logits ``(n, C)`` under *attack*, made on this classifier or another.

        An image starts from the same noise, whatever the attack.
        """
        if made_on is not None:
            parts = [self._attacked(attack, made_on, *part) for part in self.parts]
            return self.logits(torch.cat(parts))
        if attack not in self._logits:
            self._logits[attack] = self.under(attack, self.classifier)
        return self._logits[attack]

    def _attacked(
        self, attack: APGD, made_on: Classifier, x: Tensor, y: Tensor, ids: list[str]
    ) -> Tensor:
        generators = [stream(self.benchmark.seed, "doubts", id) for id in ids]
        x_adv = attack(_differentiable(made_on), x, y, generator=generators)
        return attack.threat.project(x_adv, x)


def _differentiable(classifier: Classifier) -> Classifier:
    """Return *classifier* with a gradient of zero where it has none, which is no error here."""

    def reached(x: Tensor, /) -> Tensor:
        logits = classifier(x)
        return logits + 0 * x.flatten(1).sum(1, keepdim=True).to(logits)

    return reached


def _steepness(classifier: Classifier, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        loss = cross_entropy(_differentiable(classifier)(point), y).sum()
        (grad,) = torch.autograd.grad(loss, point)
    steepness: Tensor = grad.abs().flatten(1).sum(1)
    return steepness


class Snapshot:
    """The tensors of a module, as they were; of another classifier nothing can be kept."""

    def __init__(self, classifier: Classifier) -> None:
        modules = classifier.named_modules() if isinstance(classifier, nn.Module) else ()
        self._kept = [
            (f"{path}.{name}".lstrip("."), module, name, tensor, _copy(tensor), tensor.grad)
            for path, module in modules
            for name, tensor in (
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            )
        ]
        self._grads = [_copy(grad) for *_, grad in self._kept]

    def changed(self) -> list[str]:
        """Return the names of the tensors whose numbers are others now."""
        return [
            path
            for path, module, name, _, value, _ in self._kept
            if not _same(getattr(module, name), value)
        ]

    def put_back(self) -> None:
        """Give the module its tensors again, their numbers and their gradients."""
        for (_, module, name, tensor, value, grad), slope in zip(
            self._kept, self._grads, strict=True
        ):
            if getattr(module, name) is not tensor:
                setattr(module, name, tensor)
            _restore(tensor, value)
            tensor.grad = grad
            _restore(grad, slope)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _same(now: Tensor | None, before: Tensor | None) -> bool:
    if now is None or before is None:
        return now is before
    return now.shape == before.shape and bool(
        torch.isclose(now.detach(), before, rtol=0, atol=0, equal_nan=True).all()
    )


def _restore(tensor: Tensor | None, value: Tensor | None) -> None:
    if tensor is not None and value is not None and not _same(tensor, value):
        with torch.no_grad():
            tensor.copy_(value)


@contextlib.contextmanager
def untouched(classifier: Classifier, seed: int) -> Iterator[None]:
    """Seed all randomness, and afterwards put it back, with the tensors of *classifier*.

    A forward pass may change both: statistics of a batch, weights fitted to the images at hand.
    """
    kept, numpy_state, python_state = Snapshot(classifier), np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            kept.put_back()
            np.random.set_state(numpy_state)
            random.setstate(python_state)
