"""Labels are outputs by name: subsets, other orders, several right labels, what is refused."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.choices import LABEL_SPACES
from soupmerge.errors import InputError, UsageError
from soupmerge.label_spaces.outputs import right_classes
from soupmerge.soups.judge.subset import Subset
from soupmerge.sources.images.labelling import labelled
from soupmerge.storage import run_folder
from soupmerge.weights import classes, ledger
from tests.shared import Outcome
from tests.sources.levels import AIR, NET, Levels, folders, saved

Typed = Callable[..., Outcome]
FEW = ["ship", "cat"]
"""Two of the ten outputs of `Levels`; as folders, cat comes first."""


def few(root: Path, names: tuple[str, str] = ("cat", "ship")) -> Path:
    """Make class folders of cats and ships, at levels that others of ten classes are nearer to.

    Cats have the level 0.35 and ships 0.85. Of each class, one image has its level, and one, at
    0.48 or 0.72, is nearer to its own level than to the other, and to a third class than to either.
    """
    for name, levels in zip(names, [(0.35, 0.48), (0.85, 0.72)], strict=True):
        (root / name).mkdir(parents=True)
        for level in levels:
            image = Image.new("L", (4, 4), round(255 * level))
            image.save(root / name / f"{level}.png")
    return root


def recorded(path: Path, names: list[str], scale: float = 1.0) -> Path:
    """Write the network with a record of having been trained on *names*, and return *path*."""
    entry = {"by": "finetune", "classes": names, "sketch": "whole:" + "0" * 12}
    state = {n: scale * t for n, t in Levels(len(names)).state_dict().items()}
    sm.save(path, state, notes={"seen": [entry]})
    return path


# ---- which outputs count


def test_a_subset_of_the_classes_is_judged_by_its_outputs(tmp_path: Path) -> None:
    images = sm.data(f"folder:{few(tmp_path)}", classes="cifar10")
    assert images.class_names == ("cat", "ship")
    assert images.outputs == sm.Outputs(((3,), (8,)), of=10, names=tuple(AIR), ref="cifar10")
    assert images.fingerprint()["outputs"] == "2 of 10 outputs"
    report = sm.Benchmark(images)(Levels().eval())
    assert report.accuracy("clean") == 1
    assert report.to_metrics()["clean"]["outputs"] == "2 of 10 outputs"
    assert images.ids == ("cat/0.35.png", "cat/0.48.png", "ship/0.72.png", "ship/0.85.png")
    assert Levels()(images.batch(torch.arange(4))[0]).argmax(1).tolist() == [3, 4, 7, 8]


@pytest.mark.parametrize("given", ["networks", "network", "space", "file"])
def test_what_outputs_stand_for_may_be_said_in_several_ways(tmp_path: Path, given: str) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\n".join(AIR))
    loaded = sm.load(recorded(tmp_path / "a.safetensors", AIR))
    said: Any = {
        "networks": loaded,
        "network": loaded[0],
        "space": sm.LabelSpace.of("mine", [(name,) for name in AIR]),
        "file": str(file),
    }[given]
    outputs = sm.data(f"folder:{few(tmp_path / 'few')}", classes=said).outputs
    assert outputs is not None
    assert outputs.groups == ((3,), (8,))


def test_where_the_order_agrees_nothing_changes(tmp_path: Path) -> None:
    root = folders(tmp_path / "air", AIR)
    plain = sm.data(f"folder:{root}")
    for said in ("cifar10", sm.load(recorded(tmp_path / "a.safetensors", AIR))):
        named = sm.data(f"folder:{root}", classes=said)
        assert named.outputs is None
        assert named.fingerprint() == plain.fingerprint()


def test_networks_that_record_nothing_leave_labels_as_they_are(tmp_path: Path) -> None:
    unnamed = sm.load(saved(tmp_path / "a.safetensors"))
    root = folders(tmp_path / "pets", ["cat", "dog"])
    assert sm.data(f"folder:{root}", classes=unnamed).outputs is None
    assert sm.data("digits", limit=9, classes=unnamed).outputs is None
    assert sm.data("digits", limit=9, classes=sm.load(recorded(tmp_path / "b", AIR))).classes == 10


def test_a_split_by_name_need_not_have_the_classes_of_train(tmp_path: Path) -> None:
    folders(tmp_path / "train", AIR)
    few(tmp_path / "test")
    with pytest.raises(InputError, match="(?s)only in train.*--classes"):
        sm.data(f"folder:{tmp_path}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = sm.data(f"folder:{tmp_path}", classes="cifar10").outputs
    assert outputs is not None
    assert outputs.describe() == "2 of 10 outputs"


def test_names_that_sort_unlike_text_are_no_matter_by_name(tmp_path: Path) -> None:
    root = folders(tmp_path / "numbers", ["2", "10"])
    file = tmp_path / "names.txt"
    file.write_text("10\n7\n2\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = sm.data(f"folder:{root}", classes=str(file)).outputs
    assert outputs is not None
    assert outputs.groups == ((2,), (0,))


def test_a_corrupted_part_of_a_set_has_its_outputs(tmp_path: Path) -> None:
    root = few(tmp_path)
    for ref in (f"folder:{root}", f"low_contrast-1:folder:{root}"):
        images = sm.data(ref, classes="cifar10", limit=3)
        assert (images.outputs or sm.Outputs((), of=0)).groups == ((3,), (8,))
    part = Subset(images, torch.tensor([2, 0]), "choose")
    assert part.outputs is images.outputs
    assert sm.Resized(part, 8).outputs is images.outputs
    assert part.fingerprint()["mapping"] == images.fingerprint()["mapping"]


# ---- spaces of which data have all classes


def birds() -> sm.LabelSpace:
    """Five outputs, of which data have three, one of them under its second name."""
    space = sm.LabelSpace.of("birds", [("a",), ("b", "bee"), ("c",), ("d",), ("e",)])
    return replace(space, classes=tuple(space.classes[i] for i in (1, 2, 4)), whole=True)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LABEL_SPACES, "birds", f"{__name__}:birds")


@pytest.mark.usefixtures("known")
def test_a_whole_space_has_its_classes_whatever_folders_there_are(tmp_path: Path) -> None:
    root = folders(tmp_path, ["bee", "e"])
    with pytest.warns(UserWarning, match="no folders of 1 of 3 classes of birds: c"):
        images = sm.data(f"folder:{root}", classes="birds")
    assert images.labels.tolist() == [0, 2]
    assert images.class_names == ("b", "c", "e")
    assert images.fingerprint()["outputs"] == "3 of 5 outputs"
    with pytest.raises(InputError, match="'a' is not one of them"):
        sm.data(f"folder:{folders(tmp_path / 'more', ['a', 'e'])}", classes="birds")


@pytest.mark.usefixtures("known")
def test_labels_without_names_are_numbers_of_classes(tmp_path: Path) -> None:
    x = np.zeros((3, 1, 2, 2), np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=[2, 0, 2])
    images = sm.data(f"npz:{tmp_path}/x.npz", classes="birds")
    assert images.labels.tolist() == [2, 0, 2]
    assert (images.outputs or sm.Outputs((), of=0)).groups == ((1,), (2,), (4,))
    np.savez(tmp_path / "y.npz", x=x, y=[3, 0, 2])
    with pytest.raises(InputError, match="has a label 3, but birds has 3 classes"):
        sm.data(f"npz:{tmp_path}/y.npz", classes="birds")


def test_imagenet_folders_are_found_by_synset_name_or_number(tmp_path: Path) -> None:
    for names in (["n01443537", "n12057211"], ["goldfish", "Yellow lady's slipper"], ["1", "986"]):
        images = sm.data(f"folder:{folders(tmp_path / names[0], names)}", classes="imagenet")
        assert images.outputs is not None
        assert images.outputs.groups == ((1,), (986,))
        assert images.outputs.describe() == "2 of 1,000 outputs"


class Fine(nn.Module):
    """Gives output i of 1,000 the logit of the image's i-th pixel, times 60."""

    def forward(self, x: Tensor) -> Tensor:
        return 60 * x.flatten(1)[:, :1000]


def test_conflicting_cues_are_judged_by_the_mean_over_fine_classes(tmp_path: Path) -> None:
    """The mean over the six cats (281 to 286) is compared with that over the four bears (294 …).

    If one output of each is as probable, the bears' mean is higher; if all cats are, the cats'.
    """
    for cats, right in ((1, False), (6, True)):
        pixels = np.zeros((32, 32), np.uint8)
        pixels.flat[294] = 255
        pixels.flat[281 : 281 + cats] = 255
        folder = tmp_path / str(cats) / "cat"
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "cat4-bear2.png")
        with pytest.warns(UserWarning, match="no folders of 15 of 16 classes of conflict"):
            images = sm.data(f"folder:{folder.parent}", classes="conflict")
        assert images.ids == ("cat/cat4-bear2.png",)
        report = sm.Benchmark(images)(Fine().eval())
        assert report.correct("clean") == right
        assert report.data["outputs"] == "16 groups of 207 of 1,000 outputs"


# ---- several right labels


def real(ids: list[str]) -> sm.Images:
    pixels = torch.zeros(len(ids), 1, 32, 32, dtype=torch.uint8)
    labels = torch.zeros(len(ids), dtype=torch.long)
    return sm.Images("folder:val", "val", ids, pixels, labels, 1, ("x",))


def val(number: int) -> str:
    return f"x/ILSVRC2012_val_{number:08}.JPEG"


def test_an_image_is_right_by_any_of_its_real_labels() -> None:
    """Image 1 has no label, 2 has 970 and 795, 3 has 230 and 231, 4 has 809 (Beyer et al. 2020)."""
    space = sm.label_space("imagenet-real")
    with pytest.warns(UserWarning, match="left out 1 of 4 images, which have no label in imagenet"):
        images = labelled(real([val(2), val(1), val(3), val(4)]), space)
    assert [id[-6:] for id in images.ids] == ["2.JPEG", "3.JPEG", "4.JPEG"]
    assert (images.split, images.classes) == ("val, without 1 unlabelled", 1000)
    assert images.outputs is None
    assert images.labels.tolist() == [970, 230, 809]
    right = right_classes(images, torch.arange(3), images.labels).nonzero().tolist()
    assert right == [[0, 795], [0, 970], [1, 230], [1, 231], [2, 809]]

    class Says(nn.Module):
        """Answers 795, 231 and 808, whatever it is shown."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(1000)[[795, 231, 808][: len(x)]]

    report = sm.Benchmark(images)(Says().eval())
    assert report.flags["clean"].tolist() == [True, True, False]
    assert report.to_metrics()["clean"]["outputs"] == "any of several labels is right"
    part = images.take(torch.tensor([2, 0]), "part")
    assert part.also_right is not None
    assert part.also_right.nonzero().tolist() == [[0, 809], [1, 795], [1, 970]]
    assert Subset(images, torch.tensor([1]), "choose").also_right is not None
    assert sm.Resized(images, 64).also_right is images.also_right
    one = replace(images, also_right=None)
    assert one.sha256 != images.sha256


def test_images_that_nobody_relabelled_are_refused() -> None:
    space = sm.label_space("imagenet-real")
    with pytest.raises(InputError, match="2 of 3 images are none of those") as refused:
        labelled(real([val(2), "x/cat.jpg", val(50_001)]), space)
    assert refused.value.problems == ("x/cat.jpg", val(50_001))
    with pytest.raises(InputError, match="none of its 1 images has a label"):
        labelled(real([val(1)]), space)


def test_only_clean_accuracy_can_be_judged_with_several_labels(tmp_path: Path) -> None:
    pixels = torch.rand(20, 1, 4, 4)
    plain = sm.Images.of(pixels, torch.arange(20) % 10)
    several = replace(plain, also_right=torch.zeros(20, 10, dtype=torch.bool))
    attack, objective = sm.FGSM(sm.Linf(0.1)), sm.against(sm.Linf(0.1))
    nets = sm.load(*(saved(tmp_path / f"{s}.safetensors", s) for s in (1.0, 2.0)))
    out = tmp_path / "out.safetensors"
    uses: list[Callable[[], Any]] = [
        lambda: sm.Benchmark(several, [attack]),
        lambda: sm.learn(Levels(), nets, several, objective),
        lambda: sm.finetune(Levels(), several, objective, out),
        lambda: sm.barrier(Levels(), nets, sm.Benchmark(several), points=3),
        lambda: sm.Calibration(several, attack),
    ]
    for use in uses:
        with pytest.raises(UsageError, match="several right labels, but .* needs one"):
            use()
    assert not out.exists()


def test_outputs_are_those_of_the_classes() -> None:
    plain = sm.Images.of(torch.rand(4, 1, 4, 4), torch.arange(4) % 3)
    with pytest.raises(InputError, match="has 3 classes, but outputs for 2"):
        replace(plain, outputs=sm.Outputs(((0,), (1,)), of=9))
    with pytest.raises(InputError, match=r"also_right of shape \(4, 2\), not \(4, 3\)"):
        replace(plain, also_right=torch.zeros(4, 2, dtype=torch.bool))


# ---- typed


COMMANDS = {
    "eval": "eval {a} {b} {model} {data} --json",
    "ensemble": "eval {a} {b} {model} {data} --ensemble prob --json",
    "grid": "grid {a} {b} {model} {data} --step 0.5 -o {out} --json",
    "race": "grid {a} {b} {model} {data} --step 0.5 --race -o {out} --json",
    "greedy": "greedy {a} {b} {model} {data} -o {out} --json",
    "path": "path {a} {b} {model} {data} -o {out} --json",
    "search": "search {a} {b} {model} {data} -n 3 -o {out} --json",
    "learn": "learn {a} {b} {model} {data} --eps 0 --epochs 1 --augment none -o {out}",
    "front": "front {a} {b} {model} {data} --objective clean --objective linf:0.1 --epochs 1 "
    "--augment none -o {out}",
    "adapt": "adapt {a} {b} {model} {data} --shots 2 --step 0.5 -o {out} --json",
    "check": "check {a} {b} {model} {data} --points 3 --json",
    "landscape": "landscape {a} {b} {c} {model} {data} --points 2 -o {out} --json",
    "finetune": "finetune {a} {model} {data} --threat clean --epochs 1 --augment none "
    "-o {out}.safetensors",
}


@pytest.mark.parametrize("named", ["recorded", "given"])
@pytest.mark.parametrize("form", COMMANDS.values(), ids=COMMANDS)
def test_every_command_takes_a_subset_by_name(
    soupmerge: Typed, tmp_path: Path, form: str, named: str
) -> None:
    root = few(tmp_path / "few")
    state, entry = Levels().state_dict(), {"by": "finetune", "classes": AIR}
    seen = [{**entry, "sketch": "whole:" + "0" * 12}] if named == "recorded" else []
    for i, name in enumerate("abc"):  # not on a line
        moved = {n: t + i * (i + t) * 0.01 for n, t in state.items()}
        sm.save(tmp_path / f"{name}.safetensors", moved, notes={"seen": seen})
    words = {name: str(tmp_path / f"{name}.safetensors") for name in "abc"}
    words |= {"data": f"--data folder:{root}", "model": f"--model {NET}"}
    words["data"] += " --classes cifar10" if named == "given" else ""
    ended = soupmerge(*form.format(**words, out=tmp_path / "out").split())
    assert ended.status in (0, 1), ended.err
    assert "2 of 10 outputs" in ended.err, "the note"
    if "--json" in form:
        assert "2 of 10 outputs" in ended.out
    manifests = [*tmp_path.rglob("manifest.json")]
    assert bool(manifests) == ("{out}" in form)
    assert all('"outputs": "2 of 10 outputs"' in m.read_text() for m in manifests)


def test_tables_say_which_outputs_count(soupmerge: Typed, tmp_path: Path) -> None:
    net, root = recorded(tmp_path / "a.safetensors", AIR), few(tmp_path / "few")
    other = folders(tmp_path / "air", AIR)
    words = ["eval", net, "--model", NET, "--data", f"folder:{root}", "--data", f"folder:{other}"]
    ended = soupmerge(*words)
    assert f"4 images of folder:{root} (test), 2 of 10 outputs, 10 images of" in ended.out
    assert "100.0%" in ended.out
    planned = soupmerge(*words, "-o", tmp_path / "run", "--dry-run")
    columns = [re.split("  +", line)[-2] for line in planned.out.splitlines()]
    assert columns == ["outputs", "2 of 10 outputs", "all"]


def test_a_run_is_resumed_only_with_the_same_outputs(soupmerge: Typed, tmp_path: Path) -> None:
    nets = [saved(tmp_path / f"{s}.safetensors", s) for s in (1.0, 2.0)]
    root, run = few(tmp_path / "few"), tmp_path / "run"
    words = ["eval", *nets, "--model", NET, "--data", f"folder:{root}", "-o", run]
    moved = tmp_path / "same.txt"
    moved.write_text("\n".join(f"{name}\t{name}s" for name in AIR))
    assert soupmerge(*words, "--classes", "cifar10").status == 0
    assert soupmerge(*words, "--classes", moved).status == 0, "another name for the same"
    swapped = tmp_path / "swapped.txt"
    swapped.write_text("\n".join(reversed(AIR)))
    ended = soupmerge(*words, "--classes", swapped)
    assert (ended.status, "mapping" in ended.err) == (2, True), ended.err


def test_a_network_trained_on_a_few_of_its_classes_remembers_all(
    soupmerge: Typed, tmp_path: Path
) -> None:
    root = few(tmp_path / "few")
    for words in ([saved(tmp_path / "a.safetensors"), "--model", NET], ["--model", "digits-cnn"]):
        out = tmp_path / f"{len(words)}.safetensors"
        line = ["finetune", *words, "--data", f"folder:{root}", "--classes", "cifar10", "-o", out]
        ended = soupmerge(*line, "--threat", "clean", "--epochs", 1, "--augment", "none")
        assert ended.status == 0, ended.err
        (checkpoint,) = sm.load(out)
        assert classes.orders_of(checkpoint) == [AIR]
        heads = [tensor.shape[0] for tensor in checkpoint.values() if tensor.ndim == 1]
        assert heads[-1] == 10


def test_new_classes_are_learned_in_the_order_of_their_folders(
    soupmerge: Typed, tmp_path: Path
) -> None:
    base = recorded(tmp_path / "a.safetensors", ["cat", "dog"])
    for name, names, order in (("new", ["cow", "cat"], ["cat", "cow"]), ("old", ["dog", "cat"], 0)):
        out, root = tmp_path / f"{name}.safetensors", folders(tmp_path / name, names)
        line = ["finetune", base, "--model", f"{NET}?num_classes=2", "--data", f"folder:{root}"]
        ended = soupmerge(*line, "-o", out, "--threat", "clean", "--epochs", 1)
        assert ended.status == 0, ended.err
        assert classes.orders_of(sm.load(out)[0])[-1] == (order or ["cat", "dog"])


def test_images_without_names_say_nothing_of_the_classes_of_a_network(
    soupmerge: Typed, tmp_path: Path
) -> None:
    base, out = recorded(tmp_path / "a.safetensors", AIR), tmp_path / "b.safetensors"
    line = ["finetune", base, "--model", NET, "--data", "digits", "--limit", 20, "-o", out]
    ended = soupmerge(*line, "--threat", "clean", "--epochs", 1, "--augment", "none")
    assert ended.status == 0, ended.err
    assert classes.orders_of(sm.load(out)[0]) == [AIR], "only what the base was trained on"


def test_classes_that_differ_in_case_alone_are_their_own(soupmerge: Typed, tmp_path: Path) -> None:
    names = ["A", "a", *AIR[2:]]
    net = recorded(tmp_path / "a.safetensors", names)
    root = folders(tmp_path / "letters", names)
    ended = soupmerge("eval", net, "--model", NET, "--data", f"folder:{root}", "--json")
    assert ended.status == 0, ended.err
    assert "outputs" not in json.loads(ended.out)["data"]


def test_what_the_network_records_is_not_contradicted(soupmerge: Typed, tmp_path: Path) -> None:
    net, root = recorded(tmp_path / "a.safetensors", AIR), few(tmp_path / "few")
    swapped = tmp_path / "swapped.txt"
    swapped.write_text("\n".join(reversed(AIR)))
    words = ["eval", net, "--model", NET, "--data", f"folder:{root}"]
    ended = soupmerge(*words, "--classes", swapped)
    assert (ended.status, "trained on airplane, automobile" in ended.err) == (3, True), ended.err


def test_networks_of_different_classes_are_not_asked_about_the_same_images(
    soupmerge: Typed, tmp_path: Path
) -> None:
    nets = [
        recorded(tmp_path / "a.safetensors", AIR),
        recorded(tmp_path / "b.safetensors", AIR[::-1]),
    ]
    words = ["eval", *nets, "--model", NET, "--data", f"folder:{few(tmp_path / 'few')}"]
    ended = soupmerge(*words)
    assert ended.status == 3
    for ref, first in zip(nets, ("airplane", "truck"), strict=True):
        assert f"{ref}: trained on {first}" in ended.err


def test_of_several_trainings_the_one_with_these_classes_counts(tmp_path: Path) -> None:
    pets, air = [["cat", "dog"], ["dog", "cat"], ["emu", "cat"]], tmp_path / "a.safetensors"
    entries = [{"by": "finetune", "classes": p, "sketch": "whole:" + "0" * 12} for p in pets]
    sm.save(air, Levels(2).state_dict(), notes={"seen": entries})
    networks = sm.load(air)

    def order(*names: str) -> list[str]:
        space = classes.space_of(networks, names)
        return [] if space is None else [first for (first,) in space.outputs]

    assert order("Cat", "Dog") == ["cat", "dog"], "the same"
    assert order("dog") == ["dog", "cat"], "the last that has it"
    assert order("cow") == ["emu", "cat"], "the last"


# ---- refused


def many(root: Path, names: list[str]) -> Path:
    return folders(root, names)


REFUSED: dict[str, tuple[list[str], str | None, int, tuple[str, ...]]] = {
    "unknown": (["cat", "shipp"], "cifar10", 3, ("'shipp' is not one", "did you mean 'ship'")),
    "both sides": (["cat", "emu"], "cifar10", 3, ("(cat, emu)", "cifar10 (airplane, auto")),
    "all of them": (["cow", "emu"], "cifar10", 3, ("2 problems", "'cow' is", "'emu' is")),
    "two to one": (["goldfish", "n01443537"], "imagenet", 3, ("are both n01443537, goldfish",)),
    "two by case": (["Cat", "cat"], "cifar10", 3, ("'Cat' and 'cat' are both cat (output 3)",)),
    "ambiguous": (["crane", "tench"], "imagenet", 3, ("'crane' may be n02012849",)),
    "too high": (["3", "10"], "cifar10", 3, ("'10' is not one of them",)),
    "not in part": (["n01440764"], "imagenet-a", 3, ("'n01440764' is not one of them",)),
    "no space": (["cat"], "cifar11", 2, ("no label space or file 'cifar11'", "did you mean")),
    "no images": (["cat"], "imagenet-real", 3, ("1 of 1 images are none of those that",)),
    "other outputs": (["cat"], "cifar100", 3, ("'cat' is not one", "did you mean")),
}


@pytest.mark.skipif(os.path.normcase("A") == "a", reason="folders whose case does not count")
@pytest.mark.parametrize(("names", "space", "status", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_mapped_is_refused_with_what_to_do(
    soupmerge: Typed,
    tmp_path: Path,
    names: list[str],
    space: str,
    status: int,
    said: tuple[str, ...],
) -> None:
    net, root = saved(tmp_path / "a.safetensors"), many(tmp_path / "x", names)
    words = ["eval", net, "--model", NET, "--data", f"folder:{root}", "--classes", space]
    ended = soupmerge(*words)
    assert ended.status == status, ended.err
    for part in said:
        assert part in ended.err, ended.err


def test_a_space_of_other_networks_is_refused(soupmerge: Typed, tmp_path: Path) -> None:
    net, root = saved(tmp_path / "a.safetensors"), folders(tmp_path / "x", ["goldfish", "tench"])
    words = ["eval", net, "--model", NET, "--data", f"folder:{root}", "--classes", "imagenet"]
    ended = soupmerge(*words)
    assert ended.status == 3
    assert "has 10 outputs, but 1,000 are named by imagenet" in ended.err


def test_an_empty_class_is_a_class(soupmerge: Typed, tmp_path: Path) -> None:
    net, root = recorded(tmp_path / "a.safetensors", AIR), few(tmp_path / "few")
    (root / "dog").mkdir()
    ended = soupmerge("eval", net, "--model", NET, "--data", f"folder:{root}", "--json")
    assert ended.status == 0, ended.err
    assert "no images of 1 of 3 classes: dog" in ended.err
    assert json.loads(ended.out)["data"]["outputs"] == "3 of 10 outputs"


def test_what_is_recorded_of_a_mapping_is_in_no_path(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\n".join(AIR))
    images = sm.data(f"folder:{few(tmp_path / 'few')}", classes=str(file))
    entry = ledger.entry("finetune", images, ledger.TRAINED)
    assert str(tmp_path) not in json.dumps(entry)
    assert entry["classes"] == AIR
    assert "names.txt" not in json.dumps(run_folder.essence(images.fingerprint()))
