"""What training minimises: forms compared with formulas in float64, threats that share a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from soupmerge.errors import UsageError
from tests.robustness.cases import Recorder, Stub, small_network, streams

LINF, L2, L1 = sm.Linf(0.05), sm.L2(0.4), sm.L1(1.5)


@pytest.fixture
def logits() -> tuple[Tensor, Tensor, Tensor]:
    noise = torch.Generator().manual_seed(0)
    both = torch.randn(2, 12, 5, generator=noise, dtype=torch.float64) * 3
    return both[0], both[1], torch.arange(12) % 5


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    x = torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return x, small_network()(x).argmax(1)


def answering(clean: Tensor, robust: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a classifier whose answer to zeros is *clean*, and to ones *robust*."""
    return lambda x: robust if bool(x.any()) else clean


def loss(objective: Any, clean: Tensor, robust: Tensor, y: Tensor) -> float:
    found = objective.loss(answering(clean, robust), torch.zeros(12), torch.ones(12), y)
    assert found.ndim == 0
    return float(found)


def entropy(logits: Tensor, y: Tensor) -> Tensor:
    return -logits.softmax(1).log()[torch.arange(12), y]


def test_clean_and_adversarial_loss_are_mixed_by_alpha(
    logits: tuple[Tensor, Tensor, Tensor],
) -> None:
    clean, robust, y = logits
    at_x, at_x_adv = float(entropy(clean, y).mean()), float(entropy(robust, y).mean())
    for alpha in (0.0, 0.3, 1.0):
        found = loss(sm.against(LINF, alpha=alpha), *logits)
        assert found == pytest.approx(alpha * at_x + (1 - alpha) * at_x_adv, rel=1e-12)


def test_without_an_attack_there_is_one_pass_on_clean_images(
    batch: tuple[Tensor, Tensor],
) -> None:
    x, y = batch
    asked = Recorder(small_network())
    objective = sm.against(None, alpha=0.5)
    x_adv = objective.craft(asked, x, y, generator=torch.Generator())
    assert torch.equal(x_adv, x)
    assert x_adv is not x
    objective.loss(asked, x, x_adv, y)
    assert len(asked.points) == 1
    for alpha, passes in ((0.0, 1), (0.5, 2)):
        asked.points.clear()
        sm.against(LINF, alpha=alpha).loss(asked, x, x_adv, y)
        assert len(asked.points) == passes


@pytest.mark.parametrize(("given", "beta"), [({}, 6.0), ({"beta": 2.5}, 2.5)])
def test_trades_is_clean_loss_and_divergence(
    logits: tuple[Tensor, Tensor, Tensor], given: dict[str, float], beta: float
) -> None:
    clean, robust, y = logits
    p, q = clean.softmax(1), robust.softmax(1)
    kl = (p * (p / q).log()).sum(1)
    expected = float((entropy(clean, y) + beta * kl).mean())
    found = loss(sm.against(LINF, form="trades-kl", **given), *logits)  # type: ignore[arg-type]
    assert found == pytest.approx(expected, rel=1e-12)


def test_mart_weighs_the_divergence_by_doubt(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    """Also where the answer under attack is wrong beyond doubt, and its logarithm is cut off."""
    clean, robust, y = logits
    robust[0, (y[0] + 1) % 5] = 30.0
    total = 0.0
    for p, q, c in zip(clean.softmax(1), robust.softmax(1), y.tolist(), strict=True):
        wrong = max(float(q[k]) for k in range(5) if k != c)
        bce = -q[c].log() - torch.tensor(max(1 - wrong, 1e-4)).log()
        total += float(bce + 2.5 * (p * (p / q).log()).sum() * (1 - p[c]))
    found = loss(sm.against(LINF, form="mart", beta=2.5), clean, robust, y)
    assert found == pytest.approx(total / 12, rel=1e-6)


def test_label_smoothing_mixes_in_all_classes(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    """In both parts of a mix."""
    clean, robust, y = logits

    def smoothed(z: Tensor) -> float:
        every = -z.softmax(1).log().mean()
        return float(0.8 * entropy(z, y).mean() + 0.2 * every)

    expected = 0.25 * smoothed(clean) + 0.75 * smoothed(robust)
    found = loss(sm.against(LINF, alpha=0.25, smoothing=0.2), *logits)
    assert found == pytest.approx(expected, rel=1e-12)
    assert loss(sm.against(None, smoothing=0.2), *logits) == pytest.approx(smoothed(robust))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_image_i_meets_attack_i_mod_t(batch: tuple[Tensor, Tensor], count: int) -> None:
    attacks = tuple(Stub(sm.Linf(1), lambda x, v=v: 0 * x + v) for v in range(count))
    x, y = batch
    objective = sm.Adversarial(attacks)
    for size in (9, 2, 1):
        found = objective.craft(small_network(), x[:size], y[:size], generator=torch.Generator())
        assert found[:, 0, 0, 0].tolist() == [i % count for i in range(size)]


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
def test_images_are_crafted_by_two_steps_of_apgd_to_the_end(
    batch: tuple[Tensor, Tensor], threat: sm.Threat
) -> None:
    x, y = batch
    network = small_network()
    for form in ("mix", "mart"):
        objective = sm.against(threat, form=form)
        found = objective.craft(network, x, y, generator=torch.Generator().manual_seed(3))
        attack = sm.APGD(threat, steps=2, until_fooled=False)
        expected = attack(network, x, y, generator=torch.Generator().manual_seed(3))
        assert torch.equal(found, expected)


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
def test_images_for_trades_climb_the_divergence_as_apgd_climbs_its_loss(
    batch: tuple[Tensor, Tensor], threat: sm.Threat
) -> None:
    """APGD on a network whose cross-entropy is the divergence from its clean answers."""
    x, y = batch
    network, steps = small_network(), 12
    p = network(x).softmax(1)

    def divergence(z: Tensor) -> Tensor:
        return (p * (p.log() - z.log_softmax(1))).sum(1)

    def standing_in(z: Tensor) -> Tensor:
        """Logits of two classes whose cross-entropy for class 0 is the divergence."""
        value = divergence(network(z)).clamp(min=1e-6)
        return torch.stack([torch.zeros_like(value), value.expm1().log()], 1)

    objective = sm.against(threat, form="trades-kl", steps=steps)
    found = objective.craft(network, x, y, generator=torch.Generator().manual_seed(3))
    attack = sm.APGD(threat, steps=steps, until_fooled=False)
    labels = torch.zeros_like(y)
    expected = attack(standing_in, x, labels, generator=torch.Generator().manual_seed(3))
    reached, wanted = divergence(network(found)), divergence(network(expected))
    torch.testing.assert_close(reached, wanted, rtol=1e-3, atol=1e-5)
    start = threat.sample(x, torch.Generator().manual_seed(3))
    assert bool((reached >= divergence(network(start))).all())
    assert float(reached.mean()) > 1.2 * float(divergence(network(start)).mean())


def test_no_weight_takes_a_gradient_in_crafting(batch: tuple[Tensor, Tensor]) -> None:
    network = small_network().requires_grad_(True)
    for form in ("mix", "trades-kl", "mart"):
        objective = sm.against(LINF, form=form)
        found = objective.craft(network, *batch, generator=streams(9))
        assert not found.requires_grad
        assert all(p.grad is None for p in network.parameters())
        objective.loss(network, batch[0], found, batch[1]).backward()
        assert all(p.grad is not None for p in network.parameters())
        network.zero_grad()


@pytest.mark.parametrize(
    ("wrong", "place", "words"),
    [
        (
            {"threat": LINF, "form": "tradeskl"},
            "objective",
            "unknown form.*did you mean 'trades-kl'",
        ),
        ({"threat": None, "form": "mart"}, "objective mart", "needs an attack"),
        ({"threat": sm.Linf(0), "form": "trades-kl"}, "objective trades-kl", "needs an attack"),
        ({"threat": LINF, "form": "mart", "alpha": 0.5}, "objective mart", "apply to the mix only"),
        (
            {"threat": LINF, "form": "trades-kl", "smoothing": 0.1},
            "objective trades-kl",
            "apply to the mix only",
        ),
        ({"threat": LINF, "form": "mart", "beta": -1.0}, "objective", "beta -1 is not at least 0"),
        ({"threat": LINF, "form": "mart", "beta": 1e6}, "objective", r"below 1e\+06"),
        ({"threat": None, "smoothing": 1.0}, "objective", "label smoothing"),
        ({"threat": None, "smoothing": -0.1}, "objective", "label smoothing"),
        ({"threat": LINF, "alpha": 1.1}, "trades", "1.1 is not in"),
        ({"threat": LINF, "alpha": -0.1}, "trades", "-0.1 is not in"),
        ({"threat": [LINF, sm.Linf(0)]}, "threat", "one of several radii is 0"),
    ],
)
def test_invalid_objectives_are_refused(wrong: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        sm.against(**wrong)
    assert refused.value.where == place


def test_trades_needs_attacks_that_follow_a_gradient() -> None:
    attacks = (sm.APGD.training(LINF), sm.AutoAttack(L2))
    with pytest.raises(UsageError, match="divergence by autoattack-standard; use a gradient att"):
        sm.Adversarial(attacks, form="trades-kl")
    sm.Adversarial(attacks, form="mart", beta=0.0)


def test_trades_moves_by_the_rule_of_its_attack(batch: tuple[Tensor, Tensor]) -> None:
    """One step of PGD goes from the start along the gradient of the divergence."""
    (x, y), network = batch, small_network()
    objective = sm.Adversarial((sm.PGD(L2, steps=1, step=0.1),), form="trades-kl")
    found = objective.craft(network, x, y, generator=torch.Generator().manual_seed(3))
    start = L2.sample(x, torch.Generator().manual_seed(3)).requires_grad_()
    p, log_q = network(x).softmax(1), network(start).log_softmax(1)
    (p * (p.log() - log_q)).sum().backward()
    assert start.grad is not None
    expected = L2.project(start.detach() + 0.1 * L2.steepest(start.grad), x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


APGD_2 = {"threat": "linf:0.05", "attack": "apgd-ce", "steps": 2}


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (sm.against(None), {"objective": "clean"}),
        (sm.against(sm.Linf(0)), {"objective": "clean"}),
        (sm.against(None, smoothing=0.1), {"objective": "clean", "label smoothing": 0.1}),
        (sm.against(LINF), {"objective": "adversarial", **APGD_2}),
        (sm.against(LINF, steps=3), {"objective": "adversarial", **APGD_2, "steps": 3}),
        (sm.against(LINF, alpha=0.5), {"objective": "trades-mix", "alpha": 0.5, **APGD_2}),
        (
            sm.against(LINF, smoothing=0.1),
            {"objective": "adversarial", **APGD_2, "label smoothing": 0.1},
        ),
        (sm.against(LINF, form="trades-kl"), {"objective": "trades-kl", "beta": 6.0, **APGD_2}),
        (sm.against(LINF, form="mart", beta=1.0), {"objective": "mart", "beta": 1.0, **APGD_2}),
        (
            sm.against([L2, LINF]),
            {"objective": "adversarial", "threats": [{**APGD_2, "threat": "l2:0.4"}, APGD_2]},
        ),
    ],
    ids=str,
)
def test_an_objective_tells_all_that_changes_it(objective: Any, expected: dict[str, Any]) -> None:
    assert objective.describe() == expected
