"""Written files are canonical: one header, one order, aligned data, shards within their size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import OutputError, UsageError
from soupmerge.weights import writing
from soupmerge.weights.saving import memory_of, mix_to_file, save_soup
from soupmerge.weights.tensors import DTYPES, DType, TensorInfo

infos_of = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.builds(
        TensorInfo,
        st.sampled_from(sorted(DTYPES.values(), key=str)),
        st.lists(st.integers(0, 5), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=6,
)


@given(infos_of)
def test_the_widest_numbers_come_first_so_that_all_are_aligned(
    infos: dict[str, TensorInfo],
) -> None:
    laid = writing.layout(infos)
    assert laid.keys() == infos.keys()
    assert laid == infos
    order = [(-info.dtype.itemsize, name) for name, info in laid.items()]
    assert order == sorted(order)
    at = 0
    for info in laid.values():
        assert at % info.dtype.itemsize == 0
        at += info.bytes


@given(infos_of, st.integers(1, 60))
def test_shards_are_filled_in_order_and_no_further_than_asked(
    infos: dict[str, TensorInfo], most: int
) -> None:
    shards = writing.shards_of(infos, most)
    n = len(shards)
    assert list(shards) == [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    assert [item for shard in shards.values() for item in shard.items()] == list(infos.items())
    sizes = [[info.bytes for info in shard.values()] for shard in shards.values()]
    for size, following in zip(sizes, [*sizes[1:], None], strict=True):
        assert size
        assert sum(size) <= most or sum(1 for one in size if one) == 1
        # Another tensor would not have had room.
        assert following is None or sum(size) + following[0] > most


@pytest.mark.parametrize("most", [0, -1])
def test_a_shard_of_nothing_is_refused(most: int) -> None:
    with pytest.raises(
        UsageError, match=f"--max-shard-size: {most} bytes are too few for a shard; give"
    ):
        writing.shards_of({"w": TensorInfo(DType("float32"), (1,))}, most)


STATE = {
    "b": torch.arange(6.0).view(2, 3).t(),
    "a": torch.ones(2, dtype=torch.float64),
    "c": torch.tensor(True),
    "none": torch.ones(0, 3),
}


def test_a_file_has_one_header_whatever_the_order_of_names(tmp_path: Path) -> None:
    sm.save(tmp_path / "1", STATE, model="m", notes={"z": 1, "y": [2]})
    sm.save(tmp_path / "2", dict(reversed(STATE.items())), model="m", notes={"z": 1, "y": [2]})
    data = (tmp_path / "1").read_bytes()
    assert data == (tmp_path / "2").read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length]
    assert length % 8 == 0
    header = json.loads(text)
    assert text == json.dumps(header, separators=(",", ":")).encode().ljust(length)
    notes = header.pop("__metadata__")
    assert notes == {"format": "pt", "soupmerge": '{"model": "m", "z": 1, "y": [2]}'}
    assert list(header) == ["a", "b", "none", "c"]
    assert header["b"] == {"dtype": "F32", "shape": [3, 2], "data_offsets": [16, 40]}
    with safetensors.safe_open(tmp_path / "1", framework="pt") as file:
        assert all(torch.equal(file.get_tensor(name), t) for name, t in STATE.items())


def test_the_hash_that_is_told_is_that_of_the_bytes(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    recipe, out = sm.Recipe.uniform(ingredients), tmp_path / "soup.safetensors"
    digest = mix_to_file(out, ingredients, recipe)
    assert digest == hashlib.sha256(out.read_bytes()).hexdigest() == sm.load(out)[0].sha256
    shards = mix_to_file(tmp_path / "shards", ingredients, recipe, shard_bytes=3000)
    assert shards == sm.load(tmp_path / "shards")[0].sha256
    files = sorted((tmp_path / "shards").glob("*.safetensors"))
    each = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert shards == hashlib.sha256(" ".join(each).encode()).hexdigest()
    same = save_soup(
        tmp_path / "again.safetensors", sm.mix(ingredients, recipe), ingredients, recipe
    )
    assert same == digest


def test_notes_are_in_the_first_shard_alone(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    mix_to_file(tmp_path / "one.safetensors", ingredients, sm.Recipe.uniform(ingredients))
    mix_to_file(tmp_path / "many", ingredients, sm.Recipe.uniform(ingredients), shard_bytes=3000)
    one, many = sm.load(tmp_path / "one.safetensors")[0], sm.load(tmp_path / "many")[0]
    assert many.notes_of_soupmerge == one.notes_of_soupmerge
    first, *others = sorted((tmp_path / "many").glob("*.safetensors"))
    with safetensors.safe_open(first, framework="np") as file:
        assert file.metadata().keys() == {"format", "soupmerge"}
    for other in others:
        with safetensors.safe_open(other, framework="np") as file:
            assert file.metadata() == {"format": "pt"}
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert list(index["weight_map"]) == sorted(index["weight_map"])


def test_a_soup_notes_the_network_of_its_ingredients_or_the_one_that_is_given(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    for model in (None, "other"):
        out = tmp_path / f"{model}.safetensors"
        mix_to_file(out, ingredients, sm.Recipe.uniform(ingredients), model=model)
        notes = sm.load(out)[0].notes_of_soupmerge
        assert notes["model"] == (model or "digits-cnn?width=4")
        assert "seen" not in notes
        assert len(notes["family"]) == 3


def test_pieces_that_are_not_what_was_announced_are_a_bug(tmp_path: Path) -> None:
    infos = {"w": TensorInfo(DType("float32"), (3,))}

    def pieces() -> Iterator[Any]:
        yield "w", [np.zeros(2, "f4")]

    with pytest.raises(AssertionError, match="w: wrote 8 bytes, expected 12"):
        writing.save(tmp_path / "a.safetensors", infos, pieces(), notes={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "soup", "folder"])
def test_what_is_there_is_replaced_by_force_alone(
    ingredients: sm.Ingredients, tmp_path: Path, kind: str
) -> None:
    recipe, out = sm.Recipe.uniform(ingredients), tmp_path / "out.safetensors"
    state = sm.mix(ingredients, recipe)

    def write(**settings: Any) -> object:
        if kind == "soup":
            return save_soup(out, state, ingredients, recipe, **settings)
        return mix_to_file(
            out, ingredients, recipe, shard_bytes=3000 if kind == "folder" else None, **settings
        )

    write()
    with pytest.raises(OutputError, match="already exists"):
        write()
    if kind == "folder":
        with pytest.raises(OutputError, match="never replaced"):
            write(force=True)
        return
    write(force=True)
    out = Path(ingredients[1].ref)
    with pytest.raises(UsageError, match="also an input"):
        write(force=True)


def test_a_recipe_that_needs_images_is_not_mixed_to_a_file(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    recipe = sm.Recipe.uniform(ingredients, buffers="recalibrate")
    with pytest.raises(UsageError, match="re-estimating statistics needs images; call mix"):
        mix_to_file(tmp_path / "a.safetensors", ingredients, recipe)


def test_memory_is_counted_for_what_lies_in_another_order(tmp_path: Path) -> None:
    plain = {"a": torch.ones(40, 10), "b": torch.ones(30, 10)}
    turned = {"a": torch.ones(10, 40).t(), "b": torch.ones(30, 10)}
    for name, state in (("plain", plain), ("turned", turned)):
        torch.save(state, tmp_path / f"{name}.pt")
    one = sm.load(tmp_path / "plain.pt")
    both = sm.load(tmp_path / "plain.pt", tmp_path / "turned.pt")
    assert memory_of(both) - memory_of(one) == 2 * 40 * 10 * 4
    assert 16 << 20 < memory_of(one) < 256 << 20
