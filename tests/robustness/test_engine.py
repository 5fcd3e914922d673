"""Batches that stay full, examples that try again, memory that ends: the verdicts stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.robustness import engine
from soupmerge.robustness.losses import margin
from soupmerge.robustness.rules import Fixed
from soupmerge.types import Batch
from tests.robustness.cases import Recorder, right, small_network, streams, threshold

THREATS = [sm.Linf(0.02), sm.L2(0.1), sm.L1(0.4)]
"""Radii at which some images of the small network hold and some fall."""

FORMS: list[tuple[sm.Threat, dict[str, Any]]] = [
    *((threat, {}) for threat in THREATS),
    (THREATS[1], {"until_fooled": False}),
    (THREATS[2], {"loss": "dlr", "restarts": 3}),
    (THREATS[0], {"loss": "dlr-t", "targets": 4}),
    (THREATS[1], {"loss": "margin-t", "targets": 2, "restarts": 2}),
]


@pytest.fixture(scope="module")
def exact() -> nn.Module:
    """A network in float64, where rounding that depends on the batch size decides nothing."""
    return small_network().double()


@pytest.fixture(scope="module")
def batch(exact: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    return x, exact(x).argmax(1)


def streamed(attack: Any, net: Any, x: Tensor, y: Tensor, width: int) -> tuple[Tensor, list[int]]:
    """Return adversarial images made *width* at a time, and how many went through at once."""
    order, generators = list(range(len(x)))[::-1], streams(len(x))
    seen = Recorder(net)

    def feed(count: int) -> Batch | None:
        some = [order.pop() for _ in range(min(count, len(order)))]
        places = torch.tensor(some)
        return Batch(places, x[places], y[places], [generators[i] for i in some]) if some else None

    out = torch.full_like(x, torch.nan)
    for finished in attack.propose(seen, feed, width=width):
        assert bool(out[finished.indices].isnan().all()), "an image leaves once"
        assert torch.equal(
            finished.fooled, ~right(net, finished.x_adv, y[finished.indices]) & attack.until_fooled
        )
        out[finished.indices] = finished.x_adv
    sizes = zip(seen.points, seen.with_gradient, strict=True)
    return out, [len(points) for points, gradient in sizes if gradient]


@pytest.mark.parametrize(("threat", "form"), FORMS, ids=str)
def test_an_adversarial_image_depends_on_no_other_example(
    exact: nn.Module, batch: tuple[Tensor, Tensor], threat: sm.Threat, form: dict[str, Any]
) -> None:
    x, y = batch
    attack = sm.APGD(threat, steps=8, **form)
    whole = attack(exact, x, y, generator=streams(len(x)))
    assert 0 < int(right(exact, whole, y).sum()) < len(y), "some hold, some fall"
    for width in (16, 5):
        found, seen = streamed(attack, exact, x, y, width)
        assert max(seen) <= width
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("form", "rounds"),
    [
        ({}, 1),
        ({"restarts": 4}, 4),
        ({"loss": "dlr-t", "targets": 5}, 5),
        ({"loss": "dlr-t", "targets": 3, "restarts": 2}, 6),
        ({"loss": "dlr-t", "targets": 20}, 9),  # of ten classes
    ],
    ids=str,
)
@pytest.mark.parametrize("width", [3, 8])
def test_restarts_and_targets_are_counted_for_each_image(
    form: dict[str, Any], rounds: int, width: int
) -> None:
    """Without a gradient an image stays where it began, so each climb is one point."""
    greys = torch.linspace(0.2, 0.8, 8)
    x = greys.view(-1, 1, 1, 1).expand(8, 3, 4, 4).contiguous()
    points: list[set[tuple[float, ...]]] = [set() for _ in greys]

    def holding(z: Tensor) -> Tensor:
        flat = z.flatten(1)
        for image in flat.detach():
            whose = int((image.mean() - greys).abs().argmin())
            points[whose].add(tuple(image.tolist()))
        lead = nn.functional.one_hot(torch.zeros(len(z), dtype=torch.long), 10)
        return lead + 0 * flat.sum(1, keepdim=True)

    attack = sm.APGD(sm.Linf(0.01), steps=3, **form)
    streamed(attack, holding, x, torch.zeros(8, dtype=torch.long), width)
    climbs = [own - {tuple(image.flatten().tolist())} for own, image in zip(points, x, strict=True)]
    assert [len(own) for own in climbs] == [rounds] * 8


def test_an_image_that_falls_takes_no_further_restart(
    exact: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    asked = Recorder(exact)
    attack = sm.APGD(sm.Linf(0.5), steps=10, restarts=5)
    found = attack(asked, x, y, generator=streams(len(x)))
    assert not bool(right(exact, found, y).any())
    assert sum(map(len, asked.points)) < 11 * len(x)


@pytest.mark.parametrize("width", [8, 48])
def test_batches_stay_full_and_nothing_is_computed_for_what_has_fallen(width: int) -> None:
    """Images that fall at random steps leave places, which others take before many are free."""
    n, noise = 4 * width, torch.Generator().manual_seed(0)
    y, x = torch.zeros(n, dtype=torch.long), torch.rand(n, 1, 2, 2, generator=noise)
    attack = sm.PGD(sm.Linf(0.2), steps=20, step=0.02)
    found, seen = streamed(attack, lambda z: z.flatten(1)[:, :2], x, y, width)
    fallen = int((found.flatten(1)[:, 0] < found.flatten(1)[:, 1]).sum())
    assert n / 2 <= fallen < n
    assert min(seen[: len(seen) // 3]) > width - max(1, width // 16)
    assert sum(seen) <= (n - fallen) * 21 + fallen * 8


@pytest.mark.parametrize(("width", "sizes"), [(32, [32, 31]), (34, [34, 33, 32])])
def test_new_examples_join_when_a_sixteenth_of_the_batch_is_free(
    width: int, sizes: list[int]
) -> None:
    """One example falls in each pass; those that join in their place fall late."""
    starts = torch.cat([0.495 - 0.01 * torch.arange(width), torch.full((width,), 0.1)])

    class Line:
        def take(self, count: int) -> engine.NewExamples | None:
            nonlocal starts
            some, starts = starts[:count].view(-1, 1, 1, 1), starts[count:]
            labels = torch.zeros(len(some), dtype=torch.long)
            return engine.NewExamples(some, labels, labels, labels, some) if len(some) else None

        def requeue(self, state: engine.AttackState, unsuccessful: Tensor) -> Tensor:
            return torch.zeros_like(unsuccessful)

    asked, rule = Recorder(threshold), Fixed(sm.Linf(1), 0.01)
    settings: dict[str, Any] = {"loss": margin, "until_fooled": True, "width": width}
    assert list(engine.run(asked, Line(), rule, steps=20, **settings))
    assert [len(points) for points in asked.points[:10]] == [width, *sizes * 4, width][:10]


def test_leaving_early_changes_no_verdict(exact: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """It leaves with its first wrong answer, which it would have met anyway."""
    x, y = batch
    short = sm.APGD(sm.Linf(0.02), steps=20)(exact, x, y, generator=streams(len(x)))
    asked = Recorder(exact)
    whole = sm.APGD(sm.Linf(0.02), steps=20, until_fooled=False)
    whole(asked, x, y, generator=streams(len(x)))
    assert len(asked.points) == 21
    wrong = torch.stack([~right(exact, points, y) for points in asked.points])
    assert torch.equal(wrong.any(0), ~right(exact, short, y))
    first = wrong.int().argmax(0)
    for i in wrong.any(0).nonzero().flatten().tolist():
        torch.testing.assert_close(short[i], asked.points[first[i]][i])


def test_what_does_not_fall_leaves_at_its_highest_loss(
    exact: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    asked = Recorder(exact)
    attack = sm.PGD(sm.L2(0.3), steps=12, step=0.25, until_fooled=False)
    found = attack(asked, x, y, generator=streams(len(x)))
    losses = torch.stack(
        [nn.functional.cross_entropy(exact(p), y, reduction="none") for p in asked.points]
    )
    best = losses.argmax(0)
    assert int((best < 12).sum()) > 0, "the last point is not always the best"
    assert torch.equal(found, torch.stack(asked.points)[best, torch.arange(len(x))])


def test_logits_that_are_not_finite_fool_and_a_gradient_of_nan_is_zero() -> None:
    """One pixel has no gradient, the other leads to where logits overflow."""

    def fragile(z: Tensor) -> Tensor:
        a, b = z.flatten(1).unbind(1)
        broken = torch.where(a.detach() > 0.6, torch.inf, 1.0)
        return torch.stack([broken + 1 - a + 0 * (b * 0).sqrt(), a], 1)

    x, y = torch.full((3, 1, 1, 2), 0.55), torch.zeros(3, dtype=torch.long)
    found = sm.PGD(sm.Linf(0.1), steps=5, step=0.04)(fragile, x, y, generator=streams(3))
    assert bool(torch.isfinite(found).all())
    assert bool((found[..., 0] > 0.6).all())
    assert sm.Linf(0.1).contains(found, x).all()


def test_memory_that_ends_halves_the_batch_and_changes_no_verdict(
    exact: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    sizes: list[int] = []

    def small(z: Tensor) -> Tensor:
        sizes.append(len(z))
        if len(z) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return exact(z)

    attack = sm.APGD(sm.Linf(0.02), steps=10, until_fooled=False)
    expected = attack(exact, x, y, generator=streams(len(x)))
    found = attack(small, x, y, generator=streams(len(x)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert sizes[:7] == [24, 12, 6, 6, 12, 6, 6]

    def none(z: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory (not really)")

    with pytest.raises(torch.OutOfMemoryError):
        attack(none, x, y, generator=streams(len(x)))


@pytest.mark.parametrize("attack", [sm.APGD(THREATS[0], 5), sm.PGD(THREATS[1], 5)], ids=str)
def test_an_attack_touches_neither_its_input_nor_the_process(
    batch: tuple[Tensor, Tensor], attack: Any
) -> None:
    network = small_network().requires_grad_(True)
    x, y = batch[0].float(), batch[1]
    given, random = x.clone(), torch.get_rng_state()
    found = attack(network, x, y, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, given)
    assert not found.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert attack(network, x[:0], y[:0], generator=torch.Generator()).shape == x[:0].shape
