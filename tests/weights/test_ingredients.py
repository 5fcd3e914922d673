"""Ingredients fit together, or all that keeps them from it is listed, each with its file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.weights.ingredients import mismatches
from tests.shared import near

State = dict[str, torch.Tensor]


def load(
    home: Path, *states: State, names: str = "abcdefghijkl", **settings: Any
) -> sm.Ingredients:
    paths = [home / f"{names[i]}.safetensors" for i in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        sm.save(path, state, force=True)
    return sm.load(*paths, **settings)


GOOD: State = {
    "conv.weight": torch.ones(4, 2),
    "count": torch.tensor(3),
    "head.bias": torch.ones(10),
    "mean": torch.tensor([0.5]),
}
MISFITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "one missing": ({"count": None}, ["count: missing"]),
    "one misspelled": (
        {"conv.weight": None, "conv.wieght": torch.ones(4, 2)},
        ["conv.weight: missing (did you mean 'conv.wieght'?)", "conv.wieght: not in "],
    ),
    "one more": ({"extra": torch.ones(1)}, ["extra: not in "]),
    "another shape": (
        {"conv.weight": torch.ones(2, 4)},
        ["conv.weight: shape (2, 4), expected (4, 2)"],
    ),
    "another head": (
        {"head.bias": torch.ones(7)},
        ["head.bias: shape (7,), expected (10,) (the head differs: 7 and 10 classes? --head base"],
    ),
    "another kind": (
        {"conv.weight": torch.ones(4, 2, dtype=torch.int64)},
        ["conv.weight: dtype int64, expected float32"],
    ),
    "another normaliser": (
        {"mean": torch.tensor([0.25])},
        ["mean: the normalisers differ ([0.25] and [0.5])"],
    ),
    "nothing in common": (
        {**dict.fromkeys(GOOD), "w": torch.ones(1)},
        ["has no tensor name in common with "],
    ),
}


@pytest.mark.parametrize(("change", "lines"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named_with_its_file(
    tmp_path: Path, change: dict[str, Any], lines: list[str]
) -> None:
    other = {name: t for name, t in {**GOOD, **change}.items() if t is not None}
    good = sm.load(load(tmp_path, GOOD)[0].ref)[0]
    sm.save(tmp_path / "x.safetensors", other)
    bad = sm.load(tmp_path / "x.safetensors")[0]
    found = mismatches([good, bad])
    assert list(found) == [bad.ref]
    assert len(found[bad.ref]) == len(lines)
    for line, wanted in zip(found[bad.ref], lines, strict=True):
        assert line.startswith(wanted)
    with pytest.raises(InputError, match="only mix checkpoints of the same network") as caught:
        sm.load(good.ref, bad.ref)
    assert [problem.split(": ", 1) for problem in caught.value.problems] == [
        [bad.ref, line] for line in found[bad.ref]
    ]


def test_equal_kinds_of_numbers_fit_and_so_do_equal_constants(tmp_path: Path) -> None:
    half = {n: t.half() if t.is_floating_point() else t.int() for n, t in GOOD.items()}
    with pytest.warns(UserWarning, match=r"several dtypes, conv.weight \(float16\) and 2 more: "):
        ingredients = load(tmp_path, GOOD, half)
    assert mismatches(list(ingredients)) == {}
    assert ingredients.infos["conv.weight"].dtype.name == "float32"
    assert mismatches([ingredients[0], ingredients[0]]) == {}


def test_networks_that_files_name_must_agree(tmp_path: Path) -> None:
    for name, model in (("a", "resnet9"), ("b", "digits-cnn"), ("c", None)):
        sm.save(tmp_path / f"{name}.safetensors", GOOD, model=model)
    one, other, silent = (sm.load(tmp_path / f"{n}.safetensors")[0] for n in "abc")
    found = mismatches([one, other, silent])
    assert found == {other.ref: [f"is for the network digits-cnn, but {one.ref} is for resnet9"]}
    with pytest.warns(UserWarning, match="more than once"):
        assert sm.load(one.ref, one.ref).model == "resnet9"
    assert sm.load(one.ref, silent.ref).model is None


def test_five_offences_of_a_checkpoint_are_shown_and_check_lists_all(tmp_path: Path) -> None:
    many = {f"n{i}": torch.ones(1) for i in range(8)}
    with pytest.raises(InputError) as caught:
        load(tmp_path, many, {"n0": torch.ones(1)}, {**many, "n7": torch.ones(2)})
    b, c = str(tmp_path / "b.safetensors"), str(tmp_path / "c.safetensors")
    assert list(caught.value.problems) == [
        *(f"{b}: n{i}: missing" for i in range(1, 6)),
        f"{b}: and 2 more (soupmerge check lists all)",
        f"{c}: n7: shape (2,), expected (1,) (the head differs: 2 and 1 classes? "
        "--head base keeps one)",
    ]
    five = {name: t for name, t in many.items() if name in ("n0", "n1", "n2")}
    with pytest.raises(InputError) as caught:
        load(tmp_path, many, five)
    assert len(caught.value.problems) == 5


def test_what_is_tied_in_one_file_must_be_equal_in_all(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    torch.save({"a": shared, "b": shared, "w": torch.ones(1)}, tmp_path / "tied.pt")
    torch.save({"a": shared, "b": shared + 1, "w": torch.ones(1)}, tmp_path / "apart.pt")
    torch.save({"a": shared, "b": shared.clone(), "w": torch.ones(1)}, tmp_path / "equal.pt")
    tied, apart, equal = (sm.load(tmp_path / f"{n}.pt")[0] for n in ("tied", "apart", "equal"))
    line = f"a and b are one tensor elsewhere, but differ in {apart.ref}"
    assert mismatches([tied, apart]) == {apart.ref: [line]}
    assert mismatches([apart, tied]) == {tied.ref: [line]}
    assert mismatches([tied, equal]) == {}


def test_a_wrapper_s_prefix_is_no_difference(net: nn.Module, tmp_path: Path) -> None:
    wrapped = {f"module.{n}": t for n, t in near(net, 1).items()}
    torch.save({"state_dict": wrapped}, tmp_path / "a.pt")
    sm.save(tmp_path / "b.safetensors", near(net, 2))
    ingredients = sm.load(tmp_path / "a.pt", tmp_path / "b.safetensors")
    sm.bind(net, sm.mix(ingredients, sm.Recipe.uniform(ingredients)))


# ---- one file twice


def linked(link: Callable[[Path, Path], None]) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        link(path, path.with_name("again.safetensors"))
        return path.with_name("again.safetensors")

    return make


ALIASES: dict[str, Callable[[Path], Path]] = {
    "itself": lambda path: path,
    "a hard link": linked(lambda path, to: to.hardlink_to(path)),
    "a symbolic link": linked(lambda path, to: to.symlink_to(path)),
}


@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_one_file_twice_is_warned_of(tmp_path: Path, alias: Callable[[Path], Path]) -> None:
    load(tmp_path, GOOD, {**GOOD, "conv.weight": torch.zeros(4, 2)})
    path = tmp_path / "a.safetensors"
    again = alias(path)
    listed = str(path) if again == path else f"{path}, {again}"
    with pytest.warns(UserWarning, match=f"the same file is given more than once: {listed}$"):
        sm.load(path, again, tmp_path / "b.safetensors")


def test_a_folder_of_shards_twice_is_warned_of(tmp_path: Path) -> None:
    shards = {name: f"{i}.safetensors" for i, name in enumerate(GOOD)}
    for name, shard in shards.items():
        save_file({name: GOOD[name]}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.warns(UserWarning, match="the same file is given more than once"):
        sm.load(tmp_path, tmp_path)


def test_equal_weights_in_two_files_are_warned_of_when_they_are_hashed(tmp_path: Path) -> None:
    ingredients = load(tmp_path, GOOD, GOOD, {**GOOD, "conv.weight": torch.zeros(4, 2)})
    a, b, c = (ingredient.ref for ingredient in ingredients)
    with pytest.warns(UserWarning, match=f"{a} and {b} are the same weights") as caught:
        assert ingredients.hashes == tuple(ingredient.sha256 for ingredient in ingredients)
    assert len(caught) == 1
    assert ingredients.fingerprint() == [{"ref": c.ref, "sha256": c.sha256} for c in ingredients]


# ---- what they are


def test_ingredients_tell_what_a_soup_of_them_holds(tmp_path: Path) -> None:
    ingredients = load(tmp_path, GOOD, {**GOOD, "head.bias": torch.ones(7)}, head="base", base=1)
    assert {n: i.shape for n, i in ingredients.infos.items()} == {
        "conv.weight": (4, 2),
        "count": (),
        "head.bias": (7,),
        "mean": (1,),
    }
    assert list(ingredients.infos) == sorted(ingredients.infos)
    assert ingredients.mixed == ("conv.weight",)
    assert ingredients.bytes == 4 * (8 + 7 + 1) + 8
    assert (len(ingredients), ingredients.files) == (
        2,
        tuple(Path(ingredient.ref) for ingredient in ingredients),
    )
    alone = ingredients.alone(0)
    assert (alone.ref, list(alone)) == (ingredients[0].ref, list(ingredients.infos))
    assert torch.equal(alone["head.bias"], torch.ones(7))
    lacking = dataclasses.replace(ingredients.selection, copied={"head.bias": 1, "nowhere": 0})
    with pytest.raises(InputError, match=r"a\.safetensors: nowhere"):
        sm.Ingredients(ingredients.checkpoints, lacking)


def test_names_are_short_and_distinct(tmp_path: Path) -> None:
    paths = []
    for folder in ("x", "y", "z/x"):
        (tmp_path / folder).mkdir(parents=True)
        paths.append(tmp_path / folder / "a.b.safetensors")
        sm.save(paths[-1], {"w": torch.full((2, 2), float(len(paths)))})
    (tmp_path / "folder").mkdir()
    sm.save(tmp_path / "folder" / "model.safetensors", {"w": torch.zeros(2, 2)})
    ingredients = sm.load(*paths, tmp_path / "folder")
    assert ingredients.names == ("a.b", "y/a.b", "x/a.b", "folder")
    twice = [dataclasses.replace(c, ref="m/a.pt") for c in ingredients]
    assert sm.Ingredients(tuple(twice)).names == ("a", "m/a", "m/a#3", "m/a#4")
    site = [f"hf-hub:me/net@{'0123456789' * 4}", "hf-hub:me/net@v1", "timm:vit.x"]
    named = [dataclasses.replace(c, ref=ref) for c, ref in zip(ingredients, site, strict=False)]
    assert sm.Ingredients(tuple(named)).names == ("net@0123456", "net@v1", "timm:vit.x")


def test_a_soup_shares_no_memory_with_its_ingredients(net: nn.Module, tmp_path: Path) -> None:
    for i in (1, 2):
        torch.save(near(net, i), tmp_path / f"{i}.pt")
    ingredients = sm.load(tmp_path / "1.pt", tmp_path / "2.pt")
    kept = {name: tensor.clone() for name, tensor in ingredients[0].items()}
    for tensor in sm.mix(ingredients, sm.Recipe.of(ingredients, [1.0, 0.0])).values():
        tensor.zero_()
    assert all(torch.equal(ingredients[0][name], kept[name]) for name in kept)
