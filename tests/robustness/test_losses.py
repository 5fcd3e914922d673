"""Losses against their formulas, written out for one image at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from soupmerge.choices import LOSSES
from soupmerge.robustness.losses import loss_of
from tests.robustness.cases import right, streams


def by_hand(name: str, z: list[float], y: int, t: int) -> float:
    ranked = sorted(z, reverse=True)
    best_other = max(value for c, value in enumerate(z) if c != y)
    if name == "ce":
        return math.log(sum(math.exp(value) for value in z)) - z[y]
    if name == "margin" or (name == "dlr" and len(z) < 3):
        return best_other - z[y]
    if name == "dlr":
        return -(z[y] - best_other) / (ranked[0] - ranked[2])
    if name == "margin-t" or len(z) < 4:
        return z[t] - z[y]
    return -(z[y] - z[t]) / (ranked[0] - (ranked[2] + ranked[3]) / 2)


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_formula(name: str, classes: int) -> None:
    """Also where the label is not the answer, and where a loss has too few classes to be itself."""
    noise = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20, classes, generator=noise, dtype=torch.float64)
    y = torch.randint(classes, (20,), generator=noise)
    target = (y + 1 + torch.arange(20) % (classes - 1)) % classes
    found = loss_of(name)(logits, y, target)
    expected = [
        by_hand(name, z.tolist(), int(c), int(t)) for z, c, t in zip(logits, y, target, strict=True)
    ]
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_logits_in_half_precision_are_compared_in_float32(name: str) -> None:
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    y = torch.arange(8)
    found = loss_of(name)(logits, y, y + 1)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss_of(name)(logits.float(), y, y + 1))


@pytest.mark.parametrize("name", ["dlr", "dlr-t"])
def test_equal_logits_make_no_division_by_zero(name: str) -> None:
    y = torch.arange(3)
    assert loss_of(name)(torch.ones(3, 5), y, y + 1).tolist() == [0, 0, 0]


def test_which_losses_have_targets_and_how_many_classes_they_need() -> None:
    assert [name for name, entry in LOSSES.items() if entry.targeted] == ["dlr-t", "margin-t"]
    needed = {name: entry.classes for name, entry in LOSSES.items()}
    assert needed == {"ce": 2, "margin": 2, "margin-t": 2, "dlr": 3, "dlr-t": 4}


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_targeted_no_more_than_there_are(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(12, classes, generator=generator)
    x = torch.rand(9, 3, 2, 2, generator=generator)

    def linear(z: Tensor) -> Tensor:
        return z.flatten(1) @ weights

    y, eps = linear(x).argmax(1), {2: 0.4, 3: 0.2}[classes]
    found = sm.APGD.targeted(sm.Linf(eps), steps=30)(linear, x, y, generator=streams(9))
    falls = torch.zeros(9, dtype=torch.bool)
    for target in range(classes):  # for a linear network, the best point is known
        ahead = (weights[:, target] - weights[:, y].T).sign().view_as(x)
        falls |= ~right(linear, (x + eps * ahead).clamp(0, 1), y)
    assert torch.equal(~right(linear, found, y), falls)
    assert 0 < int(falls.sum()) < 9
