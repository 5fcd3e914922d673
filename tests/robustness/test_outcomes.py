"""What becomes of each example: its loss and error, clean and under each attack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.robustness.outcomes import outcomes
from soupmerge.schedule import stream
from tests.robustness.cases import AtHand, Stub, pixels, small_network


class Threshold(nn.Module):
    """Class 0 up to 1/2, class 1 above, with a loss that is never 0; NaN where it is white."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        score = self.gain * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-score, torch.where(score >= 2, torch.nan, score)], 1)


DATA = pixels([0.1, 0.2, 0.3, 0.8], labels=[0, 0, 1, 1])


@pytest.mark.parametrize("batch_size", [256, 3])
def test_loss_and_error_are_those_of_each_image_clean_and_attacked(batch_size: int) -> None:
    """Also of one that is wrong already, and of one whose logits break."""
    attacks = [
        Stub(sm.Linf(0.5), lambda x: x + 0.35),
        Stub(sm.L2(0.9), lambda x: torch.where(x < 0.15, 1.0, x)),
    ]
    net = Threshold()
    found = outcomes(net, sm.Benchmark(DATA, attacks, batch_size=batch_size))
    assert list(found) == ["clean", "linf:0.5", "l2:0.9"]
    assert found["clean"].error.tolist() == [0, 0, 1, 0]
    assert found["linf:0.5"].error.tolist() == [0, 1, 1, 1], "the last broke in the box's corner"
    assert found["l2:0.9"].error.tolist() == [1, 0, 1, 0]
    with torch.no_grad():
        moved = (DATA.x + 0.35).clamp(max=1)
        for metric, x in (("clean", DATA.x), ("linf:0.5", moved)):
            losses = F.cross_entropy(net(x), DATA.labels, reduction="none")
            torch.testing.assert_close(found[metric].loss, losses.double(), equal_nan=True)
    assert all(t.dtype == torch.float64 for outcome in found.values() for t in outcome)


def test_what_an_attack_puts_right_is_an_error_under_attack_too() -> None:
    """Robust error is never below clean error, image by image; the loss is that of the attack."""
    attack = Stub(sm.Linf(1), lambda x: torch.full_like(x, 0.1) * (1 - DATA.labels).view_as(x))
    data = AtHand(DATA.x.flip(0), DATA.labels)
    found = outcomes(Threshold(), sm.Benchmark(data, [attack]))
    assert found["clean"].error.tolist() == [1, 0, 1, 1]
    assert found["linf:1"].error.tolist() == [1, 0, 1, 1]
    assert bool((found["linf:1"].error >= found["clean"].error).all())


def test_attacks_are_brought_back_into_their_threat_and_draw_by_the_image_s_id() -> None:
    drawn: list[list[float]] = []

    class Draws(Stub):
        def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
            drawn.append([torch.rand(1, generator=own).item() for own in generator])
            return x + 1

    attack = Draws(sm.Linf(0.25))
    net = Threshold()
    found = outcomes(net, sm.Benchmark(DATA, [attack], seed=5, batch_size=3))
    own = [torch.rand(1, generator=stream(5, attack, id)).item() for id in DATA.ids]
    assert drawn == [own[:3], own[3:]]
    with torch.no_grad():
        expected = F.cross_entropy(net((DATA.x + 0.25).clamp(max=1)), DATA.labels, reduction="none")
    torch.testing.assert_close(found["linf:0.25"].loss, expected.double(), equal_nan=True)


def test_the_benchmark_agrees_where_attacks_go_on_to_the_end() -> None:
    net, x = small_network(), torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    data = AtHand(x, net(x).argmax(1))
    judge = sm.Benchmark(data, [sm.APGD(sm.Linf(0.02), steps=5, until_fooled=False)])
    error = outcomes(net, judge)["linf:0.02"].error
    assert 0 < int(error.sum()) < 12
    assert judge(net).right("linf:0.02").tolist() == (error == 0).tolist()
