"""WebDataset's shards: samples as its own library groups them, in any order, by an index."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.sources import cache
from soupmerge.sources.images import opening, stored
from soupmerge.sources.images.containers import samples, shards
from soupmerge.sources.images.containers.braces import expanded
from tests.sources import containers
from tests.sources.containers import CLASSES, files, label_of, png, sample, tar


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.HOME, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return containers.shards(tmp_path / "shards")


def one(path: Path, *samples: list[containers.Member]) -> Path:
    return tar(path, [member for members in samples for member in members])


# ---- samples


# The library leaves shards open.
@pytest.mark.filterwarnings(
    "ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_samples_are_those_of_the_library(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the package webdataset")
    home = tmp_path / "shards"
    home.mkdir()
    with webdataset.ShardWriter(f"{home}/%03d.tar", maxcount=4, verbose=0) as writer:
        for i, (path, data) in enumerate(files().items()):
            key = f"part.{i % 2}/{path.removesuffix('.png')}"
            writer.write({"__key__": key, "png": data, "cls": label_of(path), "more.txt": "x"})
    images = sm.data(f"wds:{home}?image=png")
    theirs = [
        each
        for shard in sorted(map(str, home.iterdir()))
        for each in webdataset.WebDataset(shard, shardshuffle=False)
    ]
    assert images.ids == tuple(f"{each['__key__']}.png" for each in theirs)
    assert images.labels.tolist() == [int(each["cls"]) for each in theirs]
    source = sm.data(f"wds:{home}?resize=4x4").pixels.decoder.source
    assert [source.read(i) for i in range(len(theirs))] == [each["png"] for each in theirs]


@pytest.mark.parametrize(
    "place", ["shards", "shards/{000..002}.tar", "shards/{000,001,002}.tar", "shards/00{0..2}.tar"]
)
def test_shards_are_a_folder_or_names_with_braces(
    made: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.parent)
    images = sm.data(f"wds:{place}")
    assert (images.ids, images.class_names) == (tuple(files()), CLASSES)
    assert sm.data("wds:shards/001.tar").ids == tuple(files())[4:8]
    for name in (".hidden.tar", ".trash/009.tar"):
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_bytes(b"nobody's shard")
    assert len(sm.data("wds:shards")) == 9


@pytest.mark.parametrize(
    "text", ["a{00..12}b", "{8..11}", "{3..1}", "{a,b}-{0..1}", "{08..10}", "plain", "{one}"]
)
def test_braces_are_expanded_as_webdataset_does(text: str) -> None:
    braceexpand = pytest.importorskip("braceexpand", reason="needs the package braceexpand")
    assert expanded(text) == list(braceexpand.braceexpand(text))


def test_braces_that_stand_for_too_much() -> None:
    with pytest.raises(UsageError, match="more than 100,000 names; write a shorter range"):
        sm.data("wds:{0..999999999}.tar")


IN_JSON = {"label": 2, "name": "emu", "wrong": [2], "yes": True}


@pytest.mark.parametrize(
    ("others", "query", "label"),
    [
        ({"cls": 2}, "", 2),
        ({"cls": "2\n"}, "", 2),
        ({"cls": "emu"}, "", 2),
        ({"json": IN_JSON}, "", 2),
        ({"json": IN_JSON}, "?label=name", 2),
        ({"cls": 0, "json": IN_JSON}, "", 0),
        ({"cls": 0, "json": IN_JSON}, "?label=label", 2),
        ({"cls": 0, "txt": "emu", "json": IN_JSON}, "?label=txt", 2),
    ],
)
def test_labels_are_a_member_or_a_key_in_json(
    tmp_path: Path, others: dict[str, Any], query: str, label: int
) -> None:
    one(tmp_path / "a.tar", sample("0", png(0), **others))
    (tmp_path / "classes.txt").write_text("cat\ndog\nemu\n")
    images = sm.data(f"wds:{tmp_path}/a.tar{query}")
    assert (images.labels.tolist(), images.classes) == ([label], 3)


INFO = {
    "features": {
        "image": {"_type": "Image"},
        "kind": {"names": ["x", "y", "z"], "_type": "ClassLabel"},
        "cls": {"names": list(CLASSES), "_type": "ClassLabel"},
    }
}


def test_names_of_classes_are_found_beside_the_shards(made: Path) -> None:
    (made / "classes.txt").unlink()
    assert sm.data(f"wds:{made}").class_names == ()
    (made / "dataset_info.json").write_text(json.dumps(INFO))
    assert sm.data(f"wds:{made}").class_names == CLASSES
    (made / "dataset_info.json").write_text('{"features": [1]}')
    assert sm.data(f"wds:{made}").class_names == ()
    (made / "names.txt").write_text("a\nb\nc\n")
    assert sm.data(f"wds:{made}?classes=names.txt").class_names == ("a", "b", "c")
    assert sm.data(f"wds:{made}?classes={made}/names.txt").class_names == ("a", "b", "c")


@pytest.mark.parametrize("form", ["set-{}-{:03}.tar", "{}/{:03}.tar"])
def test_shards_of_a_split_are_told_by_their_names(tmp_path: Path, form: str) -> None:
    for split, first in (("train", 0), ("validation", 3)):
        for i in range(2):
            path = tmp_path / "set" / form.format(split, i)
            path.parent.mkdir(parents=True, exist_ok=True)
            one(path, sample(f"{first + i}", png(i), cls=i))
    assert sm.data(f"wds:{tmp_path}/set", split="train").ids == ("0.png", "1.png")
    assert sm.data(f"wds:{tmp_path}/set", split="val").ids == ("3.png", "4.png")
    with pytest.raises(UsageError, match="unknown split 'test'; it has train, val"):
        sm.data(f"wds:{tmp_path}/set")
    one(tmp_path / "set" / "more.tar", sample("9", png(9), cls=0))
    with pytest.raises(InputError, match="those of train and val, and others do not tell: more.ta"):
        sm.data(f"wds:{tmp_path}/set")


def test_what_was_found_out_about_samples_is_kept(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sm.data(f"wds:{made}")
    calls: list[Any] = []
    monkeypatch.setattr(samples, "members", lambda file: calls.append(file) or shards.members(file))
    assert sm.data(f"wds:{made}").sha256 == first.sha256
    assert not calls
    os.utime(made / "001.tar", ns=(1, 1))
    assert sm.data(f"wds:{made}").sha256 == first.sha256
    assert len(calls) == 1


def test_samples_of_one_name_in_several_shards_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        one(tmp_path / f"{name}.tar", sample("0", png(ord(name)), cls=0))
    with pytest.warns(UserWarning, match="of the same names, so that ids begin with their shard"):
        assert sm.data(f"wds:{tmp_path}").ids == ("a/0.png", "b/0.png")
    (tmp_path / "c").mkdir()
    one(tmp_path / "c" / "a.tar", sample("0", png(7), cls=0))
    with pytest.raises(InputError, match="several shards of one name .*: a/0.png; give each shard"):
        sm.data(f"wds:{tmp_path}")


# ---- what is refused


def test_all_samples_without_image_or_label_are_named(tmp_path: Path) -> None:
    one(
        tmp_path / "a.tar",
        sample("0", png(0), cls=0),
        [("1.cls", b"1")],
        sample("2", png(2)),
        sample("3", png(3), cls=0, jpg="x"),
        sample("4", png(4), cls=" "),
        sample("5", png(5), json={"class": 1}),
        sample("6", png(6), json=[1]),
        sample("7", png(7), json={"label": [1]}),
        sample("8", png(8), json={"label": True}),
        [("9.png", png(9)), ("9.json", b"{"), ("9.txt", b"")],
        [(".hidden.png", b""), ("__notes__.json", b""), ("no suffix", b"")],
    )
    with pytest.raises(InputError) as caught:
        sm.data(f"wds:{tmp_path}/a.tar")
    assert str(caught.value).startswith(f"{tmp_path}/a.tar: has samples without one image and one")
    assert caught.value.problems == (
        "1 has no image, among cls",
        "2 has no label: no cls or json among png",
        "3 has the images png, jpg, among png, cls, jpg",
        "4 has an empty label",
        "5 has no label: no key 'label' in its JSON, found class",
        "6 has no label: no key 'label' in its JSON, found a list",
        "7 has a list under 'label', not a class",
        "8 has a bool under 'label', not a class",
        "9 Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    )


def test_a_sample_that_is_there_twice_is_named(tmp_path: Path) -> None:
    one(tmp_path / "a.tar", sample("0", png(0), cls=0), sample("0", png(1), cls=1))
    with pytest.raises(
        InputError, match=r"a.tar: holds what is not read.*\n.*0.png is in it twice"
    ):
        sm.data(f"wds:{tmp_path}/a.tar")
    tar(tmp_path / "b.tar", [("0.png", png(0)), ("0.PNG", png(1)), ("0.cls", b"0")])
    with pytest.raises(InputError, match="b.tar: .* differ only in the case .*: 0.PNG; rename"):
        sm.data(f"wds:{tmp_path}/b.tar")


def test_shards_that_are_missing_are_all_named(made: Path) -> None:
    with pytest.raises(InputError) as caught:
        sm.data(f"wds:{made}/{{001..004}}.tar")
    assert caught.value.problems == (f"{made}/003.tar", f"{made}/004.tar")
    (made / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no .tar files; give a folder of shards"):
        sm.data(f"wds:{made}/empty")


def test_a_compressed_shard_in_a_folder_is_not_passed_over(made: Path) -> None:
    import gzip

    (made / "003.tar.gz").write_bytes(gzip.compress((made / "002.tar").read_bytes()))
    with pytest.raises(InputError, match="003.tar.gz: is compressed"):
        sm.data(f"wds:{made}")


def test_labels_beyond_the_named_classes_are_refused(made: Path) -> None:
    (made / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match="label 2 of example 6 is not one of 2 classes"):
        sm.data(f"wds:{made}")


@pytest.mark.parametrize("query", ["lable=cls", "label="])
def test_options_that_cannot_be_meant(made: Path, query: str) -> None:
    with pytest.raises(UsageError, match="did you mean 'label'|no value for label"):
        sm.data(f"wds:{made}?{query}")


def test_a_disk_that_goes_away_is_told_of(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "KEPT", 0)
    monkeypatch.setattr(stored, "KEPT", 0)
    images = sm.data(f"wds:{made}")
    images.batch(torch.tensor([0]))
    made.rename(made.with_name("gone"))
    with pytest.raises(InputError, match=r"001.tar: dog/5.png: cannot be read: No such file"):
        images.batch(torch.tensor([5]))


def test_shards_are_judged_like_the_folder(
    made: Path, tmp_path: Path, soupmerge: Callable[..., Any]
) -> None:
    ref = "digits-cnn?width=2&in_channels=3&num_classes=3"
    sm.save(tmp_path / "net.safetensors", sm.model(ref).state_dict(), model=ref)
    found = []
    for data in (f"wds:{made}?resize=8x8", f"folder:{containers.folder(tmp_path / 'f')}"):
        line = ("eval", tmp_path / "net.safetensors", "--data", data, "--threat", "linf:8/255")
        ended = soupmerge(*line, "--steps", 3, "--json")
        assert ended.status == 0, ended.err
        found.append(json.loads(ended.out)["metrics"])
    assert found[0] == found[1]
