"""CIFAR as torchvision reads it, from an archive that is fetched with limits and then hashed."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

import soupmerge as sm
from soupmerge.errors import NetworkError, UnsafeError
from soupmerge.sources import connections
from soupmerge.sources.images import cifar
from tests.sources.file_server import QUOTA, Server, send

Act = Callable[[BaseHTTPRequestHandler], None]
NAMES = ["cat", "dog", "emu"]
TEST = 40


def batch(count: int, first: int) -> bytes:
    """Return a batch as CIFAR has it: image i has red i, green i + 1 and blue i + 2."""
    colours = np.arange(first, first + count)[:, None] + np.arange(3)
    data = np.repeat(colours.astype(np.uint8), 32 * 32, axis=1)
    return pickle.dumps({"data": data, "labels": [i % len(NAMES) for i in range(count)]})


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    meta = pickle.dumps({"label_names": NAMES})
    small = {f"data_batch_{i}": batch(8, 8 * i) for i in range(5)}
    return {**small, "test_batch": batch(TEST, 100), "batches.meta": meta}


@pytest.fixture
def archive(files: dict[str, bytes], server: Server, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small set in the place of CIFAR-10, by torchvision's own reader; its archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            result = tarfile.TarInfo(f"small/{name}")
            result.size = len(data)
            tar.addfile(result, io.BytesIO(data))
    found = packed.getvalue()
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    listed = {
        "base_folder": "small",
        "url": server.address,
        "filename": "small.tar.gz",
        "tgz_md5": hashlib.md5(found).hexdigest(),
        "train_list": [[name, md5[name]] for name in files if name.startswith("data")],
        "test_list": [["test_batch", md5["test_batch"]]],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]},
    }
    small: Any = type("Small", (torchvision.datasets.CIFAR10,), listed)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", small)
    monkeypatch.setitem(cifar.SHA256, "CIFAR10", hashlib.sha256(found).hexdigest())
    server.acts = [lambda handler: send(handler, 200, found, ETag='"one"')]
    return found


def test_images_labels_and_names_are_torchvision_s(
    archive: bytes, server: Server, alone: Path, unplug: Callable[[], list[Any]]
) -> None:
    with pytest.warns(UserWarning, match=f"cifar10 is missing: downloading it to {alone}"):
        images = sm.data("cifar10")
    assert images.class_names == tuple(NAMES)
    assert images.ids == tuple(map(str, range(TEST)))
    assert images.labels.tolist() == [i % 3 for i in range(TEST)]
    assert images.pixels.shape == (TEST, 3, 32, 32)
    assert images.pixels[:, 0, 31, 0].tolist() == list(range(100, 100 + TEST))
    assert images.pixels[0, :, 0, 1].tolist() == [100, 101, 102]  # red, green, blue
    touched = unplug()  # it is here now
    assert len(sm.data("cifar10", split="train")) == 40
    with connections.offline():
        assert sm.data("cifar10").sha256 == images.sha256
    assert (len(server.asked), touched) == (1, [])


@pytest.mark.parametrize("planted", ["cut off", "whole"])
def test_an_archive_that_is_here_is_used_if_it_is_the_right_one(
    archive: bytes, server: Server, alone: Path, planted: str
) -> None:
    alone.mkdir()
    (alone / "small.tar.gz").write_bytes(archive if planted == "whole" else archive[:-9])
    with pytest.warns() if planted == "cut off" else nullcontext():
        sm.data("cifar10")
    assert len(server.asked) == (planted == "cut off")
    assert (alone / "small.tar.gz").read_bytes() == archive


def test_what_was_unpacked_and_has_rotten_is_unpacked_again(archive: bytes, alone: Path) -> None:
    with pytest.warns(match="downloading"):
        before = sm.data("cifar10").sha256
    (alone / "small" / "test_batch").write_bytes(b"something else")
    assert sm.data("cifar10").sha256 == before


def other_bytes(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, gzip.compress(b"another archive"))


def page(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, QUOTA)


def missing(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 404)


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (other_bytes, UnsafeError, "has changed: sha256"),
        (page, NetworkError, "web page .*, not an archive"),
        (missing, NetworkError, "has no such file"),
    ],
)
def test_what_is_not_the_archive_is_not_kept(
    archive: bytes, server: Server, alone: Path, act: Act, kind: type[Exception], words: str
) -> None:
    server.acts = [act]
    with pytest.warns(match="downloading"), pytest.raises(kind, match=words) as caught:
        sm.data("cifar10")
    assert f"put the file at {alone}/small.tar.gz" in str(caught.value)
    assert [f.name for f in alone.iterdir() if not f.name.endswith(".lock")] == []


def test_a_download_that_broke_off_is_taken_up(archive: bytes, server: Server, alone: Path) -> None:
    middle = len(archive) // 2

    def first(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, archive[:middle], declared=len(archive), ETag='"one"')

    def second(handler: BaseHTTPRequestHandler) -> None:
        span = f"bytes {middle}-{len(archive) - 1}/{len(archive)}"
        send(handler, 206, archive[middle:], ETag='"one"', Content_Range=span)

    server.acts = [first, second]
    with pytest.warns(match="downloading"):
        assert len(sm.data("cifar10")) == TEST
    assert server.asked[1]["Range"] == f"bytes={middle}-"
