"""Images by their written forms: parts of sets, arrays that are images, and what is neither."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError, UnsafeError, UsageError
from soupmerge.sources.images import reading as forms
from tests.sources.own import HERE

# ---- splits


def test_digits_have_three_parts_that_share_nothing() -> None:
    parts = {split: sm.data("digits", split=split) for split in ("train", "val", "test")}
    assert {s: len(p) for s, p in parts.items()} == {"train": 1197, "val": 300, "test": 300}
    ids = [int(i) for part in parts.values() for i in part.ids]
    assert sorted(ids) == list(range(1797))
    bunch = sklearn.datasets.load_digits()
    for part in parts.values():
        places = [int(i) for i in part.ids]
        assert part.labels.tolist() == bunch.target[places].tolist()
        assert np.array_equal(part.pixels[:, 0].numpy() * 16, bunch.images[places])
        counts = part.labels.bincount()
        assert int(counts.max() - counts.min()) <= len(part) / 30  # stratified
        assert (part.classes, part.class_names) == (10, ())


def shuffled(n: int) -> list[int]:
    """Return the order that parts of a set of *n* images are cut from, now and in all versions."""
    digest = hashlib.blake2b(f"split\x1f{n}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randperm(n, generator=generator).tolist()


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("train[:1000]", 0, 1000),
        ("train[1000:]", 1000, 1197),
        ("train[5:9]", 5, 9),
        ("train[-97:]", 1100, 1197),
        ("train[:-1000]", 0, 197),
        ("train[:]", 0, 1197),
        ("train", 0, 1197),
        ("train[:99999]", 0, 1197),
    ],
)
def test_a_part_is_a_slice_of_one_fixed_shuffle(text: str, start: int, stop: int) -> None:
    whole, part = sm.data("digits", split="train"), sm.data("digits", split=text)
    assert len(part) == stop - start
    assert part.split == text
    chosen = {whole.ids[i] for i in shuffled(1197)[start:stop]}
    assert list(part.ids) == [i for i in whole.ids if i in chosen]  # in the set's own order
    known = dict(zip(whole.ids, whole.labels.tolist(), strict=True))
    assert [known[i] for i in part.ids] == part.labels.tolist()


def test_parts_that_do_not_overlap_share_nothing_and_together_are_all() -> None:
    cuts = ["train[:300]", "train[300:1000]", "train[1000:]"]
    ids = [i for cut in cuts for i in sm.data("digits", split=cut).ids]
    assert sorted(ids) == sorted(sm.data("digits", split="train").ids)


def test_a_limit_draws_from_its_part_by_a_fixed_seed() -> None:
    tail = sm.data("digits", split="train[1000:]")
    few = sm.data("digits", split="train[1000:]", limit=50)
    whole = sm.data("digits", split="train")
    assert set(few.ids) == {whole.ids[i] for i in shuffled(1197)[1000:1050]}
    assert set(few.ids) <= set(tail.ids)
    assert few.split == "train[1000:], 50 of it"
    assert few.fingerprint() == sm.data("digits", split="train[1000:]", limit=50).fingerprint()
    assert few.fingerprint() != sm.data("digits", split="train[1000:]", limit=51).fingerprint()
    assert sm.data("digits", limit=300).split == "test"  # that is all of it


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_s_val_is_held_out_of_train(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(rest: str, split: str) -> Any:
        assert (rest, split) == ("", "train")
        labels = torch.arange(50_000) % 10
        return [str(i) for i in range(50_000)], torch.zeros(50_000, 1, 1, 1), labels, 10

    monkeypatch.setitem(forms.READERS, name, reader)
    train, val = (sm.data(name, split=s) for s in ("train[:45000]", "val"))
    assert (len(train), len(val)) == (45_000, 5_000)
    assert not set(train.ids) & set(val.ids)
    assert val.ids == sm.data(name, split="train[45000:]").ids


@pytest.mark.parametrize(
    ("ref", "split", "limit", "kind", "words"),
    [
        ("digit", "test", None, UsageError, "data: no data set 'digit'; did you mean 'digits'"),
        (
            "digits",
            "tets",
            None,
            UsageError,
            "digits: unknown split 'tets'; it has train, val, test",
        ),
        ("digits", "test[", None, UsageError, "split: 'test[' is not a split; write train"),
        ("digits", "test[1]", None, UsageError, "split: 'test[1]' is not a split"),
        ("digits", "test[٣:]", None, UsageError, "split: 'test[٣:]' is not a split"),
        ("digits", "a b", None, UsageError, "split: 'a b' is not a split"),
        ("digits", "test[300:]", None, InputError, "digits test[300:]: holds no images"),
        ("digits", "test[9:9]", None, InputError, "digits test[9:9]: holds no images"),
        ("digits", "test", 301, UsageError, "digits test: limit 301 is not in 1…300"),
        ("digits", "test[:9]", 10, UsageError, "digits test[:9]: limit 10 is not in 1…9"),
        ("digits", "test", 0, UsageError, "digits test: limit 0 is not in 1…300"),
        ("digits", "test", -1, UsageError, "digits test: limit -1"),
        (
            "digits:5",
            "test",
            None,
            UsageError,
            "data: digits takes nothing after a colon, found",
        ),
        ("cifar10:x", "test", None, UsageError, "data: cifar10 takes nothing after a colon"),
        ("cifar100:x", "test", None, UsageError, "data: cifar100 takes nothing after a colon"),
        ("cifar10", "nope", None, UsageError, "cifar10: unknown split 'nope'; it has train, test"),
        (
            "cifar100",
            "nope",
            None,
            UsageError,
            "cifar100: unknown split 'nope'; it has train, test",
        ),
        ("folder:", "test", None, UsageError, "folder:: ends with a colon"),
        ("blur-3:digit", "test", None, UsageError, "data: no data set 'digit'; did you mean"),
        ("1x:y", "test", None, UsageError, "data: no data set '1x:y'"),
        ("no.such.module:f", "test", None, UsageError, "data: 'no.such.module:f' cannot be"),
    ],
)
def test_data_that_cannot_be_meant(
    ref: str, split: str, limit: int | None, kind: type[SoupmergeError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        sm.data(ref, split=split, limit=limit)
    assert str(caught.value).startswith(words)


# ---- arrays


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.uint8, 255), (np.float32, 1), (np.float64, 1), (np.float16, 1), (np.int64, 1), (">f4", 1)],
)
def test_pixels_are_bytes_or_numbers_from_0_to_1(tmp_path: Path, dtype: Any, scale: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 2, (5, 3, 4, 4))
    np.savez(tmp_path / "a.npz", x=(numbers * scale).astype(dtype), y=np.arange(5, dtype=np.uint8))
    images = sm.data(f"npz:{tmp_path}/a.npz")
    x, y = images.batch(torch.tensor([3, 1]))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert np.array_equal(x.numpy(), numbers[[3, 1]])
    assert y.tolist() == [3, 1]
    assert (images.ids, images.classes) == (("0", "1", "2", "3", "4"), 5)


@pytest.mark.parametrize("shape", [(4, 1, 2, 2), (4, 3, 2, 5)])
def test_images_have_one_channel_or_three(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(shape), y=np.zeros((4, 1), int))
    assert sm.data(f"npz:{tmp_path}/a.npz").pixels.shape == shape


GOOD = np.zeros((4, 1, 2, 2), np.float32)
NONE = np.zeros(4, int)


def spoiled(value: float) -> np.ndarray[Any, Any]:
    """Return images of which the last two hold *value*, the third at ``[0, 1, 0]`` at first."""
    x = GOOD.copy()
    x[2, 0, 1], x[3] = value, value
    return x


BAD_ARRAYS: dict[str, tuple[Any, Any, type[SoupmergeError], str]] = {
    "normalised": (GOOD - 1, NONE, InputError, "from -1 to -1, not in [0, 1]; give raw images"),
    "a little below": (GOOD - 1e-3, NONE, InputError, "put mean and std into the model"),
    "a little above": (GOOD + 1.001, NONE, InputError, "divide by 255"),
    "0 to 255": (GOOD + 255, NONE, InputError, "divide by 255"),
    "nan": (spoiled(np.nan), NONE, InputError, "pixel [2, 0, 1, 0] is NaN; 2 of 4 images"),
    "inf": (spoiled(np.inf), NONE, InputError, "pixel [2, 0, 1, 0] is inf; 2 of 4 images"),
    "no pixels": (GOOD[:, :, :0], NONE, InputError, "images of shape (4, 1, 0, 2)"),
    "channels last": (np.zeros((4, 8, 8, 3)), NONE, InputError, "transpose from"),
    "channels last, grey": (np.zeros((4, 8, 8, 1)), NONE, InputError, "transpose from"),
    "two channels": (np.zeros((4, 2, 8, 8)), NONE, InputError, "give (N, channels, height, width)"),
    "no batch axis": (np.zeros((3, 8, 8)), NONE[:3], InputError, "images of shape (3, 8, 8)"),
    "a number": (np.float32(3), NONE, InputError, "images of shape ()"),
    "complex": (GOOD * 1j, NONE, InputError, "images are complex64, not numbers"),
    "words": (np.full(GOOD.shape, "x"), NONE, InputError, "images are <U1"),
    "negative label": (
        GOOD,
        np.array([0, 1, -1, 2]),
        InputError,
        "label -1 of example 2 is not one of 3",
    ),
    "float labels": (GOOD, np.zeros(4), InputError, "labels are float64, not integers"),
    "too few labels": (GOOD, NONE[:3], InputError, "4 images, but 3 labels"),
    "one-hot labels": (GOOD, np.eye(4, dtype=int), InputError, "shape (4, 4), expected (4,); con"),
    "no images": (GOOD[:0], NONE[:0], InputError, "no images"),
    "python objects": (GOOD, np.array([0, None, 1, 2]), UnsafeError, "Python objects"),
}


@pytest.mark.parametrize(("x", "y", "kind", "words"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_are_no_images(
    tmp_path: Path, x: Any, y: Any, kind: type[SoupmergeError], words: str
) -> None:
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(kind) as caught:
        sm.data(f"npz:{tmp_path}/a.npz")
    assert words in str(caught.value)
    assert f"{tmp_path}/a.npz" in str(caught.value)


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no zip")
    np.save(tmp_path / "b.npy", GOOD)
    for name in ("a.npz", "b.npy"):
        with pytest.raises(InputError, match=f"{name}: is not a NumPy archive"):
            sm.data(f"npz:{tmp_path}/{name}")
    with pytest.raises(InputError, match="c.npz"):
        sm.data(f"npz:{tmp_path}/c.npz")


# ---- functions of one's own, and the class itself


def test_a_function_is_called_with_the_split() -> None:
    for split, level in (("train", 0.25), ("test", 0.75)):
        images = sm.data(f"{HERE}:arrays", split=split)
        assert images.pixels.unique().tolist() == [level]
        assert images.labels.tolist() == [0, 1, 2, 1]
        assert images.classes == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("in_a_list", "returned a list, not (images, labels)"),
        ("three", "returned a tuple, not (images, labels)"),
        ("leaves", "failed: TypeError"),
        ("nothing", "cannot be imported"),
    ],
)
def test_functions_that_give_no_images(name: str, words: str) -> None:
    with pytest.raises(SoupmergeError) as caught:
        sm.data(f"{HERE}:{name}")
    assert words in str(caught.value)


def test_what_a_function_gives_may_be_changed_by_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    given = np.zeros((2, 1, 2, 2), np.float32), np.array([0, 1])
    monkeypatch.setattr("tests.sources.own.arrays", lambda split: given)
    images = sm.data(f"{HERE}:arrays")
    given[0][:], given[1][:] = 1, 0
    assert images.labels.tolist() == [0, 1]
    assert float(images.pixels.max()) == 0


def test_a_set_s_hash_is_that_of_ids_labels_and_pixels() -> None:
    x, y = torch.rand(3, 1, 2, 2, dtype=torch.float64), [2, 0, 1]
    images = sm.Images.of(x, y)
    found = b"0\n1\n2" + np.array(y, np.int64).tobytes() + x.float().numpy().tobytes()
    assert images.fingerprint() == {
        "ref": "arrays", "split": "all", "n": 3, "sha256": hashlib.sha256(found).hexdigest()
    }  # fmt: skip
    assert (images.classes, len(images)) == (3, 3)
    assert sm.Images.of(x, y, classes=7, ref="mine").classes == 7
    names = sm.Images("r", "s", images.ids, images.pixels, images.labels, 3, ("a", "b", "c"))
    assert names.fingerprint() == {
        **images.fingerprint(),
        "ref": "r",
        "split": "s",
        "classes": ["a", "b", "c"],
    }
    taken = names.take(torch.tensor([2, 0]), "some")
    assert (taken.ids, taken.labels.tolist(), taken.split) == (("2", "0"), [1, 2], "some")
    assert torch.equal(taken.pixels, images.pixels[[2, 0]])
    assert taken.class_names == ("a", "b", "c")


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_within_the_classes(seed: int) -> None:
    x, count = torch.zeros(9, 1, 2, 2), random.Random(seed).randrange(2, 9)
    labels = torch.arange(9) % count
    assert sm.Images.of(x, labels, classes=count).classes == count
    with pytest.raises(InputError, match=f"label {count - 1} of example {count - 1} is not one of"):
        sm.Images.of(x, labels, classes=count - 1)


@pytest.mark.real
def test_real_images_can_be_read() -> None:
    import os

    images = sm.data("folder:" + os.environ["SOUPMERGE_CIFAR10_FOLDER"], split="test", limit=500)
    assert images.pixels.shape == (500, 3, 32, 32)
    assert images.classes == 10
