"""Reasons to doubt: every deceiver is found out, an honest network is left alone."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.doubts import CHEAP, CHECKS, Doubt, doubts
from tests.robustness.cases import Stub, digits_network

ROOT = Path(__file__).parents[2]
FLAGS = ROOT / "docs" / "flags.md"
ATTACKS = [sm.APGD(threat, steps=20) for threat in (sm.Linf(0.06), sm.L2(0.3), sm.L1(1))]


class Deceiver(nn.Module):
    """A network, and what stands before and behind it; in evaluation mode."""

    def __init__(self, net: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.deceive = copy.deepcopy(net), forward
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.deceive(self.net, x)


def dropout(net: nn.Module) -> nn.Module:
    deceiver = nn.Sequential(nn.Dropout(0.3), copy.deepcopy(net)).eval()
    deceiver[0].train()
    return deceiver


def batch_norm(net: nn.Module) -> nn.Module:
    deceiver = copy.deepcopy(net).eval()
    for module in deceiver.modules():
        module.train(isinstance(module, nn.BatchNorm2d))
    return deceiver


def optimising(net: nn.Module, x: Tensor) -> Tensor:
    """Step away from the decision boundary before answering."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        logits = net(point)
        F.cross_entropy(logits, logits.argmax(1).detach()).backward()
        assert point.grad is not None
    return net((x - 0.01 * point.grad.sign()).clamp(0, 1))


def functional(net: nn.Module, x: Tensor) -> Tensor:
    """Optimise without `torch.autograd`'s names."""
    away = torch.func.grad(lambda point: net(point).amax(1).sum())(x.detach())
    return net((x + 0.01 * away.sign()).clamp(0, 1))


def counting(net: nn.Module, x: Tensor) -> Tensor:
    """Remember what was asked, in a new tensor in place of the old."""
    batches = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    batches.num_batches_tracked = batches.num_batches_tracked + 1
    return net(x)


def numpys(net: nn.Module, x: Tensor) -> Tensor:
    return net(x) + torch.as_tensor(np.random.rand(10) * random.random()).float()


def fragile(net: nn.Module, x: Tensor) -> Tensor:
    """Give NaN for images with values that clean images do not have: sixteenths."""
    z = net(x)
    strange = ((x * 16).round() != x * 16).flatten(1).any(1)
    return torch.where(strange[:, None], z * torch.nan, z)


DECEIVERS: dict[str, tuple[Callable[[nn.Module], nn.Module], set[str]]] = {
    "dropout": (dropout, {"randomised", "training"}),
    "noise from numpy": (lambda n: Deceiver(n, numpys), {"randomised"}),
    "batch norm": (batch_norm, {"training"}),
    "counter": (lambda n: Deceiver(n, counting), {"training"}),
    "softmax": (lambda n: Deceiver(n, lambda net, x: net(x).softmax(1)), {"probabilities"}),
    "loud": (
        lambda n: Deceiver(n, lambda net, x: net(x) * 1e6),
        {"scale", "zero-gradient", "ladder", "black-box"},
    ),
    "quantised": (
        lambda n: Deceiver(n, lambda net, x: net((x * 8).round() / 8)),
        {"zero-gradient", "ladder"},
    ),
    "no gradient": (
        lambda n: Deceiver(n, lambda net, x: net(x.detach())),
        {"zero-gradient", "black-box", "ladder"},
    ),
    "optimising": (lambda n: Deceiver(n, optimising), {"dynamic"}),
    "functional": (lambda n: Deceiver(n, functional), {"dynamic"}),
    "NaN": (
        lambda n: Deceiver(n, lambda net, x: net(x) * torch.nan),
        {"not-finite", "chance"},
    ),
    "NaN under attack": (lambda n: Deceiver(n, fragile), {"not-finite"}),
    "labels": (lambda n: Deceiver(n, lambda net, x: net(x).roll(1, 1)), {"chance"}),
}
"""What is wrong → how to make it, and the doubts it raises: no others but those of `LUCK`."""

LUCK = {
    "dropout": {"scale", "ladder", "steps", "black-box", "noise"},
    "loud": {"noise"},
    "no gradient": {"noise"},
}
"""What random numbers may find of it, too."""


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return digits_network()


@pytest.fixture(scope="module")
def benchmark() -> sm.Benchmark:
    return sm.Benchmark(sm.data("digits", split="val", limit=70), ATTACKS[:1])


def reported(net: nn.Module, benchmark: sm.Benchmark) -> sm.Report:
    """Return a report also where the benchmark would refuse the mode, or find no gradient."""
    before = {n: t.clone() for n, t in net.state_dict().items()}
    numpys = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # what a noisy network gets right is the same in any order of tests
        report = benchmark(lambda x: net(x) + 0 * x.sum())
    np.random.set_state(numpys)
    net.load_state_dict(before)
    net.zero_grad()
    return report


def names(found: tuple[Doubt, ...]) -> set[str]:
    return {doubt.name for doubt in found}


def state(net: nn.Module) -> list[Any]:
    """Return all that must stay: numbers, identities, gradients, modes, hooks, randomness."""
    tensors = [*net.named_parameters(), *net.named_buffers()]
    numbers = [(n, id(t), t.detach().clone().tolist(), t.requires_grad) for n, t in tensors]
    grads = [None if t.grad is None else t.grad.tolist() for _, t in tensors]
    modes = [m.training for m in net.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    numpys = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    randomness = [torch.get_rng_state().tolist(), random.getstate(), numpys]
    return [numbers, grads, modes, hooks, randomness, torch.is_grad_enabled()]


@pytest.mark.parametrize("wrong", DECEIVERS)
def test_a_deceiver_is_found_out_and_left_as_it_was(
    wrong: str, network: nn.Module, benchmark: sm.Benchmark
) -> None:
    make, expected = DECEIVERS[wrong]
    net = make(network)
    net.requires_grad_(wrong == "optimising")
    if wrong == "optimising":
        net(benchmark.data.batch(torch.arange(2))[0]).sum().backward()
    report = reported(net, benchmark)
    before = state(net)
    found = doubts(net, benchmark, report)
    assert names(found) - LUCK.get(wrong, set()) == expected
    assert state(net) == before


@pytest.mark.parametrize("wrong", ["dropout", "noise from numpy"])
def test_doubts_depend_on_the_seed_alone(
    wrong: str, network: nn.Module, benchmark: sm.Benchmark
) -> None:
    net = DECEIVERS[wrong][0](network)
    report = reported(net, benchmark)
    first = doubts(net, benchmark, report, n=16)
    torch.rand(3), np.random.rand(), random.random()
    assert first == doubts(net, benchmark, report, n=16)
    assert first != doubts(net, replace(benchmark, seed=1), report, n=16)


@pytest.mark.parametrize("seed", [3, 2**31 + 5, 2**32 + 7])
def test_while_a_classifier_is_examined_all_randomness_is_that_of_the_seed(
    network: nn.Module, benchmark: sm.Benchmark, seed: int
) -> None:
    """For numpy, of its last 32 bits."""
    drawn: list[list[float]] = []

    def watched(x: Tensor) -> Tensor:
        drawn.append([torch.rand(1).item(), np.random.rand(), random.random()])
        return network(x)

    report, judge = benchmark(network), replace(benchmark, seed=seed)
    doubts(watched, judge, report, checks=["probabilities", "dynamic"])
    own = torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()
    expected = [own, np.random.RandomState(seed % 2**32).rand(), random.Random(seed).random()]
    assert drawn == [expected, expected]


def test_an_honest_network_raises_no_doubt_also_after_a_deceiver(
    network: nn.Module, benchmark: sm.Benchmark
) -> None:
    honest, other = replace(benchmark, attacks=ATTACKS), digits_network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator())
    report = honest(network)
    deceiver = Deceiver(network, optimising)
    assert "dynamic" in names(doubts(deceiver, benchmark, reported(network, benchmark), n=2))
    assert doubts(network, honest, report, transfer_from=[other]) == ()


def test_attacks_that_do_nothing_are_found_out_by_stronger_ones(
    network: nn.Module, benchmark: sm.Benchmark
) -> None:
    radii = [sm.Linf(0.3), sm.L2(2), sm.L1(8)]
    idle = replace(benchmark, attacks=[Stub(threat) for threat in radii])
    found = doubts(network, idle, idle(network), transfer_from=[network])
    assert names(found) == {"steps", "black-box", "noise", "transfer"}
    for name in ("steps", "black-box", "transfer"):
        for norm in ("linf", "l2", "l1"):
            assert any(d.name == name and d.what.startswith(norm) for d in found), (name, norm)


def test_batches_and_a_report_of_the_union_alone_change_no_doubt(
    network: nn.Module, benchmark: sm.Benchmark
) -> None:
    masked = DECEIVERS["no gradient"][0](network)
    report = reported(masked, benchmark)
    whole = doubts(masked, benchmark, report, n=24)
    assert names(doubts(masked, replace(benchmark, batch_size=7), report, n=24)) == names(whole)
    union = {"clean": report.flags["clean"], "union": report.right("union")}
    short = replace(report, flags=union)
    assert names(doubts(masked, benchmark, short, n=24)) == names(whole)


def test_radii_of_zero_are_left_out_and_two_radii_share_the_top_of_a_ladder(
    network: nn.Module, benchmark: sm.Benchmark
) -> None:
    masked = DECEIVERS["no gradient"][0](network)
    several = replace(benchmark, attacks=[Stub(sm.Linf(e)) for e in (0, 0.1, 0.2)])
    report = reported(masked, several)
    found = [doubt.what for doubt in doubts(masked, several, report, checks=["ladder"])]
    assert len([what for what in found if "0.5 leaves" in what]) == 1
    assert not any("linf:0:" in str(doubt) for doubt in doubts(masked, several, report))


def test_only_the_checks_that_are_asked_for_are_made_and_each_is_told(
    network: nn.Module, benchmark: sm.Benchmark
) -> None:
    calls: list[tuple[str, int, int, str]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((what, done, total, note))

    masked = DECEIVERS["no gradient"][0](network)
    report = reported(masked, benchmark)
    asked = ["black-box", "zero-gradient"]
    found = doubts(masked, benchmark, report, checks=asked, progress=progress)
    assert names(found) == set(asked)
    last = ("doubts", 2, 2, "")
    assert calls == [("doubts", 0, 2, "zero-gradient"), ("doubts", 1, 2, "black-box"), last]
    assert set(CHEAP) == CHECKS.keys() - {"ladder", "steps", "black-box", "noise", "transfer"}


def test_a_classifier_that_is_no_module_is_examined_too(
    network: nn.Module, benchmark: sm.Benchmark
) -> None:
    report = benchmark(network)
    assert doubts(lambda x: network(x), benchmark, report, n=16) == ()
    found = doubts(lambda x: network(x).softmax(1), benchmark, report, n=16, checks=CHEAP)
    assert names(found) == {"probabilities"}


def test_what_cannot_be_examined(network: nn.Module, benchmark: sm.Benchmark) -> None:
    report = benchmark(network)
    with pytest.raises(UsageError, match="0 is not a number of images ≥ 1"):
        doubts(network, benchmark, report, n=0)
    nine = benchmark.data.take(torch.arange(9), "nine")  # type: ignore[attr-defined]
    union = replace(report, flags={"clean": report.flags["clean"], "union": report.right("union")})
    for other in (
        replace(benchmark, attacks=[sm.PGD(sm.L2(1))]),
        replace(benchmark, attacks=[*ATTACKS]),
        replace(benchmark, data=nine),
    ):
        for entry in (report, union):
            with pytest.raises(InputError, match="not made by this benchmark") as refused:
                doubts(network, other, entry)
            assert refused.value.where == "report"
    assert doubts(network, benchmark, union, n=1, checks=["training"]) == ()
    assert doubts(network, replace(benchmark, attacks=[]), report, n=8, checks=["noise"]) == ()


def test_every_check_is_raised_here_and_has_its_heading() -> None:
    raised = set().union(*(expected for _, expected in DECEIVERS.values()))
    assert raised | {"steps", "noise", "transfer", "classes"} == set(CHECKS)
    headings = re.findall(r"^## (.+)$", FLAGS.read_text(), re.MULTILINE)
    assert headings == list(CHECKS)


def test_a_doubt_says_where_to_read_on() -> None:
    assert str(Doubt("scale", "what", "fix")) == "scale: what; fix (docs/flags.md#scale)"
