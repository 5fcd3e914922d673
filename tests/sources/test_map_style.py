"""Map-style data sets of one's own: items as they are, the same each time, with their labels."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.sources.images import opening, stored
from soupmerge.sources.images.containers import items, map_style
from tests.sources import containers, own
from tests.sources.containers import CLASSES, N, files, label_of, pixels

LABELS = [label_of(path) for path in files()]
Read = Callable[[Any], sm.Images]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read a data set as what a function returns; a query may follow."""

    def reading(dataset: Any, query: str = "") -> sm.Images:
        monkeypatch.setattr(own, "arrays", lambda split: dataset)
        return sm.data(f"{own.HERE}:arrays{query}")

    return reading


class Noise(Dataset[Any]):
    """The images of all containers, each as *form* makes it of an array ``(8, 8, 3)``."""

    def __init__(self, form: Callable[[Any], Any], label: Callable[[int], Any] = int) -> None:
        self.form, self.label = form, label

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return self.form(pixels(index)), self.label(LABELS[index])


WANTED = np.stack([pixels(i) for i in range(N)]).transpose(0, 3, 1, 2)

FORMS: dict[str, Callable[[Any], Any]] = {
    "Pillow": Image.fromarray,
    "array": lambda x: x,
    "tensor": lambda x: torch.from_numpy(x).permute(2, 0, 1),
    "floats": lambda x: transforms.ToTensor()(x),
    "doubles": lambda x: x / 255,
    "with a gradient": lambda x: transforms.ToTensor()(x).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_items_are_images_of_8_bits_in_any_form(read: Read, form: Callable[[Any], Any]) -> None:
    images = read(Noise(form))
    assert images.ids == tuple(map(str, range(N)))
    assert np.array_equal(images.pixels.numpy(), WANTED)
    assert (images.labels.tolist(), images.classes, images.class_names) == (LABELS, 3, ())


@pytest.mark.parametrize("label", [int, np.int64, torch.tensor, np.uint8])
def test_labels_are_whole_numbers_in_any_form(read: Read, label: Callable[[int], Any]) -> None:
    assert read(Noise(FORMS["array"], label)).labels.tolist() == LABELS


def test_grey_images_stay_grey(read: Read) -> None:
    grey = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)
    for x in (grey, grey[:, 0]):
        images = read(TensorDataset(x, torch.tensor([0, 1, 2])))
        assert torch.equal(images.pixels, grey)


def test_an_image_folder_is_the_folder(tmp_path: Path, read: Read) -> None:
    root = containers.folder(tmp_path / "set")
    wanted = sm.data(f"folder:{root}")
    images = read(ImageFolder(root))
    assert (images.ids, images.class_names) == (wanted.ids, CLASSES)
    assert images.sha256 == wanted.sha256
    few = read(Subset(ImageFolder(root), [7, 0, 4]))
    assert few.ids == tuple(wanted.ids[i] for i in (7, 0, 4))
    assert (few.labels.tolist(), few.class_names) == ([2, 0, 1], CLASSES)
    assert torch.equal(few.pixels, wanted.pixels[[7, 0, 4]])


def test_transforms_are_applied_as_they_are(tmp_path: Path, read: Read) -> None:
    root = containers.folder(tmp_path / "set")
    how = transforms.Compose([transforms.Resize(6), transforms.CenterCrop(4)])
    images = read(ImageFolder(root, transforms.Compose([how, transforms.ToTensor()])))
    assert torch.equal(images.pixels, sm.data(f"folder:{root}?resize=6&crop=4").pixels[:])
    turned = ImageFolder(root, target_transform=lambda label: 2 - label)
    assert read(turned).labels.tolist() == [2 - label for label in LABELS]
    resized = read(ImageFolder(root), "?resize=6&crop=4")
    assert torch.equal(resized.pixels[torch.arange(N)], images.pixels)


def test_labels_are_not_read_where_they_are_known(read: Read) -> None:
    asked: list[int] = []

    class Counted(Noise):
        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    for name in ("targets", "labels", "samples"):
        known = Counted(FORMS["array"])
        each = [(f"/{i}.png", y) for i, y in enumerate(LABELS)] if name == "samples" else LABELS
        setattr(known, name, each)
        asked.clear()
        map_style.contents(known, "own")
        before = len(asked)
        map_style.contents(Counted(FORMS["array"]), "own")
        assert len(asked) - before == before + N


def test_labels_that_are_no_numbers_are_not_taken(read: Read) -> None:
    named = Noise(FORMS["array"])
    named.labels = [CLASSES[label] for label in LABELS]  # type: ignore[attr-defined]
    assert read(named).labels.tolist() == LABELS


def test_reading_many_items_for_their_labels_is_told(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_style, "LARGE", N - 1)
    with pytest.warns(
        UserWarning, match="reading all 9 items for their labels, which a list calle"
    ):
        read(Noise(FORMS["array"]))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (list(CLASSES), CLASSES),
        ([("cat", "puss"), ("dog",), "emu"], ("cat, puss", "dog", "emu")),
        ([1, 2, 3], ()),
        (3, ()),
        ([], ()),
    ],
)
def test_names_of_classes_are_taken_if_they_are_names(
    read: Read, classes: Any, names: tuple[str, ...]
) -> None:
    dataset = Noise(FORMS["array"])
    dataset.classes = classes  # type: ignore[attr-defined]
    assert read(dataset).class_names == names


def test_items_are_asked_for_by_one_thread_at_a_time(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "KEPT", 0)
    monkeypatch.setattr(stored, "KEPT", 0)
    busy = threading.Lock()

    class Shy(Noise):
        def __getitem__(self, index: int) -> Any:
            assert busy.acquire(blocking=False)
            time.sleep(0.001)
            busy.release()
            return super().__getitem__(index)

    images = read(Shy(FORMS["array"]))
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda i: images.pixels[torch.tensor([i])][0], range(N))]
    assert np.array_equal(torch.stack(found).numpy(), WANTED)


def test_a_data_set_of_torchvision_is_judged(
    tmp_path: Path, soupmerge: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeData(6, (3, 8, 8), 3)
    monkeypatch.setattr(own, "arrays", lambda split: fake)
    ref = "digits-cnn?width=2&in_channels=3&num_classes=3"
    sm.save(tmp_path / "net.safetensors", sm.model(ref).state_dict(), model=ref)
    data = f"{own.HERE}:arrays"
    ended = soupmerge("eval", tmp_path / "net.safetensors", "--data", data, "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["data"]["n"] == 6


# ---- what is refused


class Failing(Noise):
    def __getitem__(self, index: int) -> Any:
        raise KeyError(index)


class Changing(Noise):
    """Its labels are not those that it says."""

    targets = [0] * N


class Fickle(Noise):
    """Its images change with time."""

    def __getitem__(self, index: int) -> Any:
        return np.random.default_rng().integers(0, 256, (8, 8, 3), np.uint8), 0


class Unmeasured(Noise):
    def __len__(self) -> int:
        raise RuntimeError("unknown")


class Empty(Noise):
    def __len__(self) -> int:
        return 0


class Alone(Noise):
    def __getitem__(self, index: int) -> Any:
        return pixels(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


REFUSED: dict[str, tuple[Any, str]] = {
    "fails": (Failing(FORMS["array"]), r"own:arrays: item 0: cannot be read: KeyError\(0\)"),
    "other labels": (Changing(FORMS["array"]), "item 3: has the label 1, but the data set says 0"),
    "random": (Fickle(FORMS["array"]), "item 0: has other pixels when it is asked for again; leav"),
    "no length": (Unmeasured(FORMS["array"]), r"has no length: RuntimeError\('unknown'\)"),
    "empty": (Empty(FORMS["array"]), "holds no items"),
    "no pair": (Alone(FORMS["array"]), "item 0: is a ndarray, not a pair; an item is an image"),
    "stream": (Stream(), "returned a Stream, not .*; return those, or a data set with __len__ and"),
    "normalised": (
        Noise(lambda x: transforms.Normalize(0.5, 0.5)(transforms.ToTensor()(x))),
        "item 0: its pixels range from -1 to 0.95.*, not in .0, 1.; leave out Normalize",
    ),
    "nan": (Noise(lambda x: x * np.nan), "item 0: its pixels range from nan to nan"),
    "smooth": (
        Noise(lambda x: transforms.Resize(5)(transforms.ToTensor()(x))),
        "item 0: its pixels are not multiples of 1/255",
    ),
    "channels": (
        Noise(lambda x: x[..., :2]),
        r"has the shape \(8, 8, 2\), channels last, and is u",
    ),
    "integers": (Noise(lambda x: x.astype(int)), "item 0: its image has the shape .* and is int64"),
    "lists": (Noise(lambda x: x.tolist()), "item 0: its image is a list"),
    "names": (Noise(FORMS["array"], str), "item 0: its label is a str, not the number of a class"),
    "one-hot": (
        Noise(FORMS["array"], lambda label: torch.eye(3)[label]),
        "item 0: its label is a Tensor, not the number of a class",
    ),
}


@pytest.mark.parametrize(("dataset", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_data_set_of_images_is_refused(read: Read, dataset: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(dataset)


def test_numbers_may_be_rounded_a_little(read: Read) -> None:
    assert np.array_equal(read(Noise(lambda x: (x / 255 + 1e-6).clip(0, 1))).pixels.numpy(), WANTED)
    off = 2 * items.ROUNDING / 255
    with pytest.raises(InputError, match="not multiples"):
        read(Noise(lambda x: (x / 255 + off).clip(0, 1)))
