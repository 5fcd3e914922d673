"""From a reference to files: what stands for a folder, what is near, and what travels of a path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soupmerge.errors import InputError
from soupmerge.weights.places import (
    INDEX,
    place_of,
    preferred,
    shards_of,
)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["model.safetensors"], "model.safetensors"),
        (["x.pt"], "x.pt"),
        (["notes.txt", "a.ckpt", "b.json"], "a.ckpt"),
        (["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        (["pytorch_model.bin", "soup.safetensors"], "soup.safetensors"),
        (["soup.safetensors", "model.safetensors" + INDEX], "model.safetensors" + INDEX),
        (["pytorch_model.bin" + INDEX, "part-1.bin", "part-2.bin"], "pytorch_model.bin" + INDEX),
        (["pytorch_model.bin", "optimizer.pt"], "pytorch_model.bin"),
    ],
)
def test_one_file_stands_for_a_folder(names: list[str], wanted: str) -> None:
    assert preferred(names, "here") == wanted


@pytest.mark.parametrize(
    ("names", "near", "words"),
    [
        (["b.pt", "a.pt"], [], "found a.pt, b.pt; did you mean x/a.pt"),
        ([], ["deep/a.pt"], "found none; did you mean deep/a.pt"),
        (["notes.txt"], [], "found none; give a file of weights"),
        (
            ["model.safetensors", "model.safetensors" + INDEX],
            [],
            f"holds both model.safetensors and model.safetensors{INDEX}, which may be two",
        ),
        (["pytorch_model.bin", "pytorch_model.bin" + INDEX], [], "holds both pytorch_model.bin"),
        ([f"{i:02}.pt" for i in range(30)], [], "09.pt, and 20 more; did you mean x/00.pt"),
    ],
)
def test_a_folder_of_none_or_several_is_refused_with_what_may_be_meant(
    names: list[str], near: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=f"^here: .*{words}"):
        preferred(names, "here", near=near, written="x/")


def test_a_file_that_is_missing_is_named_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "net.pth").touch()
    with pytest.raises(
        InputError, match=r"net\.pt: there is no such file.*did you mean .*net\.pth"
    ):
        place_of(tmp_path / "net.pt")
    for path in (tmp_path / "other.pt", tmp_path / "no" / "net.pt"):
        with pytest.raises(InputError, match="there is no such file or folder; check the path"):
            place_of(path)
    with pytest.raises(InputError, match="cannot be read: File name too long; check its path"):
        place_of(tmp_path / ("x" * 300))
    assert place_of(tmp_path / "net.pth").files == (tmp_path / "net.pth",)


def test_shards_are_files_beside_their_index_in_order(tmp_path: Path) -> None:
    homes = {"c": "model-2-of-2.safetensors", "a": "model-1-of-2.safetensors"}
    index = tmp_path / ("model.safetensors" + INDEX)
    index.write_text(json.dumps({"weight_map": homes, "metadata": {"total_size": 1}}))
    for shard in {*homes.values(), "other.safetensors", "model-x.safetensors"}:
        (tmp_path / shard).touch()
    assert shards_of(index) == homes
    for ref in (index, tmp_path):
        place = place_of(ref)
        assert place.files == tuple(tmp_path / f"model-{i}-of-2.safetensors" for i in (1, 2))
        assert (place.index, place.weight_map, place.links) == (index, homes, ())
    one, two = place.files
    assert list(place.misplaced({one: {"a"}, two: {"c"}})) == []
    assert list(place.misplaced({one: {"a", "c"}, two: {"c", "d"}})) == [
        "'c' is in model-1-of-2.safetensors and in model-2-of-2.safetensors",
        "'d' is in model-2-of-2.safetensors, but not in the index",
    ]
    assert list(place.misplaced({one: set(), two: {"c"}})) == [
        "'a' should be in model-1-of-2.safetensors, but no shard holds it"
    ]
    (tmp_path / "model-3-of-2.safetensors").touch()
    two.unlink()
    with pytest.raises(InputError, match="is incomplete") as caught:
        place_of(index)
    assert list(caught.value.problems) == [
        "shard 'model-2-of-2.safetensors' is missing",
        "model-3-of-2.safetensors is not in the index",
    ]
