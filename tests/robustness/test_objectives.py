"""What training minimises: forms held to plain formulas, threats that share a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.robustness.objectives import divergence


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return sm.data("digits", split="test", limit=30).batch(torch.arange(30))


@pytest.fixture
def logits() -> tuple[Tensor, Tensor, Tensor]:
    noise = torch.Generator().manual_seed(0)
    both = torch.randn(2, 12, 5, generator=noise, dtype=torch.float64) * 3
    return both[0], both[1], torch.arange(12) % 5


def answering(clean: Tensor, robust: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a classifier whose answer to zeros is *clean*, and to ones *robust*."""
    return lambda x: robust if bool(x.any()) else clean


def test_trades_is_clean_loss_and_divergence(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, robust, y = logits
    objective = sm.against(sm.Linf(0.1), form="trades-kl", beta=2.5)
    found = objective.loss(answering(clean, robust), torch.zeros(12), torch.ones(12), y)
    p, q = clean.softmax(1), robust.softmax(1)
    kl = sum(float((p[i] * (p[i] / q[i]).log()).sum()) for i in range(12)) / 12
    expected = -sum(float(p[i, y[i]].log()) for i in range(12)) / 12 + 2.5 * kl
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_mart_weighs_the_divergence_by_doubt(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, robust, y = logits
    objective = sm.against(sm.Linf(0.1), form="mart", beta=2.5)
    found = objective.loss(answering(clean, robust), torch.zeros(12), torch.ones(12), y)
    total = 0.0
    for p, q, c in zip(clean.softmax(1), robust.softmax(1), y.tolist(), strict=True):
        wrong = max(float(q[k]) for k in range(5) if k != c)
        bce = -q[c].log() - torch.tensor(max(1 - wrong, 1e-4)).log()
        total += float(bce + 2.5 * (p * (p / q).log()).sum() * (1 - p[c]))
    assert float(found) == pytest.approx(total / 12, rel=1e-6)


def test_label_smoothing_mixes_in_all_classes(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, _, y = logits
    found = sm.against(None, smoothing=0.2).loss(lambda x: clean, y, y, y)
    right = -clean.log_softmax(1)[torch.arange(12), y].mean()
    every = -clean.log_softmax(1).mean()
    assert float(found) == pytest.approx(float(0.8 * right + 0.2 * every), rel=1e-12)


def test_threats_share_a_batch(net: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    threats = [sm.Linf(0.1), sm.L2(0.6), sm.L1(1.5)]
    x_adv = sm.against(threats).craft(net, x, y, generator=torch.Generator().manual_seed(0))
    for t, threat in enumerate(threats):
        assert bool(threat.contains(x_adv[t::3], x[t::3]).all())
        others = [other for other in threats if other is not threat]
        assert not any(bool(other.contains(x_adv[t::3], x[t::3]).all()) for other in others)


def test_a_batch_may_be_smaller_than_the_number_of_threats(
    net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch[0][:1], batch[1][:1]
    objective = sm.against([sm.Linf(0.1), sm.L2(0.5)])
    assert objective.craft(net, x, y, generator=torch.Generator()).shape == x.shape


@pytest.mark.parametrize("threat", [sm.Linf(0.2), sm.L2(1.0), sm.L1(6.0)], ids=str)
def test_trades_images_raise_the_divergence(
    net: nn.Module, batch: tuple[Tensor, Tensor], threat: sm.Threat
) -> None:
    x, y = batch
    net = net.requires_grad_(False)
    objective = sm.against(threat, form="trades-kl", steps=10)
    found = objective.craft(net, x, y, generator=torch.Generator().manual_seed(0))
    start = threat.sample(x, torch.Generator().manual_seed(0))
    assert bool(threat.contains(found, x).all())
    clean = net(x)
    assert bool((divergence(clean, net(found)) >= divergence(clean, net(start)) - 1e-6).all())
    crafted = sm.against(threat, steps=10).craft(net, x, y, generator=torch.Generator())
    assert divergence(clean, net(found)).mean() > divergence(clean, net(crafted)).mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"threat": sm.Linf(0.1), "form": "tradeskl"},
        {"threat": None, "form": "mart"},
        {"threat": sm.Linf(0.1), "form": "mart", "alpha": 0.5},
        {"threat": sm.Linf(0.1), "form": "trades-kl", "smoothing": 0.1},
        {"threat": sm.Linf(0.1), "form": "mart", "beta": -1.0},
        {"threat": None, "smoothing": 1.0},
        {"threat": [sm.Linf(0.1), sm.Linf(0.0)]},
    ],
)
def test_objectives_that_cannot_be_meant(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        sm.against(**wrong)  # type: ignore[arg-type]


def test_objectives_tell_all_that_changes_them() -> None:
    told = [
        sm.against(None).describe(),
        sm.against(sm.Linf(0.1)).describe(),
        sm.against(sm.Linf(0.1), steps=3).describe(),
        sm.against(sm.Linf(0.1), alpha=0.5).describe(),
        sm.against(sm.Linf(0.1), smoothing=0.1).describe(),
        sm.against(sm.Linf(0.1), form="trades-kl").describe(),
        sm.against(sm.Linf(0.1), form="trades-kl", beta=1.0).describe(),
        sm.against(sm.Linf(0.1), form="mart").describe(),
        sm.against([sm.Linf(0.1), sm.L2(0.5)]).describe(),
        sm.against([sm.L2(0.5), sm.Linf(0.1)]).describe(),
    ]
    assert all(a != b for i, a in enumerate(told) for b in told[:i])
