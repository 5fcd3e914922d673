"""CIFAR's own files: the same images as torchvision's, and no code in a pickle ever runs."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

import soupmerge as sm
from soupmerge.errors import InputError, UnsafeError, UsageError

NAMES = [f"class{i}" for i in range(10)]
FINE = [f"fine{i}" for i in range(100)]
EACH = 4


def images(first: int, n: int = EACH) -> np.ndarray[Any, Any]:
    """Return ``(n, 3072)`` noise."""
    return np.random.default_rng(first).integers(0, 256, (n, 3072), np.uint8)


def labels(first: int, top: int, n: int = EACH) -> list[int]:
    return np.random.default_rng(first).integers(0, top, n).tolist()


def as_python_2_wrote(value: dict[str, Any]) -> bytes:
    """Return the pickle of CIFAR's authors: protocol 2, in which bytes are text."""

    def text(data: bytes) -> bytes:
        return b"T" + len(data).to_bytes(4, "little") + data

    def numbers(values: list[int]) -> bytes:
        return b"](" + b"".join(b"K" + bytes([v]) for v in values) + b"e"

    def array(pixels: np.ndarray[Any, Any]) -> bytes:
        shape = b"".join(b"J" + size.to_bytes(4, "little") for size in pixels.shape)
        dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R(K\3" + text(b"|")
        dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b")
        return (
            made + b"\x87R(K\1" + shape + b"\x86" + dtype + b"\x89" + text(pixels.tobytes()) + b"tb"
        )

    found = b""
    for key, item in value.items():
        is_array = isinstance(item, np.ndarray)
        found += text(key.encode()) + (array(item) if is_array else numbers(item))
    return b"\x80\x02}(" + found + b"u."


WRITERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "python 2": as_python_2_wrote,
    **{f"protocol {p}": (lambda value, p=p: pickle.dumps(value, p)) for p in (2, 3, 4, 5)},
}


def python_10(root: Path, write: Callable[[dict[str, Any]], bytes] = pickle.dumps) -> Path:
    root.mkdir()
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        (root / name).write_bytes(write({"data": images(i), "labels": labels(i, 10)}))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    return root


def python_100(root: Path, write: Callable[[dict[str, Any]], bytes] = pickle.dumps) -> Path:
    root.mkdir()
    for i, name in enumerate(("train", "test")):
        value = {"data": images(i), "fine_labels": labels(i, 100), "coarse_labels": labels(i, 20)}
        (root / name).write_bytes(write(value))
    (root / "meta").write_bytes(pickle.dumps({"fine_label_names": FINE}))
    return root


def binary_10(root: Path) -> Path:
    root.mkdir()
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        rows = zip(labels(i, 10), images(i), strict=True)
        data = b"".join(bytes([label]) + row.tobytes() for label, row in rows)
        (root / f"{name}.bin").write_bytes(data)
    (root / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return root


def binary_100(root: Path) -> Path:
    root.mkdir()
    for i, name in enumerate(("train", "test")):
        rows = zip(labels(i, 20), labels(i, 100), images(i), strict=True)
        data = b"".join(bytes([coarse, fine]) + row.tobytes() for coarse, fine, row in rows)
        (root / f"{name}.bin").write_bytes(data)
    (root / "fine_label_names.txt").write_text("\n".join(FINE))
    return root


def torchvision_s(root: Path, kind: Any, *, train: bool) -> Any:
    """Return torchvision's data set of the small files in *root*, whose sums it would refuse."""
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in root.iterdir()}
    listed = {
        "base_folder": root.name,
        "train_list": [(name, md5[name]) for name, _ in kind.train_list],
        "test_list": [(name, md5[name]) for name, _ in kind.test_list],
        "meta": {**kind.meta, "md5": md5[kind.meta["filename"]]},
    }
    return type("Small", (kind,), listed)(root.parent, train=train)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [(python_10, torchvision.datasets.CIFAR10), (python_100, torchvision.datasets.CIFAR100)],
)
def test_images_labels_and_names_are_torchvision_s(
    tmp_path: Path, make: Any, kind: Any, split: str
) -> None:
    root = make(tmp_path / "cifar")
    found = sm.data(f"cifar:{root}", split=split)
    wanted = torchvision_s(root, kind, train=split == "train")
    assert found.ids == tuple(map(str, range(len(wanted))))
    assert np.array_equal(found.pixels.permute(0, 2, 3, 1).numpy(), wanted.data)
    assert (found.labels.tolist(), list(found.class_names)) == (wanted.targets, wanted.classes)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    ("binary", "python"), [(binary_10, python_10), (binary_100, python_100)], ids=["10", "100"]
)
def test_both_versions_are_the_same_set_whoever_pickled_it(
    tmp_path: Path, binary: Any, python: Any, write: Any
) -> None:
    one, other = (
        sm.data(f"cifar:{root}", split="train")
        for root in (binary(tmp_path / "binary"), python(tmp_path / "python", write))
    )
    assert one.sha256 == other.sha256
    assert one.class_names == other.class_names
    assert torch.equal(one.pixels, other.pixels)


def test_the_pickles_here_are_pickles(tmp_path: Path) -> None:
    value = {"data": images(0), "labels": labels(0, 10)}
    back = pickle.loads(as_python_2_wrote(value), encoding="latin-1")
    assert np.array_equal(back["data"], value["data"])
    assert back["labels"] == value["labels"]


def test_val_is_held_out_of_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soupmerge.sources.images import reading

    root = python_10(tmp_path / "cifar")
    monkeypatch.setitem(reading.VAL_OF, "cifar", "train[15:]")
    train, val = (sm.data(f"cifar:{root}", split=s) for s in ("train[:15]", "val"))
    assert len({*train.ids, *val.ids}) == 20
    assert sm.data(f"cifar:{root}?resize=8x8", split="val").ids == val.ids
    with pytest.raises(UsageError, match="unknown split 'dev'; it has train, test"):
        sm.data(f"cifar:{root}", split="dev")


def test_names_may_be_missing(tmp_path: Path) -> None:
    for make, name, classes in (
        (python_10, "batches.meta", 10),
        (python_100, "meta", 100),
        (binary_10, "batches.meta.txt", 10),
        (binary_100, "fine_label_names.txt", 100),
    ):
        root = make(tmp_path / make.__name__)
        (root / name).unlink()
        found = sm.data(f"cifar:{root}")
        assert (found.classes, found.class_names) == (classes, ())


# ---- what is refused


class Harm:
    """Unpickling it would make a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def code(root: Path) -> None:
    value = {"data": images(0), "labels": labels(0, 10), "more": Harm()}
    (root / "test_batch").write_bytes(pickle.dumps(value))


def code_in_names(root: Path) -> None:
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": Harm()}))


def gone(root: Path) -> None:
    (root / "test_batch").unlink()


def cut(root: Path) -> None:
    os.truncate(root / "test_batch", 5000)


def text(root: Path) -> None:
    (root / "test_batch").write_text("no pickle")


def other(root: Path) -> None:
    (root / "test_batch").write_bytes(pickle.dumps([1, 2]))


def lists(root: Path) -> None:
    (root / "test_batch").write_bytes(pickle.dumps({"data": [[1]], "labels": [1]}))


def floats(root: Path) -> None:
    value = {"data": np.zeros((2, 3072)), "labels": [0, 1]}
    (root / "test_batch").write_bytes(pickle.dumps(value))


def columns(root: Path) -> None:
    value = {"data": np.asfortranarray(images(0)), "labels": labels(0, 10)}
    (root / "test_batch").write_bytes(pickle.dumps(value, 2))


def huge_label(root: Path) -> None:
    value = {"data": images(0), "labels": [0, 1, 2, 1 << 5000]}
    (root / "test_batch").write_bytes(pickle.dumps(value))


def wrong_label(root: Path) -> None:
    value = {"data": images(0), "labels": [0, 1, 2, 10]}
    (root / "test_batch").write_bytes(pickle.dumps(value))


def too_few(root: Path) -> None:
    value = {"data": images(0), "labels": [0, 1]}
    (root / "test_batch").write_bytes(pickle.dumps(value))


REFUSED: dict[Callable[[Path], None], tuple[type[Exception], str]] = {
    code: (UnsafeError, r"test_batch: refers to \w+.mkdir, which may be code; take the files"),
    code_in_names: (UnsafeError, r"batches.meta: refers to \w+.mkdir, which may be code"),
    gone: (InputError, "cifar: lacks files of test: test_batch; unpack its archive again"),
    cut: (InputError, "test_batch: is not a pickle: it ends too early, at byte 5000"),
    text: (InputError, "test_batch: is not a pickle: it has an unknown instruction b'n'"),
    other: (InputError, "test_batch: holds no dictionary"),
    lists: (InputError, "test_batch: is not a batch of CIFAR: its data and labels are not as"),
    floats: (InputError, "test_batch: is not a batch of CIFAR"),
    columns: (InputError, "test_batch: is not a batch of CIFAR"),
    huge_label: (InputError, r"test_batch: has pixels of shape \(4, 3072\) and 4 labels"),
    wrong_label: (InputError, "label 10 of example 3 is not one of 10 classes"),
    too_few: (InputError, r"test_batch: has pixels of shape \(4, 3072\) and 2 labels"),
}


@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_what_is_not_cifar_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = python_10(tmp_path / "cifar")
    damage(root)
    kind, words = REFUSED[damage]
    with pytest.raises(kind, match=words):
        sm.data(f"cifar:{root}")
    assert not (tmp_path / "harm").exists()


def test_a_binary_file_that_ends_early(tmp_path: Path) -> None:
    root = binary_10(tmp_path / "cifar")
    os.truncate(root / "test_batch.bin", 3 * 3073 + 8)
    with pytest.raises(
        InputError, match="test_batch.bin: ends early: 9,227 bytes are not a number"
    ):
        sm.data(f"cifar:{root}")


def test_the_right_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="is not a folder with files of CIFAR; give one of cifar-1"
    ):
        sm.data(f"cifar:{tmp_path}/gone")
    root = binary_100(tmp_path / "cifar-100-binary")
    with pytest.raises(InputError, match=f"files of CIFAR; give {root}"):
        sm.data(f"cifar:{tmp_path}")
