"""The same bits: saved, loaded, streamed, in shards, in pieces, and however they lie in a file."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.weights import mixing
from soupmerge.weights.saving import mix_to_file
from soupmerge.weights.tensors import DTYPES
from tests.weights.drawing import (
    QUIET,
    Drawn,
    affine,
    bits,
    laws,
    mixes,
    same,
    soup,
    written,
)

pytestmark = QUIET


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
@given(drawn=mixes(row=affine), limit=st.integers(1, 200), wide=st.booleans())
def test_streamed_sharded_and_in_memory_are_the_same_bits(
    drawn: Drawn, limit: int, wide: bool
) -> None:
    states, row = drawn
    with written(states) as ingredients, tempfile.TemporaryDirectory() as folder:
        recipe = sm.Recipe.of(ingredients, row, affine=True, dtype="float64" if wide else None)
        whole, shards = Path(folder, "soup.safetensors"), Path(folder, "shards")
        digest = mix_to_file(whole, ingredients, recipe)
        mix_to_file(shards, ingredients, recipe, shard_bytes=limit)
        made = sm.mix(ingredients, recipe)
        assert hashlib.sha256(whole.read_bytes()).hexdigest() == digest
        assert same(safetensors.torch.load_file(whole), made)
        assert same(sm.load(shards)[0], made)
        for shard in shards.glob("*.safetensors"):
            sizes = [len(bits(t)[2]) for t in safetensors.torch.load_file(shard).values()]
            assert sum(sizes) <= limit or sum(size > 0 for size in sizes) == 1


@laws
@given(drawn=mixes(row=affine), chunk=st.sampled_from([1, 2, 3, 5, 7, 16]))
def test_the_size_of_pieces_changes_nothing(drawn: Drawn, chunk: int) -> None:
    states, row = drawn
    with written(states) as ingredients, tempfile.TemporaryDirectory() as folder:
        large, small = (Path(folder, f"{name}.safetensors") for name in ("large", "small"))
        recipe = sm.Recipe.of(ingredients, row, affine=True)
        mix_to_file(large, ingredients, recipe)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mixing, "CHUNK", chunk)
            mix_to_file(small, ingredients, recipe)
        assert large.read_bytes() == small.read_bytes()


@laws
@given(drawn=mixes(row=affine), data=st.data())
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
    with written(spread, ".pt") as ingredients:
        made = sm.mix(ingredients, sm.Recipe.of(ingredients, row, affine=True))
    assert same(made, soup(states, row))
