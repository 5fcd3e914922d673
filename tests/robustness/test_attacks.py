"""Attacks by name: what they do on paper, what they say of themselves, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from soupmerge.choices import attack_names
from soupmerge.errors import UsageError
from soupmerge.robustness.attacks import FGSM
from soupmerge.robustness.losses import loss_of
from soupmerge.types import StagedAttack, StreamingAttack, SupportsGivingUp
from tests.robustness.cases import Recorder, Streaming, Stub, pixels, right, streams, threshold

EPS = 8 / 255
LINF = sm.Linf(EPS)


@pytest.mark.parametrize("make", [sm.PGD, sm.APGD, FGSM, sm.AutoAttack])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_eps_zero_is_the_identity(make: type, norm: str) -> None:
    x, y = torch.rand(4, 1, 2, 2), torch.zeros(4, dtype=torch.long)
    found = make(sm.Threat(norm, 0.0))(threshold, x, y, generator=torch.Generator())
    assert torch.equal(found, x)


@pytest.mark.parametrize(
    ("attack", "threat", "dual", "reached"),
    [
        (sm.PGD, sm.Linf(0.02), 1, 0.95),
        (sm.PGD, sm.L2(0.2), 2, 0.95),
        (sm.APGD, sm.Linf(0.02), 1, 0.99),
        (sm.APGD, sm.L2(0.2), 2, 0.99),
        # L1's optimum moves one pixel alone; both attacks move a few of the largest.
        (sm.PGD, sm.L1(0.4), torch.inf, 0.4),
        (sm.APGD, sm.L1(0.4), torch.inf, 0.6),
    ],
)
def test_a_linear_classifier_falls_to_its_dual_norm_margin(
    attack: type, threat: sm.Threat, dual: float, reached: float
) -> None:
    """Away from the box, the least margin is w·x + b − eps ‖w‖_q: nothing better exists."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(48, generator=generator)
    x = 0.5 + 0.05 * torch.randn(20, 3, 4, 4, generator=generator)

    def linear(z: Tensor) -> Tensor:
        score = z.flatten(1) @ w - 0.5 * w.sum()
        return torch.stack([-score / 2, score / 2], 1)

    y = linear(x).argmax(1)
    sign = 2.0 * y - 1
    found = attack(threat, steps=60, until_fooled=False)(linear, x, y, generator=generator)
    drop = sign * (linear(x) - linear(found)).diff(dim=1).squeeze(1)
    most = threat.eps * torch.linalg.vector_norm(w, dual)
    assert bool((drop <= most * 1.001).all())
    assert bool((drop >= most * reached).all())


@pytest.mark.parametrize("threat", [sm.Linf(0.05), sm.L2(0.3)], ids=str)
def test_fgsm_takes_one_step_of_eps_from_the_image(threat: sm.Threat) -> None:
    w = torch.tensor([[0.0, 3.0], [0.0, -4.0]])
    x = 0.2 + 0.6 * torch.rand(6, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    asked = Recorder(lambda z: z.flatten(1) @ w)
    y = (x.flatten(1) @ w).argmax(1)
    away = (1 - 2.0 * y).view(-1, 1, 1, 1)
    step = torch.tensor([1.0, -1.0] if threat.norm == "linf" else [0.6, -0.8]) * threat.eps
    FGSM(threat)(asked, x, y, generator=torch.Generator())
    assert len(asked.points) == 2
    assert torch.equal(asked.points[0], x)
    torch.testing.assert_close(asked.points[1], x + away * step)


@pytest.mark.parametrize(("given", "size"), [(None, 2.5 * 0.2 / 8), (0.03, 0.03)])
def test_pgd_takes_equal_steps_from_a_random_start(given: float | None, size: float) -> None:
    x, y = torch.full((3, 1, 1, 2), 0.5), torch.zeros(3, dtype=torch.long)
    asked = Recorder(lambda z: torch.stack([9 - z.flatten(1).sum(1), z.flatten(1).sum(1)], 1))
    attack = sm.PGD(sm.Linf(0.2), steps=8, step=given)
    attack(asked, x, y, generator=torch.Generator().manual_seed(1))
    expected = sm.Linf(0.2).sample(x, torch.Generator().manual_seed(1))
    assert len(asked.points) == 9
    for point in asked.points:
        torch.testing.assert_close(point, expected)
        expected = (expected + size).clamp(max=0.7)
    assert attack.describe() == {"attack": "pgd-ce", "steps": 8, "step": pytest.approx(size)}


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("kind", [FGSM, sm.PGD, sm.APGD])
def test_attacks_raise_the_loss_that_they_are_given(loss: str, kind: Any) -> None:
    """Its gradient points elsewhere than those of the others."""
    w = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    lead = torch.tensor([9.0, 0.0, 0.0])
    x, y = torch.tensor([0.5, 0.6]).view(1, 1, 1, 2), torch.tensor([0])
    asked = Recorder(lambda z: z.flatten(1) @ w + lead)
    kind(sm.L2(0.1), loss=loss)(asked, x, y, generator=torch.Generator().manual_seed(0))
    point = asked.points[0].requires_grad_()
    loss_of(loss)(asked.classifier(point), y, y).backward()
    size = {FGSM: 0.1, sm.PGD: 0.25 / 20, sm.APGD: 0.2}[kind]
    expected = sm.L2(0.1).project(point + size * point.grad / point.grad.norm(), x)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(asked.points[1], expected.detach(), rtol=0, atol=1e-5)
    assert len(asked.points) == {FGSM: 1, sm.PGD: 20, sm.APGD: 100}[kind] + 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apgd", {"attack": "apgd-ce", "steps": 20}),
        ("apgd-dlr", {"attack": "apgd-dlr", "steps": 20}),
        ("apgd-t", {"attack": "apgd-dlr-t", "steps": 20, "targets": 9}),
        (
            "apgd-ce+t",
            {
                "attack": "apgd-ce + apgd-dlr-t",
                "steps": 20,
                "stages": [
                    {"attack": "apgd-ce", "steps": 20},
                    {"attack": "apgd-dlr-t", "steps": 20, "targets": 9},
                ],
            },
        ),
        ("pgd", {"attack": "pgd-ce", "steps": 20, "step": 2.5 * EPS / 20}),
        ("fgsm", {"attack": "fgsm-ce", "steps": 1}),
        ("train-2", {"attack": "apgd-ce", "steps": 2}),
        ("fast", {"attack": "apgd-ce", "steps": 10}),
        ("apgd-100", {"attack": "apgd-ce", "steps": 100}),
        (
            "autoattack",
            {
                "attack": "autoattack-standard",
                "steps": 100,
                "attacks": ["apgd-ce", "apgd-t", "fab-t", "square"],
                "seed": 0,
            },
        ),
    ],
)
def test_a_preset_is_what_its_name_says(name: str, expected: dict[str, Any]) -> None:
    attack = sm.preset(name, LINF, 20)
    assert attack.threat == LINF
    assert attack.describe() == expected
    assert getattr(attack, "until_fooled", True) == (name != "train-2")


def test_every_preset_is_in_that_table_and_a_near_miss_is_named() -> None:
    assert sm.preset("pgd", LINF).describe()["steps"] == 100
    with pytest.raises(
        UsageError, match=r"unknown attack 'apgd-ce\+'.*did you mean 'apgd-ce\+t'\?"
    ):
        sm.preset("apgd-ce+", LINF)
    (table,) = test_a_preset_is_what_its_name_says.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in table.args[1]} <= set(attack_names())
    for name in attack_names():
        assert sm.preset(name, LINF, 3).threat == LINF


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (sm.APGD.evaluation(LINF), {"attack": "apgd-ce", "steps": 100}),
        (sm.APGD.training(LINF, steps=3), {"attack": "apgd-ce", "steps": 3}),
        (sm.APGD.targeted(LINF), {"attack": "apgd-dlr-t", "steps": 100, "targets": 9}),
        (sm.APGD.targeted(LINF, 5, 2), {"attack": "apgd-dlr-t", "steps": 5, "targets": 2}),
        (
            sm.APGD(sm.L1(1), 9, restarts=2, long_eps=True),
            {"attack": "apgd-ce", "steps": 9, "restarts": 2, "long eps": True},
        ),
        (
            sm.PGD(LINF, restarts=3),
            {"attack": "pgd-ce", "steps": 20, "step": EPS / 8, "restarts": 3},
        ),
        (FGSM(LINF, loss="margin"), {"attack": "fgsm-margin", "steps": 1}),
    ],
    ids=str,
)
def test_an_attack_tells_all_that_changes_its_result(attack: Any, expected: dict[str, Any]) -> None:
    assert attack.describe() == expected


def test_each_stage_of_a_cascade_meets_what_held_against_those_before() -> None:
    """The first breaks what is below 1/4, the second what is below 1/2, and meets no other."""
    data = pixels([0.1, 0.2, 0.3, 0.4, 0.6])
    met: list[list[float]] = []

    def breaks_below(most: float) -> Any:
        def answer(x: Tensor) -> Tensor:
            met.append(x.flatten().tolist())
            return torch.where(x < most, torch.ones_like(x), x)

        return answer

    threat = sm.Linf(1)
    stages = tuple(Stub(threat, breaks_below(most), f"below {most}") for most in (0.25, 0.5))
    both = sm.Cascade(stages)
    y = (data.x.flatten() > 0.5).long()
    found = both(threshold, data.x, y, generator=streams(5))
    assert found.flatten().tolist() == pytest.approx([1, 1, 1, 1, 0.6])
    assert met == [pytest.approx([0.1, 0.2, 0.3, 0.4, 0.6]), pytest.approx([0.3, 0.4, 0.6])]
    assert both.threat == threat
    result = [{"attack": "below 0.25", "steps": 0}, {"attack": "below 0.5", "steps": 0}]
    assert both.describe() == {"attack": "below 0.25 + below 0.5", "steps": 0, "stages": result}


def test_a_cascade_stops_when_nothing_is_left_and_gives_survivors_their_own_generators() -> None:
    x, y = torch.tensor([0.1, 0.3]).view(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)
    drawn: list[list[float]] = []

    class Draws(Stub):
        def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
            drawn.append([torch.rand(1, generator=g).item() for g in generator])
            return super().__call__(classifier, x, y, generator=generator)

    threat, first = sm.Linf(1), lambda x: torch.where(x < 0.2, 1.0, x)
    stages = (Draws(threat, first), Draws(threat, torch.ones_like), Draws(threat))
    sm.Cascade(stages)(threshold, x, y, generator=streams(2))
    second = torch.Generator().manual_seed(1)
    own = torch.rand(2, generator=second).tolist()
    assert [len(row) for row in drawn] == [2, 1]
    assert [drawn[0][1], drawn[1][0]] == own


def test_an_image_whose_logits_are_not_finite_is_fooled_and_meets_no_further_stage() -> None:
    def fragile(x: Tensor) -> Tensor:
        z = torch.stack([1 - x.flatten(1).sum(1), x.flatten(1).sum(1) - 1], 1)
        return torch.where(x.flatten(1) > 0.3, torch.tensor([torch.inf, 0.0]), z)

    met: list[float] = []
    x, y = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)
    first = Stub(LINF, lambda x: torch.where(x < 0.15, x + 0.25, x))
    second = Stub(LINF, lambda x: (met.extend(x.flatten().tolist()), x)[1])
    found = sm.Cascade((first, second))(fragile, x, y, generator=streams(2))
    assert found.flatten().tolist() == pytest.approx([0.35, 0.2])
    assert met == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("attack", "protocols"),
    [
        (FGSM(LINF), {StreamingAttack}),
        (sm.PGD(LINF), {StreamingAttack}),
        (sm.APGD(LINF), {StreamingAttack, SupportsGivingUp}),
        (sm.AutoAttack(LINF), {StagedAttack}),
        (sm.Cascade((sm.APGD(LINF),)), {StagedAttack}),
        (Stub(LINF), set()),
        (Streaming(LINF), {StreamingAttack}),
    ],
)
def test_what_an_attack_offers_is_declared(attack: Any, protocols: set[type]) -> None:
    every = {StreamingAttack, StagedAttack, SupportsGivingUp}
    assert {protocol for protocol in every if isinstance(attack, protocol)} == protocols


@pytest.mark.parametrize(
    ("make", "place", "words"),
    [
        (lambda: sm.APGD(LINF, steps=0), "steps", "0 is not a number ≥ 1"),
        (lambda: sm.APGD(LINF, restarts=0), "restarts", "0 is not a number"),
        (lambda: sm.APGD(LINF, loss="dlr-t", targets=-1), "targets", "-1 is not a number"),
        (lambda: sm.PGD(LINF, restarts=0), "restarts", "0 is not a number"),
        (lambda: sm.PGD(LINF, steps=-2), "steps", "-2 is not a number"),
        (lambda: sm.PGD(LINF, loss="dl"), "loss", "unknown loss 'dl'.*did you mean 'dlr'"),
        (lambda: FGSM(LINF, loss="dlr-t"), "loss dlr-t", "has no target classes; use APGD"),
        (lambda: sm.PGD(LINF, loss="margin-t"), "loss margin-t", "has no target classes"),
        (lambda: sm.APGD(LINF, long_eps=True), "long_eps", "L1 alone"),
        (lambda: sm.APGD(sm.L1(1), steps=2, long_eps=True), "long_eps", "at least 3 steps"),
        (lambda: sm.Cascade((sm.APGD(LINF), sm.APGD(sm.L2(1)))), "cascade", "under one threat"),
        (lambda: sm.Cascade(()), "cascade", "under one threat"),
    ],
)
def test_invalid_settings_are_refused(make: Any, place: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        make()
    assert place in str(refused.value.where)
    assert refused.value.exit_status == 2


def test_the_least_settings_are_allowed() -> None:
    x, y = torch.tensor([0.3, 0.45]).view(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)
    for attack in (
        sm.APGD(sm.Linf(0.1), steps=1),
        sm.PGD(sm.Linf(0.1), steps=1),
        sm.APGD(sm.L1(0.1), steps=3, long_eps=True),
        sm.APGD(sm.Linf(0.1), steps=1, loss="dlr-t", targets=1),
    ):
        found = attack(threshold, x, y, generator=streams(2))
        assert right(threshold, found, y).tolist() == [True, False]
