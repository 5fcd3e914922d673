"""Families of coefficients: numpy and torch agree, corners are exact, and what lies between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from soupmerge.choices import FAMILIES, implementation
from soupmerge.weights.families import Family, SoftmaxCurved, SoftmaxLinear, coefficients
from soupmerge.weights.tensors import Array

NUMBERS = st.floats(-8, 8, width=32)


def family_of(name: str) -> Family:
    family: Family = implementation(FAMILIES, name, "family")()
    return family


def softmax(logits: Array) -> Array:
    powers = np.exp(logits)
    result: Array = powers / powers.sum(-1, keepdims=True)
    return result


def moved(family: Family, logits: Array, seed: int) -> dict[str, Array]:
    """Return the parameters at *logits*, each of them moved a little, as learning would."""
    draw = np.random.default_rng(seed)
    return {n: p + draw.normal(size=p.shape) for n, p in family.start(logits).items()}


@st.composite
def cases(draw: Any) -> tuple[Array, list[float]]:
    """Draw logits ``(T, G, K)`` and a preference ``(T,)``, which may have shares of 0."""
    t, g, k = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    logits = draw(arrays.arrays(np.float64, (t, g, k), elements=NUMBERS))
    parts = draw(st.lists(st.integers(0, 5), min_size=t, max_size=t).filter(any))
    return logits, [part / sum(parts) for part in parts]


@pytest.mark.parametrize("name", FAMILIES)
@given(case=cases(), seed=st.integers(0, 99))
def test_numpy_writes_what_torch_learns(
    name: str, case: tuple[Array, list[float]], seed: int
) -> None:
    """In float64; and every row sums to 1."""
    family, (logits, at) = family_of(name), case
    ours = moved(family, logits, seed)
    theirs = {n: torch.tensor(p) for n, p in ours.items()}
    found = coefficients(family, family.rows(ours, at, np), np)
    expected = coefficients(family, family.rows(theirs, at, torch), torch)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)
    assert found.shape == logits.shape[1:]
    if not family.affine:
        assert (found >= 0).all()


@pytest.mark.parametrize("name", FAMILIES)
@given(case=cases())
def test_the_start_has_a_soup_of_its_own_at_each_corner(
    name: str, case: tuple[Array, list[float]]
) -> None:
    family, (logits, _) = family_of(name), case
    for at, corner in zip(np.eye(len(logits)).tolist(), logits, strict=True):
        found = coefficients(family, family.rows(family.start(logits), at, np), np)
        np.testing.assert_allclose(found, softmax(corner), rtol=1e-12, atol=1e-15)


# ---- between the corners


def shares(bends: Array, at: list[float]) -> Array:
    """Return the shares c ``(G, T)`` of a curved family: its logits at corner t are e_t."""
    t, g = bends.shape
    logits = np.repeat(np.eye(t)[:, None], g, axis=1)
    found: Array = SoftmaxCurved().rows({"logits": logits, "bends": bends}, at, np)
    return found


@given(bends=arrays.arrays(np.float64, (2, 3), elements=st.floats(-3, 3)))
def test_a_curve_is_monotone_from_corner_to_corner(bends: Array) -> None:
    """Shares of the second corner, by rising preference for it; they always sum to 1."""
    curve = np.array([shares(bends, [1 - s, s]) for s in np.linspace(0, 1, 21).tolist()])
    np.testing.assert_allclose(curve.sum(-1), 1, rtol=1e-12)
    assert (np.diff(curve[..., 1], axis=0) >= 0).all()
    assert np.array_equal(curve[[0, -1]], [[[1, 0]] * 3, [[0, 1]] * 3])


def test_curves_by_hand() -> None:
    """Straight at b = 0; c ∝ λ ** exp(b), so that b = log 2 squares the share."""
    even, squared = np.zeros((2, 1)), np.log([[1.0], [2.0]])
    assert shares(even, [0.25, 0.75])[0].tolist() == [0.25, 0.75]
    np.testing.assert_allclose(shares(squared, [0.5, 0.5])[0], [2 / 3, 1 / 3])
    np.testing.assert_allclose(shares(np.zeros((3, 1)), [0.2, 0.3, 0.5])[0], [0.2, 0.3, 0.5])


def test_a_curved_family_without_bends_is_the_linear_one() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 2, 4))
    for at in ([0.2, 0.3, 0.5], [0.0, 0.6, 0.4], [0.0, 1.0, 0.0]):
        linear = SoftmaxLinear().rows({"logits": logits}, at, np)
        curved = SoftmaxCurved().rows(SoftmaxCurved().start(logits), at, np)
        np.testing.assert_allclose(curved, linear, rtol=1e-14)


def test_an_affine_family_is_a_straight_line_that_may_leave_the_simplex() -> None:
    """Rows whose sum is not 1 are moved along (1, …, 1): (2.5, −0.5) has a sum of 2."""
    family = family_of("affine")
    rows = {"rows": np.array([[[2.5, -0.5]], [[0.0, 1.0]]])}
    ends = [family.rows(rows, at, np)[0].tolist() for at in ([1, 0], [0.5, 0.5], [0, 1])]
    assert ends == [[2.0, -1.0], [1.0, 0.0], [0.0, 1.0]]
