"""The plane through three checkpoints: where they and their mixtures lie."""

from __future__ import annotations

from itertools import combinations
from math import dist
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.weights.plane import Plane, plane_through
from tests.shared import near

LENGTHS = st.floats(1e-3, 1e3)


def vector(ingredients: sm.Ingredients, state: Any) -> torch.Tensor:
    return torch.cat([state[name].double().reshape(-1) for name in ingredients.mixed])


def save_three(home: Path, *states: Any) -> sm.Ingredients:
    paths = [home / f"{name}.safetensors" for name in "xyz"]
    for path, state in zip(paths, states, strict=True):
        sm.save(path, state, model="digits-cnn?width=4")
    return sm.load(*paths)


@given(LENGTHS, st.floats(-1e3, 1e3), LENGTHS)
def test_at_the_checkpoints_coefficients_are_one_hot(d: float, p: float, q: float) -> None:
    plane = Plane(d, p, q)
    assert [plane.coefficients(*place) for place in plane.places] == [
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0),
    ]


@given(LENGTHS, st.floats(-1e3, 1e3), LENGTHS, st.floats(-9, 9), st.floats(-9, 9))
def test_coefficients_lead_back_to_the_place(
    d: float, p: float, q: float, x: float, y: float
) -> None:
    plane = Plane(d, p, q)
    weights = plane.coefficients(x, y)
    size = max(1.0, *map(abs, weights))
    assert sum(weights) == pytest.approx(1, abs=1e-12 * size)
    found = [
        sum(w * place[axis] for w, place in zip(weights, plane.places, strict=True))
        for axis in (0, 1)
    ]
    assert found == pytest.approx([x, y], abs=1e-9 * size * max(d, abs(p), q))


def test_distances_on_the_plane_are_distances_of_weights(ingredients: sm.Ingredients) -> None:
    plane = plane_through(ingredients)
    rows = [vector(ingredients, ingredient) for ingredient in ingredients]
    for i, j in combinations(range(3), 2):
        there = dist(plane.places[i], plane.places[j])
        assert there == pytest.approx(float((rows[i] - rows[j]).norm()), rel=1e-9)


def test_a_point_is_the_origin_plus_steps_along_two_directions(ingredients: sm.Ingredients) -> None:
    plane = plane_through(ingredients)
    one, two, three = (vector(ingredients, ingredient) for ingredient in ingredients)
    u = (two - one) / (two - one).norm()
    v = (three - one) - ((three - one) @ u) * u
    v = v / v.norm()
    for x, y in ((0.3, 0.4), (-0.5, 2.0), (plane.d, -plane.q)):
        recipe = sm.Recipe.of(ingredients, plane.coefficients(x, y), affine=True, buffers="base")
        found = vector(ingredients, sm.mix(ingredients, recipe))
        assert torch.allclose(found, one + x * u + y * v, atol=1e-6)


def test_checkpoints_at_their_places_are_themselves_bit_for_bit(
    ingredients: sm.Ingredients,
) -> None:
    plane = plane_through(ingredients)
    for k, place in enumerate(plane.places):
        state = sm.mix(ingredients, sm.Recipe.of(ingredients, plane.coefficients(*place), base=k))
        assert all(torch.equal(state[name], ingredients[k][name]) for name in state)


def test_a_line_is_no_plane(net: nn.Module, tmp_path: Path) -> None:
    a, b = near(net, 1), near(net, 2)
    middle = {n: ((a[n].double() + b[n].double()) / 2).to(a[n].dtype) for n in a}
    with pytest.raises(InputError, match="on one line") as caught:
        plane_through(save_three(tmp_path, a, b, middle))
    assert "x.safetensors" in str(caught.value)
    assert caught.value.fix


@pytest.mark.filterwarnings("ignore:.*are the same weights")
def test_the_same_weights_twice_are_no_plane(net: nn.Module, tmp_path: Path) -> None:
    a, b = near(net, 1), near(net, 2)
    with pytest.raises(InputError, match="same weights") as caught:
        plane_through(save_three(tmp_path, a, b, b))
    assert "y.safetensors and" in str(caught.value)
    assert "x.safetensors" not in str(caught.value)


def test_a_plane_takes_three(ingredients: sm.Ingredients) -> None:
    with pytest.raises(UsageError, match="three"):
        plane_through(sm.load(ingredients[0].ref, ingredients[1].ref))
