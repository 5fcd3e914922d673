"""Which coefficients a tensor takes: its group's, its module's, the base's, or those of its tie."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import SoupmergeError
from soupmerge.weights.saving import mix_to_file
from tests.weights.drawing import (
    BLOCKS,
    COUNTERS,
    LONE,
    MEAN,
    QUIET,
    VARIANCE,
    Drawn,
    Row,
    State,
    bits,
    for_all,
    laws,
    mixes,
    numbers,
    reference,
    rows_of,
    same,
    soup,
    written,
)

pytestmark = QUIET


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
    drawn=mixes(),
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
@given(drawn=mixes(), policy=st.sampled_from(["average", "base"]), data=st.data())
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
@given(drawn=mixes(alike=True, k=st.integers(2, 4)), data=st.data())
def test_what_is_left_out_of_mixing_is_the_base_s(drawn: Drawn, data: st.DataObject) -> None:
    states, row = drawn
    base = data.draw(st.integers(0, len(states) - 1))
    settings = data.draw(st.sampled_from(["exclude", "only"]))
    pattern = data.draw(st.sampled_from([*sorted(states[0]), "layer1.*", "*.weight", "*s*"]))
    matching = {name for name in states[0] if fnmatchcase(name, pattern)}
    apart = matching if settings == "exclude" else set(states[0]) - matching
    assume(matching and set(BLOCKS) & set(states[0]) - apart)
    with written(states) as ingredients:
        patterns: dict[str, Any] = {settings: [pattern]}
        chosen = sm.load(*(ingredient.ref for ingredient in ingredients), base=base, **patterns)
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
    with written(states, ".pt") as ingredients, tempfile.TemporaryDirectory() as folder:
        rows = [data.draw(rows_of(k)) for _ in set(parts)]
        mix_to_file(
            f"{folder}/soup.safetensors", ingredients, sm.Recipe.of(ingredients, rows, by="tensor")
        )
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
    with written(states, ".pt") as ingredients:
        chosen = sm.load(*(ingredient.ref for ingredient in ingredients), exclude=exclude)
        assert list(chosen.groups("tensor").values())[0][:2] == ("a.weight", "b.weight")


def test_a_counter_is_never_changed_in_silence() -> None:
    states = [
        {"w": torch.ones(1), "steps": torch.tensor(1, dtype=torch.int8)},
        {"w": torch.ones(1), "steps": torch.tensor(1000)},
    ]
    with contextlib.suppress(SoupmergeError):
        assert soup(states, [0.5, 0.5], base=1)["steps"].item() == 1000
