"""Giving images up: only where that was seen to change next to nothing, and by the least margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from soupmerge.robustness.engine import Patience
from tests.robustness.cases import AtHand, small_network, streams


def steps_taken(margins: Sequence[float], **settings: Any) -> int:
    """Return how many steps an image gets whose margins are those of the start and each step.

    The last margin stays.
    """
    asked = 0

    def scripted(x: Tensor) -> Tensor:
        nonlocal asked
        margin = margins[min(asked, len(margins) - 1)]
        asked += 1
        return torch.stack([margin + 0 * x.flatten(1).sum(1), 0 * x.flatten(1).sum(1)], 1)

    patience = Patience(**settings) if settings else Patience()
    attack = sm.APGD(sm.Linf(0.1), steps=60, patience=patience)
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    attack(scripted, x, y, generator=torch.Generator())
    return asked - 1


def test_an_image_far_from_the_boundary_is_given_up_after_ten_steps() -> None:
    assert steps_taken([1.0]) == 10
    assert steps_taken([1.0, *[0.5] * 9, 0.21]) == 10


def test_an_image_that_came_close_is_not_given_up_though_it_is_far_again() -> None:
    assert steps_taken([1.0, 1.0, 1.0, 0.19, 1.0]) == 60
    assert steps_taken([1.0, *[1.0] * 9, 0.19, 1.0]) == 60  # in its tenth step
    assert steps_taken([4.0, 4.0, 0.79, 4.0]) == 60  # close is a fifth of its first margin
    assert steps_taken([4.0, 4.0, 0.81, 4.0]) == 10


def test_a_fifth_of_the_margin_is_close_enough() -> None:
    assert steps_taken([1.0, 0.25], share=0.25) == 60


def test_the_margin_is_that_over_the_likeliest_other_class() -> None:
    seen: list[int] = []

    def three(x: Tensor) -> Tensor:
        """Its label leads one class by a little, and another by far."""
        seen.append(len(x))
        lead = 1.0 if len(seen) == 1 else 0.1
        return torch.tensor([[9.0, 9 - lead, 0.0]]) + 0 * x.flatten(1).sum(1, keepdim=True)

    attack = sm.APGD(sm.Linf(0.1), steps=60, patience=Patience())
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    attack(three, x, y, generator=torch.Generator())
    assert len(seen) == 61


def test_patience_is_what_it_says() -> None:
    assert steps_taken([1.0, 0.3], after=7, share=0.2) == 7
    assert steps_taken([1.0, 0.3], after=7, share=0.4) == 60


LINF, L2, L1 = sm.Linf(0.1), sm.L2(0.5), sm.L1(3)


@pytest.mark.parametrize(
    ("attack", "gives_up"),
    [
        (sm.APGD(LINF, steps=50), True),
        (sm.APGD(L2, steps=100, restarts=2), True),
        (sm.APGD(LINF, steps=49), False),
        (sm.APGD(L1, steps=100), False),
        (sm.APGD(LINF, steps=100, until_fooled=False), False),
        (sm.APGD(LINF, steps=100, loss="dlr"), False),
        (sm.APGD(LINF, steps=100, loss="margin"), False),
        (sm.APGD.targeted(LINF), False),
        (sm.APGD(LINF, steps=100, loss="margin-t"), False),
    ],
)
def test_only_where_that_changes_next_to_nothing_images_are_given_up(
    attack: sm.APGD, gives_up: bool
) -> None:
    brief = attack.giving_up()
    assert brief.patience == (Patience(after=10, share=0.2) if gives_up else None)
    assert ("gives up" in brief.describe()) == gives_up
    assert repr(brief) == repr(attack), "with patience images begin at the same points"
    if gives_up:
        assert brief.describe() == {**attack.describe(), "gives up": {"after": 10, "share": 0.2}}


def test_a_brief_benchmark_has_brief_attacks_and_is_otherwise_the_same() -> None:
    data = AtHand(torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
    attacks = [sm.APGD(LINF), sm.APGD(L1), sm.AutoAttack(L2)]
    whole = sm.Benchmark(data, attacks, seed=3, batch_size=5, name="val")
    brief = whole.giving_up()
    assert list(brief.attacks) == [sm.APGD(LINF, patience=Patience()), *attacks[1:]]
    assert {**brief.describe(), "attacks": 0} == {**whole.describe(), "attacks": 0}
    assert brief.describe()["attacks"]["linf:0.1"]["gives up"] == {"after": 10, "share": 0.2}


def test_giving_up_spares_images_and_steps_and_changes_nothing_else() -> None:
    """What falls to the brief attack falls to the whole one, at the same point."""
    network, x = (
        small_network(),
        torch.rand(30, 3, 4, 4, generator=torch.Generator().manual_seed(3)),
    )
    y = network(x).argmax(1)
    network.double()
    asked: list[int] = []

    def watched(z: Tensor) -> Tensor:
        asked.append(len(z))
        return network(z)

    attack = sm.APGD(sm.Linf(0.015), steps=50)
    whole = attack(watched, x.double(), y, generator=streams(30))
    cost = sum(asked)
    short = attack.giving_up()(watched, x.double(), y, generator=streams(30))
    fell = network(short).argmax(1) != y
    assert 3 < int(fell.sum()) < 27
    torch.testing.assert_close(short[fell], whole[fell])
    assert sum(asked) - cost < 0.8 * cost
