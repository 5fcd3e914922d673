"""Tables of images: in files, in folders and at the Hub, as Hugging Face's library writes them."""

from __future__ import annotations

import builtins
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import (
    InputError,
    NetworkError,
    OutputError,
    SoupmergeError,
    UnsafeError,
    UsageError,
)
from soupmerge.sources import cache, connections
from soupmerge.sources.images import opening, stored
from soupmerge.sources.images.containers import image_files, tables
from soupmerge.sources.images.containers.hugging_face import of_config
from tests.sources import containers
from tests.sources.containers import CLASSES, files, label_of, png
from tests.sources.hub_server import Hub

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra soupmerge[datasets]")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra soupmerge[datasets]")

FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": list(CLASSES), "_type": "ClassLabel"},
}
LABELS = [label_of(path) for path in files()]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.HOME, str(tmp_path / "home"))
    return tmp_path / "home"


pytestmark = pytest.mark.usefixtures("home")


def stored_as(contents: list[Any]) -> list[dict[str, Any]]:
    """Return the cells of a column of images."""
    return [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(contents)]


def table_of(
    columns: dict[str, list[Any]] | None = None, features: dict[str, Any] | None = FEATURES
) -> Any:
    """Return a table as ``datasets`` has it, with the images and labels of all containers."""
    columns = columns or {"image": stored_as([*files().values()]), "label": LABELS}
    made = pyarrow.table(columns)
    if features is None:
        return made
    notes = {"huggingface": json.dumps({"info": {"features": features}})}
    return made.replace_schema_metadata(notes)


def write(path: Path, made: Any = None, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table_of() if made is None else made, path, **how)
    return path


def in_bytes(made: Any = None) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table_of() if made is None else made, file)
    return file.getvalue()


# ---- what is read


@pytest.mark.parametrize("how", [{}, {"row_group_size": 2}, {"compression": "zstd"}])
def test_rows_are_images_with_labels(tmp_path: Path, how: dict[str, Any]) -> None:
    wanted = sm.data(f"folder:{containers.folder(tmp_path / 'set')}")
    images = sm.data(f"hf:{write(tmp_path / 'a.parquet', **how)}")
    assert images.ids == tuple(map(str, range(9)))
    assert (images.labels.tolist(), images.class_names) == (LABELS, CLASSES)
    assert torch.equal(images.pixels, wanted.pixels)


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_files_are_read_as_well(tmp_path: Path, kind: str) -> None:
    made = table_of()
    (tmp_path / "disk").mkdir()
    new = pyarrow.ipc.new_stream if kind == "stream" else pyarrow.ipc.new_file
    with new(str(tmp_path / "disk" / "data-00000-of-00001.arrow"), made.schema) as writer:
        writer.write_table(made, max_chunksize=4)
    (tmp_path / "disk" / "cache-0123.arrow").write_bytes(b"notes of the library")
    images = sm.data(f"hf:{tmp_path}/disk")
    assert (images.labels.tolist(), images.class_names) == (LABELS, CLASSES)
    assert torch.equal(images.pixels, sm.data(f"hf:{write(tmp_path / 'a.parquet')}").pixels)


def test_tables_of_the_library_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    columns = {"image": stored_as([*files().values()]), "label": LABELS}
    whole = datasets.Dataset.from_dict(columns, features=features)
    whole.to_parquet(tmp_path / "a.parquet")
    parts = {"train": whole, "validation": whole.select(range(4))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "disk")
    assert (
        sm.data(f"hf:{tmp_path}/a.parquet").sha256
        == sm.data(f"hf:{tmp_path}/disk", split="train").sha256
    )
    val = sm.data(f"hf:{tmp_path}/disk", split="val")
    assert (val.labels.tolist(), val.class_names) == (LABELS[:4], CLASSES)


@pytest.mark.parametrize(
    ("columns", "features", "query", "labels", "names"),
    [
        ({"image": 0, "label": 1}, None, "", LABELS, ()),
        ({"image": 0, "label": 2}, None, "", LABELS, CLASSES),
        ({"image": 3, "label": 1}, None, "?image=image", LABELS, ()),
        ({"image": 0, "small": 0, "label": 1}, FEATURES, "", LABELS, CLASSES),
        ({"img": 0, "y": 1, "z": 4}, None, "?label=z", [8 - i for i in range(9)], ()),
        (
            {"image": 0, "fine": 1, "coarse": 4},
            {"image": {"_type": "Image"}, "fine": FEATURES["label"], "coarse": FEATURES["label"]},
            "?label=fine",
            LABELS,
            CLASSES,
        ),
    ],
)
def test_columns_are_found_by_their_types_or_named(
    tmp_path: Path,
    columns: dict[str, int],
    features: Any,
    query: str,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    cells: list[list[Any]] = [
        stored_as([*files().values()]),
        LABELS,
        [CLASSES[label] for label in LABELS],
        [*files().values()],
        [8 - i for i in range(9)],
    ]
    made = table_of({name: cells[which] for name, which in columns.items()}, features)
    images = sm.data(f"hf:{write(tmp_path / 'a.parquet', made)}{query}")
    assert (images.labels.tolist(), images.class_names) == (labels, names)


def test_several_tables_are_one_set(tmp_path: Path) -> None:
    whole = table_of()
    for i, rows in enumerate((whole.slice(0, 4), whole.slice(4))):
        write(tmp_path / "set" / "data" / f"train-0000{i}-of-00002.parquet", rows)
    write(tmp_path / "set" / "data" / "validation-00000-of-00001.parquet", whole.slice(2, 1))
    images = sm.data(f"hf:{tmp_path}/set", split="train")
    assert images.labels.tolist() == LABELS
    assert torch.equal(images.pixels, sm.data(f"hf:{write(tmp_path / 'a.parquet')}").pixels)
    assert sm.data(f"hf:{tmp_path}/set", split="val").labels.tolist() == LABELS[2:3]
    with pytest.raises(UsageError, match="unknown split 'test'; it has train, val"):
        sm.data(f"hf:{tmp_path}/set")
    other = {**FEATURES, "label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}
    write(tmp_path / "set" / "data" / "train-2.parquet", table_of(features=other))
    with pytest.raises(InputError, match="its tables name other classes"):
        sm.data(f"hf:{tmp_path}/set", split="train")


def test_a_configuration_is_a_folder(tmp_path: Path) -> None:
    for config in ("fine", "coarse"):
        write(tmp_path / "set" / config / "test" / "0000.parquet")
    with pytest.raises(UsageError, match="has several configurations: coarse, fine; write hf:own"):
        sm.data(f"hf:{tmp_path}/set")
    assert len(sm.data(f"hf:{tmp_path}/set/fine")) == 9
    write(tmp_path / "set" / "default" / "test" / "0000.parquet", table_of().slice(0, 2))
    assert len(sm.data(f"hf:{tmp_path}/set")) == 2


def test_a_configuration_may_be_a_folder_in_a_folder() -> None:
    names = ["a/b/test/0.parquet", "a/c/data/test-0.parquet", "a/b/test/1.parquet"]
    assert of_config(names, "a/b", "hf:me/photos") == [names[0], names[2]]
    assert of_config(names, "a/c", "hf:me/photos") == [names[1]]
    assert of_config(["data/test-0.parquet", "1.parquet"], None, "") == [
        "data/test-0.parquet",
        "1.parquet",
    ]


# ---- the copy in the cache


def test_images_are_copied_once_and_then_read_in_any_order_without_pyarrow(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "KEPT", 0)
    monkeypatch.setattr(stored, "KEPT", 0)
    ref = f"hf:{write(tmp_path / 'a.parquet')}"
    first = sm.data(ref)
    order = torch.randperm(9)
    assert torch.equal(first.batch(order)[0], first.batch(torch.arange(9))[0][order])
    without_pyarrow(monkeypatch)
    images = sm.data(ref)
    assert images.sha256 == first.sha256
    assert torch.equal(images.batch(order)[0], first.batch(order)[0])
    assert sorted(os.listdir(tmp_path)) == ["a.parquet", "home"]
    for file in (home / "tables").glob("*.images"):
        file.unlink()
    with pytest.raises(InputError, match=r"a.parquet: row 3: cannot be read: No such file"):
        images.batch(torch.tensor([3]))
    with pytest.raises(OutputError):  # it would be copied again
        sm.data(ref)


def test_a_copy_that_is_not_whole_is_made_again(tmp_path: Path, home: Path) -> None:
    ref = f"hf:{write(tmp_path / 'a.parquet')}"
    first = sm.data(ref)
    for damage in (lambda file: os.truncate(file, 9), os.unlink):
        for file in (home / "tables").glob("*.images"):
            damage(file)
        assert torch.equal(sm.data(ref).pixels, first.pixels)
    write(tmp_path / "a.parquet", table_of().slice(0, 3))
    assert len(sm.data(ref)) == 3


def test_copying_much_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(tables, "NOTED", 100)
    with pytest.warns(UserWarning, match=f"a.parquet: copying its images to {home}/tables, once"):
        sm.data(f"hf:{write(tmp_path / 'a.parquet')}")


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet")
    monkeypatch.setenv(cache.HOME, "/dev/null/nowhere")
    with pytest.raises(OutputError, match="cannot be written"):
        sm.data(f"hf:{path}")


def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def guarded(name: str, *args: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", guarded)


def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soupmerge: Callable[..., Any]
) -> None:
    net, ref = tmp_path / "net.safetensors", "digits-cnn?width=2&in_channels=3&num_classes=3"
    sm.save(net, sm.model(ref).state_dict(), model=ref)
    path = write(tmp_path / "a.parquet")
    without_pyarrow(monkeypatch)
    ended = soupmerge("eval", net, "--data", f"hf:{path}")
    assert ended.status == 5
    assert "it is not installed; pip install 'soupmerge[datasets]'" in ended.err


# ---- what is refused


def cut(path: Path) -> None:
    os.truncate(write(path), 700)


def cut_rows(path: Path) -> None:
    """In the rows, after whose beginning the copy has begun."""
    schema = table_of().schema
    with pyarrow.ipc.new_stream(str(path), schema) as writer:
        writer.write_table(table_of(), max_chunksize=2)
    os.truncate(path, path.stat().st_size - 900)


def bad_lengths(path: Path) -> None:
    """Of images, which would lead out of the file."""
    with pyarrow.ipc.new_stream(str(path), table_of().schema) as writer:
        writer.write_table(table_of())
    data = path.read_bytes()
    first = len(png(0)).to_bytes(4, "little") + (len(png(0)) + len(png(1))).to_bytes(4, "little")
    assert data.count(first) == 1
    path.write_bytes(data.replace(first, (1 << 31).to_bytes(4, "little") + first[4:]))


def text(path: Path) -> None:
    path.write_text("no table")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rows(path: Path) -> None:
    images = [*stored_as([png(0), png(1), None]), None, *stored_as([png(4), png(5)])]
    images[2]["path"] = "/etc/passwd"
    write(path, table_of({"image": images, "label": [0, None, 1, 1, 2, 2]}))


def missing_image(path: Path) -> None:
    write(path, table_of({"label": [0, 1]}, None))


def two_images(path: Path) -> None:
    cells = stored_as([png(0)])
    write(path, table_of({"left": cells, "right": cells, "label": [0]}, None))


def no_label(path: Path) -> None:
    write(path, table_of({"image": stored_as([png(0)]), "y": [0]}, None))


def lists(path: Path) -> None:
    write(path, table_of({"image": stored_as([png(0)]), "label": [[0, 1]]}, None))


def unlabelled(path: Path) -> None:
    write(path, table_of({"image": stored_as([png(0)]), "label": [-1]}))


def broken_image(path: Path) -> None:
    write(path, table_of({"image": stored_as([png(0), b"no image"]), "label": [0, 1]}))


def bomb(path: Path) -> None:
    write(path, table_of({"image": stored_as([bytes(20_000)] * 40), "label": [0] * 40}))


REFUSED: dict[Callable[[Path], Any], tuple[type[SoupmergeError], str]] = {
    cut: (InputError, "a.parquet: is not a table in Parquet or Arrow: .*; download or write"),
    cut_rows: (InputError, "a.parquet: is not a table in Parquet or Arrow"),
    bad_lengths: (InputError, "a.parquet: is not a table in Parquet or Arrow"),
    text: (InputError, "a.parquet: is not a table in Parquet or Arrow"),
    empty: (InputError, "a.parquet: is not a table in Parquet or Arrow"),
    missing_image: (InputError, r"no column that is described as images; name one with \?image=CO"),
    two_images: (InputError, "several columns of images; name one .*: left, right"),
    no_label: (InputError, r"no column that is described as labels; name one .*: image, y"),
    lists: (InputError, r"a.parquet: has rows .*: row 0 has no label, but \[0, 1\]"),
    unlabelled: (InputError, "label -1 of example 0 is not one of 3 classes"),
    broken_image: (InputError, "a.parquet: row 1: is not a readable image"),
    bomb: (UnsafeError, "a.parquet: has .* bytes, and its images more than"),
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, make: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(tables, "UNPACKED", 1000)
    make(tmp_path / "a.parquet")
    kind, words = REFUSED[make]
    with pytest.raises(kind, match=words):
        sm.data(f"hf:{tmp_path}/a.parquet")
    if make not in (unlabelled, broken_image):
        assert not [*home.glob("tables/*")]


def test_an_image_that_is_too_large_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "MOST_BYTES", len(png(0)) - 1)
    with pytest.raises(InputError, match="a.parquet: row 0: has .* bytes, which is too large"):
        sm.data(f"hf:{write(tmp_path / 'a.parquet')}")


def test_all_rows_without_image_or_label_are_named(tmp_path: Path) -> None:
    rows(tmp_path / "a.parquet")
    with pytest.raises(InputError) as caught:
        sm.data(f"hf:{tmp_path}/a.parquet")
    assert caught.value.problems == (
        "row 1 has no label, but None",
        "row 2 names a file, '/etc/passwd'",
        "row 3 has no image",
    )


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?image=imag", "a.parquet: no column 'imag'; did you mean 'image'"),
        ("?label=lable", "a.parquet: no column 'lable'; did you mean 'label'"),
        ("?lable=label", "unknown option 'lable'; did you mean 'label'"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, query: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        sm.data(f"hf:{write(tmp_path / 'a.parquet')}{query}")


@pytest.mark.parametrize(
    "place", ["a/gone.parquet", "a/gone.arrow", "./gone", "/gone/set", "a/b/c", "x"]
)
def test_a_path_that_is_not_there_is_no_name_at_the_hub(
    place: str, unplug: Callable[[], list[Any]]
) -> None:
    touched = unplug()
    with pytest.raises(InputError, match="there is no such file or folder; .*hf:owner/name"):
        sm.data(f"hf:{place}")
    assert not touched


# ---- at the Hub


def test_only_the_files_of_the_split_are_downloaded_and_only_once(
    site: Hub, unplug: Callable[[], list[Any]], tmp_path: Path
) -> None:
    data = {f"data/{s}-00000-of-00001.parquet": in_bytes() for s in ("train", "test")}
    commit = site.add("datasets/me/photos", {**data, "photos.py": b"raise SystemExit(9)"})
    images = sm.data("hf:me/photos")
    assert (images.labels.tolist(), images.class_names) == (LABELS, CLASSES)
    assert torch.equal(images.pixels, sm.data(f"hf:{write(tmp_path / 'a.parquet')}").pixels)
    assert not [asked for asked in site.asked if "train" in asked.path or ".py" in asked.path]
    touched = unplug()
    for ref in ("hf:me/photos", f"hf:me/photos@{commit}"):
        assert sm.data(ref).sha256 == images.sha256
    with connections.offline():
        assert sm.data("hf:me/photos").sha256 == images.sha256
        with pytest.raises(NetworkError, match="no site may be asked .*; read it once where there"):
            sm.data("hf:me/photos", split="train")
        with pytest.raises(NetworkError, match="no site may be asked"):
            sm.data("hf:me/others")
    assert not touched


def test_what_another_program_cached_is_used_offline(site: Hub) -> None:
    from soupmerge.sources.hub.cache import NOTES, folder_of

    site.add("datasets/me/photos", {"test/0000.parquet": in_bytes()})
    first = sm.data("hf:me/photos")
    shutil.rmtree(folder_of("datasets/me/photos") / NOTES)
    with connections.offline():
        assert sm.data("hf:me/photos").sha256 == first.sha256
        with pytest.raises(UsageError, match="unknown split 'train'; it has test"):
            sm.data("hf:me/photos", split="train")


def test_a_branch_stands_for_its_commit_until_another_is_named(site: Hub) -> None:
    name = "test/0000.parquet"
    site.add("datasets/me/photos", {name: in_bytes()})
    assert len(sm.data("hf:me/photos")) == 9
    commit = site.add("datasets/me/photos", {name: in_bytes(table_of().slice(0, 4))})
    assert len(sm.data("hf:me/photos")) == 9
    assert len(sm.data(f"hf:me/photos@{commit}")) == 4
    site.add(
        "datasets/me/photos",
        {name: in_bytes(table_of().slice(0, 2))},
        branch="refs/convert/parquet",
    )
    assert len(sm.data("hf:me/photos@refs/convert/parquet")) == 2


def test_a_configuration_is_named_after_a_colon(site: Hub) -> None:
    site.add("datasets/me/photos", {f"{c}/test-0.parquet": in_bytes() for c in ("fine", "coarse")})
    assert len(sm.data("hf:me/photos:fine?label=label")) == 9
    with pytest.raises(UsageError, match="hf:me/photos: has several configurations: fine, coarse"):
        sm.data("hf:me/photos")
    with pytest.raises(UsageError, match="has no configuration 'fin'; did you mean 'fine'"):
        sm.data("hf:me/photos:fin")


def test_a_set_that_is_not_in_parquet_may_have_been_converted(site: Hub) -> None:
    site.add("datasets/me/photos", {"photos.zip": b"", "photos.py": b""})
    with pytest.raises(InputError, match="no tables in Parquet; .*@refs/convert/parquet"):
        sm.data("hf:me/photos")


def test_what_is_not_what_the_hub_has_is_not_kept(site: Hub) -> None:
    site.add("datasets/me/photos", {"test/0000.parquet": in_bytes()})
    site.faults["wrong"] = True
    with pytest.raises(UnsafeError, match="has the hash .*; it was removed"):
        sm.data("hf:me/photos")
    del site.faults["wrong"]
    assert len(sm.data("hf:me/photos")) == 9


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("hf:me/gone", "there is no such repository"),
        ("hf:me/photos@gone", "has no such revision; check what follows the @"),
    ],
)
def test_what_the_hub_does_not_have(site: Hub, ref: str, words: str) -> None:
    site.add("datasets/me/photos", {"test/0000.parquet": in_bytes()})
    with pytest.raises(NetworkError, match=words):
        sm.data(ref)
