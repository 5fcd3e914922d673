"""Folders of images with a list: every line is an image with a label, or all that is not is told.

Class folders and the list of their images give the same set.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.sketch import Sketch


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Four images in a folder, each of which is its number; and one more, further down."""
    root = tmp_path / "val"
    (root / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b c.png", "d.png", "more/e.png")):
        Image.new("L", (2, 2), i).save(root / name)
    return root


def read(root: Path, text: str | bytes, name: str = "list.txt", more: str = "") -> sm.Images:
    data = text if isinstance(text, bytes) else text.encode()
    (root / name).write_bytes(data)
    return sm.data(f"folder:{root}?list={name}{more}")


SAME = {
    "list.txt": "a.png 1\nb c.png 0\n\nmore/e.png 2\n",
    "tabs.txt": "a.png\t1\nb c.png\t0\nmore/e.png\t2",
    "titles.txt": "image label\na.png 1\nb c.png 0\n./more/e.png 2\n",
    "windows.txt": "\ufeffa.png 1\r\nb c.png 0\r\nmore//e.png 2\r\n",
    "commas.csv": "a.png,1\nb c.png,0\nmore/e.png,2\n",
    "titles.CSV": 'path,label\n"a.png",1\n"b c.png", 0\nmore/e.png,2\n',
}


@pytest.mark.parametrize("name", SAME)
def test_a_list_gives_images_their_labels_in_its_own_order(flat: Path, name: str) -> None:
    images = read(flat, SAME[name], name)
    assert images.ids == ("a.png", "b c.png", "more/e.png")
    assert images.labels.tolist() == [1, 0, 2]
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1, 3]
    assert (images.classes, images.class_names) == (3, ())


def test_labels_may_be_names(flat: Path) -> None:
    images = read(flat, "a.png\tsea lion\nd.png\tcat\nb c.png\tsea lion\n")
    assert images.class_names == ("cat", "sea lion")
    assert images.labels.tolist() == [1, 0, 1]
    with pytest.warns(UserWarning, match="label 1 is 'class2'; sorted as text.* 'class10'"):
        assert read(flat, "a.png class10\nd.png class2\nb c.png class1\n").labels.tolist() == [
            2,
            1,
            0,
        ]


SYNSETS = "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 great white shark\n"


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (("n01484850", "n01440764"), SYNSETS, ("n01440764", "n01443537", "n01484850")),
        (("2", "0"), SYNSETS, ("n01440764", "n01443537", "n01484850")),
        (("shark", "tench"), "tench\tTinca\ngoldfish\nshark\n", ("tench", "goldfish", "shark")),
        (("10", "8"), "8\n9\n10\n", ("8", "9", "10")),
    ],
)
def test_classes_may_be_named_by_a_file(
    flat: Path, labels: tuple[str, str], names: str, classes: tuple[str, ...]
) -> None:
    (flat / "names.txt").write_text(names)
    images = read(flat, f"a.png {labels[0]}\nd.png {labels[1]}\n", more="&classes=names.txt")
    assert images.class_names == classes
    assert images.labels.tolist() == [2, 0]


def test_class_folders_and_a_list_of_them_are_the_same_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    for i in range(6):
        (tmp_path / "photos" / f"c{i % 3}").mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (5, 6, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"c{i % 3}" / f"{i}.png")
    folders = sm.data(f"folder:{tmp_path}/photos")
    lines = [f"{id} {id.partition('/')[0]}\n" for id in folders.ids]
    (tmp_path / "list.txt").write_text("".join(lines))  # not in the folder of the images
    for ref in (
        f"folder:{tmp_path}/photos?list={tmp_path}/list.txt",
        "folder:photos?list=list.txt",
    ):
        monkeypatch.chdir(tmp_path)
        images = sm.data(ref)
        assert images.fingerprint() == {**folders.fingerprint(), "ref": ref}
        assert torch.equal(images.pixels, folders.pixels)
        assert Sketch.of(images) == Sketch.of(folders)


def test_a_list_goes_with_a_preprocessing(flat: Path) -> None:
    images = read(flat, "a.png 0\nd.png 1\n", more="&resize=4x4&channels=1")
    assert images.fingerprint()["preprocessing"] == "resize=4x4&channels=1"
    assert images.batch(torch.tensor([1]))[0].unique().tolist() == [np.float32(2 / 255)]


def test_names_that_are_not_utf_8_are_found(flat: Path) -> None:
    os.rename(flat / "a.png", os.fsencode(flat) + b"/caf\xe9.png")
    assert read(flat, b"caf\xe9.png 0\n").ids == ("caf\\xe9.png",)


# ---- what is not a list


def test_all_that_is_missing_is_named_with_its_line(flat: Path) -> None:
    os.mkfifo(flat / "pipe.png")
    (flat / "loop.png").symlink_to("loop.png")
    lines = "a.png 0\ngone.png 1\nmore 0\npipe.png 0\nloop.png 0\n../val/a.png 0\n/x.png 0\n"
    with pytest.raises(InputError) as caught:
        read(flat, lines + "more/../a.png 1\n")
    assert caught.value.problems == (
        "gone.png, on line 2, is missing",
        "more, on line 3, is not a file",
        "pipe.png, on line 4, is not a file",
        "loop.png, on line 5, cannot be read: Too many levels of symbolic links",
        "../val/a.png, on line 6, leads out of the folder",
        "/x.png, on line 7, leads out of the folder",
        "a.png, on line 8, is listed twice",
    )
    assert str(caught.value).startswith(f"{flat}/list.txt: ")


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "list.txt", "list.txt: lists no images; write the path"),
        ("path label\n", "list.txt", "lists no images"),
        ("a.png\nd.png 1\n490\n", "list.txt", r"2 problems:\n.*line 1 .*\n.*line 3 "),
        ("a.png,1\nd.png,2\n", "list.txt", "(?s)line 1 .*with commas in a .csv file"),
        ("a.png,1,2\n", "list.csv", "line 1 is not an image and a label"),
        ("a.png,\n", "list.csv", "line 1 is not an image and a label"),
        ('"a.png,1\n', "list.csv", "is not CSV: .* on line 1"),
        ("a.png 1\nd.png cat\n", "list.txt", r"numbers \(1\), and others that are not \('cat'\)"),
        ("a.png -1\n", "list.txt", "label -1 of example 0 is not one of"),
    ],
)
def test_what_is_not_a_list_is_told(flat: Path, text: str, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(flat, text, name)


def test_labels_that_are_not_among_the_classes_are_all_named(flat: Path) -> None:
    (flat / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError) as caught:
        read(flat, "a.png cat\nb c.png dgo\nd.png emu\n", more="&classes=names.txt")
    assert caught.value.problems == ("'dgo'; did you mean 'dog'?", "'emu'; choose from cat, dog")
    (flat / "names.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(InputError, match="names.txt: names classes twice: cat"):
        read(flat, "a.png cat\n", more="&classes=names.txt")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("lst=a.txt", "unknown option 'lst'; did you mean 'list'"),
        ("resiz=8", "unknown option 'resiz'; did you mean 'resize'"),
        ("list=a.txt&list=b.txt", "gives list twice"),
        ("list=", "gives no value for list"),
        ("classes=a.txt", "names the classes of a list; give a list, too"),
    ],
)
def test_options_that_cannot_be_meant(flat: Path, query: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        sm.data(f"folder:{flat}?{query}")
    assert str(caught.value).startswith(f"folder:{flat}?{query}: ")


def test_a_list_that_is_not_there(flat: Path) -> None:
    with pytest.raises(InputError, match="gone.txt: there is no such file"):
        sm.data(f"folder:{flat}?list=gone.txt")
    os.mkfifo(flat / "pipe")
    with pytest.raises(InputError, match="pipe: is not a regular file"):
        sm.data(f"folder:{flat}?list=pipe")
