"""Attacks against the reference, against mathematics, and against themselves in other batches."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.types import Attack
from tests.robustness.cases import CALIBRATED, right

reference = pytest.importorskip("pyautoattack.autopgd_base")

ATTACKS: list[Attack] = [
    make(threat)
    for threat in CALIBRATED
    for make in (
        sm.APGD.training,
        lambda t: sm.APGD(t, steps=10),
        lambda t: sm.APGD(t, steps=30, until_fooled=False),
        lambda t: sm.PGD(t, steps=10),
    )
]


@pytest.mark.parametrize("threat", CALIBRATED, ids=str)
@pytest.mark.parametrize("steps", [2, 10, 100])
def test_apgd_gives_the_reference_s_verdict_for_every_image(
    network: nn.Module, batch: tuple[Tensor, Tensor], threat: sm.Threat, steps: int
) -> None:
    x, y = batch
    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[threat.norm]
    theirs = reference.APGDAttack(
        network, n_iter=steps, norm=norm, eps=threat.eps, seed=3, device="cpu"
    ).perturb(x, y)
    ours = sm.APGD(threat, steps=steps)(network, x, y, generator=torch.Generator().manual_seed(3))
    assert torch.equal(right(network, theirs, y), right(network, ours, y))
    if steps == 100:
        robust = int(right(network, ours, y).sum())
        assert 0 < robust < len(y), "calibrate the radius: this comparison could not fail"


@pytest.mark.parametrize("threat", CALIBRATED, ids=str)
def test_apgd_to_the_end_finds_the_reference_s_best_loss(
    network: nn.Module, batch: tuple[Tensor, Tensor], threat: sm.Threat
) -> None:
    x, y = batch
    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[threat.norm]
    attack = reference.APGDAttack(
        network, n_iter=50, norm=norm, eps=threat.eps, seed=3, device="cpu"
    )
    attack.init_hyperparam(x)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = attack.attack_single_run(x, y)[0]
    ours = sm.APGD(threat, steps=50, until_fooled=False)
    found = ours(network, x, y, generator=torch.Generator().manual_seed(3))
    loss = nn.CrossEntropyLoss(reduction="none")
    torch.testing.assert_close(
        loss(network(found), y), loss(network(theirs), y), rtol=2e-2, atol=1e-4
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_attacks_stay_inside_lower_accuracy_and_touch_nothing(
    network: nn.Module, batch: tuple[Tensor, Tensor], attack: Attack
) -> None:
    x, y = batch
    given = x.clone()
    random, wants = torch.get_rng_state(), [p.requires_grad for p in network.parameters()]
    x_adv = attack(network, x, y, generator=torch.Generator().manual_seed(0))
    assert bool(attack.threat.contains(x_adv, x).all())
    assert int(right(network, x_adv, y).sum()) < len(y)
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), random)
    assert [p.requires_grad for p in network.parameters()] == wants
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_a_verdict_does_not_depend_on_the_batch(
    exact: nn.Module, batch: tuple[Tensor, Tensor], attack: Attack
) -> None:
    x, y = batch[0].double(), batch[1]

    def verdicts(size: int) -> Tensor:
        parts = []
        for at in range(0, len(x), size):
            generators = [
                torch.Generator().manual_seed(at + i) for i in range(len(x[at : at + size]))
            ]
            part = attack(exact, x[at : at + size], y[at : at + size], generator=generators)
            parts.append(right(exact, part, y[at : at + size]))
        return torch.cat(parts)

    assert torch.equal(verdicts(48), verdicts(7))


@pytest.mark.parametrize("threat", CALIBRATED, ids=str)
def test_leaving_early_changes_no_verdict(
    exact: nn.Module, batch: tuple[Tensor, Tensor], threat: sm.Threat
) -> None:
    x, y = batch[0].double(), batch[1]
    short = sm.APGD(threat, steps=20)(exact, x, y, generator=torch.Generator().manual_seed(5))
    seen: list[Tensor] = []

    def watch(z: Tensor) -> Tensor:
        logits = exact(z)
        seen.append(logits.argmax(1) != y)
        return logits

    whole = sm.APGD(threat, steps=20, until_fooled=False)
    whole(watch, x, y, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.stack(seen).any(0), ~right(exact, short, y))


@pytest.mark.parametrize("make", [sm.PGD, sm.APGD, sm.AutoAttack])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_eps_zero_is_the_identity(
    network: nn.Module, batch: tuple[Tensor, Tensor], make: type, norm: str
) -> None:
    x, y = batch
    assert torch.equal(make(sm.Threat(norm, 0.0))(network, x, y, generator=torch.Generator()), x)


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
    found = attack(threat, steps=100, until_fooled=False)(linear, x, y, generator=generator)
    drop = sign * (linear(x) - linear(found)).diff(dim=1).squeeze(1)
    most = threat.eps * torch.linalg.vector_norm(w, dual)
    assert bool((drop <= most * 1.001).all())
    assert bool((drop >= most * reached).all())


def test_more_steps_never_help_the_defence(
    network: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    counts = [
        int(
            right(
                network,
                sm.APGD(sm.Linf(0.02), steps=s)(
                    network, x, y, generator=torch.Generator().manual_seed(0)
                ),
                y,
            ).sum()
        )
        for s in (1, 5, 50)
    ]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("version", ["standard", "plus", "rand", "custom"])
def test_autoattack_runs_every_version_and_norm_and_leaves_the_process_alone(
    network: nn.Module,
    batch: tuple[Tensor, Tensor],
    norm: str,
    version: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logging.getLogger("auto-attack").setLevel(logging.CRITICAL)
    threat = next(t for t in CALIBRATED if t.norm == norm)
    attacks = ("apgd-ce", "square") if version == "custom" else ()
    import pyautoattack

    shorten = pyautoattack.AutoAttack.__init__

    def short(self: object, *args: object, **kwargs: object) -> None:
        shorten(self, *args, **kwargs)
        for name in ("apgd", "fab", "apgd_targeted"):
            getattr(self, name).n_iter = getattr(self, name).n_iter_orig = 5
        self.square.n_queries = 20  # type: ignore[attr-defined]

    monkeypatch.setattr(pyautoattack.AutoAttack, "__init__", short)
    x, y = batch[0][:6], batch[1][:6]
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    attack = sm.AutoAttack(threat, version=version, attacks=attacks)
    once = attack(network, x, y, generator=torch.Generator())
    assert torch.equal(once, attack(network, x, y, generator=torch.Generator()))
    assert bool(threat.contains(once, x).all())
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_autoattack_targets_no_more_classes_than_there_are() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    x = torch.rand(4, 3, 2, 2)
    attack = sm.AutoAttack(sm.Linf(0.5), version="custom", attacks=("apgd-t", "fab-t"))
    logging.getLogger("auto-attack").setLevel(logging.CRITICAL)
    found = attack(net, x, net(x).argmax(1), generator=torch.Generator())
    assert found.shape == x.shape


def test_settings_that_cannot_be_meant() -> None:
    for make in (
        lambda: sm.APGD(sm.Linf(0.1), steps=0),
        lambda: sm.PGD(sm.Linf(0.1), loss="nonsense"),
        lambda: sm.AutoAttack(sm.Linf(0.1), version="fast"),
        lambda: sm.AutoAttack(sm.Linf(0.1), version="custom"),
        lambda: sm.Adversarial((), alpha=2.0),
    ):
        with pytest.raises(UsageError):
            make()
