"""Class folders and archives of images: what is read, and what is not passed over in silence."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import soupmerge as sm
from soupmerge.errors import InputError, UnsafeError, UsageError
from soupmerge.sources.images import arrays, decoding
from tests.shared import Outcome

Typed = Callable[..., Outcome]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Images of cats and dogs, three of each to train and two to test."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "pets"


# ---- what is read


def test_images_are_pillow_s_with_channels_first(pets: Path) -> None:
    train = sm.data(f"folder:{pets}", split="train")
    assert train.ids == tuple(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3))
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.classes == 2
    x, _ = train.batch(torch.arange(6))
    assert x.dtype == torch.float32
    for image, id in zip(x, train.ids, strict=True):
        pixels = np.asarray(Image.open(pets / "train" / id))
        assert np.array_equal(image.numpy(), (pixels / np.float32(255)).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("modes", "channels"),
    [("L", 1), ("1L", 1), (["L", "RGB"], 3), (["P"], 3), (["RGBA"], 3), (["CMYK"], 3), (["LA"], 3)],
)
def test_images_have_one_channel_only_if_all_are_grey(
    tmp_path: Path, modes: str | list[str], channels: int
) -> None:
    (tmp_path / "a").mkdir()
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    for i, mode in enumerate(modes):
        drawn.convert(mode).save(tmp_path / "a" / f"{i}.tif")
    images = sm.data(f"folder:{tmp_path}")
    assert images.pixels.shape == (len(modes), channels, 4, 4)
    for i, mode in enumerate(modes):
        wanted = np.asarray(drawn.convert(mode).convert("RGB" if channels == 3 else "L"))
        assert np.array_equal(images.pixels[i].permute(1, 2, 0).squeeze(2).numpy(), wanted)


SUFFIXES = [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_known_kind_of_image_is_read(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8), 100).save(tmp_path / "a" / f"x{suffix}")
    (tmp_path / "a" / f"x{suffix}").rename(tmp_path / "a" / f"x{suffix.upper()}")
    assert int(sm.data(f"folder:{tmp_path}").pixels.float().mean().round()) == 100


def test_a_split_is_its_folder_or_the_folder_is_all(pets: Path) -> None:
    by_split, itself = sm.data(f"folder:{pets}"), sm.data(f"folder:{pets}/test")
    assert by_split.ids == itself.ids
    assert by_split.pixels.equal(itself.pixels)
    with pytest.raises(UsageError, match="unknown split 'val'; it has train, test"):
        sm.data(f"folder:{pets}", split="val")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "car", "train"):
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "x.png")
    for split in ("train", "test"):
        assert sm.data(f"folder:{tmp_path}", split=split).class_names == ("bus", "car", "train")


# ---- what is not


def broken_link(pets: Path) -> None:
    (pets / "train" / "dog" / "9.png").symlink_to(pets / "gone.png")


def pipe(pets: Path) -> None:
    os.mkfifo(pets / "train" / "dog" / "9.png")


def folder(pets: Path) -> None:
    (pets / "train" / "dog" / "9.png").mkdir()


def text(pets: Path) -> None:
    (pets / "train" / "dog" / "9.png").write_text("not a picture")


def cut(pets: Path) -> None:
    whole = (pets / "train" / "dog" / "0.png").read_bytes()
    (pets / "train" / "dog" / "9.png").write_bytes(whole[:60])


def deep(pets: Path) -> None:
    """Floating point, of which Pillow would cut off everything above 255."""
    Image.new("F", (5, 6)).save(pets / "train" / "dog" / "9.tif")


def large(pets: Path) -> None:
    Image.new("L", (7, 7)).save(pets / "train" / "dog" / "9.png")


@pytest.mark.parametrize("offence", [broken_link, pipe, folder, text, cut, deep, large])
def test_no_image_is_left_out_in_silence(
    pets: Path, offence: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MOST_PIXELS", 48)
    offence(pets)
    with pytest.raises(InputError, match="dog/9.(png|tif)"):
        sm.data(f"folder:{pets}", split="train")


def test_all_that_cannot_be_read_is_counted_and_ten_are_named(pets: Path) -> None:
    for i in range(12):
        (pets / "train" / "cat" / f"bad{i:02}.png").write_text("x")
    with pytest.raises(InputError) as caught:
        sm.data(f"folder:{pets}", split="train")
    said = str(caught.value)
    assert "12 of 18 images cannot be read" in said
    assert "bad09.png: is not a readable image" in said
    assert "bad10.png" not in said
    assert "2 more" in said


def test_grey_images_of_16_bits_are_scaled_to_8(tmp_path: Path) -> None:
    (tmp_path / "dog").mkdir()
    levels = np.array([[0, 128, 129, 257, 300, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "dog" / "0.png")
    found = sm.data(f"folder:{tmp_path}").pixels
    assert found.tolist() == [[[[0, 0, 1, 1, 1, 255]]]]


def test_images_of_two_sizes_are_refused(pets: Path) -> None:
    Image.new("RGB", (9, 9)).save(pets / "train" / "cat" / "9.png")
    with pytest.raises(InputError, match="several sizes, such as 5×6 and 9×9; .* with .resize"):
        sm.data(f"folder:{pets}", split="train")


def test_what_is_no_image_is_told_of(pets: Path) -> None:
    (pets / "train" / "cat" / ".DS_Store").write_text("")  # hidden files are nobody's images
    (pets / "train" / "cat" / "._0.png").write_text("")
    sm.data(f"folder:{pets}", split="train")
    (pets / "train" / "cat" / "0.gif").write_bytes(b"")
    (pets / "train" / "dog" / "more").mkdir()
    with pytest.warns(
        UserWarning, match=r"2 entries of class folders are not images \(cat/0.gif\)"
    ):
        images = sm.data(f"folder:{pets}", split="train")
    assert len(images) == 6


def test_classes_without_images_are_told_of(pets: Path) -> None:
    (pets / "train" / "emu").mkdir()
    with pytest.warns(UserWarning, match="no images of 1 of 3 classes: emu"):
        images = sm.data(f"folder:{pets}", split="train")
    assert images.classes == 3


def test_links_that_lead_in_circles_are_no_folders(pets: Path) -> None:
    train = pets / "train"
    (train / "emu").symlink_to("emu")
    (train / "cat" / "up").symlink_to("..")
    with pytest.warns(UserWarning, match=r"1 entries of class folders are not images \(cat/up\)"):
        images = sm.data(f"folder:{pets}", split="train")
    assert images.class_names == ("cat", "dog")
    (train / "dog" / "9.png").symlink_to("9.png")
    with pytest.raises(InputError, match="not files or links to files: dog/9.png; remove"):
        sm.data(f"folder:{pets}", split="train")


def test_a_folder_that_cannot_be_listed_is_named(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def guarded(path: Path) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match="train/dog: cannot be listed: Permission denied; check"):
        sm.data(f"folder:{pets}", split="train")


@pytest.mark.parametrize("made", [[], ["empty"], [".hidden/cat"]])
def test_a_folder_without_images_is_refused(tmp_path: Path, made: list[str]) -> None:
    for name in made:
        (tmp_path / "set" / name).mkdir(parents=True)
    words = "no images in class folders" if made else "no such folder"
    with pytest.raises(InputError, match=words):
        sm.data(f"folder:{tmp_path}/set")


# ---- archives


def archive(path: Path, names: list[str], **arrays: np.ndarray) -> Path:
    """Write a numpy archive with members *names*, each the array of its stem."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            file = io.BytesIO()
            np.save(file, arrays[name.removesuffix(".npy")])
            packed.writestr(name, file.getvalue())
    return path


X, Y = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4)


def test_the_arrays_of_a_split_come_before_those_of_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y, test_x=X[:2] + 7, test_y=Y[:2] + 1)
    test, val = (sm.data(f"npz:{tmp_path}/a.npz", split=s) for s in ("test", "val"))
    assert (len(test), len(val)) == (2, 4)
    assert test.labels.tolist() == [1, 2]
    assert int(test.pixels.max()) == 7
    assert int(val.pixels.max()) == 0


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x.npy", "x.npy", "y.npy"], "several arrays named x"),
        (["x", "x.npy", "y.npy"], "several arrays named x"),
        (["x.npy"], "no arrays x and y for 'test', found x"),
        (["test_x.npy", "y.npy"], "no arrays x and y for 'test', found test_x, y"),
        ([], "found nothing"),
    ],
)
def test_archives_that_can_be_read_in_two_ways_or_none(
    tmp_path: Path, names: list[str], words: str
) -> None:
    path = archive(tmp_path / "a.npz", names, x=X, test_x=X, y=Y)
    with pytest.raises(InputError, match=f"a.npz: (?!is not).*{words}"):
        sm.data(f"npz:{path}")


def test_an_archive_that_unpacks_to_far_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.zeros((1000, 1, 10, 10), np.uint8)  # and a header of 128 bytes
    path = archive(tmp_path / "a.npz", ["x.npy", "y.npy"], x=x, y=np.zeros(1000, int))
    monkeypatch.setattr(arrays, "UNPACKED", 100_128)
    assert len(sm.data(f"npz:{path}")) == 1000
    monkeypatch.setattr(arrays, "UNPACKED", 100_127)
    with pytest.raises(UnsafeError, match=r"a.npz: x.npy has \d+ bytes and unpacks to 100,128"):
        sm.data(f"npz:{path}")
    np.savez(tmp_path / "b.npz", x=x, y=np.zeros(1000, int))  # as large, and not packed
    assert len(sm.data(f"npz:{tmp_path}/b.npz")) == 1000
