"""Where doubts begin: for each check, a case that must be raised beside one that must not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.robustness.doubts import doubts
from soupmerge.robustness.report import wilson
from tests.robustness.cases import AtHand, Recorder, Stub, threshold

LINF = sm.Linf(0.1)


def greys(values: Sequence[float], labels: Sequence[int] | None = None, side: int = 6) -> AtHand:
    """Return images of one grey each, large enough that noise does not change their mean."""
    x = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, side, side).contiguous()
    return AtHand(x, torch.tensor(labels if labels is not None else [0] * len(x)))


def found(
    check: str,
    classifier: Callable[[Tensor], Tensor],
    data: AtHand,
    *,
    robust: Sequence[bool] | None = None,
    threat: sm.Threat = LINF,
    attack: str = "apgd-ce",
    sources: Sequence[Any] = (),
    n: int = 10_000,
) -> list[str]:
    """Return what *check* finds where *robust* was reported: by default, what is right clean."""
    benchmark = sm.Benchmark(data, [Stub(threat, name=attack, steps=100)])
    with torch.no_grad():
        clean = classifier(data.x).argmax(1) == data.labels
    flags = clean if robust is None else torch.tensor(robust)
    result = {str(threat): {"attack": attack, "steps": 100}}
    report = sm.Report(data.fingerprint(), {"clean": clean, str(threat): flags}, result)
    doubted = doubts(classifier, benchmark, report, n=n, checks=[check], transfer_from=sources)
    assert all(doubt.name == check for doubt in doubted)
    return [doubt.what for doubt in doubted]


def drifting(change: Callable[[int], Tensor | float]) -> Callable[[Tensor], Tensor]:
    """Return a classifier whose logits get *change* added in each pass after the first."""
    passes = -1

    def classifier(x: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return torch.tensor([[3.0, 4.0]]).repeat(len(x), 1) + (change(passes) if passes else 0.0)

    return classifier


@pytest.mark.parametrize("last", [2, 5, 6])
@pytest.mark.parametrize(("apart", "raised"), [(0.9e-4, False), (1.2e-4, True)])
def test_five_passes_may_differ_by_1e_4_of_a_normalised_row(
    last: int, apart: float, raised: bool
) -> None:
    """The first pass here is that for the report."""
    across = torch.tensor([[4.0, -3.0]])  # so that the row turns, and is none the longer

    def change(i: int) -> Tensor:
        return across * apart * (i == last)

    result = found("randomised", drifting(change), greys([0.1] * 3, [1] * 3))
    assert bool(result) == (raised and last <= 5)


def test_passes_may_not_differ_in_how_many_are_right() -> None:
    def classifier(x: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        tiny = torch.zeros(len(x), 2)
        tiny[0, passes % 2] = 1e-15
        return tiny

    passes = 0
    (result,) = found("randomised", classifier, greys([0.1] * 3))
    assert "2 to 3 are right" in result


@pytest.mark.parametrize(
    ("row", "raised"),
    [
        ([0.3, 0.7 + 0.9e-5], True),
        ([0.3, 0.7 + 1.3e-5], False),
        ([0.3, 0.7 - 1.3e-5], False),
        ([-0.9e-5, 1 + 0.9e-5], True),
        ([-1.3e-5, 1 + 0.9e-5], False),
        ([-2.0, 3.0], False),
        ([0.5, 0.7], False),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_probabilities_are_from_0_to_1_and_sum_to_1_in_every_row(
    row: list[float], raised: bool, place: int
) -> None:
    def classifier(x: Tensor) -> Tensor:
        z = torch.tensor([[0.5, 0.5]]).repeat(len(x), 1)
        z[place] = torch.tensor(row)
        return z

    assert bool(found("probabilities", classifier, greys([0.1, 0.2]))) == raised


class Forgets(nn.Module):
    """A classifier that lets a buffer go when it is asked again, after the report."""

    memory: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.register_buffer("memory", torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        if self.asked > 1:
            self.memory = None  # type: ignore[assignment]
        return threshold(x)


def test_all_modules_in_training_mode_and_all_tensors_that_change_are_counted() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("last", torch.zeros(()))
            self.register_buffer("kept", torch.tensor([torch.nan]))
            self.register_buffer("fixed", torch.zeros(1).expand(3))  # cannot be written

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = self.last + 2
            return threshold(x)

    data = greys([0.1, 0.2])
    net = nn.Sequential(nn.Identity(), Counts()).eval()
    assert found("training", net, data) == ["classifying images changes 1.calls, one of 2 tensors"]
    assert net[1].calls == 1, "of the report alone"
    forgetful = Forgets().eval()
    assert found("training", forgetful, data) == ["classifying images changes memory"]
    assert torch.equal(forgetful.memory, torch.ones(2))
    net[0].train()
    result = found("training", net, data)
    assert result[0] == "0 is in training mode"
    net.train()
    assert found("training", net, data)[0] == "the model is in training mode, one of 3 modules"
    assert found("training", nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval(), data) == []


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_images_without_finite_logits_are_counted_clean_and_under_attack(bad: float) -> None:
    """One is so from the start; two more are in reach of where logits break."""

    def classifier(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1, keepdim=True)
        broken = torch.where((mean > 0.42) & (mean < 0.6), bad, 0.0)
        return threshold(x) + broken

    data = greys([0.1, 0.34, 0.35, 0.5])
    result = found("not-finite", classifier, data)
    assert result == [
        "clean: the logits of 1 of 4 images are not finite",
        "linf:0.1: the logits of 3 of 4 images are not finite",
    ]
    assert found("not-finite", threshold, data) == []


def flat_where_dark(x: Tensor) -> Tensor:
    dark = (x.flatten(1).amax(1, keepdim=True) < 0.3).float()
    return threshold(x) * (1 - dark) + dark * torch.tensor([[1.0, 0.0]])


def test_a_gradient_of_zero_counts_on_images_that_are_right() -> None:
    (result,) = found("zero-gradient", flat_where_dark, greys([0.1, 0.2, 0.4]))
    assert "on 2 of 3 images that are classified correctly" in result
    assert found("zero-gradient", flat_where_dark, greys([0.1, 0.2, 0.4], [1, 1, 0])) == []
    assert found("zero-gradient", threshold, greys([0.1, 0.2, 0.4])) == []


def least(n: int, share: float) -> int:
    """Return the least number of right answers whose interval is above *share*, and 2%."""
    return next(k for k in range(n) if wilson(k, n, 0.95)[0] > share + 0.02)


@pytest.mark.parametrize(("labels", "share"), [([0, 1] * 100, 0.5), ([0] * 140 + [1] * 60, 0.7)])
def test_chance_is_the_most_frequent_label_and_the_interval_must_be_above(
    labels: list[int], share: float
) -> None:
    """That the accuracy is above it does not do."""
    data, n = greys([0.1] * 200, labels, side=1), 200
    for right, raised in ((least(n, share), False), (least(n, share) - 1, True)):
        assert right / n > share + 0.02
        clean = torch.arange(n) < right
        report = sm.Report(data.fingerprint(), {"clean": clean}, {})
        result = doubts(threshold, sm.Benchmark(data), report, n=2, checks=["chance"])
        assert bool(result) == raised


@pytest.mark.parametrize(
    ("attack", "needed"),
    [
        ("apgd-ce", 2),
        ("apgd-margin-t", 2),
        ("pgd-dlr", 3),
        ("apgd-dlr", 3),
        ("apgd-dlr-t", 4),
        ("apgd-t", 4),
        ("apgd-ce + apgd-dlr-t", 4),
        ("apgd-dlr + apgd-ce", 3),
        ("autoattack-standard", 4),
        ("autoattack-plus", 4),
        ("autoattack-rand", 3),
        ("autoattack-custom", 2),
    ],
)
def test_a_loss_needs_its_classes(attack: str, needed: int) -> None:
    for classes in (2, 3, 4):
        result = found(
            "classes",
            lambda x, k=classes: torch.ones(len(x), k).cumsum(1),
            greys([0.1]),
            attack=attack,
        )
        assert bool(result) == (classes < needed)
        if result:
            assert f"a loss of {attack} needs {needed} classes, not {classes}" in result[0]


def test_a_custom_autoattack_needs_the_classes_of_its_attacks() -> None:
    data = greys([0.1])
    for attacks, raised in ((["square", "apgd-t"], True), (["square", "apgd-ce"], False)):
        result = {"attack": "autoattack-custom", "steps": 100, "attacks": attacks}
        flags = {"clean": torch.tensor([True]), "linf:0.1": torch.tensor([True])}
        report = sm.Report(data.fingerprint(), flags, {"linf:0.1": result})
        judge = sm.Benchmark(data, [Stub(LINF)])
        assert bool(doubts(threshold, judge, report, checks=["classes"])) == raised


NEAR, FAR = 0.45, 0.1
"""Greys that a change of 0.1 takes over the boundary, and that it does not."""


def rows(near: int, n: int) -> list[float]:
    return [NEAR] * near + [FAR] * (n - near)


@pytest.mark.parametrize("check", ["steps", "black-box", "noise", "transfer"])
@pytest.mark.parametrize(
    ("broken", "n", "attack", "raised", "by_steps"),
    [
        # Five images that only the rival breaks are no accident (1/32), four may be (1/16).
        (5, 64, "apgd-ce", True, True),
        (4, 64, "apgd-ce", False, False),
        # Their share counts as well, and must be above 0.2%; but of fewer steps any will do.
        (5, 2400, "apgd-ce", True, True),
        (5, 2600, "apgd-ce", False, True),
        # Against AutoAttack an accident is no excuse.
        (1, 64, "autoattack-standard", True, False),
        (1, 490, "autoattack-plus", True, False),
        (1, 510, "autoattack-plus", False, False),
    ],
)
def test_a_rival_must_break_more_than_an_accident_and_a_share(
    check: str, broken: int, n: int, attack: str, raised: bool, by_steps: bool
) -> None:
    data = greys(rows(broken, n), side=1 if check == "noise" else 2)
    result = found(check, threshold, data, attack=attack, sources=[threshold])
    assert bool(result) == (by_steps if check == "steps" else raised)
    for what in result:
        counts = f"{n - broken} of {n} images" if broken > 1 else f"{broken} of {n} images"
        assert what.startswith("linf:0.1: ")
        assert counts in what
        assert attack in what


@pytest.mark.parametrize("check", ["steps", "black-box", "noise", "transfer", "scale"])
def test_what_the_report_counts_as_lost_is_no_loss(check: str) -> None:
    """Twenty are broken that were reported broken: nothing is stronger."""
    data = greys(rows(20, 40), side=1)
    result = found(check, threshold, data, robust=[False] * 20 + [True] * 20, sources=[threshold])
    assert result == []


def test_what_only_the_reported_attack_breaks_counts_against_the_rival() -> None:
    """Ten of the rival's are too few beside eight of the other's, and enough beside one."""
    data = greys(rows(10, 60), side=2)
    for theirs, raised in ((8, False), (1, True)):
        robust = [True] * 10 + [False] * theirs + [True] * (50 - theirs)
        for check in ("steps", "black-box", "transfer"):
            result = found(check, threshold, data, robust=robust, sources=[threshold])
            assert bool(result) == raised, check


def test_ten_steps_are_tried_and_twenty() -> None:
    result = found("steps", threshold, greys(rows(9, 20)))
    assert [what.split(" steps of APGD-CE")[0] for what in result] == [
        "linf:0.1: 10",
        "linf:0.1: 20",
    ]
    assert result[0].endswith("leave 11 of 20 images robust, but apgd-ce of 100 steps left 20")


def test_images_for_transfer_go_on_to_the_end_on_their_source() -> None:
    """The source is fooled where most images start; what is made there fools it alone."""
    data = greys([0.405] * 12)

    def source(x: Tensor) -> Tensor:
        return threshold(x + 0.09)

    (result,) = found("transfer", threshold, data, sources=[flat_where_dark, source])[-1:]
    assert "an attack on classifier 2" in result
    assert found("transfer", threshold, data) == []


def loud(x: Tensor) -> Tensor:
    """Give logits so large that the cross-entropy is 0 in float32, and so is its gradient."""
    return threshold(x) * 1e6


@pytest.mark.parametrize(
    ("broken", "n", "raised"), [(5, 64, True), (4, 64, False), (6, 590, True), (6, 610, False)]
)
def test_logits_brought_to_scale_must_take_more_than_an_accident_and_one_percent(
    broken: int, n: int, raised: bool
) -> None:
    data = greys(rows(broken, n))
    result = found("scale", loud, data)
    assert bool(result) == raised
    if result:
        assert f"leaves {n - broken} of {n} images robust, on the original logits {n}" in result[0]
    assert found("scale", threshold, data) == []


def test_logits_are_divided_by_their_mean_margin_over_finite_ones() -> None:
    def partly(x: Tensor) -> Tensor:
        broken = x.flatten(1).mean(1, keepdim=True) < 0.05
        return torch.where(broken, torch.inf, loud(x))

    data = greys([0.0, *[NEAR] * 10, 0.55], [0] * 11 + [1])
    mean = 2e6 * 0.05
    (result,) = found("scale", partly, data)
    assert f"their mean margin {mean:.3g} leaves" in result


def test_logits_without_a_margin_have_no_scale() -> None:
    data = greys([0.1] * 8)
    for value in (0.0, torch.nan):
        assert found("scale", lambda x, v=value: torch.full((len(x), 2), v), data) == []


def in_a_shell(low: float, high: float) -> Callable[[Tensor], Tensor]:
    """Return a classifier that errs on greys of 0.3 moved by between *low* and *high*."""

    def classifier(x: Tensor) -> Tensor:
        away = x.flatten(1).mean(1) - 0.3
        wrong = ((away > low) & (away < high)).float()
        rise = away - away.detach()  # the gradient points up everywhere
        return torch.stack([1 - 2 * wrong - rise, rise], 1)

    return classifier


@pytest.mark.parametrize(
    ("low", "high", "larger", "smaller"),
    [(0.04, 0.06, 0.1, 0.05), (0.09, 0.11, 0.2, 0.1), (0.19, 0.21, 0.5, 0.2), (0.04, 0.9, 0, 0)],
)
def test_each_rung_of_the_ladder_must_be_above_the_next(
    low: float, high: float, larger: float, smaller: float
) -> None:
    result = found("ladder", in_a_shell(low, high), greys([0.3] * 20))
    rungs = [
        re.sub("leaves [0-9]+ of", "leaves k of", what) for what in result if "0.5:" not in what
    ]
    expected = (
        f"linf: radius {larger} leaves k of 20 images robust, "
        f"but the smaller radius {smaller} only 0"
    )
    assert rungs == ([expected] if larger else [])


@pytest.mark.parametrize(
    ("threat", "radii"),
    [
        (sm.Linf(0.1), [0.05, 0.1, 0.2, 0.5]),
        (sm.Linf(0.25), [0.125, 0.25, 0.5]),
        (sm.Linf(0.8), [0.4, 0.5, 0.8, 1.0]),
        (sm.L2(0.4), [0.2, 0.4, 0.8]),
        (sm.L1(3), [1.5, 3.0, 6.0]),
    ],
    ids=str,
)
def test_the_ladder_has_half_the_radius_the_radius_and_twice(
    threat: sm.Threat, radii: list[float]
) -> None:
    """Read from the points that are asked about: the first step goes to the ball's face."""
    data, asked = greys([0.0] * 4, side=8), Recorder(threshold)
    benchmark = sm.Benchmark(data, [Stub(threat)])
    flags = {"clean": torch.ones(4, dtype=torch.bool), str(threat): torch.ones(4, dtype=torch.bool)}
    report = sm.Report(data.fingerprint(), flags, {str(threat): {"attack": "stub"}})
    doubts(asked, benchmark, report, checks=["ladder"])
    reached = [float(threat.distance(p, data.x).max()) for p in asked.points if len(p) == 4]
    for radius in radii:
        assert any(abs(length - radius) < 1e-5 for length in reached), radius
    assert max(reached) < radii[-1] + 1e-5


def test_at_grey_more_than_the_most_frequent_label_may_not_be_robust() -> None:
    """A constant answer is right on the most frequent label: 12 of 20, and 2% beside."""
    data = greys([0.1] * 12 + [0.9] * 8, [0] * 12 + [1] * 8)

    def answers(count: int) -> Callable[[Tensor], Tensor]:
        """Right on all of class 0, and on *count* of class 1, however they are moved."""
        place = torch.arange(20)

        def classifier(x: Tensor) -> Tensor:
            own = place[-len(x) :] if len(x) < 20 else place
            right = (own < 12) | (own < 12 + count)
            wanted = (data.labels[own] == 1) == right
            lead = torch.where(wanted, 1.0, -1.0)
            return torch.stack([-lead, lead], 1) + 0 * x.flatten(1).sum(1, keepdim=True)

        return classifier

    for count, raised in ((0, False), (1, True)):
        result = [w for w in found("ladder", answers(count), data, robust=None) if "linf:0.5" in w]
        assert bool(result) == raised
        if result:
            assert "leaves 13 of 20 images robust, more than 2%" in result[0]


def test_at_radius_0_every_verdict_is_that_of_the_report() -> None:
    data = greys([0.1, 0.2, 0.4])
    flags = {"clean": torch.tensor([True, False, True]), "linf:0.1": torch.tensor([False] * 3)}
    report = sm.Report(data.fingerprint(), flags, {"linf:0.1": {"attack": "stub"}})
    result = doubts(threshold, sm.Benchmark(data, [Stub(LINF)]), report, checks=["ladder"])
    assert result[0].what == "at radius 0, 1 of 3 verdicts differ from those of the report"


def test_images_that_were_right_come_first_and_the_seed_draws_them() -> None:
    data = greys([i / 100 for i in range(40)])
    clean = torch.arange(40) % 4 != 0  # thirty are right
    flags = {"clean": clean, "linf:0.1": clean}
    report = sm.Report(data.fingerprint(), flags, {"linf:0.1": {"attack": "stub"}})

    def seen(n: int, seed: int) -> list[int]:
        asked = Recorder(threshold)
        judge = sm.Benchmark(data, [Stub(LINF)], seed=seed)
        doubts(asked, judge, report, n=n, checks=["probabilities"])
        assert len(asked.points) == 1
        return [round(float(x.mean()) * 100) for x in asked.points[0]]

    some = seen(20, 0)
    assert len(some) == 20
    assert all(i % 4 for i in some)
    assert some == sorted(some) == seen(20, 0)
    assert some != seen(20, 1)
    assert some != [i for i in range(40) if i % 4][:20]
    more = seen(34, 0)
    assert len([i for i in more if i % 4]) == 30
    assert seen(64, 0) == list(range(40))
