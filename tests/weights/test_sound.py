"""NaN, Inf and variances below 0 are found wherever they stand, counted, and end with status 7."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import NumericsError
from soupmerge.weights.files import CHUNK
from soupmerge.weights.saving import mix_to_file
from tests.shared import Outcome, near

Typed = Callable[..., Outcome]
State = dict[str, torch.Tensor]
VARIANCE = "features.1.running_var"


def written(home: Path, *states: State, **settings: object) -> sm.Ingredients:
    for i, state in enumerate(states):
        sm.save(home / f"{i}.safetensors", state, model="digits-cnn?width=4")
    return sm.load(*(home / f"{i}.safetensors" for i in range(len(states))), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_found_wherever_it_stands(
    tmp_path: Path, at: int, value: float
) -> None:
    numbers = torch.zeros(CHUNK + 2)
    numbers[at] = value
    ingredients = written(tmp_path, {"w": numbers, "v": torch.ones(1)})
    assert ingredients[0].non_finite() == {"w": 1}
    with pytest.raises(NumericsError, match=r"0\.safetensors.*w: 1 of 1,048,578 numbers"):
        ingredients[0].require_sound()
    with pytest.raises(NumericsError, match="w: 1 of"):
        mix_to_file(tmp_path / "soup.safetensors", ingredients, sm.Recipe.uniform(ingredients))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_whose_sum_overflows_are_finite(tmp_path: Path, dtype: torch.dtype) -> None:
    top = torch.finfo(dtype).max
    ingredients = written(tmp_path, {"w": torch.tensor([top, top, -top], dtype=dtype)})
    assert ingredients[0].non_finite() == {}
    assert ingredients[0].faults() == []


def test_all_that_is_wrong_with_all_ingredients_is_counted(tmp_path: Path, net: nn.Module) -> None:
    states = [near(net, seed) for seed in (1, 2, 3)]
    states[0]["head.bias"][:3] = torch.nan
    states[0]["head.weight"][0, 0] = torch.inf
    states[2][VARIANCE][1:3] = -1e-20
    ingredients = written(tmp_path, *states)
    with pytest.raises(NumericsError) as caught:
        sm.mix(ingredients, sm.Recipe.uniform(ingredients))
    assert {problem.rpartition("/")[2] for problem in caught.value.problems} == {
        "0.safetensors: head.bias: 3 of 10 numbers are NaN or Inf",
        "0.safetensors: head.weight: 1 of 160 numbers are NaN or Inf",
        f"2.safetensors: {VARIANCE}: 2 of 4 numbers are variances below 0",
    }


@pytest.mark.parametrize("fault", ["nan", "variance"])
def test_what_is_not_used_of_an_ingredient_may_be_anything(
    tmp_path: Path, net: nn.Module, fault: str
) -> None:
    states = [near(net, seed) for seed in (1, 2)]
    name = "head.bias" if fault == "nan" else VARIANCE
    states[1][name][0] = torch.nan if fault == "nan" else -1
    ingredients = written(tmp_path, *states, exclude=[name])
    soup = sm.mix(ingredients, sm.Recipe.uniform(ingredients))
    assert torch.equal(soup[name], states[0][name])
    ingredients.require_sound()
    refs = [ingredient.ref for ingredient in ingredients]
    copied = sm.load(*refs, exclude=[name], base=1)
    for refuse in (copied.require_sound, lambda: sm.mix(copied, sm.Recipe.uniform(copied, base=1))):
        with pytest.raises(NumericsError, match=r"1\.safetensors.*" + name):
            refuse()


@pytest.fixture
def negative(tmp_path: Path, net: nn.Module) -> sm.Ingredients:
    """Two networks, the second with one variance below 0, whose average with the first is not."""
    states = [near(net, 1), near(net, 2)]
    states[0][VARIANCE][:] = 1.0
    states[1][VARIANCE][2] = -0.5
    return written(tmp_path, *states)


@pytest.mark.parametrize("policy", ["average", "base", "recalibrate"])
@pytest.mark.parametrize("row", [[0.5, 0.5], [1.0, 0.0]])
def test_a_variance_below_0_is_never_averaged_away(
    negative: sm.Ingredients, policy: str, row: list[float]
) -> None:
    with pytest.raises(NumericsError, match=f"{VARIANCE}: 1 of 4 numbers are variances below 0"):
        sm.mix(negative, sm.Recipe.of(negative, row, buffers=policy))


def test_a_variance_of_0_is_one(tmp_path: Path, net: nn.Module) -> None:
    state = near(net, 1)
    state[VARIANCE][:] = torch.tensor([0.0, -0.0, 1e-40, 1.0])
    ingredients = written(tmp_path, state)
    assert ingredients[0].faults() == []
    sm.bind(net, sm.mix(ingredients, sm.Recipe.uniform(ingredients)))


def test_commands_show_or_refuse_a_variance_below_0(
    negative: sm.Ingredients, soupmerge: Typed, tmp_path: Path
) -> None:
    good, bad = (ingredient.ref for ingredient in negative)
    shown = soupmerge("inspect", bad, "--json")
    assert shown.status == 0
    parsed = json.loads(shown.out)[0]
    assert parsed["variances below 0"] == f"{VARIANCE} (1)"
    assert parsed["NaN or Inf"] == "none"
    assert json.loads(soupmerge("inspect", good, "--json").out)[0]["variances below 0"] == "none"
    data = ("--data", "digits", "--limit", 4)
    for words in (
        ("mix", good, bad, "-w", "uniform", "-o", tmp_path / "s.safetensors"),
        ("eval", bad, *data),
        ("grid", good, bad, "--step", 1, *data, "-o", tmp_path / "grid"),
        ("learn", good, bad, "--eps", 0, *data, "-o", tmp_path / "learn"),
        ("finetune", bad, "--threat", "clean", *data, "-o", tmp_path / "f.safetensors"),
        ("convert", bad, "-o", tmp_path / "c.safetensors"),
        ("export", bad, "-o", tmp_path / "e"),
    ):
        ended = soupmerge(*words)
        assert ended.status == 7, (words[0], ended)
        assert f"{VARIANCE}: 1 of 4" in ended.err, words[0]
        assert "1.safetensors" in ended.err, words[0]
    checked = soupmerge("check", good, bad)
    assert checked.status == 1
    assert f"{VARIANCE}: 1 of 4 numbers are variances below 0" in checked.out


def test_binding_refuses_a_variance_below_0(negative: sm.Ingredients, net: nn.Module) -> None:
    with pytest.raises(NumericsError, match=rf"1\.safetensors.*{VARIANCE}: 1 of 4"):
        sm.bind(net, negative[1])
    state = dict(negative[1])
    with pytest.raises(NumericsError, match="variances below 0"):
        sm.bind(net, state)
    sm.bind(net, negative[0])


@pytest.mark.parametrize("at", [0, 5, -1])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_an_unsound_ingredient_is_reported_even_at_a_coefficient_of_0(
    tmp_path: Path, at: int, value: float
) -> None:
    sound, unsound = torch.ones(9), torch.ones(9)
    unsound[at] = value
    ingredients = written(tmp_path, {"w": sound}, {"w": unsound}, {"w": sound + 1})
    with pytest.raises(NumericsError, match=r"1\.safetensors: holds NaN, Inf .*w: 1 of 9 numbers"):
        sm.mix(ingredients, sm.Recipe.of(ingredients, [0.5, 0, 0.5]))
