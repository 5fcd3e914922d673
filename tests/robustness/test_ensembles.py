"""Ensembles: what is averaged, and that attacks go through all of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.ensembles import Ensemble

RESNET = "resnet9?width=4&in_channels=1"


def networks(k: int) -> list[nn.Module]:
    return [sm.model(RESNET, seed=seed).requires_grad_(False) for seed in range(k)]


def images() -> torch.Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def few(seed: int = 0) -> sm.Benchmark:
    attacks = [sm.APGD(sm.Linf(0.1), steps=3)]
    return sm.Benchmark(sm.data("digits", limit=20), attacks, seed=seed, batch_size=8)


def test_an_ensemble_of_one_is_the_network() -> None:
    net, x = networks(1)[0], images()
    assert torch.equal(Ensemble([net], "logit")(x), net(x))
    torch.testing.assert_close(Ensemble([net], "prob")(x).exp(), net(x).softmax(1))
    alone = few()(net)
    assert all(few()(Ensemble([net], average)) == alone for average in ("prob", "logit"))


@pytest.mark.parametrize("average", ["prob", "logit"])
def test_an_ensemble_of_copies_has_the_network_s_probabilities(average: str) -> None:
    net, x = networks(1)[0], images()
    probabilities = Ensemble([net, net, net], average)(x).softmax(1)
    torch.testing.assert_close(probabilities, net(x).softmax(1))


def test_what_is_averaged() -> None:
    nets, x = networks(3), images()
    logits = torch.stack([net(x).double() for net in nets])
    mean = logits.softmax(-1).mean(0).log().float()
    torch.testing.assert_close(Ensemble(nets, "prob")(x), mean)
    torch.testing.assert_close(Ensemble(nets, "logit")(x), logits.mean(0).float())


def test_sure_members_leave_log_probabilities_finite() -> None:
    def sure(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1e4, -1e4, 0.0]]).expand(len(x), 3)

    class Sure(nn.Module):
        forward = staticmethod(sure)

    assert Ensemble([Sure().eval(), Sure().eval()], "prob")(images()).isfinite().all()


@pytest.mark.parametrize("average", ["prob", "logit"])
def test_the_gradient_goes_through_all_members(average: str) -> None:
    nets, x = networks(3), images().requires_grad_()
    for net in nets:
        net.requires_grad_(True)
    together = Ensemble(nets, average)
    nn.functional.cross_entropy(together(x), torch.zeros(5, dtype=torch.long)).backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())
    for net in nets:
        assert all(p.grad is not None for p in net.parameters())
        assert any(bool((p.grad != 0).any()) for p in net.parameters() if p.grad is not None)
    assert {f"members.{k}" for k in range(3)} <= {name for name, _ in together.named_modules()}


def test_an_ensemble_leaves_its_members_modes_alone() -> None:
    nets = networks(2)
    assert not any(module.training for module in Ensemble(nets, "prob").modules())
    nets[1].train()
    together = Ensemble(nets, "prob")
    assert nets[1].training
    with pytest.raises(InputError, match=r"members.1 is in training mode"):
        few()(together)


def test_ensembles_that_cannot_be() -> None:
    nets = [sm.model(f"{RESNET}&num_classes={c}") for c in (10, 7)]
    with pytest.raises(UsageError, match="members have 10, 7 classes"):
        few()(Ensemble(nets, "prob"))
    with pytest.raises(UsageError, match="no average 'probs'; did you mean 'prob'"):
        Ensemble(nets, "probs")
    with pytest.raises(UsageError, match="has no members"):
        Ensemble([], "prob")
