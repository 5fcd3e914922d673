"""The sum: for any tensors, dtypes and coefficients, that of a plain loop in float64."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from soupmerge.weights.tensors import DType
from tests.weights.drawing import (
    FLOATS,
    QUIET,
    Drawn,
    State,
    affine,
    close,
    for_all,
    laws,
    mixes,
    numbers,
    reference,
    rows_of,
    same,
    soup,
)

pytestmark = QUIET


@laws
@given(drawn=mixes(row=affine))
def test_an_affine_soup_is_the_sum_of_a_plain_loop(drawn: Drawn) -> None:
    states, row = drawn
    assert same(soup(states, row), reference(states, for_all(row)))


@laws
@given(drawn=mixes(), dtype=st.sampled_from(FLOATS))
def test_a_soup_in_another_dtype_is_rounded_once(drawn: Drawn, dtype: torch.dtype) -> None:
    states, row = drawn
    wanted = DType(str(dtype).removeprefix("torch."))
    made = soup(states, row, dtype=wanted)
    assert same(made, reference(states, for_all(row), dtype=dtype))


def test_bfloat16_is_rounded_once_where_twice_would_show() -> None:
    just_above_half = 1 + 2.0**-8 + 2.0**-40
    states = [{"w": torch.tensor([just_above_half], dtype=torch.float64)}]
    assert soup(states, [1.0], dtype=DType("bfloat16"))["w"].item() == 1 + 2.0**-7


@laws
@given(drawn=mixes(alike=True), data=st.data())
def test_a_coefficient_of_one_returns_the_ingredient(drawn: Drawn, data: st.DataObject) -> None:
    states, _ = drawn
    k = data.draw(st.integers(0, len(states) - 1))
    assert same(soup(states, [float(i == k) for i in range(len(states))], base=k), states[k])


@laws
@given(drawn=mixes(row=affine, k=st.integers(2, 5)), data=st.data())
def test_a_coefficient_of_zero_is_absence(drawn: Drawn, data: st.DataObject) -> None:
    states, _ = drawn
    k = data.draw(st.integers(1, len(states) - 1))  # the first one sets the dtypes
    rest = states[:k] + states[k + 1 :]
    row = data.draw(rows_of(len(rest), affine))
    assert same(soup(states, [*row[:k], 0.0, *row[k:]]), soup(rest, row))


@laws
@given(drawn=mixes(alike=True, row=affine), data=st.data())
def test_the_order_of_ingredients_changes_one_rounding_at_most(
    drawn: Drawn, data: st.DataObject
) -> None:
    states, row = drawn
    order = data.draw(st.permutations(range(len(states))))
    made = soup(states, row)
    turned = soup([states[k] for k in order], [row[k] for k in order], base=order.index(0))
    assert close(made, turned, states, row)
    if len(states) <= 2:  # a sum of two is the same either way
        assert same(made, turned)


@laws
@given(drawn=mixes(alike=True))
def test_an_average_lies_between_its_ingredients(drawn: Drawn) -> None:
    states, row = drawn
    for name, tensor in soup(states, row).items():
        if tensor.is_floating_point():
            stack = torch.stack([state[name].double() for state in states])
            slack = torch.finfo(tensor.dtype).eps * tensor.double().abs()
            assert bool((tensor.double() >= stack.amin(0) - slack).all())
            assert bool((tensor.double() <= stack.amax(0) + slack).all())


@laws
@given(drawn=mixes(k=st.just(1)), n=st.integers(2, 7))
def test_a_uniform_soup_of_equal_files_is_that_file(drawn: Drawn, n: int) -> None:
    states, _ = drawn
    made = soup(states * n, [1 / n] * n)
    assert close(made, states[0], states, [1.0], roundings=n)
    narrow = [name for name, tensor in made.items() if tensor.dtype != torch.float64]
    assert same({m: made[m] for m in narrow}, {m: states[0][m] for m in narrow})


@laws
@given(drawn=mixes(dtypes=[torch.float64], row=affine), seed=st.integers(0, 99))
def test_the_soup_of_sums_is_the_sum_of_soups(drawn: Drawn, seed: int) -> None:
    states, row = drawn
    rng = np.random.default_rng(seed)
    floats = [{n: t for n, t in s.items() if t.is_floating_point()} for s in states]
    moves = [{n: numbers(rng, tuple(t.shape), t.dtype) for n, t in s.items()} for s in floats]
    moved = [{n: s[n] + m[n] for n in s} for s, m in zip(floats, moves, strict=True)]
    one, two = soup(floats, row), soup(moves, row)
    summed = {n: one[n] + two[n] for n in one}
    reach = [{n: s[n].abs() + m[n].abs() for n in s} for s, m in zip(floats, moves, strict=True)]
    assert close(soup(moved, row), summed, reach, row, roundings=2)


@laws
@given(drawn=mixes(dtypes=FLOATS[:2], alike=True, row=affine), power=st.integers(-3, 3))
def test_scaling_by_a_power_of_two_scales_the_soup_exactly(drawn: Drawn, power: int) -> None:
    states, row = drawn

    def scaled(state: State) -> State:
        return {n: t * 2.0**power if t.is_floating_point() else t for n, t in state.items()}

    assert same(soup([scaled(state) for state in states], row), scaled(soup(states, row)))


@laws
@given(drawn=mixes(alike=True, k=st.integers(2, 4)), data=st.data())
def test_a_soup_of_soups_is_one_soup_within_rounding(drawn: Drawn, data: st.DataObject) -> None:
    states, first = drawn
    second, outer = (data.draw(rows_of(n)) for n in (len(states), 2))
    twice = soup([soup(states, first), soup(states, second)], outer)
    product = [outer[0] * a + outer[1] * b for a, b in zip(first, second, strict=True)]
    once = soup(states, product)
    for name, tensor in once.items():
        if tensor.is_floating_point():
            kind, top = torch.finfo(tensor.dtype), torch.stack([s[name] for s in states])
            room = 3 * (kind.eps * top.double().abs().amax(0) + kind.smallest_normal * kind.eps)
            assert bool(((twice[name].double() - tensor.double()).abs() <= room).all())
