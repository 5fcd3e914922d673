"""References that are almost right: the error says how to write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError, UsageError
from soupmerge.sources.functions import how_to_write
from soupmerge.sources.images.resizing import Resized


def make_set(home: Path, *splits: str) -> None:
    """Write two classes of one image each to *home*, or below each of *splits* in it."""
    for split in splits or ("",):
        for name in ("cat", "dog"):
            (home / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(home / split / name / "0.png")


def message(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(SoupmergeError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# ---- data


def test_a_path_alone_is_answered_with_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "photos")
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 1, 2, 2)), y=[0])
    for ref, kind in ((tmp_path / "photos", "folder"), (tmp_path / "a.npz", "npz")):
        said = message(sm.data, str(ref))
        assert said.endswith(f"no data set {str(ref)!r}; write {kind}:{ref}")
        assert len(sm.data(f"{kind}:{ref}")) > 0
    monkeypatch.chdir(tmp_path)
    assert message(sm.data, "photos").endswith("; write folder:photos")
    assert message(sm.data, "blur-3:photos").endswith("; write folder:photos")
    assert message(sm.data, "corruptions:photos") == (
        "data: corruptions:photos stands for 75 data sets; name one of them, such as "
        "gaussian_noise-1:photos, or give all of them to eval or adapt"
    )
    assert "folder:PATH, arrays npz:PATH" in message(sm.data, "no/such/photos")
    for name, kind in {"a.tar": "tar", "gone/b.parquet": "hf", "c.arrow": "hf"}.items():
        assert message(sm.data, name).endswith(f"; write {kind}:{name}")
    assert "write mine:make, importable from" in message(sm.data, "mine.py:make")
    assert "x" * 300 in message(sm.data, "x" * 300)  # a name longer than any file's


@pytest.mark.parametrize("splits", [(), ("train", "test")], ids=["classes", "splits"])
def test_one_level_too_high_names_the_sets_inside(tmp_path: Path, splits: tuple[str, ...]) -> None:
    for name in ("first", "second"):
        make_set(tmp_path / name, *splits)
    (tmp_path / "third").mkdir()
    with pytest.raises(InputError, match="holds no images in class folders") as caught:
        sm.data(f"folder:{tmp_path}")
    sets = [f"{tmp_path / name}" for name in ("first", "second")]
    assert str(caught.value).endswith(f"data sets one level below: {', '.join(sets)}")
    assert [len(sm.data(f"folder:{path}")) for path in sets] == [2, 2]


def test_a_folder_without_sets_inside_is_told_what_belongs_there(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert message(sm.data, f"folder:{tmp_path}").endswith("one folder of images per class")


@pytest.mark.parametrize("split", ["test", "val"])
def test_only_parts_of_splits_that_exist_are_suggested(tmp_path: Path, split: str) -> None:
    make_set(tmp_path, split)
    said = message(sm.data, f"folder:{tmp_path}", split="train")
    assert said.endswith(f"unknown split 'train'; it has {split}, and parts such as {split}[:500]")
    assert len(sm.data(f"folder:{tmp_path}", split=f"{split}[:1]")) == 1


@pytest.mark.parametrize("ref", [None, 3, Path("photos"), ["digits"]])
def test_data_is_named_by_text(ref: Any) -> None:
    with pytest.raises(UsageError, match=f"found a {type(ref).__name__}; Images.of"):
        sm.data(ref)
    with pytest.raises(UsageError, match="split: .* is not a split"):
        sm.data("digits", split=ref)


@pytest.mark.parametrize("value", ["8", 2.5, None])
def test_arguments_of_other_types_are_named(value: Any) -> None:
    images = sm.data("digits", limit=3)
    if value is not None:
        assert f"limit {value} is not in 1…300" in message(sm.data, "digits", limit=value)
    assert f"resolution: {value} is not in 1…4096" in message(Resized, images, value)
    arrays = (images.pixels.numpy(), images.labels.numpy())
    for x, y in (arrays, (arrays[0], images.labels), (images.pixels, arrays[1])):
        assert "Images.of(x, y) takes arrays" in message(sm.Images, "r", "s", images.ids, x, y, 10)
    assert sm.Images.of(*arrays, classes=10).sha256 != images.sha256  # ids are numbered anew


# ---- networks and weights


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("nets/mine.py:make", "write nets.mine:make, importable from the current folder"),
        ("mine.py:make", "write mine:make, importable"),
        ("./nets/mine.py", "write nets.mine:FUNCTION, importable"),
        ("nets/mine:make", "write nets.mine:make, importable"),
        ("nets.mine", "write nets.mine:FUNCTION, importable"),
        ("/home/me/mine.py:make", "write mine:make, with /home/me on PYTHONPATH"),
        ("my-nets/mine.py:make", "write mine:make, with my-nets on PYTHONPATH"),
        ("../mine.py", "write mine:FUNCTION, with .. on PYTHONPATH"),
    ],
)
def test_files_of_python_are_answered_with_module_and_function(ref: str, words: str) -> None:
    assert words in str(how_to_write(ref))
    said = message(sm.model, ref)
    assert words in said
    assert "known are" not in said


@pytest.mark.parametrize("ref", ["resnet", "a.b:c", "timm:x", "hf-hub:me/net", "me/net", "1.5"])
def test_other_references_are_not_taken_for_python(ref: str) -> None:
    assert how_to_write(ref) is None


def test_a_suggested_function_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets").mkdir()
    code = "from torch import nn\n\ndef make():\n    return nn.Linear(2, 2)\n"
    (tmp_path / "nets" / "suggested.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert "write nets.suggested:FUNCTION" in message(sm.model, "nets/suggested")
    assert type(sm.model("nets.suggested:make")).__name__ == "Linear"


def test_an_unknown_name_is_not_answered_with_a_long_list() -> None:
    said = message(sm.model, "xyzzy")
    assert said.endswith("such as resnet18-cifar, timm:NAME, or package.module:function")
    assert "did you mean 'resnet9'?" in message(sm.model, "resnet8")


def test_files_that_do_not_name_their_network_are_answered_for_python_too(tmp_path: Path) -> None:
    sm.save(tmp_path / "a.safetensors", sm.model("digits-cnn?width=2").state_dict())
    ingredients = sm.load(tmp_path / "a.safetensors")
    assert "model(NAME, …) in Python" in message(sm.model, like=ingredients)
    assert sm.model("digits-cnn?width=2", like=ingredients) is not None


@pytest.mark.parametrize("ref", [3, {"weight": 1}])
def test_a_network_is_named_by_text(ref: Any) -> None:
    words = f"expected a reference such as 'resnet9', found a {type(ref).__name__}"
    assert words in message(sm.model, ref)


def test_several_files_are_given_one_by_one() -> None:
    assert message(sm.load, ["a.pt", "b.pt"]).endswith("give each as an argument: load(*refs)")
    assert "found a int" in message(sm.load, 3)
