"""Written forms of checkpoints: files and sites, several at once, and those of a recipe."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, UnsafeError, UsageError
from soupmerge.sources import refs
from soupmerge.weights.recipe_files import read_recipe
from tests.shared import near


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three networks around one base."""
    paths = [tmp_path / "in" / f"{name}.safetensors" for name in "abc"]
    paths[0].parent.mkdir()
    base = nn.ModuleDict({"body": nn.Linear(2, 3), "head": nn.Linear(3, 2)})
    for seed, path in enumerate(paths):
        sm.save(path, near(base, seed))
    return paths


# ---- files and sites


@pytest.mark.parametrize(
    ("ref", "remote"),
    [
        ("hf-hub:a/b", True),
        ("timm:x", True),
        ("rb:a/b/c", True),
        ("a.pt", False),
        ("hf-hub", False),
        ("x/rb:a", False),
        (Path("rb:a"), True),
    ],
)
def test_sites_are_told_by_their_prefix(ref: str | Path, remote: bool) -> None:
    assert refs.is_remote(ref) == remote


def test_a_site_is_asked_by_its_prefix_and_told_what_is_wanted(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def opened(ref: str, **options: Any) -> sm.Checkpoint:
        asked.append((ref, options))
        return refs.open_checkpoint(files[0])

    monkeypatch.setitem(sys.modules, "a_site", types.SimpleNamespace(opened=opened))
    monkeypatch.setattr(refs, "SITES", {"site:": "a_site"})
    assert sm.load("site:x", files[1], weights_key=None)[0].files == (files[0],)
    refs.opened("site:y", weights_key="ema", foreign=True)
    assert asked == [
        ("site:x", {"weights_key": None, "foreign": False}),
        ("site:y", {"weights_key": "ema", "foreign": True}),
    ]


def test_which_state_and_whether_code_may_be_named_is_told_to_files_too(tmp_path: Path) -> None:
    wrapped = {"net": {"w": torch.ones(2)}, "ema": {"w": torch.zeros(2)}, "args": Path("x")}
    torch.save(wrapped, tmp_path / "a.pt")
    with pytest.raises(UnsafeError):
        refs.opened(tmp_path / "a.pt", weights_key="ema")
    found = refs.opened(tmp_path / "a.pt", weights_key="ema", foreign=True)
    assert found["w"].tolist() == [0, 0]
    del wrapped["args"]
    torch.save(wrapped, tmp_path / "b.pt")
    assert sm.load(tmp_path / "b.pt", weights_key="net")[0]["w"].tolist() == [1, 1]
    with pytest.raises(InputError, match="several state dicts"):
        sm.load(tmp_path / "b.pt")


# ---- several


def test_no_checkpoint_is_none_too_few() -> None:
    with pytest.raises(UsageError, match="REF: no checkpoint is given; name files"):
        sm.load()


@pytest.mark.parametrize(("base", "known"), [(-1, False), (0, True), (2, True), (3, False)])
def test_the_base_is_one_of_them(files: list[Path], base: int, known: bool) -> None:
    if known:
        ingredients = sm.load(*files, exclude=["body.*"], base=base)
        assert set(ingredients.selection.copied) == {"body.bias", "body.weight"}
        assert set(ingredients.selection.copied.values()) == {base}
        return
    with pytest.raises(UsageError, match=f"base: {base} is not the index of one of 3"):
        sm.load(*files, base=base)


def test_what_is_mixed_may_be_chosen(files: list[Path]) -> None:
    assert set(sm.load(*files, only=["body.weight"]).selection.copied) == {
        "body.bias",
        "head.bias",
        "head.weight",
    }
    assert set(sm.load(*files, head="base").selection.copied) == {"head.bias", "head.weight"}
    assert sm.load(*files, head="skip").selection.skipped == {"head.bias", "head.weight"}


def test_all_that_cannot_be_read_is_said_at_once(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "page.pt").write_text("<html>")
    with pytest.raises(InputError) as one:
        sm.load(files[0], tmp_path / "gone.pt")
    assert str(one.value).startswith(f"{tmp_path}/gone.pt: ")
    with pytest.raises(InputError, match="cannot read the checkpoints: 2 problems") as both:
        sm.load(tmp_path / "gone.pt", files[0], tmp_path / "page.pt")
    assert all(f"{tmp_path}/{name}: " in str(both.value) for name in ("gone.pt", "page.pt"))


# ---- those of a recipe


@pytest.fixture
def soup(files: list[Path], tmp_path: Path) -> Path:
    """A soup in a run folder of its own, that names its ingredients by their names."""
    out = tmp_path / "runs" / "first" / "soup.safetensors"
    out.parent.mkdir(parents=True)
    ingredients = sm.load(*files)
    recipe = sm.Recipe.of(ingredients, [0.5, 0.25, 0.25])
    sm.save(out, sm.mix(ingredients, recipe), recipe=recipe.portable())
    return out


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_ingredients_are_found_beside_the_recipe_and_above(
    files: list[Path], soup: Path, place: str
) -> None:
    recipe = read_recipe(soup)
    assert [source.ref for source in recipe.sources] == [
        "a.safetensors",
        "b.safetensors",
        "c.safetensors",
    ]
    with pytest.raises(InputError, match="there are no such files") as caught:
        refs.of_recipe(recipe, soup.parent)
    assert "give a REF for each ingredient" in str(caught.value)
    assert all(path.name in str(caught.value) for path in files)
    for path in files:
        shutil.move(path, soup.parent / place / path.name)
    ingredients = refs.of_recipe(recipe, soup.parent)
    assert [ingredient.files[0].resolve() for ingredient in ingredients] == [
        (soup.parent / place / p.name).resolve() for p in files
    ]


def test_ingredients_are_found_by_their_path_from_here_or_the_recipe(
    files: list[Path], soup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files[0].parent)
    recipe = sm.Recipe.of(sm.load(*[path.name for path in files]), [0.5, 0.25, 0.25])
    refs.of_recipe(recipe, "/nowhere")
    monkeypatch.chdir("/")
    refs.of_recipe(recipe, files[0].parent)
    below = sm.Recipe.of(sm.load(*files), [0.5, 0.25, 0.25])
    refs.of_recipe(below, "/nowhere")  # its paths are whole


def test_who_names_the_files_names_them_all_and_the_right_ones(
    files: list[Path], soup: Path
) -> None:
    recipe = read_recipe(soup)
    assert len(refs.of_recipe(recipe, soup.parent, refs=files)) == 3
    with pytest.raises(
        UsageError, match=r"the soup: has 3 ingredients, not 2; give a REF for each"
    ):
        refs.of_recipe(recipe, soup.parent, refs=files[:2], where="the soup")
    with pytest.raises(InputError, match="the soup: ") as caught:
        refs.of_recipe(recipe, soup.parent, refs=[files[0], files[2], files[1]], where="the soup")
    assert "sha256" in str(caught.value)
    gone = [files[0], files[1], files[1].with_name("gone.pt")]
    with pytest.raises(InputError, match="no such files: .*gone.pt"):
        refs.of_recipe(recipe, soup.parent, refs=gone)
