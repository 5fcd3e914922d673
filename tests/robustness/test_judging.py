"""One classifier before the judge: noise, proposals in bfloat16, what a ledger keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.robustness.adversarial_cache import AdversarialCache
from soupmerge.schedule import stream
from soupmerge.types import Finished
from tests.robustness.cases import (
    AtHand,
    Kept,
    Recorder,
    Streaming,
    Stub,
    pixels,
    small_network,
    threshold,
)
from tests.shared import Stop

LINF = sm.Linf(1)
KEY = "linf:1 0"
"""Under which the ledger keeps verdicts of the first attack's first stage."""


@dataclass(frozen=True, eq=False)
class Noise(Stub):
    """An attack that does nothing but draw from each image's generator."""

    drawn: dict[float, list[float]] = field(default_factory=dict, repr=False)
    met: list[float] = field(default_factory=list, repr=False)

    def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        for value, own in zip(x.flatten().tolist(), generator, strict=True):
            self.drawn[value] = torch.rand(3, generator=own).tolist()
            self.met.append(value)
        return x


class StreamedNoise(Noise):
    """The same, which asks for images as there is room for them."""

    def propose(self, classifier: Any, feed: Any, *, width: int) -> Iterator[Finished]:
        while (batch := feed(width)) is not None:
            found = self(classifier, batch.x, batch.y, generator=batch.generator)
            yield Finished(batch.indices, found, torch.zeros(len(found), dtype=torch.bool))


@pytest.mark.parametrize("kind", [Noise, StreamedNoise])
def test_an_image_s_noise_depends_on_seed_attack_and_id_alone(kind: type[Noise]) -> None:
    """Neither on its place, nor on the batch, nor on which other images there are."""
    values = [i / 32 for i in range(1, 13)]
    ids = [f"scan-{i}" for i in range(12)]
    x = torch.tensor(values).view(-1, 1, 1, 1)
    turned, some = torch.arange(12).flip(0), torch.tensor([7, 2, 9])

    def drawn(indices: Tensor, name: str = "stub", **settings: Any) -> dict[float, list[float]]:
        attack = kind(LINF, name=name)
        own = [ids[i] for i in indices.tolist()]
        data = AtHand(x[indices], torch.zeros(len(indices), dtype=torch.long), own)
        sm.Benchmark(data, [attack], **settings)(threshold)
        return attack.drawn

    whole = drawn(torch.arange(12))
    assert len({tuple(noise) for noise in whole.values()}) == 12
    for other in (drawn(turned), drawn(torch.arange(12), batch_size=5)):
        assert other == whole
    assert drawn(some) == {values[i]: whole[values[i]] for i in some.tolist()}
    attack = kind(LINF, name="stub")
    for value, id in zip(values, ids, strict=True):
        assert whole[value] == torch.rand(3, generator=stream(0, attack, id)).tolist()
    for changed in (drawn(torch.arange(12), seed=1), drawn(torch.arange(12), name="other")):
        assert not any(changed[value] == whole[value] for value in values)


def test_a_verdict_depends_neither_on_batches_nor_on_order() -> None:
    network, x = (
        small_network(),
        torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(1)),
    )
    y = network(x).argmax(1)
    network.double()
    attacks = [sm.preset("apgd-ce+t", sm.Linf(0.015), 6)]
    judge = sm.Benchmark(AtHand(x.double(), y), attacks)
    ids = [f"image {i}" for i in range(20)][::-1]
    backwards = AtHand(x.double().flip(0), y.flip(0), ids)
    whole = judge(network).right("union")
    assert 0 < int(whole.sum()) < 20
    assert torch.equal(whole, replace(judge, batch_size=6)(network).right("union"))
    assert torch.equal(whole, replace(judge, data=backwards)(network).right("union").flip(0))


class Autocasting(Recorder):
    """A recorder that keeps, too, whether it was asked in bfloat16."""

    def __init__(self, classifier: Callable[[Tensor], Tensor]) -> None:
        super().__init__(classifier)
        self.in_bf16: list[bool] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.in_bf16.append(torch.is_autocast_enabled("cpu"))
        return super().__call__(x)


@dataclass(frozen=True, eq=False)
class Proposing(Streaming):
    """It claims to have fooled what it has not; asked again, in float32, it fools *second*."""

    second: tuple[float, ...] = ()
    runs: list[list[float]] = field(default_factory=list, repr=False)

    def propose(self, classifier: Any, feed: Any, *, width: int) -> Iterator[Finished]:
        self.runs.append([])
        for finished in super().propose(classifier, feed, width=width):
            found, fooled = finished.x_adv.clone(), finished.fooled
            self.runs[-1].extend(finished.indices.tolist())
            classifier(found)
            if len(self.runs) == 2:
                fooled = torch.isin(found.flatten(), torch.tensor(self.second))
                found[fooled] = 1.0
            yield Finished(finished.indices, found, fooled)


def proposing(n: int, claimed: list[int], second: list[int]) -> tuple[AtHand, Proposing]:
    values = torch.arange(1, n + 1) / (4 * n)

    def claims(x: Tensor) -> Tensor:
        return torch.isin(x.flatten(), values[claimed])

    attack = Proposing(LINF, claims=claims, second=tuple(values[second].tolist()))
    return pixels(values.tolist()), attack


def test_what_bf16_claims_and_float32_disputes_is_attacked_again_in_float32() -> None:
    """Beside a sample of what holds in both, in float32; what falls then is not robust."""
    data, attack = proposing(40, claimed=[3, 5, 30], second=[5, 30])
    asked = Autocasting(threshold)
    report = sm.Benchmark(data, [attack], precision="bf16", batch_size=9)(asked)
    first, again = attack.runs
    assert first == list(range(40))
    assert {3, 5, 30} < set(again)
    assert again == sorted(again)
    assert len(again) == 3 + 16, "sixteen of the survivors, and all that is disputed"
    assert (~report.right("linf:1")).nonzero().flatten().tolist() == [5, 30]
    assert report.notes["float32"] == {
        "linf:1": {"precision": "bf16", "survivors": 37, "rechecked": 16, "fell": 0}
    }
    # The attack asks in bfloat16, then in float32; verdicts are confirmed in float32 at once.
    marks = [len(points) for points, half in zip(asked.points, asked.in_bf16, strict=True) if half]
    assert sum(marks) == 40
    assert asked.in_bf16[-1] is False


def test_what_falls_in_float32_alone_is_counted_and_not_robust() -> None:
    data, attack = proposing(10, claimed=[2], second=[2, 4, 7])
    report = sm.Benchmark(data, [attack], precision="bf16")(threshold)
    assert (~report.right("linf:1")).nonzero().flatten().tolist() == [2, 4, 7]
    found = report.notes["float32"]["linf:1"]
    assert found == {"precision": "bf16", "survivors": 9, "rechecked": 9, "fell": 2}


@pytest.mark.parametrize(("n", "rechecked"), [(12, 12), (170, 17), (300, 30), (700, 64)])
def test_one_survivor_in_ten_is_attacked_again_but_no_fewer_than_16_and_no_more_than_64(
    n: int, rechecked: int
) -> None:
    samples = []
    for seed in (0, 0, 1):
        data, attack = proposing(n, claimed=[], second=[])
        sm.Benchmark(data, [attack], precision="bf16", seed=seed, batch_size=1024)(threshold)
        samples.append(attack.runs[1])
        assert len(attack.runs[1]) == rechecked
    assert samples[0] == samples[1]
    assert (samples[0] == samples[2]) == (n == rechecked)


def test_in_float32_every_image_is_attacked_once() -> None:
    data, attack = proposing(10, claimed=[2], second=[2])
    asked = Autocasting(threshold)
    report = sm.Benchmark(data, [attack])(asked)
    assert attack.runs == [list(range(10))]
    assert report.correct("linf:1") == 10, "a claim is no verdict"
    assert not any(asked.in_bf16)
    assert report.notes == {}


def test_proposals_are_confirmed_a_quarter_of_a_batch_at_a_time() -> None:
    asked = Recorder(threshold)
    attack = sm.APGD(sm.Linf(0.1), steps=4)
    sm.Benchmark(pixels([0.1] * 5 + [0.45] * 20), [attack], batch_size=12)(asked)
    confirmed = [len(p) for p, g in zip(asked.points, asked.with_gradient, strict=True) if not g]
    assert confirmed[:4] == [1, 12, 12, 1], "probed, and clean"
    assert all(size >= 3 for size in confirmed[4:-1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_evaluation_repeats_no_verdict(precision: str) -> None:
    network, x = (
        small_network(),
        torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(1)),
    )
    attacks = [sm.APGD(sm.Linf(0.015), steps=6), sm.preset("apgd-ce+t", sm.L2(0.1), 6)]
    data = AtHand(x, network(x).argmax(1))
    judge = sm.Benchmark(data, attacks, batch_size=8, precision=precision)
    ledger = Kept()
    whole = judge(network, ledger=ledger)
    assert judge(network, ledger=ledger).cost["gradient_evaluations"] == 0
    costs = []
    for most in (1, ledger.adds // 2, ledger.adds - 1):
        broken = Kept(most)
        with pytest.raises(Stop):
            judge(network, ledger=broken)
        again = judge(network, ledger=broken)
        assert again == whole
        assert again.notes == whole.notes
        costs.append(again.cost["gradient_evaluations"])
    assert whole.cost["gradient_evaluations"] == costs[0] > costs[1] > 2 * costs[2]


def test_what_a_ledger_holds_is_not_asked_again() -> None:
    """Neither clean nor under attack: what it says counts, though it is not so."""
    data, attack = pixels([0.1, 0.2, 0.3, 0.4]), StreamedNoise(LINF)
    ledger = Kept(kept={"clean": {0: True, 1: False}, KEY: {0: False, 2: True}})
    report = sm.Benchmark(data, [attack])(threshold, ledger=ledger)
    assert report.right("clean").tolist() == [True, False, True, True]
    assert report.right("linf:1").tolist() == [False, False, True, True]
    assert attack.met == pytest.approx([0.4])
    assert ledger.kept == {
        "clean": {0: True, 1: False, 2: True, 3: True},
        KEY: {0: False, 2: True, 3: True},
    }


def test_an_attack_that_draws_for_a_batch_meets_the_batches_of_an_unbroken_run() -> None:
    """All of a batch of which one verdict is missing; a batch that is whole is left alone."""
    data, attack = pixels([0.1, 0.2, 0.3, 0.4, 0.45]), Noise(LINF)
    ledger = Kept(kept={KEY: {0: True, 1: True, 2: False, 4: True}})
    report = sm.Benchmark(data, [attack], batch_size=2)(threshold, ledger=ledger)
    assert attack.met == pytest.approx([0.3, 0.4])
    assert report.right("linf:1").tolist() == [True, True, True, True, True]


def test_disputes_are_kept_too() -> None:
    data, attack = proposing(10, claimed=[2, 3], second=[])
    ledger = Kept()
    sm.Benchmark(data, [attack], precision="bf16")(threshold, ledger=ledger)
    assert ledger.kept[f"{KEY} bf16 claims"] == {2: True, 3: True}
    again = proposing(10, claimed=[], second=[2])[1]
    del ledger.kept[KEY]  # so that the attack in float32 is all that is left
    report = sm.Benchmark(data, [again], precision="bf16")(threshold, ledger=ledger)
    assert again.runs == [[], list(range(10))]
    assert report.right("linf:1").tolist() == [i != 2 for i in range(10)]
    found = report.notes["float32"]["linf:1"]
    assert found == {"precision": "bf16", "survivors": 8, "rechecked": 8, "fell": 0}


def test_what_fooled_one_classifier_is_tried_on_the_next_first() -> None:
    """One forward evaluation an image; the noise attack meets only images that withstood it."""
    data = pixels([0.1, 0.2, 0.3, 0.4], labels=[0, 0, 0, 0])
    cache = AdversarialCache()
    breaking = Stub(LINF, lambda x: torch.where(x < 0.25, x + 0.6, x))
    sm.Benchmark(data, [breaking])(threshold, cache=cache)
    kept = {id: image.item() for id, image in cache.by_threat["linf:1"].items()}
    assert kept == pytest.approx({"image 0": 0.7, "image 1": 0.8})

    def later(x: Tensor) -> Tensor:
        return threshold(x - 0.25)

    attack, asked = Noise(LINF), Recorder(later)
    report = sm.Benchmark(data, [attack], batch_size=1)(asked, cache=cache)
    assert report.right("linf:1").tolist() == [True, False, True, True]
    assert attack.met == pytest.approx([0.1, 0.3, 0.4])
    assert cache.by_threat["linf:1"]["image 0"].item() == pytest.approx(0.7)
    other = sm.Benchmark(data, [Noise(sm.Linf(0.9))])(threshold, cache=cache)
    assert other.correct("linf:0.9") == 4, "of that threat nothing is kept"


def test_what_fooled_before_is_no_verdict_until_it_is_confirmed() -> None:
    data, harmless, strange = pixels([0.1, 0.2]), AdversarialCache(), AdversarialCache()
    judge = sm.Benchmark(data, [Stub(sm.Linf(0.1))])
    harmless.keep("linf:0.1", data.ids, data.x)
    assert judge(threshold, cache=harmless).correct("linf:0.1") == 2
    strange.keep("linf:0.1", data.ids[1:], data.x[1:] + 0.4)
    with pytest.raises(InputError, match="left its threat model linf:0.1 on 1 of 1 images"):
        judge(threshold, cache=strange)


def test_what_is_kept_goes_through_a_state_and_takes_the_last() -> None:
    cache, x = AdversarialCache(), torch.rand(3, 1, 2, 2)
    cache.keep("linf:1", ["a", "b"], x[:2].double().requires_grad_())
    cache.keep("linf:1", ["b"], x[2:])
    cache.keep("l2:1", [], x[:0])
    assert cache.known("linf:1", ["c", "b", "a"]) == [1, 2]
    assert cache.known("l1:1", ["a"]) == []
    torch.testing.assert_close(cache.images("linf:1", ["b", "a"]), x[[2, 0]])
    again = AdversarialCache()
    again.restore(*cache.state())
    assert again.by_threat.keys() == {"linf:1"}
    torch.testing.assert_close(again.images("linf:1", ["a", "b"]), x[[0, 2]])
    assert not again.images("linf:1", ["a"]).requires_grad
    x[2] = 0.0
    assert bool(cache.images("linf:1", ["b"]).any()), "a copy is kept"


def test_a_ledger_s_robust_verdicts_stand_but_what_fools_is_found_again() -> None:
    data, cache = pixels([0.1, 0.2, 0.3]), AdversarialCache()
    ledger = Kept(kept={KEY: {0: True, 1: False}})
    attack = StreamedNoise(LINF)
    report = sm.Benchmark(data, [attack])(threshold, ledger=ledger, cache=cache)
    assert attack.met == pytest.approx([0.2, 0.3])
    assert report.correct("linf:1") == 3


def test_memory_that_ends_halves_what_is_judged() -> None:
    sizes: list[int] = []

    def small(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return threshold(x)

    data = pixels([0.1, 0.9, 0.2, 0.3, 0.8])
    assert sm.Benchmark(data)(small).right("clean").tolist() == [True, False, True, True, False]
    assert sizes == [1, 5, 3, 2, 1, 2]

    def none(x: Tensor) -> Tensor:
        if len(sizes) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        sizes.append(1)
        return threshold(x)

    with pytest.raises(torch.OutOfMemoryError):
        sm.Benchmark(data)(none)


def test_batch_norms_are_folded_for_proposals_in_bf16_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_bf16: list[bool] = []
    kept = nn.BatchNorm2d.forward

    def watched(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
        in_bf16.append(torch.is_autocast_enabled("cpu"))
        return kept(self, x)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", watched)
    layers = [nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)]
    net, x = nn.Sequential(*layers).eval(), torch.rand(6, 1, 2, 2)
    data = AtHand(x, net(x).argmax(1))
    attack = sm.APGD(sm.Linf(0.01), steps=2)
    report = sm.Benchmark(data, [attack], precision="bf16")(net)
    assert report.cost["gradient_evaluations"] >= 12
    assert in_bf16
    assert not any(in_bf16)
