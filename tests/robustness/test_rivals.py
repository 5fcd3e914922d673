"""The search and the noise that should not be stronger than an attack: what they ask and keep."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from soupmerge.robustness.attack_checks import best_noise, random_search
from soupmerge.robustness.losses import margin
from tests.robustness.cases import Recorder, small_network, threshold

THREATS = [sm.Linf(0.125), sm.L2(0.5), sm.L1(2.0)]
SIDE, QUERIES = 20, 100


@pytest.fixture
def grey() -> Tensor:
    return torch.full((3, 2, SIDE, SIDE), 0.5, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_search_starts_with_vertical_stripes_at_the_ball_s_face(grey: Tensor) -> None:
    asked = Recorder(threshold)
    y = torch.zeros(3, dtype=torch.long)
    random_search(asked, grey, y, THREATS[0], seeded(), QUERIES)
    stripes = asked.points[0] - grey
    assert stripes.abs().unique().tolist() == [0.125]
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))
    signs = stripes[:, :, 0].sign().flatten(0, 1)
    assert len({tuple(row.tolist()) for row in signs}) == 6, "drawn for each image and channel"
    assert 0.3 < float((signs > 0).float().mean()) < 0.7


def test_stripes_move_all_pixels_alike(grey: Tensor) -> None:
    asked = Recorder(threshold)
    random_search(asked, grey, torch.zeros(3, dtype=torch.long), THREATS[1], seeded(), 0)
    moved = (asked.points[0] - grey).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5 / (2 * SIDE**2) ** 0.5))


def test_squares_lie_in_the_image() -> None:
    """Of 24 channels, some have another sign than their stripe in every column."""
    asked = Recorder(lambda x: torch.ones(len(x), 2))
    x, y = torch.full((3, 24, SIDE, SIDE), 0.5), torch.zeros(3, dtype=torch.long)
    random_search(asked, x, y, THREATS[0], seeded(), 30)
    for i, points in enumerate(asked.points[1:]):
        side = max(1, round((0.8 * 2 ** (-8 * i / 30)) ** 0.5 * SIDE))
        moved = (points - asked.points[0]).abs().amax(1) > 1e-6
        assert moved.flatten(1).sum(1).tolist() == [side**2] * 3


def test_it_goes_on_with_squares_that_shrink_from_80_percent_to_a_pixel(grey: Tensor) -> None:
    """Each sets a square to one face of the ball, with a sign for each channel.

    Its area is 0.8 · 2^(−8 i / queries) of the image's.
    """
    asked = Recorder(lambda x: torch.ones(len(x), 2))  # nothing rises: each starts from stripes
    random_search(asked, grey, torch.zeros(3, dtype=torch.long), THREATS[0], seeded(), QUERIES)
    assert len(asked.points) == QUERIES + 1
    first, reached, signs = asked.points[0], [set(), set()], set()
    for i, points in enumerate(asked.points[1:]):
        side = max(1, round((0.8 * 2 ** (-8 * i / QUERIES)) ** 0.5 * SIDE))
        for point, stripes in zip(points, first, strict=True):
            moved = (point - stripes).abs().amax(0) > 1e-6
            rows, columns = moved.any(1).nonzero().flatten(), moved.any(0).nonzero().flatten()
            # Where a stripe has the sign already, nothing moves; the channels together show most.
            if len(columns):
                assert int(rows[-1] - rows[0]) + 1 == side
                assert int(columns[-1] - columns[0]) + 1 <= side
                square = point[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                for channel in range(2):
                    assert len(square[channel].unique()) == 1
                signs.add(tuple((square[:, 0, 0] > 0.5).tolist()))
                reached[0] |= set(rows.tolist())
                reached[1] |= set(columns.tolist())
    assert len(signs) == 4
    assert reached == [set(range(SIDE))] * 2


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("rival", [random_search, best_noise])
def test_what_a_rival_returns_is_its_best_question_and_inside(
    threat: sm.Threat, rival: object
) -> None:
    network, x = small_network(), torch.rand(6, 3, 4, 4, generator=seeded(1))
    y = network(x).argmax(1)
    asked = Recorder(network)
    found = rival(asked, x, y, threat, seeded(), 30)  # type: ignore[operator]
    margins = torch.stack([margin(network(points), y) for points in asked.points])
    assert torch.equal(margin(network(found), y), margins.amax(0))
    assert bool((margins.amax(0) > margin(network(x), y)).all())
    for points in asked.points:
        assert bool((threat.distance(points, x) <= threat.eps * (1 + 1e-5) + 1e-6).all())
        assert 0 <= float(points.min()) <= float(points.max()) <= 1
    again = rival(network, x, y, threat, seeded(), 30)  # type: ignore[operator]
    assert torch.equal(found, again)
    assert not torch.equal(found, rival(network, x, y, threat, seeded(1), 30))  # type: ignore[operator]
    assert not any(asked.with_gradient)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_search_goes_on_from_the_best_point(grey: Tensor, threat: sm.Threat) -> None:
    """Where every question is better than the last, each differs from it by a square alone."""
    asks = 0

    def rising(x: Tensor) -> Tensor:
        nonlocal asks
        asks += 1
        return torch.tensor([[0.0, float(asks)]]).repeat(len(x), 1)

    asked = Recorder(rising)
    y = torch.zeros(3, dtype=torch.long)
    found = random_search(asked, grey, y, threat, seeded(), QUERIES)
    assert torch.equal(found, asked.points[-1])
    if threat.norm == "linf":
        changed = (asked.points[-1] - asked.points[-2]).abs().amax(1) > 1e-6
        assert int(changed.flatten(1).sum(1).max()) <= 1
    # Twice eps along the square's direction, and back into the ball.
    assert bool((threat.distance(found, grey) > 0.9 * threat.eps).all())


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_noise_is_drawn_at_corners_and_as_attacks_start(grey: Tensor, threat: sm.Threat) -> None:
    """In turn, corners first; all as far as eps."""
    asked = Recorder(threshold)
    best_noise(asked, grey, torch.zeros(3, dtype=torch.long), threat, seeded(), 20)
    assert len(asked.points) == 20
    noise = torch.randn(grey.shape, generator=seeded()).double()
    corner = threat.project(grey + threat.eps * threat.steepest(noise), grey)
    assert torch.equal(asked.points[0], corner)
    for i, points in enumerate(asked.points):
        delta = points - grey
        torch.testing.assert_close(
            threat.distance(points, grey), torch.full((3,), threat.eps).double(), rtol=1e-4, atol=0
        )
        levels = len(delta[0].abs().round(decimals=6).unique())
        if threat.norm == "linf":
            assert (levels == 1) == (i % 2 == 0)
        if threat.norm == "l1":  # a corner moves its pixels alike
            assert (levels == 2) == (i % 2 == 0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("rival", [random_search, best_noise])
def test_logits_that_are_not_finite_are_the_best_that_can_be_found(
    grey: Tensor, rival: object, bad: float
) -> None:
    def breaks_once(x: Tensor) -> Tensor:
        nonlocal asks
        asks += 1
        z = torch.tensor([[1.0, asks / 100]]).repeat(len(x), 1)
        return z + (bad if asks == 3 else 0)

    asks = 0
    asked = Recorder(breaks_once)
    y = torch.zeros(3, dtype=torch.long)
    found = rival(asked, grey, y, THREATS[0], seeded(), 10)  # type: ignore[operator]
    assert torch.equal(found, asked.points[2])
