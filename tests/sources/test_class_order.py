"""Which label a class folder gets, and that it is what the network means by it."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.weights import classes, ledger
from tests.shared import Outcome
from tests.sources.levels import AIR, NET, Levels, folders, saved

Typed = Callable[..., Outcome]
UNLIKE_TEXT = "sorted as text"
"""What is said of names that torchvision would number otherwise."""
NUMBERS = [str(n) for n in range(1, 11)]
BARE = [name for name in AIR if name not in ("airplane", "automobile")]
SHORT = sorted([*BARE, "plane", "car"])
"""CIFAR-10's classes with two names that others give them: their order is another."""


def data(root: Path, **settings: Any) -> sm.Images:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{UNLIKE_TEXT}")
        return sm.data(f"folder:{root}", **settings)


# ---- the order of a folder


@pytest.mark.parametrize(
    "names",
    [
        AIR,
        NUMBERS,
        [f"{n:02}" for n in range(12)],
        ["0", "007", "7", "10"],
        ["airplane", "Automobile", "bird", "Cat", "deer"],
        ["A", "a", "B", "b"],
        ["class 2", "Class 10", "class 11a", "class 11b"],
        ["n01440764", "n01443537", "n02102040"],
        ["Äpfel", "äpfel", "Öl"],
    ],
    ids=" ".join,
)
def test_classes_are_in_the_order_of_people(tmp_path: Path, names: list[str]) -> None:
    for name in random.Random(0).sample(names, len(names)):
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2), names.index(name)).save(tmp_path / name / "x.png")
    images = data(tmp_path)
    assert images.class_names == tuple(names)
    assert images.pixels[:, 0, 0, 0].tolist() == images.labels.tolist()


@pytest.mark.parametrize(
    "names", [NUMBERS, [name.title() if i % 2 else name for i, name in enumerate(AIR)]]
)
def test_an_order_that_torchvision_has_not_is_told_with_its_first_difference(
    tmp_path: Path, names: list[str]
) -> None:
    folders(tmp_path, names)
    first = next(i for i, name in enumerate(sorted(names)) if name != names[i])
    with pytest.warns(
        UserWarning, match=f"label {first} is '{names[first]}'.*'{sorted(names)[first]}'"
    ):
        sm.data(f"folder:{tmp_path}")


def test_a_split_has_the_classes_of_train(tmp_path: Path) -> None:
    folders(tmp_path / "train", AIR)
    folders(tmp_path / "test", AIR[1:])
    folders(tmp_path / "val", [*AIR, "zeppelin"])
    for split, word in (("test", "airplane: only in train"), ("val", "zeppelin: only in val")):
        with pytest.raises(InputError, match=word):
            sm.data(f"folder:{tmp_path}", split=split)
    (tmp_path / "test" / "airplane").mkdir()  # a class without images still is one
    with pytest.warns(UserWarning, match="no images of 1 of 10 classes: airplane"):
        images = sm.data(f"folder:{tmp_path}", split="test")
    assert images.labels.tolist() == list(range(1, 10))


# ---- what is printed and recorded


def test_the_order_is_printed_once_and_recorded(soupmerge: Typed, tmp_path: Path) -> None:
    net, root = saved(tmp_path / "a.safetensors"), folders(tmp_path / "air", AIR)
    words = ["eval", net, "--model", NET, "--data", f"folder:{root}", "--json", "-o"]
    ended = soupmerge(*words, tmp_path / "run", "--data", f"noise-1:folder:{root}")
    assert ended.status == 0, ended.err
    assert ended.err.count("classes in order: airplane, automobile, bird, cat, deer, dog") == 1
    assert json.loads(ended.out)["reports"][0]["data"]["classes"] == AIR
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert AIR in [found.get("classes") for found in dictionaries(manifest)]
    assert "in order" not in soupmerge(*words, tmp_path / "quiet", "-q").err


def dictionaries(value: Any) -> list[dict[str, Any]]:
    """Return all objects in the JSON value *value*."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict) else []
    return own + [found for part in inner for found in dictionaries(part)]


def test_many_classes_are_cut_short(soupmerge: Typed, tmp_path: Path) -> None:
    names = [f"c{i:02}" for i in range(30)]
    net, root = saved(tmp_path / "a.safetensors", classes=30), folders(tmp_path / "c", names)
    ended = soupmerge("eval", net, "--model", f"{NET}?num_classes=30", "--data", f"folder:{root}")
    assert "c10, c11, … (30 in all)" in ended.err
    assert "c12" not in ended.err


def test_a_run_that_recorded_no_classes_is_resumed(soupmerge: Typed, tmp_path: Path) -> None:
    nets = [saved(tmp_path / f"{s}.safetensors", s) for s in (1.0, 2.0)]
    root, run = folders(tmp_path / "air", AIR), tmp_path / "run"
    words = ["grid", *nets, "--model", NET, "--data", f"folder:{root}", "--step", "1", "-o", run]
    words += ["--split", "val"]
    assert soupmerge(*words).status == 0
    soup = (run / "soup.safetensors").read_bytes()
    manifest = json.loads((run / "manifest.json").read_text())
    for entry in dictionaries(manifest):
        entry.pop("classes", None)
    (run / "manifest.json").write_text(json.dumps(manifest))
    again = soupmerge(*words)
    assert again.status == 0, again.err
    assert (run / "soup.safetensors").read_bytes() == soup


# ---- as many as outputs


COMMANDS = {
    "eval": "eval {a} {model} {data}",
    "grid": "grid {a} {b} {model} {data} --step 0.5 -o {out}",
    "greedy": "greedy {a} {b} {model} {data} -o {out}",
    "path": "path {a} {b} {model} {data} -o {out}",
    "search": "search {a} {b} {model} {data} -n 5 -o {out}",
    "learn": "learn {a} {b} {model} {data} --eps 0 --epochs 1 -o {out}",
    "adapt": "adapt {a} {b} {model} {data} --shots 2 -o {out}",
    "check": "check {a} {b} {model} {data}",
    "landscape": "landscape {a} {b} {c} {model} {data} --points 2 -o {out}",
    "finetune": "finetune {a} {model} {data} --threat clean -o {out}.safetensors",
}


def typed(tmp_path: Path, form: str, root: Path, **notes: Any) -> list[str]:
    """Return the words of a command on *root* and networks that note *notes*."""
    state = sm.model(NET).state_dict()
    for i, name in enumerate("abc"):  # not on a line
        moved = {n: t + i * (i + t) * 0.01 for n, t in state.items()}
        sm.save(tmp_path / f"{name}.safetensors", moved, notes=notes)
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in "abc"}
    found = {
        "model": f"--model {NET}",
        "data": f"--data folder:{root}",
        "out": str(tmp_path / "out"),
    }
    return form.format(**paths, **found).split()


@pytest.mark.parametrize("count", [2, 9, 11])
@pytest.mark.parametrize("form", COMMANDS.values(), ids=COMMANDS)
def test_other_classes_than_outputs_are_refused_everywhere(
    soupmerge: Typed, tmp_path: Path, form: str, count: int
) -> None:
    root = folders(tmp_path / "few", [*AIR, "zeppelin"][:count], each=2)
    ended = soupmerge(*typed(tmp_path, form, root))
    assert ended.status == 3, ended.err
    assert f"has 10 outputs, but folder:{root} has {count} classes; use" in ended.err
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("form", [COMMANDS["eval"], COMMANDS["grid"]])
def test_a_sample_may_lack_classes(soupmerge: Typed, tmp_path: Path, form: str) -> None:
    root = folders(tmp_path / "air", AIR, each=2)
    ended = soupmerge(*typed(tmp_path, form, root), "--limit", 3)
    assert ended.status == 0, ended.err


def level_arrays(path: Path, count: int, n: int) -> Path:
    """Write *n* images with labels 0 to *count* - 1."""
    np.savez(path, x=np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), y=np.arange(n) % count)
    return path


@pytest.mark.parametrize(
    ("count", "n", "unlikely"),
    # (9/10)⁶⁵ = 1.06e-3 and (9/10)⁶⁶ = 9.6e-4; (2/10)⁴ = 1.6e-3; ten of ten lack none
    [(9, 65, False), (9, 66, True), (2, 4, False), (2, 5, True), (10, 200, False)],
)
def test_labels_alone_are_doubted_where_chance_does_not_explain_them(
    soupmerge: Typed, tmp_path: Path, count: int, n: int, unlikely: bool
) -> None:
    arrays = level_arrays(tmp_path / "x.npz", count, n)
    words = ["eval", saved(tmp_path / "a.safetensors"), "--model", NET, "--data", f"npz:{arrays}"]
    typed = soupmerge(*words)
    assert typed.status == 0
    said = [line for line in typed.err.splitlines() if "has 10 outputs" in line]
    assert bool(said) == unlikely
    assert all(f"no label above {count - 1}" in line for line in said)


def test_a_label_too_many_is_refused_wherever_it_comes_from(
    soupmerge: Typed, tmp_path: Path
) -> None:
    arrays = level_arrays(tmp_path / "x.npz", 11, 40)
    words = ["eval", saved(tmp_path / "a.safetensors"), "--model", NET, "--data", f"npz:{arrays}"]
    ended = soupmerge(*words)
    assert (ended.status, "label 10" in ended.err) == (3, True)


# ---- the same as those it was trained on


def finetuned(tmp_path: Path, name: str, root: Path, seed: int = 0, **settings: Any) -> Path:
    """Train a network for no time worth speaking of on *root*, and return its file."""
    out = tmp_path / f"{name}.safetensors"
    schedule = sm.Schedule(epochs=1, lr=1e-6, batch_size=7, augment="none")
    sm.finetune(Levels(), data(root), sm.against([]), out, schedule=schedule, seed=seed, **settings)
    return out


def test_a_network_remembers_its_classes_and_so_does_its_soup(
    soupmerge: Typed, tmp_path: Path
) -> None:
    air = folders(tmp_path / "air", AIR, each=2)
    nets = [finetuned(tmp_path, name, air, seed=i) for i, name in enumerate("ab")]
    soup = tmp_path / "soup.safetensors"
    assert soupmerge("mix", *nets, "-w", "0.5,0.5", "-o", soup).status == 0
    fresh = folders(tmp_path / "fresh", [name.upper() for name in AIR], first=2)
    short = folders(tmp_path / "short", SHORT, first=2)
    for ref in (nets[0], soup):
        right = soupmerge("eval", ref, "--model", NET, "--data", f"folder:{fresh}")
        assert right.status == 0, right.err
        wrong = soupmerge("eval", ref, "--model", NET, "--data", f"folder:{short}")
        assert wrong.status == 3
        for words in (", ".join(AIR), ", ".join(SHORT), "'plane' is not one", "rename"):
            assert words in wrong.err


@pytest.mark.parametrize("form", [COMMANDS[n] for n in COMMANDS if n != "finetune"])
def test_classes_that_the_network_never_learned_are_refused_everywhere(
    soupmerge: Typed, tmp_path: Path, form: str
) -> None:
    seen = [ledger.entry("finetune", data(folders(tmp_path / "air", AIR)), ledger.TRAINED)]
    short = folders(tmp_path / "short", SHORT, each=2, first=2)
    words = typed(tmp_path, form, short, seen=seen)
    ended = soupmerge(*words)
    assert ended.status == 3, ended.err
    assert "'plane' is not one of them; did you mean 'airplane'?" in ended.err
    assert "'car' is not one of them" in ended.err


def test_who_was_trained_twice_may_go_with_either(tmp_path: Path) -> None:
    air, short = folders(tmp_path / "air", AIR), folders(tmp_path / "short", SHORT)
    first = finetuned(tmp_path, "first", air)
    second = sm.load(finetuned(tmp_path, "second", short, base=sm.load(first)[0]))
    for root in (air, short):
        classes.require_same(second, data(root))
    with pytest.raises(InputError, match="a different order"):
        classes.require_same(sm.load(first), data(short))


def test_names_of_others_are_doubted_not_refused(tmp_path: Path) -> None:
    known = sm.load(finetuned(tmp_path, "a", folders(tmp_path / "air", AIR)))
    with pytest.warns(UserWarning, match="no name in common"):
        classes.require_same(known, data(folders(tmp_path / "numbers", NUMBERS)))
    renamed = ["aeroplane", *AIR[1:]]  # one name in ten, and none at another place
    classes.require_same(known, data(folders(tmp_path / "renamed", renamed)))


def test_what_nobody_named_is_not_compared(tmp_path: Path) -> None:
    unnamed = sm.load(saved(tmp_path / "a.safetensors"))
    classes.require_same(unnamed, data(folders(tmp_path / "air", AIR)))
    named = sm.load(finetuned(tmp_path, "b", tmp_path / "air"))
    classes.require_same(named, sm.data("digits", limit=10))


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"classes": []},
        {"classes": "abc"},
        {"classes": [1, 2]},
        {"classes": SHORT, "by": "grid"},
    ],
)
def test_what_a_stranger_noted_is_no_order(tmp_path: Path, notes: dict[str, Any]) -> None:
    """Also not what a search was run on: it may have had the wrong order itself."""
    found = {**ledger.entry("finetune", sm.data("digits", limit=10), ledger.TRAINED), **notes}
    sm.save(tmp_path / "a.safetensors", Levels().state_dict(), notes={"seen": [found]})
    assert classes.orders_of(sm.load(tmp_path / "a.safetensors")[0]) == []


def test_ingredients_that_mean_different_classes_are_not_mixed_in_silence(tmp_path: Path) -> None:
    folders_of = {"a": AIR, "b": SHORT}
    nets = [finetuned(tmp_path, n, folders(tmp_path / f"of {n}", folders_of[n])) for n in "ab"]
    with pytest.warns(UserWarning, match="trained on airplane.* on bird.*different classes"):
        sm.load(*nets)
    sm.load(nets[0], finetuned(tmp_path, "c", tmp_path / "of a"))
