"""The laws of mixing, for any tensors, dtypes and coefficients, against a loop in plain numpy."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import SoupmergeError
from soupmerge.weights import mixing
from soupmerge.weights.coefficients import parse_weights
from soupmerge.weights.mixing import mix_to_file
from soupmerge.weights.tensors import DTYPES, DType

State: TypeAlias = dict[str, torch.Tensor]
Row: TypeAlias = Sequence[float]
Drawn: TypeAlias = tuple[list[State], list[float]]

pytestmark = pytest.mark.filterwarnings(
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
def kitchens(
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


def soup(states: Sequence[State], rows: Any, *, dtype: DType | None = None, **how: Any) -> State:
    with written(states) as pots:
        return sm.mix(
            pots, sm.Recipe.of(pots, rows, affine=True, dtype=dtype and dtype.name, **how)
        )


def for_all(row: Row) -> Callable[[str], Row | None]:
    return lambda name: None if name in COUNTERS else row


# ---- the sum


@laws
@given(drawn=kitchens(row=affine))
def test_an_affine_soup_is_the_sum_of_a_plain_loop(drawn: Drawn) -> None:
    states, row = drawn
    assert same(soup(states, row), reference(states, for_all(row)))


@laws
@given(drawn=kitchens(), dtype=st.sampled_from(FLOATS))
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
@given(drawn=kitchens(alike=True), data=st.data())
def test_a_coefficient_of_one_returns_the_ingredient(drawn: Drawn, data: st.DataObject) -> None:
    states, _ = drawn
    k = data.draw(st.integers(0, len(states) - 1))
    assert same(soup(states, [float(i == k) for i in range(len(states))], base=k), states[k])


@laws
@given(drawn=kitchens(row=affine, k=st.integers(2, 5)), data=st.data())
def test_a_coefficient_of_zero_is_absence(drawn: Drawn, data: st.DataObject) -> None:
    states, _ = drawn
    k = data.draw(st.integers(1, len(states) - 1))  # the first one sets the dtypes
    rest = states[:k] + states[k + 1 :]
    row = data.draw(rows_of(len(rest), affine))
    assert same(soup(states, [*row[:k], 0.0, *row[k:]]), soup(rest, row))


@laws
@given(drawn=kitchens(alike=True, row=affine), data=st.data())
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
@given(drawn=kitchens(alike=True))
def test_an_average_lies_between_its_ingredients(drawn: Drawn) -> None:
    states, row = drawn
    for name, tensor in soup(states, row).items():
        if tensor.is_floating_point():
            stack = torch.stack([state[name].double() for state in states])
            slack = torch.finfo(tensor.dtype).eps * tensor.double().abs()
            assert bool((tensor.double() >= stack.amin(0) - slack).all())
            assert bool((tensor.double() <= stack.amax(0) + slack).all())


@laws
@given(drawn=kitchens(k=st.just(1)), n=st.integers(2, 7))
def test_a_uniform_soup_of_equal_files_is_that_file(drawn: Drawn, n: int) -> None:
    states, _ = drawn
    made = soup(states * n, [1 / n] * n)
    assert close(made, states[0], states, [1.0], roundings=n)
    narrow = [name for name, tensor in made.items() if tensor.dtype != torch.float64]
    assert same({m: made[m] for m in narrow}, {m: states[0][m] for m in narrow})


@laws
@given(drawn=kitchens(dtypes=[torch.float64], row=affine), seed=st.integers(0, 99))
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
@given(drawn=kitchens(dtypes=FLOATS[:2], alike=True, row=affine), power=st.integers(-3, 3))
def test_scaling_by_a_power_of_two_scales_the_soup_exactly(drawn: Drawn, power: int) -> None:
    states, row = drawn

    def scaled(state: State) -> State:
        return {n: t * 2.0**power if t.is_floating_point() else t for n, t in state.items()}

    assert same(soup([scaled(state) for state in states], row), scaled(soup(states, row)))


@laws
@given(drawn=kitchens(alike=True, k=st.integers(2, 4)), data=st.data())
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


# ---- which coefficients a tensor takes


def group_of(by: str, name: str) -> str:
    if by.startswith("glob="):
        patterns = by.removeprefix("glob=").split(",")
        return next((p for p in patterns if fnmatchcase(name, p)), "rest")
    found = {"model": "model", "block": BLOCKS[name], "tensor": name}
    return found.get(by) or name.rpartition(".")[0] or "model"


def rows_for(states: Sequence[State], by: str, rows: dict[str, Row]) -> Callable[[str], Row | None]:
    """Return the rule by which a tensor finds its coefficients; those of groups are *rows*."""

    def row_of(name: str) -> Row | None:
        if name in BLOCKS:
            return rows[group_of(by, name)]
        if name in (MEAN, VARIANCE) and "layer1.0.bn.weight" in states[0]:
            return rows[group_of(by, "layer1.0.bn.weight")]
        columns = list(zip(*rows.values(), strict=True))
        mean = [sum(column) / len(rows) for column in columns]
        return None if name in COUNTERS else mean

    return row_of


@laws
@given(
    drawn=kitchens(),
    by=st.sampled_from(["model", "block", "module", "tensor", "glob=*.bias", "glob=stem.*,*r1.*"]),
    data=st.data(),
)
def test_every_group_is_mixed_by_its_own_row(drawn: Drawn, by: str, data: st.DataObject) -> None:
    states, _ = drawn
    names = sorted(name for name in states[0] if name in BLOCKS)
    groups = list(dict.fromkeys(group_of(by, name) for name in names))
    patterns = by.removeprefix("glob=").split(",") if by.startswith("glob=") else []
    assume(set(patterns) <= set(groups))
    groups = [*patterns, *(g for g in groups if g not in patterns)]
    rows: dict[str, Row] = {g: data.draw(rows_of(len(states))) for g in groups}
    expected = reference(states, rows_for(states, by, rows))
    assert same(soup(states, list(rows.values()), by=by), expected)


@laws
@given(drawn=kitchens(), policy=st.sampled_from(["average", "base"]), data=st.data())
def test_counters_and_base_statistics_are_the_base_s(
    drawn: Drawn, policy: str, data: st.DataObject
) -> None:
    states, row = drawn
    base = data.draw(st.integers(0, len(states) - 1))
    kept = {*COUNTERS, *((MEAN, VARIANCE, LONE) if policy == "base" else ())}
    counter = "layer1.0.bn.num_batches_tracked"
    for k, state in enumerate(states):
        state[counter] = torch.tensor((2**63 - 1, 2**53 + 1, 0, -5, 7)[k])  # two are no floats
    made = soup(states, row, buffers=policy, base=base)
    assert same(made, reference(states, lambda n: None if n in kept else row, base=base))
    assert bits(made[counter]) == bits(states[base][counter])


@laws
@given(drawn=kitchens(alike=True, k=st.integers(2, 4)), data=st.data())
def test_what_is_left_out_of_mixing_is_the_base_s(drawn: Drawn, data: st.DataObject) -> None:
    states, row = drawn
    base = data.draw(st.integers(0, len(states) - 1))
    how = data.draw(st.sampled_from(["exclude", "only"]))
    pattern = data.draw(st.sampled_from([*sorted(states[0]), "layer1.*", "*.weight", "*s*"]))
    matching = {name for name in states[0] if fnmatchcase(name, pattern)}
    apart = matching if how == "exclude" else set(states[0]) - matching
    assume(matching and set(BLOCKS) & set(states[0]) - apart)
    with written(states) as pots:
        patterns: dict[str, Any] = {how: [pattern]}
        chosen = sm.load(*(pot.ref for pot in pots), base=base, **patterns)
        made = sm.mix(chosen, sm.Recipe.of(chosen, row, base=base))
    rule = for_all(row)
    assert same(made, reference(states, lambda n: None if n in apart else rule(n), base=base))


@laws
@given(parts=st.lists(st.integers(0, 2), min_size=2, max_size=6), data=st.data())
def test_tied_tensors_stay_tied(parts: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    states = []
    for _ in range(k):
        shared = [numbers(rng, (3,), torch.float32) for _ in range(3)]
        states.append({f"t{i}.weight": shared[part] for i, part in enumerate(parts)})
    with written(states, ".pt") as pots, tempfile.TemporaryDirectory() as folder:
        rows = [data.draw(rows_of(k)) for _ in set(parts)]
        mix_to_file(f"{folder}/soup.safetensors", pots, sm.Recipe.of(pots, rows, by="tensor"))
        made = dict(sm.load(f"{folder}/soup.safetensors")[0])
    order = list(dict.fromkeys(parts))  # a group stands where its first tensor does
    row_of = {f"t{i}.weight": rows[order.index(part)] for i, part in enumerate(parts)}
    assert same(made, reference(states, row_of.__getitem__))
    for i, part in enumerate(parts):
        assert bits(made[f"t{i}.weight"]) == bits(made[f"t{parts.index(part)}.weight"])


@pytest.mark.parametrize("exclude", [[], ["c.weight"]], ids=["all", "without-c"])
def test_tied_tensors_stay_tied_though_others_tie_fewer(exclude: list[str]) -> None:
    one, two = torch.ones(2), torch.zeros(2)
    first = two if exclude else two.clone()
    states = [
        {"a.weight": one, "b.weight": one, "c.weight": one},
        {"a.weight": first, "b.weight": two, "c.weight": two},
    ]
    with written(states, ".pt") as pots:
        chosen = sm.load(*(pot.ref for pot in pots), exclude=exclude)
        assert list(chosen.groups("tensor").values())[0][:2] == ("a.weight", "b.weight")


def test_a_counter_is_never_changed_in_silence() -> None:
    states = [
        {"w": torch.ones(1), "steps": torch.tensor(1, dtype=torch.int8)},
        {"w": torch.ones(1), "steps": torch.tensor(1000)},
    ]
    with contextlib.suppress(SoupmergeError):
        assert soup(states, [0.5, 0.5], base=1)["steps"].item() == 1000


# ---- files


@laws
@given(raw=st.binary(min_size=24, max_size=64), dtype=st.sampled_from(sorted(DTYPES)))
def test_saving_and_loading_keeps_every_bit(raw: bytes, dtype: str) -> None:
    kind = DTYPES[dtype].torch
    flat = torch.frombuffer(bytearray(raw[: len(raw) // 8 * 8]), dtype=torch.uint8)
    flat = flat % 2 if kind == torch.bool else flat
    state = {"any": flat.view(kind), "one": flat.view(kind)[0].clone(), "none": torch.ones(0, 2)}
    with tempfile.TemporaryDirectory() as folder:
        sm.save(f"{folder}/a.safetensors", state)
        assert same(sm.load(f"{folder}/a.safetensors")[0], state)
        assert same(safetensors.torch.load_file(f"{folder}/a.safetensors"), state)
        torch.save(state, f"{folder}/a.pt")
        assert same(sm.load(f"{folder}/a.pt")[0], state)


@pytest.mark.parametrize("strange", [torch.tensor(2.0).expand(1, 1), torch.ones(4)[::2][:0]])
def test_a_tensor_of_one_number_or_none_is_saved_whatever_its_strides(
    strange: torch.Tensor, tmp_path: Path
) -> None:
    sm.save(tmp_path / "a.safetensors", {"w": strange})
    assert same(sm.load(tmp_path / "a.safetensors")[0], {"w": strange})


@laws
@given(drawn=kitchens(row=affine), limit=st.integers(1, 200), wide=st.booleans())
def test_streamed_sharded_and_in_memory_are_the_same_bits(
    drawn: Drawn, limit: int, wide: bool
) -> None:
    states, row = drawn
    with written(states) as pots, tempfile.TemporaryDirectory() as folder:
        recipe = sm.Recipe.of(pots, row, affine=True, dtype="float64" if wide else None)
        whole, shards = Path(folder, "soup.safetensors"), Path(folder, "shards")
        digest = mix_to_file(whole, pots, recipe)
        mix_to_file(shards, pots, recipe, shard_bytes=limit)
        made = sm.mix(pots, recipe)
        assert hashlib.sha256(whole.read_bytes()).hexdigest() == digest
        assert same(safetensors.torch.load_file(whole), made)
        assert same(sm.load(shards)[0], made)
        for shard in shards.glob("*.safetensors"):
            sizes = [len(bits(t)[2]) for t in safetensors.torch.load_file(shard).values()]
            assert sum(sizes) <= limit or sum(size > 0 for size in sizes) == 1


@laws
@given(drawn=kitchens(row=affine), chunk=st.sampled_from([1, 2, 3, 5, 7, 16]))
def test_the_size_of_pieces_changes_nothing(drawn: Drawn, chunk: int) -> None:
    states, row = drawn
    with written(states) as pots, tempfile.TemporaryDirectory() as folder:
        large, small = (Path(folder, f"{name}.safetensors") for name in ("large", "small"))
        recipe = sm.Recipe.of(pots, row, affine=True)
        mix_to_file(large, pots, recipe)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mixing, "CHUNK", chunk)
            mix_to_file(small, pots, recipe)
        assert large.read_bytes() == small.read_bytes()


@laws
@given(drawn=kitchens(row=affine), data=st.data())
def test_how_an_ingredient_lies_in_its_file_changes_nothing(
    drawn: Drawn, data: st.DataObject
) -> None:
    states, row = drawn

    def scattered(tensor: torch.Tensor) -> torch.Tensor:
        axes = data.draw(st.permutations(range(tensor.dim())))
        if not axes:
            return tensor
        apart = tensor.permute(axes).repeat_interleave(2, 0)[::2]
        return apart.permute([axes.index(i) for i in range(len(axes))])

    spread = [{n: scattered(t) for n, t in state.items()} for state in states]
    with written(spread, ".pt") as pots:
        made = sm.mix(pots, sm.Recipe.of(pots, row, affine=True))
    assert same(made, soup(states, row))


# ---- recipes and coefficients


@laws
@given(drawn=kitchens(row=affine), data=st.data())
def test_a_recipe_survives_json(drawn: Drawn, data: st.DataObject) -> None:
    states, _ = drawn
    with written(states) as pots:
        rows = [data.draw(rows_of(len(states), affine)) for _ in pots.groups("tensor")]
        recipe = sm.Recipe.of(pots, rows, by="tensor", affine=True)
        again = sm.Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
        assert again == recipe
        assert same(sm.mix(pots, again), sm.mix(pots, recipe))


@many
@given(row=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=6))
def test_written_coefficients_are_read_exactly(row: list[int]) -> None:
    texts = [f"{number / 10**9!r}" for number in row]
    assert parse_weights(",".join(texts)) == tuple(map(float, texts))


@many
@given(parts=st.lists(st.integers(0, 10**6), min_size=1, max_size=6).filter(any))
def test_normalised_coefficients_are_shares(parts: list[int]) -> None:
    shares = parse_weights(",".join(map(str, parts)), normalize=True)
    assert shares == tuple(float(Fraction(part, sum(parts))) for part in parts)
