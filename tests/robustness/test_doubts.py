"""Reasons to doubt: every deceiver is found out, an honest network is left alone."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.doubts import CHECKS, Doubt, doubts

ROOT = Path(__file__).parents[2]
FLAGS = ROOT / "docs" / "flags.md"


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
        {"scale", "zero-gradient", "ladder"},
    ),
    "quantised": (
        lambda n: Deceiver(n, lambda net, x: net((x * 8).round() / 8)),
        {"zero-gradient", "black-box", "ladder"},
    ),
    "no gradient": (
        lambda n: Deceiver(n, lambda net, x: net(x.detach())),
        {"zero-gradient", "black-box", "ladder"},
    ),
    "optimising": (lambda n: Deceiver(n, optimising), {"dynamic"}),
    "functional": (lambda n: Deceiver(n, functional), {"dynamic"}),
    "NaN": (lambda n: Deceiver(n, lambda net, x: net(x) * torch.nan), {"not-finite", "chance"}),
    "NaN under attack": (lambda n: Deceiver(n, fragile), {"not-finite"}),
    "labels": (lambda n: Deceiver(n, lambda net, x: net(x).roll(1, 1)), {"chance"}),
}
"""What is wrong → how to make it, and the doubts it must raise, if not more."""


@dataclass(frozen=True)
class Idle:
    """An attack that does nothing, under any name."""

    threat: sm.Threat
    name: str = "idle"

    def describe(self) -> dict[str, Any]:
        return {"attack": self.name, "steps": 100}

    def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        return x


@pytest.fixture(scope="module")
def network(trained: list[Path]) -> nn.Module:
    pot = sm.load(trained[2])[0]
    return sm.bind(sm.model(like=pot), pot)


@pytest.fixture(scope="module")
def digits() -> sm.Images:
    return sm.data("digits", split="val", limit=64)


@pytest.fixture(scope="module")
def benchmark(digits: sm.Images) -> sm.Benchmark:
    return sm.Benchmark(digits, [sm.APGD(sm.Linf(0.15), steps=20)])


def reported(net: nn.Module, benchmark: sm.Benchmark) -> sm.Report:
    """Return a report also where the benchmark would refuse the mode, or find no gradient."""
    before = {n: t.clone() for n, t in net.state_dict().items()}
    with torch.random.fork_rng():
        report = benchmark(lambda x: net(x) + 0 * x.sum())
    net.load_state_dict(before)
    net.zero_grad()
    return report


def examined(
    net: nn.Module, benchmark: sm.Benchmark, **settings: Any
) -> tuple[sm.Report, tuple[Doubt, ...]]:
    report = reported(net, benchmark)
    return report, doubts(net, benchmark, report, **settings)


def names(found: tuple[Doubt, ...]) -> set[str]:
    return {doubt.name for doubt in found}


def state(net: nn.Module) -> list[Any]:
    """Return all that must stay: numbers, identities, gradients, modes, hooks, randomness."""
    tensors = [*net.named_parameters(), *net.named_buffers()]
    numbers = [(n, id(t), t.detach().clone().tolist(), t.requires_grad) for n, t in tensors]
    grads = [None if t.grad is None else t.grad.tolist() for _, t in tensors]
    modes = [m.training for m in net.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    randomness = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].sum()]
    return [numbers, grads, modes, hooks, randomness, torch.is_grad_enabled()]


@pytest.mark.parametrize("wrong", DECEIVERS)
def test_a_deceiver_is_found_out_and_left_as_it_was(
    wrong: str, network: nn.Module, benchmark: sm.Benchmark
) -> None:
    make, expected = DECEIVERS[wrong]
    net = make(network)
    net.requires_grad_(wrong == "optimising")
    report = reported(net, benchmark)
    before = state(net)
    found = doubts(net, benchmark, report, n=64 if "ladder" in expected else 16)
    assert expected <= names(found)
    assert state(net) == before


@pytest.mark.parametrize("wrong", ["dropout", "noise from numpy", "quantised"])
def test_doubts_depend_on_the_seed_alone(
    wrong: str, network: nn.Module, benchmark: sm.Benchmark
) -> None:
    net = DECEIVERS[wrong][0](network)
    report = reported(net, benchmark)
    first = doubts(net, benchmark, report, n=16)
    torch.rand(3), np.random.rand(), random.random()
    assert first == doubts(net, benchmark, report, n=16)


@pytest.mark.parametrize("kind", [0, 2], ids=["adversarially trained", "plainly trained"])
def test_an_honest_network_raises_no_doubt_also_after_a_deceiver(
    kind: int, trained: list[Path], digits: sm.Images, benchmark: sm.Benchmark
) -> None:
    pots = [sm.load(trained[i])[0] for i in (kind, 1)]
    net, other = (sm.bind(sm.model(like=pot), pot) for pot in pots)
    deceiver = Deceiver(net, optimising)
    attacks = [sm.APGD(t, steps=20) for t in (sm.Linf(0.1), sm.L2(0.5), sm.L1(1.5))]
    honest = sm.Benchmark(digits, attacks)
    report = honest(net)
    assert "dynamic" in names(doubts(deceiver, benchmark, reported(net, benchmark), n=2))
    assert doubts(net, honest, report, transfer_from=[other]) == ()


def test_attacks_that_do_nothing_are_found_out_by_stronger_ones(
    network: nn.Module, digits: sm.Images
) -> None:
    idle = sm.Benchmark(digits, [Idle(t) for t in (sm.Linf(0.4), sm.L2(3), sm.L1(12))])
    _, found = examined(network, idle, transfer_from=[network])
    assert {"steps", "black-box", "noise", "transfer"} <= names(found)
    for name in ("steps", "black-box", "transfer"):
        for norm in ("linf", "l2", "l1"):
            assert any(d.name == name and d.what.startswith(norm) for d in found), (name, norm)


def test_of_autoattack_one_image_is_enough(network: nn.Module, digits: sm.Images) -> None:
    one = next(
        i for i, right in enumerate(sm.Benchmark(digits)(network).right("clean").tolist()) if right
    )
    alone = digits.take(torch.tensor([one]), "one")
    for name, raised in (("idle", False), ("autoattack-standard", True)):
        benchmark = sm.Benchmark(alone, [Idle(sm.Linf(0.5), name)])
        found = names(examined(network, benchmark, transfer_from=[network])[1])
        assert ("transfer" in found) == raised


@pytest.mark.parametrize(
    ("attack", "classes", "raised"),
    [
        ("apgd-ce", 2, False),
        ("apgd-dlr", 2, True),
        ("apgd-dlr", 3, False),
        ("apgd-dlr-t", 3, True),
        ("apgd-ce + apgd-dlr-t", 3, True),
        ("autoattack-standard", 3, True),
        ("autoattack-standard", 4, False),
    ],
)
def test_losses_that_need_more_classes(
    attack: str, classes: int, raised: bool, network: nn.Module, digits: sm.Images
) -> None:
    few = digits.take((digits.labels < 2).nonzero().squeeze(1), "0 and 1")
    net = Deceiver(network, lambda net, x: net(x)[:, :classes])
    benchmark = sm.Benchmark(few, [Idle(sm.Linf(0.01), attack)])
    assert ("classes" in names(examined(net, benchmark, n=8)[1])) == raised


def test_batches_and_a_report_of_the_union_alone_change_no_doubt(
    network: nn.Module, benchmark: sm.Benchmark
) -> None:
    quantised = DECEIVERS["quantised"][0](network)
    report, whole = examined(quantised, benchmark, n=24)
    smaller = replace(benchmark, batch_size=7)
    assert names(doubts(quantised, smaller, report, n=24)) == names(whole)
    union = {"clean": report.flags["clean"], "union": report.right("union")}
    short = replace(report, flags=union)
    assert names(doubts(quantised, benchmark, short, n=24)) == names(whole)


def test_what_cannot_be_examined(network: nn.Module, benchmark: sm.Benchmark) -> None:
    report = benchmark(network)
    with pytest.raises(UsageError):
        doubts(network, benchmark, report, n=0)
    for other in (
        replace(benchmark, attacks=[sm.PGD(sm.L2(1))]),
        replace(
            benchmark,
            data=benchmark.data.take(torch.arange(9), "nine"),  # type: ignore[attr-defined]
        ),
    ):
        with pytest.raises(InputError, match="not of this benchmark"):
            doubts(network, other, report)


def test_every_check_is_raised_here_and_has_its_heading() -> None:
    raised = set().union(*(expected for _, expected in DECEIVERS.values()))
    assert raised | {"steps", "noise", "transfer", "classes"} == set(CHECKS)
    headings = re.findall(r"^## (.+)$", FLAGS.read_text(), re.MULTILINE)
    assert headings == list(CHECKS)


def test_a_doubt_says_where_to_read_on() -> None:
    assert str(Doubt("scale", "what", "fix")) == "scale: what; fix (docs/flags.md#scale)"
