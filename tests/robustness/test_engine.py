"""Batches that stay full, examples that try again, memory that ends: the verdicts stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.binding import fused
from soupmerge.errors import UsageError
from soupmerge.robustness.attacks import FGSM
from soupmerge.robustness.cascade import Cascade
from soupmerge.robustness.losses import LOSSES, dlr, dlr_to_target, margin
from soupmerge.robustness.presets import PRESETS, preset
from soupmerge.robustness.waiting import Batch
from tests.robustness.cases import CALIBRATED, right

FORMS: list[dict[str, Any]] = [
    {},
    {"loss": "dlr"},
    {"restarts": 3},
    {"loss": "dlr-t", "targets": 4},
    {"loss": "margin-t", "targets": 2, "restarts": 2},
]


def streams(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(n)]


def streamed(attack: Any, net: Any, x: Tensor, y: Tensor, width: int) -> tuple[Tensor, list[int]]:
    """Return adversarial images made *width* at a time, and how many went through at once."""
    order, generators = list(range(len(x)))[::-1], streams(len(x))
    seen = []

    def feed(count: int) -> Batch | None:
        some = [order.pop() for _ in range(min(count, len(order)))]
        places = torch.tensor(some)
        return Batch(places, x[places], y[places], [generators[i] for i in some]) if some else None

    def watched(z: Tensor) -> Tensor:
        if z.requires_grad:
            seen.append(len(z))
        return net(z)

    out = torch.full_like(x, torch.nan)
    for left in attack.stream(watched, feed, width=width):
        out[left.place] = left.x_adv
    return out, seen


@pytest.mark.parametrize("threat", CALIBRATED, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_verdict_depends_on_no_other_example(
    exact: nn.Module, batch: tuple[Tensor, Tensor], threat: sm.Threat, form: dict[str, Any]
) -> None:
    x, y = batch[0].double(), batch[1]
    attack = sm.APGD(threat, steps=12, **form)
    whole = attack(exact, x, y, generator=streams(len(x)))
    for width in (len(x), 16, 5):
        found, seen = streamed(attack, exact, x, y, width)
        assert torch.equal(right(exact, found, y), right(exact, whole, y))
        assert max(seen) <= width


def test_batches_stay_full_and_nothing_is_computed_for_what_has_fallen(
    network: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    attack = sm.APGD(sm.Linf(0.02), steps=50)
    found, seen = streamed(attack, network, x, y, 16)
    robust = int(right(network, found, y).sum())
    assert 0 < robust < len(y)
    while_there_are_more = seen[: len(seen) // 3]
    assert min(while_there_are_more) >= 15
    assert sum(seen) <= robust * 51 + (len(y) - robust) * 15


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_says_what_it_is(name: str) -> None:
    told = preset(name, sm.Linf(8 / 255), 20).describe()
    assert told["steps"] >= 1
    assert "autoattack" not in str(told["attack"]) or name == "autoattack"
    with pytest.raises(UsageError, match=r"did you mean 'apgd-ce\+t'\?"):
        preset("apgd-ce+", sm.Linf(0.1))


def test_a_cascade_is_as_strong_as_its_stages_together(
    exact: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch[0].double(), batch[1]
    stages = (sm.APGD(sm.L2(0.15), steps=5), sm.APGD(sm.L2(0.15), steps=10, loss="dlr-t"))
    both = Cascade(stages)
    holds = [right(exact, a(exact, x, y, generator=streams(len(x))), y) for a in stages]
    found = right(exact, both(exact, x, y, generator=streams(len(x))), y)
    # The second stage begins elsewhere, as the first has drawn from the same generators.
    assert bool((found <= holds[0]).all())
    assert int(found.sum()) <= int(holds[0].sum())
    with pytest.raises(UsageError, match="one threat"):
        Cascade((sm.APGD(sm.L2(0.1)), sm.APGD(sm.L2(0.2))))


def test_fgsm_takes_one_step_of_eps(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    x = 0.4 + 0.2 * x
    y = network(x).argmax(1)
    point = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(network(point), y, reduction="sum")
    expected = x + 0.05 * torch.autograd.grad(loss, point)[0].sign()
    found = FGSM(sm.Linf(0.05))(network, x, y, generator=torch.Generator())
    fooled = ~right(network, expected, y)
    assert bool(fooled.any())
    torch.testing.assert_close(found[fooled], expected[fooled])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_rise_as_the_margin_falls(name: str) -> None:
    y, target = torch.tensor([0]), torch.tensor([1])
    near, far = torch.tensor([[1.0, 0.9, 0, -1, -2]]), torch.tensor([[3.0, 0.5, 0, -1, -2]])
    assert LOSSES[name](near, y, target) > LOSSES[name](far, y, target)


def test_dlr_does_not_see_the_scale_of_logits_and_needs_classes() -> None:
    logits, y = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    target = (y + 1) % 10
    for loss in (dlr, dlr_to_target):
        torch.testing.assert_close(loss(1000 * logits, y, target), loss(logits, y, target))
    y = torch.zeros(8, dtype=torch.long)
    torch.testing.assert_close(dlr(logits[:, :2], y), margin(logits[:, :2], y))
    few = dlr_to_target(logits[:, :3], y, y + 1)
    torch.testing.assert_close(few, logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_targeted_no_more_than_there_are(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(12, classes, generator=generator)
    x = torch.rand(9, 3, 2, 2, generator=generator)

    def linear(z: Tensor) -> Tensor:
        return z.flatten(1) @ weights

    y, eps = linear(x).argmax(1), {2: 0.4, 3: 0.2}[classes]
    found = sm.APGD.targeted(sm.Linf(eps), steps=50)(linear, x, y, generator=streams(9))
    falls = torch.zeros(9, dtype=torch.bool)
    for target in range(classes):  # for a linear network, the best point is known
        ahead = (weights[:, target] - weights[:, y].T).sign().view_as(x)
        falls |= linear((x + eps * ahead).clamp(0, 1)).argmax(1) != y
    assert torch.equal(linear(found).argmax(1) != y, falls)
    assert 0 < int(falls.sum()) < 9


def test_memory_that_ends_halves_the_batch_and_changes_no_verdict(
    exact: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch[0].double(), batch[1]
    refused = []

    def small(z: Tensor) -> Tensor:
        if len(z) > 10:
            refused.append(len(z))
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return exact(z)

    attack = sm.APGD(sm.Linf(0.02), steps=10)
    expected = right(exact, attack(exact, x, y, generator=streams(len(x))), y)
    found = attack(small, x, y, generator=streams(len(x)))
    assert torch.equal(right(exact, found, y), expected)
    assert refused

    def none(z: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory (not really)")

    with pytest.raises(torch.OutOfMemoryError):
        attack(none, x, y, generator=streams(len(x)))


def test_only_the_union_is_the_same_union_for_less(trained: list[Any]) -> None:
    pot = sm.load(trained[0])[0]
    net = sm.bind(sm.model(like=pot), pot).double()
    images = sm.data("digits", split="val", limit=120)
    attacks = [sm.APGD(t, steps=15) for t in (sm.Linf(0.07), sm.L2(0.5), sm.L1(2))]

    def wide(x: Tensor) -> Tensor:
        return net(x.double())

    each = sm.Benchmark(images, attacks, batch_size=40)(wide)
    union = sm.Benchmark(images, attacks, batch_size=40, only_union=True)(wide)
    assert torch.equal(each.right("union"), union.right("union"))
    assert 0 < union.correct("union") < union.correct("clean")
    assert union.metrics == ("clean", "union")
    assert union.cost["gradient_evaluations"] < each.cost["gradient_evaluations"]
    assert sorted(union.notes["order"]) == sorted(str(a.threat) for a in attacks)


def test_what_bf16_proposes_is_confirmed_in_float32(trained: list[Any]) -> None:
    pot = sm.load(trained[0])[0]
    net = sm.bind(sm.model(like=pot), pot)
    images = sm.data("digits", split="val", limit=100)
    attacks = [sm.APGD(sm.Linf(0.12), steps=15)]
    full = sm.Benchmark(images, attacks)(net)
    half = sm.Benchmark(images, attacks, precision="bf16")(net)
    agree = (full.right("linf:0.12") == half.right("linf:0.12")).double().mean()
    assert agree >= 0.95
    told = half.notes["float32"]["linf:0.12"]
    assert told["rechecked"] == min(16, told["survivors"]) > 0
    assert 0 <= told["fell"] <= told["rechecked"]
    again = sm.Report.from_record(half.to_record(), half.data, half.attacks)
    assert again.notes == half.notes
    assert sm.Benchmark(images, attacks, precision="bf16").describe()["precision"] == "bf16"


def test_autoattack_is_not_proposed_in_bf16() -> None:
    images = sm.data("digits", split="val", limit=8)
    with pytest.raises(UsageError, match="AutoAttack computes in float32; take apgd-ce"):
        sm.Benchmark(images, [sm.AutoAttack(sm.Linf(0.1))], precision="bf16")


class Kept(dict[str, dict[int, bool]]):
    """A ledger in memory, which may break off."""

    def __init__(self, most: int = 1 << 30) -> None:
        super().__init__()
        self.most = most

    def known(self, key: str) -> dict[int, bool]:
        return self.get(key, {})

    def add(self, key: str, verdicts: dict[int, bool]) -> None:
        self.setdefault(key, {}).update(verdicts)
        self.most -= 1
        if not self.most:
            raise KeyboardInterrupt


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_evaluation_repeats_no_verdict(trained: list[Any], precision: str) -> None:
    pot = sm.load(trained[0])[0]
    net = sm.bind(sm.model(like=pot), pot)
    images = sm.data("digits", split="val", limit=60)
    attacks = [sm.APGD(sm.Linf(0.12), steps=10), preset("apgd-ce+t", sm.L2(0.8), 10)]
    benchmark = sm.Benchmark(images, attacks, batch_size=16, precision=precision)
    counting = Kept()
    whole = benchmark(net, ledger=counting)
    adds = (1 << 30) - counting.most
    for most in (2, adds // 2, adds - 1):
        ledger = Kept(most)
        with pytest.raises(KeyboardInterrupt):
            benchmark(net, ledger=ledger)
        ledger.most = 1 << 30
        again = benchmark(net, ledger=ledger)
        assert again == whole
        assert again.notes == whole.notes
        asked = again.cost["gradient_evaluations"]
        assert asked <= whole.cost["gradient_evaluations"]
    assert asked < whole.cost["gradient_evaluations"] / 2
    assert benchmark(net, ledger=ledger).cost["gradient_evaluations"] == 0


def test_batch_norms_are_folded_where_nothing_else_changes(trained: list[Any]) -> None:
    pot = sm.load(trained[0])[0]
    x = sm.data("digits", split="val", limit=8).batch(torch.arange(8))[0]
    for net in (
        sm.bind(sm.model(like=pot, mean="0.5", std="0.3"), pot),
        sm.bind(
            sm.model("resnet9?width=4&in_channels=1"),
            sm.model("resnet9?width=4&in_channels=1").state_dict(),
        ),
        sm.model("wrn-28-10?depth=10&widen=1").eval(),
    ):
        given = x if next(net.parameters()).shape[1] == 1 else x.expand(-1, 3, -1, -1)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        made = fused(net, given)
        torch.testing.assert_close(made(given), net(given), rtol=1e-3, atol=1e-3)
        assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
        count = [sum(isinstance(m, nn.BatchNorm2d) for m in one.modules()) for one in (made, net)]
        assert count[0] < count[1]


def test_what_cannot_be_followed_is_left_as_it_is(network: nn.Module) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = network(x) if x.sum() > 0 else network(-x)
            return logits

    odd = Branches().eval()
    assert fused(odd, torch.rand(2, 3, 8, 8)) is odd
