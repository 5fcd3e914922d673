"""What a set holds: counts on paper, sizes from headers, and what the command says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import soupmerge as sm
from soupmerge.sources.images import stored, summary
from soupmerge.sources.images.preprocessing import Preprocessing

Typed = Callable[..., Any]


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Four images of two classes, of three sizes, and a class without any."""
    for place, size in {
        "cat/a": (40, 30),
        "cat/b": (30, 40),
        "cat/c": (40, 30),
        "dog/a": (8, 9),
    }.items():
        file = tmp_path / "photos" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "red").save(file)
    (tmp_path / "photos" / "emu").mkdir()
    return f"folder:{tmp_path}/photos"


EMPTY = pytest.mark.filterwarnings("ignore:.*no images of 1 of 3 classes")


def test_counts_of_classes() -> None:
    images = sm.Images.of(torch.zeros(7, 1, 4, 6), torch.tensor([0, 2, 2, 2, 0, 4, 4]), classes=6)
    found = sm.summarise(images)
    assert list(found.per_class.values()) == [2, 0, 3, 0, 2, 0]
    assert found.empty == ["1", "3", "5"]
    assert found.sizes == {(4, 6): 7}
    rows = dict(found.rows())
    assert rows["classes"] == "6; no images of 3: 1, 3, 5"
    assert rows["images per class"] == "0 to 3, median 1"
    assert rows["width × height"] == "6×4"
    assert rows["sha256"] == images.sha256
    assert found.to_json()["images_per_class"] == {
        "min": 0,
        "median": 1.0,
        "max": 3,
        "empty": ["1", "3", "5"],
    }


@EMPTY
def test_sizes_are_read_from_headers(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = sm.data(photos, like=Preprocessing())
    monkeypatch.setattr(stored.Decoder, "decode", None)  # nothing is decoded
    found = sm.summarise(images)
    assert found.per_class == {"cat": 3, "dog": 1, "emu": 0}
    assert found.sizes == {(30, 40): 2, (40, 30): 1, (9, 8): 1}
    assert dict(found.rows())["width × height"] == "1 of 8×9, 2 of 40×30, 1 of 30×40"
    assert found.to_json()["sha256"] == images.fingerprint()["sha256"]


@EMPTY
def test_of_many_images_some_are_looked_at(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "SIZED", 2)
    monkeypatch.setattr(summary, "LISTED", 1)
    found = sm.summarise(sm.data(photos, like=Preprocessing()))
    assert found.sizes == {(30, 40): 1, (9, 8): 1}  # the first and the last
    sizes = dict(found.rows())["width × height"]
    assert sizes == "8×9 to 40×30, 2 sizes; 2 of 4 images were looked at"


@EMPTY
def test_headers_that_cannot_be_read_are_counted(photos: str) -> None:
    root = Path(photos.removeprefix("folder:").partition("?")[0])
    first = min(root.rglob("*.png"))
    first.write_bytes(first.read_bytes()[:10])
    found = sm.summarise(sm.data(f"folder:{root}?resize=4x4"))
    assert (found.unreadable, sum(found.sizes.values())) == (1, 3)
    assert dict(found.rows())["unreadable"] == "1; --scan lists all that are broken"
    assert found.to_json()["unreadable"] == 1


def test_sizes_are_those_before_preprocessing_and_corruption(photos: str) -> None:
    with pytest.warns(UserWarning, match="no images of 1 of 3 classes"):
        images = sm.data(f"blur-1:{photos}?resize=6&crop=6")
    found = sm.summarise(images)
    assert sum(found.sizes.values()) == 4
    assert (9, 8) in found.sizes
    assert dict(found.rows())["preprocessing"] == "resize=6&crop=6"


@pytest.mark.parametrize(
    ("query", "misfit"),
    [
        ("", None),
        ("&num_classes=7", "has 7 classes, but"),
        ("&in_channels=3", "cannot take images"),
    ],
)
def test_a_network_is_asked(query: str, misfit: str | None, soupmerge: Typed) -> None:
    net = sm.model(f"digits-cnn?width=2{query}").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = sm.summarise(sm.data("digits", limit=40), net)
    assert (found.misfit or "").startswith(misfit or "")
    assert (found.misfit is None) == (misfit is None)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    ended = soupmerge("data", "digits", "--limit", 40, "--model", f"digits-cnn?width=2{query}")
    assert ended.status == (0 if misfit is None else 1)
    assert (misfit or "fits") in ended.out


@EMPTY
def test_an_image_alone_may_have_any_size(photos: str) -> None:
    images = sm.data(photos, like=Preprocessing())
    assert [tuple(images.image(i).shape[1:]) for i in range(4)] == [
        (30, 40),
        (40, 30),
        (30, 40),
        (9, 8),
    ]
    assert images.image(0).flatten(1).unique(dim=1).flatten().tolist() == [1, 0, 0]
    blurred = sm.data(f"blur-5:{photos}", like=Preprocessing())
    assert blurred.image(3).shape == (3, 9, 8)


def test_the_command_shows_a_set_and_draws_a_sheet(
    soupmerge: Typed, photos: str, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    ended = soupmerge("data", photos, "-o", sheet)
    assert ended.status == 0
    first, *rows = ended.out.splitlines()
    assert first == photos
    assert [row.split("  ")[0] for row in rows][:3] == ["split", "images", "classes"]
    before = sheet.read_bytes()
    with Image.open(sheet) as drawn:
        assert drawn.width > 500
    again = soupmerge("data", photos, "-o", sheet)
    assert (again.status, "exists" in again.err) == (5, True)
    assert soupmerge("data", photos, "-o", sheet, "--force").status == 0
    assert sheet.read_bytes() == before
    parsed = json.loads(soupmerge("data", photos, "--json").out)
    assert parsed["per_class"] == {"cat": 3, "dog": 1, "emu": 0}


def test_the_command_uses_what_a_network_states(soupmerge: Typed, photos: str) -> None:
    ended = soupmerge("data", photos, "--model", "timm:resnet18?num_classes=3", "-q")
    rows = dict(line.split("  ", 1) for line in ended.out.splitlines()[1:])
    assert rows["preprocessing"].strip().startswith("resize=")
    assert rows["timm:resnet18?num_classes=3"].strip() == "fits"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("data", 2, "no data set is named"),
        ("data digits -o sheet.txt", 2, "name a file that ends in .png, .svg, .pdf"),
        ("data digits -o sheet", 2, "is not the name of a figure"),
        ("data digitz", 2, "did you mean 'digits'"),
        ("data digits --model resnett9", 2, "resnet9"),
    ],
)
def test_what_the_command_refuses(soupmerge: Typed, words: str, status: int, said: str) -> None:
    ended = soupmerge(*words.split())
    assert ended.status == status
    assert said in ended.err
