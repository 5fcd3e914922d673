"""What searches ask of a benchmark: to give up hopeless images, and to try what fooled before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.robustness.transfer import Fooling


def test_giving_up_can_only_spare_images_and_begins_at_the_same_points(
    kitchen: tuple[nn.Module, sm.Ingredients],
) -> None:
    net, pots = kitchen
    images = sm.data("digits", split="val", limit=60)
    full = sm.Benchmark(images, [sm.APGD(sm.Linf(0.15), steps=50)])
    bound = sm.bind(net, pots[0])
    whole, short = full(bound), full.brief()(bound)
    assert bool((short.right("union") | ~whole.right("union")).all())
    assert short.correct("union") - whole.correct("union") <= 1
    assert short.cost["gradient_evaluations"] < 0.7 * whole.cost["gradient_evaluations"]
    assert "gives up" in full.brief().describe()["attacks"]["linf:0.15"]
    assert repr(full.brief().attacks[0]) == repr(full.attacks[0])


def test_what_cannot_give_up_stays_as_it_is() -> None:
    few = sm.Benchmark(
        sm.data("digits", limit=4), [sm.APGD(sm.L1(1.0)), sm.AutoAttack(sm.Linf(0.1))]
    )
    assert few.brief() == few
    assert sm.APGD(sm.Linf(0.1), steps=49).brief() == sm.APGD(sm.Linf(0.1), steps=49)


def test_what_fooled_before_is_no_verdict_until_it_is_confirmed(
    kitchen: tuple[nn.Module, sm.Ingredients],
) -> None:
    net, pots = kitchen
    images = sm.data("digits", split="val", limit=20)
    judge, bound = sm.Benchmark(images, [sm.APGD(sm.Linf(0.1), steps=3)]), sm.bind(net, pots[0])
    x, _ = images.batch(torch.arange(20))
    harmless, strange = Fooling(), Fooling()
    harmless.keep("linf:0.1", images.ids, x)
    assert judge(bound, fooling=harmless) == judge(bound)
    strange.keep("linf:0.1", images.ids, 1 - x)
    with pytest.raises(InputError, match="left its threat model"):
        judge(bound, fooling=strange)
