"""Distances and angles are those of plain vectors; networks trained apart are warned of."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.weights import tensors
from soupmerge.weights.geometry import ALL, SAMPLE, UNRELATED, geometry_of, separation_warning
from tests.shared import Outcome, near

State = dict[str, torch.Tensor]


def written(home: Path, *states: State) -> sm.Ingredients:
    for i, state in enumerate(states):
        sm.save(home / f"{i}.safetensors", state)
    return sm.load(*(home / f"{i}.safetensors" for i in range(len(states))))


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- signs


@pytest.mark.parametrize("with_origin", [True, False], ids=["origin", "mean"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_signs_are_those_of_plain_vectors(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int, with_origin: bool
) -> None:
    monkeypatch.setattr(tensors, "PIECE", 100)  # so that tensors are read in pieces
    *states, base = (near(net, seed) for seed in range(k + 1))
    ingredients = written(tmp_path, *states)
    sm.save(tmp_path / "origin.safetensors", base)
    origin = sm.load(tmp_path / "origin.safetensors")[0] if with_origin else None
    found = geometry_of(ingredients, origin)
    blocks = {ALL: ingredients.mixed, **ingredients.groups("block")}
    assert [sign.block for sign in found.blocks] == list(blocks)
    assert (found.names, found.reference) == (ingredients.names, origin.ref if origin else "mean")

    def vector(state: object, names: tuple[str, ...]) -> np.ndarray:  # type: ignore[type-arg]
        tensors: State = dict(state)  # type: ignore[call-overload]
        return np.concatenate([tensors[n].double().numpy().reshape(-1) for n in names])

    def cosine(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))

    for sign, names in zip(found.blocks, blocks.values(), strict=True):
        rows = [vector(ingredient, names) for ingredient in ingredients]
        ref = vector(origin, names) if origin else sum(rows) / k
        apart = [row - ref for row in rows]
        distances = [np.linalg.norm(d) / np.linalg.norm(ref) for d in apart]
        assert sign.distances == pytest.approx(distances, rel=1e-6, abs=1e-7)
        for entry, vectors in ((sign.alike, rows), (sign.aligned, apart)):
            cosines = [cosine(a, b) for a, b in combinations(vectors, 2)] or [1.0]
            assert entry == pytest.approx((min(cosines), max(cosines)), rel=1e-5)


def test_an_outlier_lies_more_than_three_times_as_far_as_the_median(tmp_path: Path) -> None:
    def ingredients_at(home: str, *distances: float) -> sm.Ingredients:
        (tmp_path / home).mkdir()
        states = [{"a.w": torch.tensor([1.0, d])} for d in distances]
        return written(tmp_path / home, *states)

    sm.save(tmp_path / "origin.safetensors", {"a.w": torch.tensor([1.0, 0.0])})
    origin = sm.load(tmp_path / "origin.safetensors")[0]
    far = geometry_of(ingredients_at("far", 1.0, -1.0, 3.01), origin)
    assert [sign.outliers for sign in far.blocks] == [("2",), ("2",)]
    assert far.blocks[0].distances == pytest.approx((1, 1, 3.01), rel=1e-6)
    assert geometry_of(ingredients_at("near", 1.0, -1.0, 2.99), origin).blocks[0].outliers == ()
    assert geometry_of(ingredients_at("two", 1.0, 9.0), origin).blocks[0].outliers == ()
    # cosines of (1, ±1) and (1, 3.01): 0, 4.01/√2·√10.06 and −2.01/√2·√10.06
    cells = [ALL, "1 1 3.01", "-0.448 to 0.894", "-1.000 to 1.000", "2"]
    assert next(far.rows()) == cells
    assert next(geometry_of(ingredients_at("one", 1.0), origin).rows())[2:] == [
        "1.000",
        "1.000",
        "-",
    ]


def test_unrelated_directions_from_their_mean_have_the_cosine_that_geometry_forces(
    tmp_path: Path,
) -> None:
    k, size = 4, 6
    states = [{"a.w": torch.eye(size)[i]} for i in range(k)]
    sign = geometry_of(written(tmp_path, *states)).blocks[0]
    assert sign.alike == (0.0, 0.0)
    assert sign.aligned == pytest.approx((-1 / (k - 1),) * 2)


# ---- networks trained apart


def at_cosine(cosine: float, *shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two tensors of length √numel with this cosine, in each of their parts nearly."""
    one, other = drawn(seed, *shape).double(), drawn(seed + 1, *shape).double()
    one /= one.square().mean().sqrt()
    other -= one * (one * other).mean()
    other /= other.square().mean().sqrt()
    return one.float(), (cosine * one + (1 - cosine**2) ** 0.5 * other).float()


@pytest.mark.parametrize(("cosine", "warned"), [(0.0, True), (0.49, True), (0.51, False)])
def test_a_cosine_far_below_that_of_fine_tunes_is_warned_of(
    tmp_path: Path, cosine: float, warned: bool
) -> None:
    one, other = at_cosine(cosine, 32, 16)
    found = separation_warning(written(tmp_path, {"w": one}, {"w": other}))
    assert (found is not None) == warned
    if found:
        assert f"the weights of 0 and 1 have a cosine of {cosine:.2f};" in found
        assert "unlikely to work" in found


def test_the_farthest_pair_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    one, other = at_cosine(-0.25, 32, 16)
    found = separation_warning(written(tmp_path, {"w": one}, {"w": one * 1.5}, {"w": other}))
    assert found
    assert "cosine of -0.25" in found
    assert "of 0 and 2" in found or "of 1 and 2" in found
    assert "and 1 other pairs" in found


def test_norms_and_biases_do_not_make_strangers_alike(tmp_path: Path) -> None:
    one, other = at_cosine(0.0, 32, 16)
    norm = {"bn.weight": torch.full((1000,), 9.0), "bn.running_var": torch.full((1000,), 9.0)}
    assert separation_warning(written(tmp_path, {"w": one, **norm}, {"w": other, **norm}))


def test_a_large_tensor_counts_as_much_as_its_size(tmp_path: Path) -> None:
    """Of each, only some numbers are read."""
    large, small = at_cosine(0.9, 8, SAMPLE), at_cosine(-0.9, 1, SAMPLE, seed=2)
    states: list[State] = [{"a": large[k], "b": small[k]} for k in range(2)]
    exact = (8 * 0.9 - 0.9) / 9
    assert exact > UNRELATED
    assert separation_warning(written(tmp_path, *states)) is None
    (tmp_path / "more").mkdir()
    flipped: list[State] = [{"a": large[k], "b": small[k], "c": -small[k]} for k in range(2)]
    flipped[0]["d"], flipped[1]["d"] = at_cosine(-0.9, 8, SAMPLE, seed=4)
    assert separation_warning(written(tmp_path / "more", *flipped)) is not None


def test_the_order_of_numbers_in_files_decides_nothing(tmp_path: Path) -> None:
    """Also of tensors of which only some numbers are read."""
    weights = drawn(0, 64, 32, 3, 3)
    turned = weights.to(memory_format=torch.channels_last)
    for name, tensor in (("a", weights), ("b", turned), ("c", turned)):
        torch.save({"w": tensor}, tmp_path / f"{name}.pt")
    for pair in ("ab", "bc"):
        assert separation_warning(sm.load(*(tmp_path / f"{name}.pt" for name in pair))) is None


def test_where_there_is_nothing_to_compare_nothing_is_said(tmp_path: Path) -> None:
    nothing: list[State] = [
        {"w": torch.zeros(2, 2)},
        {"w": torch.zeros(2, 2)},
        {"w": torch.full((2, 2), float("nan"))},
    ]
    assert separation_warning(written(tmp_path, *nothing)) is None
    (tmp_path / "vectors").mkdir()
    vectors: list[State] = [{"b": sign * torch.ones(3), "e": torch.ones(0, 2)} for sign in (1, -1)]
    assert separation_warning(written(tmp_path / "vectors", *vectors)) is None


@pytest.mark.parametrize("apart", [True, False], ids=["two seeds", "fine-tunes"])
def test_mix_and_check_say_that_networks_were_trained_apart(
    soupmerge: Callable[..., Outcome], tmp_path: Path, apart: bool
) -> None:
    base = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    ingredients = written(tmp_path, near(base, 1), near(other if apart else base, 2))
    refs = [ingredient.ref for ingredient in ingredients]
    mixed = soupmerge("mix", *refs, "-w", "uniform", "-o", tmp_path / "soup.safetensors")
    assert mixed.status == 0
    assert ("warning: the weights of 0 and 1 have a cosine of" in mixed.err) == apart
    checked = soupmerge("check", *refs)
    assert checked.status == 0
    assert ("unlikely to work" in checked.out) == apart
    parsed = json.loads(soupmerge("check", *refs, "--json").out)
    assert parsed["compatible"] is True
    assert ["unlikely to work" in remark for remark in parsed["remarks"]] == [True] * apart
