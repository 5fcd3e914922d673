"""Images that are decoded when they are asked for: the same as in memory, and as torchvision's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.sketch import Sketch
from soupmerge.sources import cache
from soupmerge.sources.images import fingerprints, opening, stored
from soupmerge.sources.images.preprocessing import (
    PREPROCESSINGS,
    Preprocessing,
    named,
    split_query,
)
from soupmerge.sources.robustbench import zoo
from soupmerge.types import SupportsExpectation

SMALL = "?resize=12&crop=8"


def noise(height: int, width: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.HOME, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos of cats and dogs in five sizes, as JPEG."""
    for i in range(10):
        folder = tmp_path / "photos" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise(16 + i % 5, 24 - i, seed=i).save(folder / f"{i}.jpg", quality=95)
    return tmp_path / "photos"


@pytest.fixture
def equals(tmp_path: Path) -> Path:
    """Ten images of one size."""
    for i in range(10):
        folder = tmp_path / "equals" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise(8, 8, seed=i).save(folder / f"{i}.png")
    return tmp_path / "equals"


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fits into memory."""
    monkeypatch.setattr(opening, "KEPT", 0)
    monkeypatch.setattr(stored, "KEPT", 0)


HOW = {
    "resize=12&crop=8": [transforms.Resize(12), transforms.CenterCrop(8)],
    "resize=9": [transforms.Resize(9), transforms.CenterCrop(9)],
    "resize=7x9&interpolation=bicubic": [
        transforms.Resize((7, 9), transforms.InterpolationMode.BICUBIC)
    ],
    "crop=40": [transforms.CenterCrop(40)],
    "resize=5x6&channels=1": [transforms.Grayscale(), transforms.Resize((5, 6))],
}


@pytest.mark.parametrize("query", HOW)
def test_preprocessed_images_are_those_of_torchvision(photos: Path, query: str) -> None:
    crop = "&crop=9" if query == "resize=9" else ""
    found = sm.data(f"folder:{photos}?{query}{crop}")
    wanted = ImageFolder(photos, transforms.Compose([*HOW[query], transforms.ToTensor()]))
    x, y = found.batch(torch.arange(10))
    assert torch.equal(x, torch.stack([image for image, _ in wanted]))
    assert y.tolist() == wanted.targets
    assert list(found.ids) == [os.path.relpath(path, photos) for path, _ in wanted.samples]


def test_without_antialiasing_a_tensor_is_resized(photos: Path) -> None:
    found = sm.data(f"folder:{photos}?resize=6x6&antialias=0")
    image = transforms.PILToTensor()(Image.open(photos / "cat" / "0.jpg"))
    wanted = transforms.Resize((6, 6), antialias=False)(image)
    difference = found.pixels[torch.tensor([0])][0].int() - wanted.int()
    assert difference.abs().max() <= 1  # torchvision's own two versions differ by rounding


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Res256Crop224", Preprocessing(256, 224)),
        ("Res224", Preprocessing((224, 224))),
        ("rb:imagenet/Linf/Salman2020Do_R50", Preprocessing(256, 224)),
        ("rb:imagenet/Linf/Wong2020Fast", Preprocessing(None, 288)),
        ("timm:resnet18.a1_in1k", Preprocessing(288, 288, "bicubic")),
        ("timm:resnet18.tv_in1k", Preprocessing(256, 224)),
    ],
)
def test_preprocessings_have_the_names_that_libraries_give_them(
    name: str, wanted: Preprocessing
) -> None:
    assert named(name) == wanted
    assert split_query(f"folder:a?preprocessing={name}") == ("folder:a", wanted)
    assert Preprocessing.parse(dict([p.split("=") for p in str(wanted).split("&")])) == wanted


def test_every_preprocessing_of_the_zoo_is_known() -> None:
    names = {entry.preprocessing for entry in zoo.entries().values()}
    assert names == {"", *PREPROCESSINGS}


def test_a_network_s_own_preprocessing_is_that_of_timm() -> None:
    from timm.data import create_transform, resolve_data_config

    image = noise(60, 80, seed=0)
    config = {"input_size": (3, 32, 32), "crop_pct": 0.9, "interpolation": "bicubic"}
    for mode in ("center", "squash"):
        stated = Preprocessing.stated_by({**config, "crop_mode": mode})
        assert stated is not None
        made = create_transform(**resolve_data_config({**config, "crop_mode": mode}))
        plain = transforms.Compose([*made.transforms[:2], transforms.PILToTensor()])
        assert torch.equal(stated(image), plain(image))
    usual = {"input_size": (3, 32, 32)}  # and timm's own share and interpolation
    made = create_transform(**resolve_data_config(usual))
    stated = Preprocessing.stated_by(usual)
    assert stated is not None
    assert torch.equal(
        stated(image), transforms.Compose([*made.transforms[:2], transforms.PILToTensor()])(image)
    )
    assert Preprocessing.stated_by({**config, "crop_mode": "border"}) is None
    assert Preprocessing.stated_by({}) is None


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("resize=0", "0 is not in 1…4096"),
        ("resize=big", "resize=big is not a number of pixels, or HEIGHTxWIDTH"),
        ("crop=8&crop=9", "gives crop twice"),
        ("crop=8&interpolation=cubic", "unknown interpolation 'cubic'; did you mean 'bicubic'"),
        ("antialias=yes", "antialias=yes is not 0 or 1"),
        ("antialias=0&interpolation=lanczos", "lanczos is always antialiased"),
        ("channels=2", "2 channels"),
        ("crop=8&mode=centre", "unknown mode 'centre'; did you mean 'center'"),
        ("mode=random-resized", "mode=random-resized: needs a crop"),
        ("preprocessing=rb:cifar10/Linf/Standard", "unknown preprocessing 'rb:cifar10/Linf/Sta"),
        ("preprocessing=Res256Crop22", "did you mean 'Res256Crop224'"),
    ],
)
def test_what_is_no_preprocessing_is_refused(photos: Path, query: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        sm.data(f"folder:{photos}?{query}")
    assert words in str(caught.value)


def test_a_question_mark_may_be_part_of_a_path(photos: Path) -> None:
    odd = photos.rename(photos.with_name("what?"))
    assert len(sm.data(f"folder:{odd}{SMALL}")) == 10


def test_images_of_several_sizes_are_preprocessed_as_the_network_states(photos: Path) -> None:
    with pytest.raises(InputError, match="several sizes"):
        sm.data(f"folder:{photos}")
    net = torch.nn.Flatten()
    net.pretrained_cfg = {"input_size": (3, 8, 8), "crop_pct": 0.66, "interpolation": "bilinear"}
    found = sm.data(f"folder:{photos}", like=net)
    assert found.fingerprint()["preprocessing"] == "resize=12&crop=8"
    assert found.shape == (3, 8, 8)
    assert found.sha256 == sm.data(f"folder:{photos}{SMALL}").sha256


def test_what_does_not_fit_into_memory_is_the_same(equals: Path, no_memory: None) -> None:
    ref = f"folder:{equals}"
    large = sm.data(ref)
    assert not isinstance(large.pixels, torch.Tensor)
    wanted = ImageFolder(equals, transforms.ToTensor())
    for indices in (torch.arange(10), torch.tensor([3, 3, 0]), torch.tensor([], dtype=torch.long)):
        x, y = large.batch(indices)
        assert y.tolist() == [wanted.targets[i] for i in indices]
        assert len(x) == len(indices)
        assert all(torch.equal(a, wanted[i][0]) for a, i in zip(x, indices, strict=True))


def test_the_sketch_of_what_is_not_in_memory_is_the_same(
    equals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = sm.data(f"folder:{equals}")
    assert isinstance(small.pixels, torch.Tensor)
    monkeypatch.setattr(opening, "KEPT", 0)
    large = sm.data(f"folder:{equals}")
    assert Sketch.of(large) == Sketch.of(small)
    part = torch.tensor([1, 4, 5])
    assert Sketch.of(large.take(part, "some")) == Sketch.of(small.take(part, "some"))
    preprocessed = sm.data(f"folder:{equals}?resize=4x4")
    assert Sketch.of(preprocessed) == Sketch.of(small)  # shared images are found at any size


def test_small_sets_are_decoded_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = sm.data(f"folder:{photos}{SMALL}")
    once = images.batch(torch.arange(10))[0]
    for file in photos.rglob("*.jpg"):
        file.unlink()
    assert torch.equal(images.batch(torch.arange(10))[0], once)


def test_the_page_states_what_is_kept_and_sampled() -> None:
    page = (Path(__file__).parents[2] / "docs" / "images.md").read_text()
    assert re.findall(r"(\d+) MiB", page) == [str(stored.KEPT >> 20)] * 2
    assert f"more than {fingerprints.SAMPLE:,} images" in " ".join(page.split())


def test_no_more_is_kept_than_fits(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "KEPT", 3 * 192)  # three images of 3 × 8 × 8
    images = sm.data(f"folder:{photos}{SMALL}")
    images.batch(torch.arange(10))
    assert len(images.pixels.decoder.kept) == 3


def test_images_are_decoded_ahead_in_the_order_in_which_they_will_be_asked_for(
    photos: Path, no_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sm.data(f"folder:{photos}{SMALL}")
    plain = images.batch(torch.arange(10))[0]
    decoder, order = images.pixels.decoder, torch.randperm(10)
    asked: list[int] = []
    submit = decoder._submit
    monkeypatch.setattr(decoder, "_submit", lambda i: asked.append(i) or submit(i))
    assert isinstance(images, SupportsExpectation)
    images.expect(order)
    for i, indices in enumerate(order.split(3)):
        assert torch.equal(images.batch(indices)[0], plain[indices])
        assert asked == order[: 3 * i + 9].tolist()  # two batches ahead, none of them twice
    images.expect(order)
    assert torch.equal(images.batch(order[5:])[0], plain[order[5:]])  # an unkept promise is no harm


def test_a_fingerprint_is_known_without_decoding(
    photos: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> Any:
        raise AssertionError("decoded")

    monkeypatch.setattr(stored, "decoded", refuse)
    monkeypatch.setattr(fingerprints, "decoded", refuse)
    images = sm.data(f"folder:{photos}{SMALL}")
    assert images.fingerprint() == {
        "ref": f"folder:{photos}{SMALL}",
        "split": "test",
        "n": 10,
        "sha256": images.sha256,
        "preprocessing": "resize=12&crop=8",
        "classes": ["cat", "dog"],
    }


def test_a_fingerprint_is_one_of_contents_wherever_they_are(photos: Path) -> None:
    sha256 = sm.data(f"folder:{photos}{SMALL}").sha256
    moved = photos.rename(photos.with_name("moved"))
    for file in moved.rglob("*.jpg"):
        os.utime(file, ns=(1, 1))
    assert sm.data(f"folder:{moved}{SMALL}").sha256 == sha256
    one = moved / "cat" / "0.jpg"
    bytes_ = bytearray(one.read_bytes())
    bytes_[-3] ^= 1
    one.write_bytes(bytes_)
    assert sm.data(f"folder:{moved}{SMALL}").sha256 != sha256


def test_a_fingerprint_may_be_of_ids_only(photos: Path) -> None:
    images = sm.data(f"folder:{photos}{SMALL}", by="ids")
    assert images.fingerprint()["fingerprint"] == "of ids only"
    for file in photos.rglob("*.jpg"):
        file.write_bytes(bytes(file.stat().st_size))
    assert sm.data(f"folder:{photos}{SMALL}", by="ids").sha256 == images.sha256
    (photos / "cat" / "0.jpg").rename(photos / "cat" / "00.jpg")
    assert sm.data(f"folder:{photos}{SMALL}", by="ids").sha256 != images.sha256


@pytest.mark.parametrize("look", [lambda i: i.sha256, lambda i: Sketch.of(i)])
def test_what_was_found_out_is_kept(
    photos: Path, home: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[sm.Images], Any]
) -> None:
    ref = f"folder:{photos}{SMALL}"
    found = look(sm.data(ref))
    read: list[int] = []
    files = type(sm.data(ref).pixels.decoder.source)
    monkeypatch.setattr(files, "read", lambda self, i: read.append(i))
    assert look(sm.data(ref)) == found
    assert not read
    for file in (home / "images").iterdir():
        file.write_text("{")  # a cache that is broken is done without
    monkeypatch.undo()
    monkeypatch.setenv(cache.HOME, str(home))
    assert look(sm.data(ref)) == found
    monkeypatch.setenv(cache.HOME, "/dev/null/nowhere")  # and so is one that cannot be written
    assert look(sm.data(ref)) == found


def test_of_large_sets_a_sample_is_read_that_does_not_depend_on_names(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "SAMPLE", 4)
    sizes = np.array([5, 9, 5, 7, 8, 6, 9, 4])
    order = np.array([3, 1, 4, 0, 2, 7, 6, 5])
    assert sorted(sizes[fingerprints.sampled(sizes)]) == sorted(
        sizes[order][fingerprints.sampled(sizes[order])]
    )
    one = Sketch.of(sm.data(f"folder:{photos}{SMALL}"))
    assert (len(one.marks), one.whole) == (4, False)
    for i, file in enumerate(sorted(photos.rglob("*.jpg"))):
        file.rename(file.with_name(f"x{9 - i}.jpg"))
    assert Sketch.of(sm.data(f"folder:{photos}{SMALL}")) == one


def test_batches_are_pinned_where_there_is_a_gpu(
    photos: Path, equals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[torch.Size] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x.shape) or x)
    sm.data(f"folder:{photos}{SMALL}").batch(torch.arange(2))
    sm.data(f"folder:{equals}").batch(torch.arange(2))  # which is in memory, and small
    assert pinned == [(2, 3, 8, 8)]


# ---- Random parts, in training


def test_training_sees_random_parts_of_images_and_everything_else_their_centres(
    photos: Path, no_memory: None
) -> None:
    images = sm.data(f"folder:{photos}{SMALL}&mode=random-resized")
    centres = sm.data(f"folder:{photos}{SMALL}").batch(torch.arange(10))[0]
    assert torch.equal(images.batch(torch.arange(10))[0], centres)
    images.expect(torch.arange(10), (0, 1))
    one = images.batch(torch.arange(10))[0]
    assert one.shape == centres.shape
    assert not any(torch.equal(a, b) for a, b in zip(one, centres, strict=True))
    again = images.take(torch.tensor([7, 2]), "two")  # by its id, whatever the batch
    again.expect(torch.tensor([1, 0]), (0, 1))
    assert torch.equal(again.batch(torch.tensor([1, 0]))[0], one[[2, 7]])
    images.expect(torch.arange(10), (0, 2))
    assert not torch.equal(images.batch(torch.arange(10))[0], one)
    images.expect(torch.arange(10))
    assert torch.equal(images.batch(torch.arange(10))[0], centres)


def test_random_parts_are_spread_as_those_of_torchvision() -> None:
    from soupmerge.schedule import stream
    from soupmerge.sources.images.preprocessing import AREA, RATIO, _random_box

    size, image = (500, 375), Image.new("L", (500, 375))
    torch.manual_seed(0)
    rows: tuple[list[Any], list[Any]] = ([], [])
    for i in range(2000):
        left, top, right, bottom = _random_box(*size, stream(i))
        rows[0].append((left, top, right - left, bottom - top))
        y, x, h, w = transforms.RandomResizedCrop.get_params(image, list(AREA), list(RATIO))
        rows[1].append((x, y, w, h))
    ours, theirs = np.array(rows[0], float), np.array(rows[1], float)
    assert (ours[:, 0] + ours[:, 2] <= 500).all()
    assert (ours[:, 1] + ours[:, 3] <= 375).all()
    assert np.allclose(ours.mean(0), theirs.mean(0), atol=9)
    assert np.allclose(ours.std(0), theirs.std(0), atol=6)
    thin = _random_box(1000, 3, stream(0))  # no draw fits
    assert thin == (498, 0, 502, 3)


@pytest.mark.parametrize("kill", [1, 2])
def test_training_on_random_parts_resumes_to_the_same_bytes(
    photos: Path, tmp_path: Path, kill: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sm.data(f"folder:{photos}{SMALL}&mode=random-resized")
    net = sm.model("digits-cnn?width=2&in_channels=3&num_classes=2", seed=0)
    plan = sm.Schedule(epochs=3, batch_size=4, augment="none")
    goal = sm.clean()
    sm.finetune(net, data, goal, tmp_path / "whole.safetensors", schedule=plan)

    class Stopped(BaseException):
        pass

    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if done == 3 * kill + 1:
            raise Stopped

    out = tmp_path / "resumed.safetensors"
    with pytest.raises(Stopped):
        sm.finetune(net, data, goal, out, schedule=plan, progress=stop)
    sm.finetune(net, data, goal, out, schedule=plan)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


# ---- Broken images


@pytest.fixture
def broken(photos: Path) -> Path:
    for name in ("cat/2.jpg", "dog/3.jpg"):
        (photos / name).write_bytes((photos / name).read_bytes()[:200])
    return photos


def test_a_broken_image_is_named_when_it_is_touched(broken: Path) -> None:
    images = sm.data(f"folder:{broken}{SMALL}")
    with pytest.raises(InputError, match=r"dog/3.jpg: is not a readable image"):
        images.batch(torch.tensor([6]))
    assert len(images.batch(torch.tensor([0, 2]))[0]) == 2


def test_all_broken_images_are_found_in_a_scan(broken: Path) -> None:
    with pytest.raises(InputError) as caught:
        sm.data(f"folder:{broken}{SMALL}", broken="scan")
    assert [p.partition(": ")[0][-9:] for p in caught.value.problems] == ["cat/2.jpg", "dog/3.jpg"]
    assert "2 of 10 images cannot be read" in str(caught.value)


def test_broken_images_are_left_out_and_counted(broken: Path) -> None:
    with pytest.warns(UserWarning, match="left out 2 of 10 images.*: .*2.jpg"):
        images = sm.data(f"folder:{broken}{SMALL}", broken="skip")
    assert len(images) == 8
    assert images.split == "test, without 2 broken"
    assert not {"cat/2.jpg", "dog/3.jpg"} & set(images.ids)
    images.batch(torch.arange(8))
    for file in broken.rglob("*.jpg"):
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match="none of its images can be decoded"):
        sm.data(f"folder:{broken}{SMALL}", broken="skip")


def test_a_disk_that_goes_away_is_told_of(photos: Path, no_memory: None) -> None:
    images = sm.data(f"folder:{photos}{SMALL}")
    images.batch(torch.tensor([0]))
    photos.rename(photos.with_name("gone"))
    with pytest.raises(InputError, match=r"0.jpg: cannot be read: No such file"):
        images.batch(torch.arange(9))


def test_one_image_of_another_size_is_named(
    equals: Path, no_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "SAMPLED", 2)  # only the first and the last are looked at
    noise(8, 9, seed=0).save(equals / "dog" / "5.png")
    images = sm.data(f"folder:{equals}")
    with pytest.raises(InputError, match=r"dog/5.png: has 9×8 pixels, and others 8×8; bring"):
        images.batch(torch.arange(10))


def test_names_that_are_not_utf_8_are_shown(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    noise(8, 8, 0).save(tmp_path / "one.png")
    os.rename(tmp_path / "one.png", os.fsencode(tmp_path / "cat") + b"/caf\xe9.png")
    images = sm.data(f"folder:{tmp_path}")
    assert images.ids == ("cat/caf\\xe9.png",)
    assert len(images.sha256) == 64
    assert len(sm.data(f"folder:{tmp_path}?resize=4x4").batch(torch.tensor([0]))[0]) == 1


# ---- Through the commands


def test_networks_are_judged_and_trained_alike_from_files_and_from_memory(
    photos: Path, tmp_path: Path, soupmerge: Callable[..., Any], no_memory: None
) -> None:
    images = sm.data(f"folder:{photos}{SMALL}")
    arrays = tmp_path / "same.npz"
    np.savez(arrays, x=images.pixels[torch.arange(10)].numpy(), y=images.labels.numpy())
    line = ("--model", "digits-cnn?width=2&in_channels=3&num_classes=2", "--threat", "linf:8/255")
    found = []
    for i, ref in enumerate((f"folder:{photos}{SMALL}", f"npz:{arrays}")):
        net = tmp_path / f"{i}.safetensors"
        how = ("--augment", "none", "--epochs", 2, "--batch-size", 4)
        assert soupmerge("finetune", *line, "--data", ref, *how, "-o", net).status == 0
        report = soupmerge("eval", net, "--data", ref, *line[2:], "--steps", 5, "--json")
        assert report.status == 0
        found.append((sm.load(net)[0], json.loads(report.out)["metrics"]))
    (one, right), (other, theirs) = found
    assert right == theirs
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_broken_image_has_the_status_of_bad_input(
    broken: Path, tmp_path: Path, soupmerge: Callable[..., Any]
) -> None:
    net = tmp_path / "net.safetensors"
    ref = "digits-cnn?width=2&in_channels=3&num_classes=2"
    sm.save(net, sm.model(ref).state_dict(), model=ref)
    line = ("eval", net, "--data", f"folder:{broken}{SMALL}")
    for more in ((), ("--scan",)):
        done = soupmerge(*line, *more)
        assert done.status == 3
        assert "2.jpg: is not a readable image" in done.err
    done = soupmerge(*line, "--skip-broken", "--json")
    assert done.status == 0
    assert json.loads(done.out)["data"]["n"] == 8
    assert "left out 2 of 10 images" in done.err
    assert soupmerge(*line, "--scan", "--skip-broken").status == 2
