"""Published data sets, as small copies in the layouts in which their archives unpack."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import soupmerge as sm
from soupmerge.choices import IMAGENET_C, IMAGENET_C_EXTRA, LABEL_SPACES
from soupmerge.errors import InputError, UsageError
from soupmerge.known_sets import KNOWN_SETS
from soupmerge.soups.judge.corruption_errors import ALEXNET
from soupmerge.sources.images import known as reading
from soupmerge.sources.images.readers import READERS

Typed = Callable[..., Any]
SYNSETS = ("n01498041", "n01531178", "n01534433")
"""Three classes of ImageNet, which ImageNet-A and -R have as well."""
pytestmark = pytest.mark.filterwarnings("ignore:.*no folders of")


def image(path: Path, shade: int = 0, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (shade, 100, 200)).save(path)


@pytest.fixture
def shrink(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes a set have few images and classes."""

    def small(name: str, images: int, classes: int) -> None:
        known = KNOWN_SETS[name]
        parts = {split: part._replace(images=images) for split, part in known.parts.items()}
        monkeypatch.setitem(KNOWN_SETS, name, known._replace(parts=parts, classes=classes))

    return small


def class_folders(root: Path, shade: int = 0, names: Sequence[str] = SYNSETS) -> None:
    """Write two images of each of the classes *names* below *root*, as red as *shade* and more."""
    for label, name in enumerate(names):
        for i in range(2):
            image(root / name / f"{name}_{i}.png", shade + 10 * label + i)


# ---- The table.


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_each_set_can_be_asked_for_and_checked(name: str) -> None:
    known = KNOWN_SETS[name]
    assert name in READERS
    assert known.layout in reading.LAYOUTS
    assert known.space in ("", *LABEL_SPACES)
    if known.space:
        assert len(sm.label_space(known.space).classes) == known.classes
    assert known.site.startswith("http")
    assert known.terms
    assert all(part.images >= known.classes for part in known.parts.values())
    for archive in known.archives:
        assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", archive.sum)
        assert archive.tool == ("md5sum" if len(archive.sum) == 32 else "sha256sum")
    assert known.archives or known.unpacked


def test_each_kind_of_imagenet_c_is_in_one_archive() -> None:
    known = KNOWN_SETS["imagenet-c"]
    for kind in (*IMAGENET_C, *IMAGENET_C_EXTRA):
        assert len(known.archives_of(kind)) == 1, kind
    assert known.archives_of("fog")[0].name == "weather.tar"


def test_robustbench_s_images_are_5000_of_the_validation_images() -> None:
    numbers = reading._numbers()
    assert len(numbers) == len(set(numbers)) == 5000
    assert all(re.fullmatch(r"\d{5}", number) and 1 <= int(number) <= 50_000 for number in numbers)
    assert numbers[:3] == ["15253", "20685", "39611"]  # as in its list


# ---- Sets that are there.


FOLDERS = [name for name, known in KNOWN_SETS.items() if known.layout == "folders"]
FOLDERS.remove("imagenet-real")
USED = {"imagenet-a": "200 of 1,000", "imagenet-r": "200 of 1,000", "conflict": "16 groups of"}


@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("name", FOLDERS)
def test_class_folders(
    name: str, unpacked: bool, tmp_path: Path, shrink: Callable[..., None]
) -> None:
    shrink(name, 6, 3)
    known = KNOWN_SETS[name]
    place = known.parts["test"].place.format(kind="fog", strength=3)
    names = ("bear", "bird", "oven") if name == "conflict" else SYNSETS
    class_folders(tmp_path / (known.unpacked if unpacked else "") / place, names=names)
    corruption = "fog-3:" if known.is_corrupted else ""
    images = sm.data(f"{name}:{corruption}{tmp_path}")
    assert [images.class_names[label] for label in images.labels] == sorted(2 * names)
    assert images.ids[3] == f"{names[1]}/{names[1]}_1.png"
    assert images.pixels[torch.tensor([3])][0, 0, 0, 0] == 11
    assert images.outputs is not None  # by name, of ImageNet's
    assert images.outputs.describe().startswith(USED.get(name, "3 of 1,000 outputs"))


def test_an_archive_need_not_be_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrink: Callable[..., None]
) -> None:
    monkeypatch.setenv("SOUPMERGE_HOME", str(tmp_path))
    shrink("imagenet-a", 6, 3)
    class_folders(tmp_path / "imagenet-a")
    with tarfile.open(tmp_path / "imagenet-a.tar", "w") as archive:
        archive.add(tmp_path / "imagenet-a", "imagenet-a")
    images = sm.data(f"imagenet-a:{tmp_path}/imagenet-a.tar")
    plain = sm.data(f"imagenet-a:{tmp_path}/imagenet-a")
    assert (images.ids, images.labels.tolist()) == (plain.ids, plain.labels.tolist())
    assert torch.equal(images.pixels[torch.arange(6)], plain.pixels[torch.arange(6)])


def test_folders_of_imagenet_v2_are_numbers_of_outputs(
    tmp_path: Path, shrink: Callable[..., None]
) -> None:
    shrink("imagenet-v2", 6, 3)
    class_folders(tmp_path, names=("2", "10", "999"))
    images = sm.data(f"imagenet-v2:{tmp_path}")
    assert images.outputs is not None
    assert images.outputs.groups == ((2,), (10,), (999,))


def test_several_labels_of_an_image(tmp_path: Path, shrink: Callable[..., None]) -> None:
    shrink("imagenet-real", 3, 2)
    right = sm.label_space("imagenet-real").right_by_image
    assert right is not None
    names = [f"ILSVRC2012_val_{i:08}" for i in range(1, 100)]
    several = next(name for name in names if len(right[name]) > 1)
    none = next(name for name in names if not right[name])
    one = next(name for name in names if len(right[name]) == 1)
    for name in (several, none, one):
        image(tmp_path / "val" / SYNSETS[name == one] / f"{name}.png")
    with pytest.warns(UserWarning, match="left out 1 of 3 images"):
        images = sm.data(f"imagenet-real:{tmp_path}")
    assert images.also_right is not None
    found = {
        Path(id).stem: row.nonzero().flatten()
        for id, row in zip(images.ids, images.also_right, strict=True)
    }
    assert {name: marks.tolist() for name, marks in found.items()} == {
        several: sorted(right[several]),
        one: list(right[one]),
    }


def test_a_set_without_a_path_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrink: Callable[..., None]
) -> None:
    monkeypatch.setenv("SOUPMERGE_HOME", str(tmp_path))
    shrink("imagenet-a", 6, 3)
    shrink("imagenet-real", 6, 3)
    class_folders(tmp_path / "data" / "imagenet-a")
    assert len(sm.data("imagenet-a")) == 6
    assert len(sm.data("fog-2:imagenet-a?resize=32")) == 6
    class_folders(tmp_path / "data" / "imagenet" / "val")
    with pytest.raises(InputError, match="6 of 6 images are none of those that imagenet-real"):
        sm.data("imagenet-real")


def test_the_part_of_robustbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrink: Callable[..., None]
) -> None:
    shrink("imagenet", 3, 3)
    monkeypatch.setattr(reading, "_numbers", lambda: ["00007", "00002", "00005"])
    for i in range(1, 10):
        image(tmp_path / "val" / SYNSETS[i % 3] / f"ILSVRC2012_val_0000000{i}.png", i)
    images = sm.data(f"imagenet:{tmp_path}", split="rb5000")
    assert [Path(id).stem[-1] for id in images.ids] == ["7", "2", "5"]  # in its order
    assert images.labels.tolist() == [1, 2, 2]
    assert images.pixels[torch.arange(3)][:, 0, 0, 0].tolist() == [7, 2, 5]
    monkeypatch.setattr(reading, "_numbers", lambda: ["00007", "00099"])
    with pytest.raises(
        InputError, match="lacks 1 of RobustBench's 2 images.*ILSVRC2012_val_00000099"
    ):
        sm.data(f"imagenet:{tmp_path}", split="rb5000")


@pytest.mark.parametrize(
    ("name", "classes", "first"), [("cifar10-c", 10, "airplane"), ("cifar100-c", 100, "apple")]
)
def test_arrays_of_corruptions(
    name: str, classes: int, first: str, tmp_path: Path, shrink: Callable[..., None]
) -> None:
    shrink(name, 20, classes)
    root = tmp_path / KNOWN_SETS[name].unpacked
    root.mkdir()
    x = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), np.uint8)
    y = np.tile(np.r_[np.arange(19) % classes, classes - 1], 5)
    np.save(root / "fog.npy", x)
    np.save(root / "labels.npy", y.astype(np.uint8))
    for strength in (1, 4, 5):
        images = sm.data(f"{name}:fog-{strength}:{tmp_path}")
        part = slice(20 * strength - 20, 20 * strength)
        assert np.array_equal(images.pixels.numpy().transpose(0, 2, 3, 1), x[part])
        assert images.labels.tolist() == y[part].tolist()
        assert images.ids == tuple(map(str, range(20)))
        assert images.class_names[0] == first


def test_tiny_imagenet(tmp_path: Path, shrink: Callable[..., None]) -> None:
    shrink("tiny-imagenet", 4, 2)
    root = tmp_path / "tiny-imagenet-200"
    root.mkdir()
    (root / "wnids.txt").write_text("n02\nn01\n")
    lines = []
    for i, synset in enumerate(("n02", "n01", "n01", "n02")):
        image(root / "val" / "images" / f"val_{i}.JPEG", i)
        image(root / "train" / synset / "images" / f"{synset}_{i}.JPEG", i)
        lines.append(f"val_{i}.JPEG\t{synset}\t0\t0\t9\t9")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    images = sm.data(f"tiny-imagenet:{tmp_path}", split="val")
    assert images.labels.tolist() == [1, 0, 0, 1]  # synsets in their order
    assert images.class_names == ("n01", "n02")
    assert images.ids[0] == "images/val_0.JPEG"
    assert sm.data(f"tiny-imagenet:{tmp_path}", split="train").labels.tolist() == [0, 0, 1, 1]
    (root / "val" / "val_annotations.txt").write_text("\n".join([*lines[:3], "val_3.JPEG\tn09"]))
    with pytest.raises(InputError, match="names classes that are not in wnids.txt.*n09"):
        sm.data(f"tiny-imagenet:{tmp_path}", split="val")
    (root / "val" / "val_annotations.txt").write_text("\n".join([*lines, "val_9.JPEG\tn01"]))
    with pytest.raises(InputError, match="val_9.JPEG: cannot be read"):
        sm.data(f"tiny-imagenet:{tmp_path}", split="val")


# ---- Sets that are not, or not whole.


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_what_is_missing_is_named_with_its_sum_and_place(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUPMERGE_HOME", str(tmp_path))
    known = KNOWN_SETS[name]
    with pytest.raises(InputError) as caught:
        sm.data(f"{name}:snow-2" if known.is_corrupted else name)
    said = str(caught.value)
    assert caught.value.exit_status == 3
    assert str(tmp_path / "data") in said
    for part in (known.title, known.site, known.terms, "PATH"):
        assert part in said
    for archive in known.archives_of("snow" if known.is_corrupted else "test"):
        assert f"get {archive.name} from" in said
        assert f"{archive.tool} prints {archive.sum}" in said


def test_a_set_that_is_elsewhere_is_looked_for_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        sm.data(f"imagenet-c:fog-3:{tmp_path}")
    assert str(caught.value).startswith(f"{tmp_path}/fog/3: ")
    assert "get weather.tar from" in str(caught.value)
    assert "noise.tar" not in str(caught.value)


@pytest.mark.parametrize(("images", "classes"), [(7, 3), (6, 4)])
def test_counts_that_are_wrong(
    images: int, classes: int, tmp_path: Path, shrink: Callable[..., None]
) -> None:
    shrink("imagenet-r", images, classes)
    class_folders(tmp_path)
    with pytest.raises(InputError) as caught:
        sm.data(f"imagenet-r:{tmp_path}")
    assert str(caught.value) == (
        f"{tmp_path}: holds 6 images of 3 classes, but ImageNet-R (Hendrycks et al. 2021) has "
        f"{images} images of {classes} classes; unpack the archives again, or read what is there "
        f"with folder:{tmp_path}"
    )


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (lambda p: p.write_bytes(b"not an array"), "is not a NumPy array"),
    (
        lambda p: np.save(p, np.zeros((99, 32, 32, 3), np.uint8)),
        r"\(99, 32, 32, 3\), expected uint8",
    ),
    (lambda p: np.save(p, np.zeros((100, 32, 32, 3))), r"is an array of float64"),
    (lambda p: np.save(p, np.array([{}], object)), "holds no plain rows of numbers"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1]), "ends too early"),
    (lambda p: p.unlink(), "is not there; get CIFAR-10-C.tar"),
]


@pytest.mark.parametrize(("spoil", "words"), BROKEN)
def test_arrays_that_are_broken(
    spoil: Callable[[Path], None], words: str, tmp_path: Path, shrink: Callable[..., None]
) -> None:
    shrink("cifar10-c", 20, 10)
    np.save(tmp_path / "fog.npy", np.zeros((100, 32, 32, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(100, dtype=np.int64) % 10)
    assert len(sm.data(f"cifar10-c:fog-5:{tmp_path}")) == 20
    spoil(tmp_path / "fog.npy")
    with pytest.raises(InputError, match=words):
        sm.data(f"cifar10-c:fog-5:{tmp_path}")


@pytest.mark.parametrize(
    ("ref", "split", "words"),
    [
        ("imagenet-a", "train", "unknown split 'train'; it has test"),
        ("imagenet", "rb", "it has train, val, test, rb5000"),
        ("imagenet-c", "test", "stands for 75 data sets; name one of them, such as imagenet-c:gau"),
        ("cifar10-c:/data", "test", "such as cifar10-c:gaussian_noise-1:/data"),
        ("imagenet-c:fogg-3", "test", "unknown corruption 'fogg'; did you mean 'fog'"),
        ("imagenet-c:blur-3", "test", "unknown corruption 'blur'"),  # ours, not published
        ("imagenet-c:fog-6", "test", "no strength '6'"),
        ("fog-1:imagenet-c:fog-2", "test", "only once"),
        ("imagenet-b", "test", "did you mean 'imagenet-"),
    ],
)
def test_what_cannot_be_meant(ref: str, split: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        sm.data(ref, split=split)
    assert words in str(caught.value)


# ---- The list.


def test_the_list_names_all_sets_and_what_is_there(
    soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUPMERGE_HOME", str(tmp_path))
    (tmp_path / "data" / "conflict").mkdir(parents=True)
    _, *rows, note = soupmerge("data", "--list").out.splitlines()
    assert [row.split()[0].partition(":")[0] for row in rows] == list(KNOWN_SETS)
    assert [row.split()[0] for row in rows if row.endswith("found")] == ["conflict"]
    assert f"looked for in {tmp_path}/data/NAME" in note
    parsed = json.loads(soupmerge("data", "--list", "--json").out)
    assert [row["found"] for row in parsed] == [name == "conflict" for name in KNOWN_SETS]
    assert parsed[0]["images"]["rb5000"] == 5000


def test_mce_of_published_files_is_normalised(
    soupmerge: Typed, tmp_path: Path, shrink: Callable[..., None]
) -> None:
    shrink("imagenet-c", 6, 3)
    for i, kind in enumerate(IMAGENET_C):
        for strength in range(1, 6):
            class_folders(tmp_path / kind / str(strength), shade=5 * i + strength)
    net = tmp_path / "net.safetensors"
    model = "digits-cnn?width=2&in_channels=3&num_classes=1000"
    sm.save(net, sm.model(model).state_dict(), model=model)
    ended = soupmerge("eval", net, "--data", f"imagenet-c:{tmp_path}", "-q", "--json")
    assert ended.status == 0, ended.err
    (found,) = json.loads(ended.out)["corruptions"]
    assert found["data"] == f"imagenet-c:{tmp_path}"
    assert found["normalised_by"] == "AlexNet"
    expected = np.mean([found["errors"][kind] / ALEXNET[kind] for kind in IMAGENET_C])
    assert found["mce"] == pytest.approx(expected)
