"""Who decides what is robust: the benchmark, whatever the attack says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError


@pytest.fixture(scope="module")
def digits() -> sm.Images:
    return sm.data("digits", split="val", limit=60)


@pytest.fixture(scope="module")
def network(trained: list[Any]) -> nn.Module:
    pot = sm.load(trained[0])[0]
    return sm.bind(sm.model(like=pot), pot)


@dataclass(frozen=True)
class Stub:
    """An attack that answers whatever it is told to."""

    threat: sm.Threat
    answer: Any

    def describe(self) -> dict[str, Any]:
        return {"attack": "stub", "steps": 0}

    def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        return self.answer(x)


def test_flags_add_up(network: nn.Module, digits: sm.Images) -> None:
    attacks = [sm.APGD(sm.Linf(0.1), steps=10), sm.APGD(sm.L2(0.5), steps=10)]
    report = sm.evaluate(network, sm.Benchmark(digits, attacks))
    clean, linf, l2, union = (report.right(m) for m in ("clean", "linf:0.1", "l2:0.5", "union"))
    assert torch.equal(union, linf & l2)
    assert bool((linf <= clean).all() and (l2 <= clean).all())
    assert report.accuracy("union") <= min(report.accuracy("linf:0.1"), report.accuracy("l2:0.5"))
    assert report.correct("clean") == int(
        (network(digits.batch(torch.arange(60))[0]).argmax(1) == digits.labels).sum()
    )
    assert 0 < report.cost["gradient_evaluations"] <= 2 * 10 * report.correct("clean")


def test_verdicts_do_not_depend_on_batch_size_or_order(
    network: nn.Module, digits: sm.Images
) -> None:
    attacks = [sm.APGD(sm.Linf(0.12), steps=10)]
    whole = sm.Benchmark(digits, attacks)(network).right("linf:0.12")
    small = sm.Benchmark(digits, attacks, batch_size=7)(network).right("linf:0.12")
    backwards = digits.take(torch.arange(59, -1, -1), "backwards")
    turned = sm.Benchmark(backwards, attacks)(network).right("linf:0.12")
    assert torch.equal(whole, small)
    assert torch.equal(whole, turned.flip(0))


def test_the_seed_is_recorded_and_matters(network: nn.Module, digits: sm.Images) -> None:
    benchmark = sm.Benchmark(digits, [sm.APGD(sm.Linf(0.12), steps=1)])
    assert benchmark.describe()["seed"] == 0
    random = torch.get_rng_state()
    first = benchmark(network)
    assert torch.equal(first.right("linf:0.12"), benchmark(network).right("linf:0.12"))
    assert torch.equal(torch.get_rng_state(), random)
    assert replace(benchmark, seed=1).describe() != benchmark.describe()


def test_an_attack_that_leaves_its_threat_model_is_not_believed(
    network: nn.Module, digits: sm.Images
) -> None:
    for answer in (lambda x: 1 - x, lambda x: x + 2, lambda x: x * torch.nan):
        with pytest.raises(
            InputError, match=r"left its threat model linf:0.1 on \d+ of \d+ images"
        ):
            sm.Benchmark(digits, [Stub(sm.Linf(0.1), answer)])(network)
    with pytest.raises(InputError, match="gave images of shape"):
        sm.Benchmark(digits, [Stub(sm.Linf(0.1), lambda x: x[:, :, :4])])(network)


def test_an_attack_that_does_nothing_fools_nobody(network: nn.Module, digits: sm.Images) -> None:
    report = sm.Benchmark(digits, [Stub(sm.Linf(0.1), lambda x: x)])(network)
    assert report.correct("union") == report.correct("clean") > 40


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_never_right(digits: sm.Images, bad: float) -> None:
    def classifier(x: Tensor) -> Tensor:
        return torch.full((len(x), 10), bad)

    report = sm.Benchmark(digits, [sm.APGD(sm.Linf(0.1), steps=3)])(classifier)
    assert report.correct("clean") == report.correct("union") == 0


def test_logits_that_break_under_attack_are_not_robust(
    network: nn.Module, digits: sm.Images
) -> None:
    clean = digits.batch(torch.arange(60))[0]

    def fragile(x: Tensor) -> Tensor:
        known = torch.stack([(clean == image).flatten(1).all(1).any() for image in x.detach()])
        return torch.where(known[:, None], network(x), network(x) * torch.nan)

    report = sm.Benchmark(digits, [sm.APGD(sm.Linf(0.01), steps=3)])(fragile)
    assert report.correct("clean") > 40
    assert report.correct("linf:0.01") == 0


def test_what_is_no_classifier_is_refused(network: nn.Module, digits: sm.Images) -> None:
    benchmark = sm.Benchmark(digits)
    with pytest.raises(InputError, match="training mode"):
        benchmark(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)))
    with pytest.raises(InputError, match="not logits"):
        benchmark(lambda x: (network(x), 1))
    with pytest.raises(InputError, match="has 4 classes, but the data have a label 9"):
        benchmark(lambda x: network(x)[:, :4])
    with pytest.raises(UsageError, match="more than once"):
        sm.Benchmark(digits, [sm.APGD(sm.Linf(0.1)), sm.PGD(sm.Linf(0.1))])


def test_the_network_is_left_as_it_was(trained: list[Any], digits: sm.Images) -> None:
    pot = sm.load(trained[0])[0]
    net = sm.model(like=pot)
    net.train()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    bound = sm.bind(net, pot)
    weights = {n: t.clone() for n, t in bound.state_dict().items()}
    sm.Benchmark(digits, [sm.APGD(sm.Linf(0.1), steps=3)])(bound)
    assert net.training
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert all(torch.equal(t, weights[n]) for n, t in bound.state_dict().items())


@given(n=st.integers(1, 500), data=st.data())
def test_intervals_are_wilson_s(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    flags = torch.arange(n) < k
    low, high = sm.Report({}, {"clean": flags}, {}).interval("clean")
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_a_report_survives_its_record(flags: list[bool]) -> None:
    clean = torch.tensor(flags)
    attacks = {"linf:0.1": {"attack": "apgd-ce", "steps": 3}}
    report = sm.Report(
        {"n": len(flags)},
        {"clean": clean, "linf:0.1": clean & (torch.arange(len(flags)) % 2 == 0)},
        attacks,
    )
    again = sm.Report.from_record(report.to_record(), report.data, attacks)
    assert all(torch.equal(again.flags[m], report.flags[m]) for m in report.flags)
    assert again.to_metrics() == report.to_metrics()
