"""Notes and recipes may come from anyone: what is malformed is ignored or named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.weights.files import open_checkpoint

STATE = {"w": torch.ones(2)}


def noted(path: Path, notes: str) -> sm.Checkpoint:
    safetensors.torch.save_file(STATE, path, {"soupmerge": notes})
    return open_checkpoint(path)


@pytest.mark.parametrize("notes", ["", "{", "[]", "3", "null", "[" * 9999, '{"model": 3}'])
def test_malformed_notes_name_no_network(tmp_path: Path, notes: str) -> None:
    assert noted(tmp_path / "a.safetensors", notes).model is None


def test_notes_with_a_duplicate_key_are_refused(tmp_path: Path) -> None:
    checkpoint = noted(tmp_path / "a.safetensors", '{"model": "a", "model": "b"}')
    with pytest.raises(InputError, match="in its notes, the key 'model' appears twice; use the"):
        assert checkpoint.model


def test_notes_are_read_from_the_key_soupmerge(tmp_path: Path) -> None:
    assert noted(tmp_path / "a.safetensors", '{"model": "a", "x": 1}').notes_of_soupmerge == {
        "model": "a",
        "x": 1,
    }


def test_a_portable_recipe_reveals_no_folder(ingredients: sm.Ingredients) -> None:
    calibration = {"data": {"ref": "folder:/home/me/cats", "n": 3}, "seed": 0}
    recipe = dataclasses.replace(sm.Recipe.uniform(ingredients), calibration=calibration)
    portable = recipe.portable()
    assert portable.calibration == {"data": {"ref": "folder:cats", "n": 3}, "seed": 0}
    assert [s.ref for s in portable.sources] == [Path(s.ref).name for s in recipe.sources]
    assert [s.sha256 for s in portable.sources] == [s.sha256 for s in recipe.sources]
    assert recipe.calibration == calibration
    odd: Any = {"data": 3}
    assert dataclasses.replace(recipe, calibration=odd).portable().calibration == odd


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"wieghts": {}}, "unknown key 'wieghts'; did you mean 'weights'"),
    ({"ingredients": [{"ref": "a", "sha": "b"}]}, "ingredient 1: unknown key 'sha'"),
    (
        {"buffers": {"policy": "base", "bass": 0}},
        "buffers: unknown key 'bass'; did you mean 'base'",
    ),
    ({"buffers": {"policy": "average", "base": True}}, "True is not a whole number"),
    ({"buffers": 3}, "is a damaged recipe"),
    ({"ingredients": 3}, "is a damaged recipe"),
    ({"weights": {"model": ["1"]}}, "'1' is not a number"),
    ({"weights": {"model": [True]}}, "True is not a number"),
    ({"affine": 1}, "1 is neither true nor false"),
    ({"copied": {"w": 3}}, "copies from an ingredient that is not listed"),
    ({"copied": {"w": -1}}, "copies from an ingredient that is not listed"),
    ({"groups": 3}, "3 is not a string"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_recipe_that_was_edited_wrongly_is_refused(
    ingredients: sm.Ingredients, change: dict[str, Any], words: str
) -> None:
    value = json.loads(json.dumps(sm.Recipe.uniform(ingredients).to_json()))
    assert sm.Recipe.from_json(value) == sm.Recipe.uniform(ingredients)
    with pytest.raises(InputError, match=words):
        sm.Recipe.from_json(value | change, where="here")


def sharded(home: Path, weight_map: dict[str, str]) -> Path:
    for name in "ab":
        sm.save(home / f"{name}.safetensors", {f"{name}.w": torch.ones(1)})
    (home / "x.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return home / "x.safetensors.index.json"


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a.w": "a.safetensors", "b.w": "a.safetensors"}, "'b.w' should be in a.safetensors, but"),
        ({"a.w": "b.safetensors"}, "'b.w' is in b.safetensors, but not in the index"),
        ({"a.w": "c.safetensors"}, "is incomplete: shard 'c.safetensors' is missing"),
        ({"a.w": 3}, "is not an index of shards: it has no weight_map"),
        ({}, "holds no tensors"),
    ],
)
def test_an_index_that_does_not_match_its_shards_is_refused(
    tmp_path: Path, weight_map: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        open_checkpoint(sharded(tmp_path, weight_map))


def test_a_key_for_a_safetensors_file_is_refused(tmp_path: Path) -> None:
    sm.save(tmp_path / "a.safetensors", STATE)
    with pytest.raises(InputError, match="safetensors files are not nested; omit --weights-key"):
        open_checkpoint(tmp_path / "a.safetensors", weights_key="net")
