"""APGD beside pyautoattack's, step by step from the same starts, in float64.

There rounding decides nothing, so the points must be the same at every step: a step size, a
checkpoint, a return to the best point or a momentum of another kind shows in the next point.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from tests.robustness.cases import REFERENCE_NORMS, Recorder, right, small_network

reference = pytest.importorskip("pyautoattack.autopgd_base")


class Snapped(sm.Threat):
    """A threat whose projection leaves no rounding on pixels that have not moved."""

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        near = super().project(x_adv, x)
        return torch.where((near - x).abs() < 1e-9, x, near)


THREATS = [sm.Linf(0.08), sm.L2(0.5), Snapped("l1", 2.5)]
FORMS: list[dict[str, Any]] = [
    {"steps": 100, "loss": "ce"},
    {"steps": 10, "loss": "ce", "restarts": 2},
    {"steps": 30, "loss": "dlr", "restarts": 2},
    {"steps": 20, "loss": "dlr-t", "targets": 2, "restarts": 2},
]
IMAGES = 8


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let both sides compute in float64.

    The reference casts to float32 in places, and takes what its L1 projection leaves of rounding
    for coordinates that have moved.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(reference, "L0_norm", lambda d: (d.abs() > 1e-9).flatten(1).sum(1))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    x = torch.rand(IMAGES, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return x, small_network()(x).argmax(1)


def firm(y: Tensor) -> Recorder:
    """Return a network that is right on a batch labelled *y* whatever attacks it.

    Its logits are rounded, so that a step on a plateau rises for both sides or for neither.
    """
    network, lead = small_network(), 3 * torch.nn.functional.one_hot(y, 10)

    def classify(x: Tensor) -> Tensor:
        logits = network(x) + lead
        return logits + (logits.round(decimals=8) - logits).detach()

    return Recorder(classify)


def reference_attack(network: Any, threat: sm.Threat, **form: Any) -> Any:
    settings = {"n_iter": form["steps"], "norm": REFERENCE_NORMS[threat.norm], "eps": threat.eps}
    settings |= {"n_restarts": form.get("restarts", 1), "seed": 3, "device": "cpu"}
    settings |= {"use_largereps": form.get("long_eps", False)}
    if form["loss"] == "dlr-t":
        return reference.APGDAttack_targeted(network, n_target_classes=form["targets"], **settings)
    return reference.APGDAttack(network, loss=form["loss"], **settings)


def on_the_way(seen: Recorder, climbs: list[int]) -> list[Tensor]:
    """Return the points of *climbs*, which take so many steps each: all that were asked about.

    Finished out is what was asked without a gradient between climbs, to find likely targets.
    """
    points, asked = [], iter(zip(seen.points, seen.with_gradient, strict=True))
    for steps in climbs:
        points.append(next(point for point, gradient in asked if gradient))
        points += [next(asked)[0] for _ in range(steps)]
    assert not any(gradient for _, gradient in asked)
    return points


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_point_of_every_climb_is_the_reference_s(
    batch: tuple[Tensor, Tensor], threat: sm.Threat, form: dict[str, Any]
) -> None:
    x, y = batch
    their, our = firm(y), firm(y)
    found = reference_attack(their, threat, **form).perturb(x, y)
    assert torch.equal(found, x), "all must hold, or some leave early"
    sm.APGD(threat, **form)(our, x, y, generator=torch.Generator().manual_seed(3))
    climbs = [form["steps"]] * form.get("targets", 1) * form.get("restarts", 1)
    pairs = zip(on_the_way(our, climbs), on_the_way(their, climbs), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-12


@pytest.mark.parametrize("loss", ["ce", "dlr-t"])
@pytest.mark.parametrize("steps", [10, 25])
def test_every_point_is_the_reference_s_where_the_radius_shrinks(
    batch: tuple[Tensor, Tensor], loss: str, steps: int
) -> None:
    x, y = batch
    form = {"steps": steps, "loss": loss, "targets": 1, "long_eps": True}
    their, our = firm(y), firm(y)
    reference_attack(their, THREATS[-1], **form).perturb(x, y)
    sm.APGD(THREATS[-1], **form)(our, x, y, generator=torch.Generator().manual_seed(3))
    # In thirds, rounded up; the last has what is left. The next begins where one was best.
    climbs = {10: [3, 3, 4], 25: [8, 8, 9]}[steps]
    pairs = zip(on_the_way(our, climbs), on_the_way(their, climbs), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-12


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_to_the_end_the_best_point_is_the_reference_s(
    batch: tuple[Tensor, Tensor], threat: sm.Threat, loss: str
) -> None:
    x, y = batch
    attack = reference_attack(firm(y), threat, steps=30, loss=loss)
    attack.init_hyperparam(x)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        best = attack.attack_single_run(x, y)[0]
    ours = sm.APGD(threat, steps=30, loss=loss, until_fooled=False)
    found = ours(firm(y), x, y, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, best, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("threat", "form"),
    [
        (sm.Linf(0.02), {"loss": "ce"}),
        (sm.L2(0.1), {"loss": "dlr", "restarts": 3}),
        (sm.L1(0.4), {"loss": "ce", "restarts": 3}),
        (sm.Linf(0.02), {"loss": "dlr-t", "targets": 9}),
        (sm.L2(0.1), {"loss": "dlr-t", "targets": 2, "restarts": 2}),
        (sm.L1(0.4), {"loss": "dlr-t", "targets": 3}),
    ],
    ids=str,
)
def test_where_some_fall_the_verdicts_are_the_reference_s(
    threat: sm.Threat, form: dict[str, Any]
) -> None:
    """Restarts and targets go on with the survivors alone, each from the reference's start."""
    network, x = (
        small_network(),
        torch.rand(32, 3, 4, 4, generator=torch.Generator().manual_seed(2)),
    )
    y = network(x).argmax(1)
    expected = right(network, reference_attack(network, threat, steps=20, **form).perturb(x, y), y)
    ours = sm.APGD(threat, steps=20, **form)
    found = right(network, ours(network, x, y, generator=torch.Generator().manual_seed(3)), y)
    assert torch.equal(found, expected)
    assert 4 < int(found.sum()) < 28, "calibrate the radius: this comparison must be able to fail"
