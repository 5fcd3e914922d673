"""Preferences between objectives: how they are drawn, and how they weigh losses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from soupmerge.schedule import stream
from soupmerge.soups.learn import preferences
from soupmerge.soups.learn.preferences import SMOOTHNESS, draw, used, weighted_sum
from soupmerge.weights.tensors import Array

N = 3000


def draws(objectives: int, corners: float) -> torch.Tensor:
    """Return the preferences ``(N, T)`` of N steps of a run."""
    steps = (stream("preference", 0, step) for step in range(N))
    rows = [draw(objectives, corners, generator) for generator in steps]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("objectives", "corners"), [(2, 0.3), (3, 0.5), (3, 0.0), (2, 1.0)])
def test_preferences_are_corners_or_uniform_on_the_simplex(objectives: int, corners: float) -> None:
    """Marginals of Dirichlet(1, …, 1) are Beta(1, T − 1); corners come equally often."""
    shares = draws(objectives, corners)
    torch.testing.assert_close(shares.sum(1), torch.ones(N).double())
    assert bool((shares >= 0).all())
    at_corner = shares.amax(1) == 1
    assert stats.binomtest(int(at_corner.sum()), N, corners).pvalue > 0.01
    if corners:
        assert stats.chisquare(shares[at_corner].sum(0).numpy()).pvalue > 0.01
    if corners < 1:
        for marginal in shares[~at_corner].T:
            assert stats.kstest(marginal.numpy(), stats.beta(1, objectives - 1).cdf).pvalue > 0.01


def test_a_preference_depends_on_seed_and_step_alone() -> None:
    assert draw(3, 0.0, stream("preference", 1, 2)) == draw(3, 0.0, stream("preference", 1, 2))
    assert draw(3, 0.0, stream("preference", 1, 2)) != draw(3, 0.0, stream("preference", 1, 3))
    assert draw(3, 0.0, stream("preference", 1, 2)) != draw(3, 0.0, stream("preference", 2, 2))


def test_a_single_objective_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw(1, 0.3, generator) == (1.0,)
    assert torch.equal(generator.get_state(), before)


def test_objectives_without_a_share_are_not_computed() -> None:
    assert used((0.0, 1.0)) == [1]
    assert used((0.4, 0.6)) == [0, 1]


# ---- scalarisations

T = 3
LOSSES = arrays.arrays("float64", T, elements=st.floats(0, 5))
SHARES = arrays.arrays("float64", T, elements=st.floats(0.01, 1)).map(lambda x: x / x.sum())


@given(losses=LOSSES, shares=SHARES, ideal=LOSSES)
def test_the_smooth_tchebycheff_is_nearly_the_maximum(
    losses: Array, shares: Array, ideal: Array
) -> None:
    """max ≤ value ≤ max + μ · log T; its gradient weighs the losses by a softmax."""
    inputs = [torch.tensor(x, requires_grad=True) for x in (losses, shares, ideal)]
    value = preferences.scalarisation("tchebycheff")(*inputs)
    distances = shares * (losses - ideal)
    above = value.item() - max(distances)
    assert -1e-12 <= above <= SMOOTHNESS * math.log(T) + 1e-12
    (gradient,) = torch.autograd.grad(value, inputs[0])
    expected = torch.tensor(shares) * torch.tensor(distances / SMOOTHNESS).softmax(0)
    torch.testing.assert_close(gradient, expected)


def test_the_smooth_tchebycheff_by_hand() -> None:
    """Two equal distances of 0.5 are ln 2 tenths above: documented as μ = 0.1."""
    shares, ideal = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 2.0])
    value = preferences.scalarisation("tchebycheff")(torch.tensor([2.0, 3.0]), shares, ideal)
    assert float(value) == pytest.approx(0.5 + 0.1 * math.log(2), rel=1e-6)


def test_the_weighted_sum_by_hand() -> None:
    losses, shares = torch.tensor([1.0, 3.0]), torch.tensor([0.25, 0.75])
    assert float(weighted_sum(losses, shares, torch.zeros(2))) == 2.5
    assert preferences.scalarisation("sum") is weighted_sum
