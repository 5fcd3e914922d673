"""Ensembles: what is averaged, and that attacks go through all of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.ensembles import Ensemble
from tests.robustness.cases import AtHand

X = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def members() -> list[nn.Module]:
    made: list[nn.Module] = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(3)]
    for seed, net in enumerate(made):
        noise = torch.Generator().manual_seed(seed)
        for parameter in net.parameters():
            parameter.data = torch.randn(parameter.shape, generator=noise)
    return made


def test_an_ensemble_averages_probabilities_or_logits(members: list[nn.Module]) -> None:
    with torch.no_grad():
        each = torch.stack([net(X).double() for net in members])
        mean = each.softmax(2).mean(0).log()
        torch.testing.assert_close(Ensemble(members, "prob")(X).double(), mean)
        torch.testing.assert_close(Ensemble(members, "logit")(X).double(), each.mean(0))


@pytest.mark.parametrize("average", ["prob", "logit"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_ensemble_of_copies_is_the_network(
    average: str, count: int, members: list[nn.Module]
) -> None:
    net = members[0].eval()
    copies = Ensemble([net] * count, average)
    torch.testing.assert_close(copies(X).softmax(1), net(X).softmax(1))
    judge = sm.Benchmark(AtHand(X, net(X).argmax(1)), [sm.APGD(sm.Linf(0.2), steps=3)])
    assert 0 < judge(net).correct("union") < 5
    assert judge(copies) == judge(net)


def test_sure_members_leave_log_probabilities_finite() -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[1e4, -1e4, 0.0]]).expand(len(x), 3)

    assert Ensemble([Sure().eval(), Sure().eval()], "prob")(X).isfinite().all()


def test_gradients_go_through_all_members_and_their_modes_are_theirs(
    members: list[nn.Module],
) -> None:
    """One in training mode is refused by the benchmark, by its name."""
    members[1].eval()
    several = Ensemble(members, "prob")
    assert [several.training, several.members.training] == [False, False]
    assert [net.training for net in members] == [True, False, True]
    several(X).sum().backward()
    assert all(p.grad is not None for net in members for p in net.parameters())
    judge = sm.Benchmark(AtHand(X, torch.zeros(5, dtype=torch.long)))
    with pytest.raises(InputError, match="members.0 is in training mode"):
        judge(several)


def test_invalid_ensembles_are_refused(members: list[nn.Module]) -> None:
    with pytest.raises(UsageError, match="unknown average 'probs'.*did you mean 'prob'"):
        Ensemble(members, "probs")
    with pytest.raises(UsageError, match="has no members"):
        Ensemble([], "prob")
    odd = Ensemble([*members, nn.Sequential(nn.Flatten(), nn.Linear(4, 2))], "logit")
    with pytest.raises(UsageError, match="its members have 3, 3, 3, 2 classes"):
        odd(X)
