"""Ingredients and coefficients drawn for laws, and the soup that a plain loop in numpy makes."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import settings
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.weights.tensors import DType

State: TypeAlias = dict[str, torch.Tensor]
Row: TypeAlias = Sequence[float]
Drawn: TypeAlias = tuple[list[State], list[float]]

QUIET = pytest.mark.filterwarnings(
    "ignore:ingredients of several dtypes", "ignore:.*are the same weights"
)
laws = settings(max_examples=50, deadline=None, derandomize=True)
"""Of what reads and writes files; `many` is for what does not."""

many = settings(laws, max_examples=200)

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
BLOCKS = {
    "stem.weight": "stem",
    "stem.bias": "stem",
    "layer1.0.conv.weight": "layer1.0",
    "layer1.0.bn.weight": "layer1.0",
    "layer1.1.conv.weight": "layer1.1",
    "head.weight": "head",
    "head.bias": "head",
    "scale": "scale",
}
"""Parameters that a network here may have → their blocks."""

MEAN, VARIANCE, LONE = "layer1.0.bn.running_mean", "layer1.0.bn.running_var", "free.running_mean"
COUNTERS = {
    "layer1.0.bn.num_batches_tracked": torch.int64,
    "index": torch.int32,
    "codes": torch.uint8,
    "mask": torch.bool,
}


# ---- what is drawn

shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def numbers(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype, name: str = ""
) -> torch.Tensor:
    """Return numbers of many magnitudes, some of them zeros of either sign."""
    if not dtype.is_floating_point:
        top = 2 if dtype == torch.bool else 200
        return torch.from_numpy(np.asarray(rng.integers(0, top, shape))).to(dtype)
    drawn = rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 8, shape)
    drawn = np.where(rng.random(shape) < 0.1, np.copysign(0.0, drawn), drawn)
    return torch.from_numpy(np.asarray(abs(drawn) if name == VARIANCE else drawn)).to(dtype)


def convex(draw: st.DrawFn, k: int) -> list[float]:
    parts = draw(st.lists(st.just(0.0) | st.floats(0.01, 1.0), min_size=k, max_size=k).filter(any))
    return [part / sum(parts) for part in parts]


def affine(draw: st.DrawFn, k: int) -> list[float]:
    row = draw(st.lists(st.floats(-3, 3), min_size=k - 1, max_size=k - 1))
    return [*row, 1 - sum(row)]


@st.composite
def rows_of(
    draw: st.DrawFn, k: int, row: Callable[[st.DrawFn, int], list[float]] = convex
) -> list[float]:
    return row(draw, k)


@st.composite
def mixes(
    draw: st.DrawFn,
    k: st.SearchStrategy[int] = st.integers(1, 5),  # noqa: B008
    dtypes: Sequence[torch.dtype] = FLOATS,
    alike: bool = False,
    row: Callable[[st.DrawFn, int], list[float]] = convex,
) -> Drawn:
    """Return some ingredients and coefficients; if *alike*, of the same dtypes.

    Without variances if *row* is affine: they would be negative.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4, unique=True))
    others = [MEAN, LONE, *COUNTERS, *([VARIANCE] if row is convex else [])]
    names += draw(st.lists(st.sampled_from(others), max_size=3, unique=True))
    sizes = {name: draw(shapes) for name in names}
    first = draw(st.sampled_from(dtypes))

    def dtype_of(name: str) -> torch.dtype:
        return COUNTERS.get(name) or (first if rng.random() < 0.6 else rng.choice(list(dtypes)))  # type: ignore[arg-type]

    same_for_all = {name: dtype_of(name) for name in names}
    states = [
        {
            name: numbers(rng, size, same_for_all[name] if alike else dtype_of(name), name)
            for name, size in sizes.items()
        }
        for _ in range(draw(k))
    ]
    return states, row(draw, len(states))


# ---- what is expected


def rounded(values: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return float64 *values* in *dtype*, rounded once, to even."""
    values = np.asarray(values, np.float64)
    if dtype == torch.bfloat16:  # 8 bits, which numpy does not know
        fraction, exponent = np.frexp(values)
        return torch.from_numpy(np.asarray(np.ldexp(np.rint(fraction * 256), exponent - 8))).to(
            dtype
        )
    return torch.from_numpy(values.astype(str(dtype).removeprefix("torch.")))


def reference(
    states: Sequence[State],
    row_of: Callable[[str], Row | None],
    *,
    base: int = 0,
    dtype: torch.dtype | None = None,
) -> State:
    """Return Σ_k w_k · θ_k; of a tensor without a row, the base's."""
    made = {}
    for name, first in states[0].items():
        row = row_of(name)
        if row is None:
            row = [float(k == base) for k in range(len(states))]
        if not first.is_floating_point():
            made[name] = states[base][name]
            continue
        pairs = zip(row, states, strict=True)
        terms = [w * state[name].double().numpy() for w, state in pairs if w]
        made[name] = rounded(functools.reduce(np.add, terms), dtype or first.dtype)
    return made


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    # Not contiguous(): it leaves strides of 0 alone, which view() refuses.
    flat = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor).reshape(-1)
    return tensor.dtype, tensor.shape, flat.view(torch.uint8).numpy().tobytes()


def same(one: Any, other: Any) -> bool:
    """Return whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(bits(one[n]) == bits(other[n]) for n in one)


def close(one: State, other: State, states: Sequence[State], row: Row, roundings: int = 1) -> bool:
    """Return whether two sums Σ_k w_k · θ_k differ by no more than their dtype rounds."""
    pairs = list(zip(row, states, strict=True))
    for name, tensor in one.items():
        if not tensor.is_floating_point():
            assert bits(tensor) == bits(other[name])
            continue
        kind = torch.finfo(tensor.dtype)
        largest = torch.maximum(tensor.double().abs(), other[name].double().abs())
        terms = sum(abs(w) * state[name].double().abs() for w, state in pairs)
        room = roundings * (kind.eps * largest + kind.smallest_normal * kind.eps)
        room = room + 2 * len(row) * torch.finfo(torch.float64).eps * terms
        if not bool(((tensor.double() - other[name].double()).abs() <= room).all()):
            return False
    return one.keys() == other.keys()


@contextlib.contextmanager
def written(states: Sequence[State], suffix: str = ".safetensors") -> Iterator[sm.Ingredients]:
    """Write *states* by others' writers, and open them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{k}{suffix}") for k in range(len(states))]
        for path, state in zip(paths, states, strict=True):
            if suffix == ".safetensors":
                safetensors.torch.save_file(state, path)
            else:
                torch.save(state, path)
        yield sm.load(*paths)


def soup(
    states: Sequence[State], rows: Any, *, dtype: DType | None = None, **options: Any
) -> State:
    with written(states) as ingredients:
        return sm.mix(
            ingredients,
            sm.Recipe.of(ingredients, rows, affine=True, dtype=dtype and dtype.name, **options),
        )


def for_all(row: Row) -> Callable[[str], Row | None]:
    return lambda name: None if name in COUNTERS else row
