"""The same images in every container are the same set: ids, labels, pixels, sketch, verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.datasets import ImageFolder

import soupmerge as sm
from soupmerge.sketch import Sketch
from soupmerge.sources import cache
from soupmerge.sources.images import opening, stored
from tests.sources import containers, own
from tests.sources.containers import CLASSES, N, files, label_of, pixels


def folder(home: Path) -> str:
    return f"folder:{containers.folder(home / 'set')}"


def a_list(home: Path) -> str:
    """A list with titles, and the images in it."""
    root = containers.folder(home / "set")
    lines = ["path,label", *(f"{path},{path.partition('/')[0]}" for path in files())]
    (home / "list.csv").write_text("\n".join(lines))
    return f"folder:{root}?list={home}/list.csv"


def tar(home: Path) -> str:
    return f"tar:{containers.tar(home / 'a.tar', files().items())}"


def wds(home: Path) -> str:
    return f"wds:{containers.shards(home / 'shards')}"


def parquet(home: Path) -> str:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra soupmerge[datasets]")
    from pyarrow.parquet import write_table

    images = [{"bytes": data, "path": None} for data in files().values()]
    made = pyarrow.table({"image": images, "label": [path.partition("/")[0] for path in files()]})
    write_table(made, home / "a.parquet", row_group_size=4)
    return f"hf:{home}/a.parquet"


def image_folder(home: Path) -> str:
    own.dataset = ImageFolder(containers.folder(home / "set"))
    return f"{own.HERE}:made"


SAME_IDS = (folder, a_list, tar, wds, image_folder)
CONTAINERS = (*SAME_IDS, parquet)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.HOME, str(tmp_path / "cache"))
    monkeypatch.setattr(own, "made", lambda split: own.dataset, raising=False)
    monkeypatch.setattr(own, "dataset", None, raising=False)
    return tmp_path


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "stored"])
@pytest.mark.parametrize("make", CONTAINERS, ids=lambda make: make.__name__)
def test_the_same_images_are_the_same_set(
    home: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], str], in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(opening, "KEPT", 0)
        monkeypatch.setattr(stored, "KEPT", 0)
    (home / "wanted").mkdir()
    wanted, found = sm.data(folder(home / "wanted")), sm.data(make(home))
    assert found.ids == (wanted.ids if make in SAME_IDS else tuple(map(str, range(N))))
    assert (found.labels.tolist(), found.class_names) == (wanted.labels.tolist(), CLASSES)
    order = torch.randperm(N)
    found.expect(order)
    for indices in order.split(4):
        assert torch.equal(found.batch(indices)[0], wanted.batch(indices)[0])
    assert Sketch.of(found) == Sketch.of(wanted)
    if make in SAME_IDS and (in_memory or make is not image_folder):
        assert found.sha256 == wanted.sha256  # an ImageFolder gives pixels, and no files
    few = torch.tensor([7, 2, 3])
    assert Sketch.of(found.take(few, "few")) == Sketch.of(wanted.take(few, "few"))


def test_arrays_and_cifar_s_files_are_the_same_images(home: Path) -> None:
    """CIFAR's images have their own size."""
    paths = {path: containers.png(i, 32) for i, path in enumerate(files())}
    wanted = sm.data(f"folder:{containers.folder(home / 'set', paths)}")
    (home / "cifar").mkdir()
    rows = [
        bytes([label_of(p)]) + pixels(i, 32).transpose(2, 0, 1).tobytes()
        for i, p in enumerate(paths)
    ]
    (home / "cifar" / "test_batch.bin").write_bytes(b"".join(rows))
    found = sm.data(f"cifar:{home}/cifar")
    assert torch.equal(found.pixels, wanted.pixels)
    assert found.labels.tolist() == wanted.labels.tolist()
    assert Sketch.of(found) == Sketch.of(wanted)


@pytest.mark.parametrize("make", CONTAINERS, ids=lambda make: make.__name__)
def test_every_command_takes_every_container(
    home: Path, make: Callable[[Path], str], soupmerge: Callable[..., Any]
) -> None:
    net, ref = home / "net.safetensors", "digits-cnn?width=2&in_channels=3&num_classes=3"
    sm.save(net, sm.model(ref).state_dict(), model=ref)
    ended = soupmerge("eval", net, "--data", make(home), "--limit", 7, "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["data"]["n"] == 7
