"""What checks examine: a classifier, some images, and what was reported of them.

Everything here depends on the benchmark's seed and the images alone, and leaves the classifier
and the state of the process as they were.
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

from soupmerge.asking import answering
from soupmerge.errors import InputError
from soupmerge.label_spaces.outputs import right_classes
from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.losses import cross_entropy, is_right
from soupmerge.robustness.meter import device_of
from soupmerge.robustness.report import CLEAN, UNION, Report
from soupmerge.robustness.threats import Threat
from soupmerge.schedule import stream
from soupmerge.types import Classifier

STEPS = 20
"""Steps of APGD; without gradient masking, it breaks most of the images that 100 steps break."""

CHANCE = 0.02
"""Accuracy above chance that may still be chance."""


@dataclass(eq=False)
class Case:
    """A classifier, images on which it was right if possible, and what was reported of them.

    Attributes:
        classifier: the classifier to examine.
        benchmark: the benchmark that judged it.
        report: the report of that benchmark.
        n: number of images, at most. They are drawn by the benchmark's seed, and images that are
            wrong without attack are drawn last.
        sources: classifiers whose adversarial images are tried on it.

    Raises:
        InputError: the report was not made by this benchmark.
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
            raise InputError("was not made by this benchmark", where="report", fix=fix)

    @cached_property
    def indices(self) -> Tensor:
        """``(n,)``: the indices of the images in the data, in ascending order."""
        drawn = torch.randperm(self.report.n, generator=stream("doubts", self.benchmark.seed))
        wrong = (~self.clean_by_report[drawn]).int()
        return drawn[wrong.argsort(stable=True)][: self.n].sort().values

    @property
    def clean_by_report(self) -> Tensor:
        """``(N,)`` bool: whether each image of the data is right without attack, by the report."""
        return self.report.flags[CLEAN].cpu()

    @cached_property
    def images(self) -> tuple[Tensor, Tensor]:
        """Images ``(n, C_in, H, W)`` and labels ``(n,)``, on the classifier's device."""
        device = device_of(self.classifier)
        x, y = self.benchmark.data.batch(self.indices)
        return x.to(device), y.to(device)

    def answering(self, classifier: Classifier) -> Classifier:
        """Return *classifier* with the logits of the classes of the data, as it was judged."""
        return answering(classifier, self.benchmark.data)

    @cached_property
    def reported(self) -> dict[Threat, Tensor]:
        """Threat → ``(n,)`` bool: whether each image is robust by the report.

        Radii of 0 are left out. If the report has the union alone, its flags stand for each threat.
        """
        threats = [a.threat for a in self.benchmark.attacks if isinstance(a.threat, Threat)]
        flags = {t: self.report.flags.get(str(t)) for t in threats if t.eps > 0}
        union = self.report.right(UNION)
        device = self.images[1].device
        return {
            t: (union if f is None else f).cpu()[self.indices].to(device) for t, f in flags.items()
        }

    @property
    def batches(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        """Images, labels and ids, in batches of the benchmark's size."""
        size = self.benchmark.batch_size
        ids = [self.benchmark.data.ids[i] for i in self.indices.tolist()]
        x, y = (t.split(size) for t in self.images)
        starts = range(0, len(ids), size)
        yield from zip(x, y, (ids[i : i + size] for i in starts), strict=True)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits ``(B, C)`` of the classes of the data, without gradient."""
        return self._asked(self.answering(self.classifier), x)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the logits ``(B, N)`` of all outputs of the classifier, without gradient."""
        return self._asked(self.classifier, x)

    def _asked(self, classifier: Classifier, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([classifier(part) for part in x.split(self.benchmark.batch_size)])

    @cached_property
    def clean(self) -> Tensor:
        """``(n,)`` bool: whether each image is right without attack, asked again."""
        x, y = self.images
        return is_right(self.logits(x), right_classes(self.benchmark.data, self.indices, y))

    def robust(self, logits: Tensor) -> Tensor:
        """Return ``(n,)`` bool: whether each image is right without attack and by *logits*."""
        return self.clean & is_right(logits, self.images[1])

    def gradient_norms(self) -> Tensor:
        """Return ``(n,)``: Σ |∂ cross-entropy / ∂ pixel| at each image."""
        asked = self.answering(self.classifier)
        return torch.cat([_gradient_norms(asked, x, y) for x, y, _ in self.batches])

    def under(self, attack: APGD, made_on: Classifier | None = None) -> Tensor:
        """Return the logits ``(n, C)`` under *attack*, made on this classifier or another.

        The noise from which the attack of an image starts is the same for all attacks.
        """
        if made_on is not None:
            x_adv = [self._attacked(attack, made_on, *batch) for batch in self.batches]
            return self.logits(torch.cat(x_adv))
        if attack not in self._logits:
            self._logits[attack] = self.under(attack, self.classifier)
        return self._logits[attack]

    def _attacked(
        self, attack: APGD, made_on: Classifier, x: Tensor, y: Tensor, ids: list[str]
    ) -> Tensor:
        generators = [stream(self.benchmark.seed, "doubts", id) for id in ids]
        asked = _differentiable(self.answering(made_on))
        x_adv = attack(asked, x, y, generator=generators)
        return attack.threat.project(x_adv, x)


def _differentiable(classifier: Classifier) -> Classifier:
    """Return *classifier*, with a gradient of zero instead of an error if it has none."""

    def differentiable(x: Tensor, /) -> Tensor:
        logits = classifier(x)
        return logits + 0 * x.flatten(1).sum(1, keepdim=True).to(logits)

    return differentiable


def _gradient_norms(classifier: Classifier, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        loss = cross_entropy(_differentiable(classifier)(point), y).sum()
        (grad,) = torch.autograd.grad(loss, point)
    norms: Tensor = grad.abs().flatten(1).sum(1)
    return norms


class ModuleBackup:
    """A copy of the tensors of a module; of classifiers that are no modules, it has none."""

    def __init__(self, classifier: Classifier) -> None:
        modules = classifier.named_modules() if isinstance(classifier, nn.Module) else ()
        self._tensors = [
            (f"{path}.{name}".lstrip("."), module, name, tensor, _copy(tensor), tensor.grad)
            for path, module in modules
            for name, tensor in (
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            )
        ]
        self._grads = [_copy(grad) for *_, grad in self._tensors]

    def changed(self) -> list[str]:
        """Return the names of the tensors whose values have changed."""
        return [
            path
            for path, module, name, _, value, _ in self._tensors
            if not _same(getattr(module, name), value)
        ]

    def restore(self) -> None:
        """Restore the tensors of the module, their values and their gradients."""
        for (_, module, name, tensor, value, grad), grad_value in zip(
            self._tensors, self._grads, strict=True
        ):
            if getattr(module, name) is not tensor:
                setattr(module, name, tensor)
            _restore(tensor, value)
            tensor.grad = grad
            _restore(grad, grad_value)


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
def state_restored(classifier: Classifier, seed: int) -> Iterator[None]:
    """Seed all randomness, and afterwards restore it and the tensors of *classifier*.

    A forward pass may change both: it may draw noise, update batch statistics, or fit weights.
    """
    backup, numpy_state, python_state = (
        ModuleBackup(classifier),
        np.random.get_state(),
        random.getstate(),
    )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            backup.restore()
            np.random.set_state(numpy_state)
            random.setstate(python_state)
