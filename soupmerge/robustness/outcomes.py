"""The loss and error of each example, without and under attack."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from soupmerge.asking import answering
from soupmerge.label_spaces.outputs import require_one_label
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.losses import cross_entropy, is_right
from soupmerge.robustness.report import CLEAN
from soupmerge.schedule import stream
from soupmerge.types import Classifier


class Outcome(NamedTuple):
    """Loss ``(N,)`` and error ``(N,)``, 0 or 1, of each example, in float64."""

    loss: Tensor
    error: Tensor


def outcomes(net: nn.Module, benchmark: Benchmark) -> dict[str, Outcome]:
    """Return metric → outcome of *net* on the data of *benchmark*, clean and under its attacks.

    Unlike in `Benchmark`, images that are wrong without attack are attacked too, as their loss
    counts. For the highest loss found, the attacks should not stop at the first wrong answer.

    Raises:
        UsageError: the images may have several right labels.
    """
    require_one_label(benchmark.data, "a loss")
    device, asked = next(net.parameters()).device, answering(net, benchmark.data)
    rows: dict[str, list[Outcome]] = {}
    for indices in torch.arange(len(benchmark.data)).split(benchmark.batch_size):
        x, y = benchmark.data.batch(indices)
        x, y = x.to(device), y.to(device)
        clean = _outcome(asked, x, y)
        rows.setdefault(CLEAN, []).append(clean)
        for attack in benchmark.attacks:
            ids = [benchmark.data.ids[i] for i in indices.tolist()]
            generators = [stream(benchmark.seed, attack, id) for id in ids]
            x_adv = attack(asked, x, y, generator=generators)
            loss, error = _outcome(asked, attack.threat.project(x_adv, x), y)
            robust = Outcome(loss, torch.maximum(error, clean.error))
            rows.setdefault(str(attack.threat), []).append(robust)
    return {
        metric: Outcome(*(torch.cat(column) for column in zip(*parts, strict=True)))
        for metric, parts in rows.items()
    }


def _outcome(classifier: Classifier, x: Tensor, y: Tensor) -> Outcome:
    with torch.no_grad():
        logits = classifier(x)
    return Outcome(cross_entropy(logits, y).double().cpu(), (~is_right(logits, y)).double().cpu())
