"""Ensembles, other resolutions, several data sets: laws, and as a user types them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import soupmerge as sm
from soupmerge.binding import set_size
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.ensembles import Ensemble
from soupmerge.soups.comparing import compare, judged, pairs
from soupmerge.soups.entries import EnsembleEntry, Entry
from soupmerge.sources.resizing import Resized, resize
from tests.shared import Stop, files_of, near, stop_at

Typed = Callable[..., Any]
THREAT = ["--threat", "linf:0.1", "--steps", 3]
FEW = ["--data", "digits", "--limit", 20]
VIT = (
    "timm:vit_tiny_patch16_224?img_size=8&patch_size=2&embed_dim=16&depth=1&num_heads=2"
    "&in_chans=1&num_classes=10&mean=0.5&std=0.5"
)
RESNET = "resnet9?width=4&in_channels=1"


def networks(k: int) -> list[nn.Module]:
    return [sm.model(RESNET, seed=seed).requires_grad_(False) for seed in range(k)]


def images() -> torch.Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def few(seed: int = 0) -> sm.Benchmark:
    attacks = [sm.APGD(sm.Linf(0.1), steps=3)]
    return sm.Benchmark(sm.data("digits", limit=20), attacks, seed=seed, batch_size=8)


@pytest.fixture
def entries(trained: list[Path]) -> tuple[Entry, ...]:
    return tuple(Entry(pot, sm.model(like=pot)) for pot in sm.load(*trained))


@pytest.fixture
def shifted(tmp_path: Path) -> str:
    """Digits of less contrast, as a data set of its own."""
    some = sm.data("digits", split="val", limit=30)
    np.savez(tmp_path / "shifted.npz", x=some.pixels.numpy() * 0.6, y=some.labels.numpy())
    return f"npz:{tmp_path}/shifted.npz"


# ---- ensembles


def test_an_ensemble_of_one_is_the_network() -> None:
    net, x = networks(1)[0], images()
    assert torch.equal(Ensemble([net], "logit")(x), net(x))
    torch.testing.assert_close(Ensemble([net], "prob")(x).exp(), net(x).softmax(1))
    alone = few()(net)
    assert all(few()(Ensemble([net], average)) == alone for average in ("prob", "logit"))


@pytest.mark.parametrize("average", ["prob", "logit"])
def test_an_ensemble_of_copies_has_the_network_s_probabilities(average: str) -> None:
    net, x = networks(1)[0], images()
    probabilities = Ensemble([net, net, net], average)(x).softmax(1)
    torch.testing.assert_close(probabilities, net(x).softmax(1))


def test_what_is_averaged() -> None:
    nets, x = networks(3), images()
    logits = torch.stack([net(x).double() for net in nets])
    mean = logits.softmax(-1).mean(0).log().float()
    torch.testing.assert_close(Ensemble(nets, "prob")(x), mean)
    torch.testing.assert_close(Ensemble(nets, "logit")(x), logits.mean(0).float())


def test_sure_members_leave_log_probabilities_finite() -> None:
    def sure(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1e4, -1e4, 0.0]]).expand(len(x), 3)

    class Sure(nn.Module):
        forward = staticmethod(sure)

    assert Ensemble([Sure().eval(), Sure().eval()], "prob")(images()).isfinite().all()


@pytest.mark.parametrize("average", ["prob", "logit"])
def test_the_gradient_goes_through_all_members(average: str) -> None:
    nets, x = networks(3), images().requires_grad_()
    for net in nets:
        net.requires_grad_(True)
    together = Ensemble(nets, average)
    nn.functional.cross_entropy(together(x), torch.zeros(5, dtype=torch.long)).backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())
    for net in nets:
        assert all(p.grad is not None for p in net.parameters())
        assert any(bool((p.grad != 0).any()) for p in net.parameters() if p.grad is not None)
    assert {f"members.{k}" for k in range(3)} <= {name for name, _ in together.named_modules()}


def test_an_ensemble_leaves_its_members_modes_alone() -> None:
    nets = networks(2)
    assert not any(module.training for module in Ensemble(nets, "prob").modules())
    nets[1].train()
    together = Ensemble(nets, "prob")
    assert nets[1].training
    with pytest.raises(InputError, match=r"members.1 is in training mode"):
        few()(together)


def test_ensembles_that_cannot_be() -> None:
    nets = [sm.model(f"{RESNET}&num_classes={c}") for c in (10, 7)]
    with pytest.raises(UsageError, match="members have 10, 7 classes"):
        few()(Ensemble(nets, "prob"))
    with pytest.raises(UsageError, match="no average 'probs'; did you mean 'prob'"):
        Ensemble(nets, "probs")
    with pytest.raises(UsageError, match="has no members"):
        Ensemble([], "prob")


def test_eval_of_an_ensemble(soupmerge: Typed, trained: list[Path], tmp_path: Path) -> None:
    words = ["eval", *trained, *FEW, *THREAT, "-q", "-o", tmp_path / "run", "--ensemble"]
    result = soupmerge(*words, "prob")
    assert result.status == 0
    header, row, caption = result.out.splitlines()
    assert "forward passes" in header
    assert row.startswith("prob ensemble of linf, l2, clean  ×3")
    told = json.loads(soupmerge(*words, "prob", "--json").out)
    assert told["forward_passes"] == 3
    assert told["members"] == [str(path) for path in trained]
    assert told["metrics"]["linf:0.1"]["n"] == 20
    assert told["cost"]["forward_evaluations"] == 0  # all of it was done before
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    hashes = [pot.sha256 for pot in sm.load(*trained)]
    assert [m["sha256"] for m in manifest["inputs"][0]["members"]] == hashes
    other = soupmerge(*words, "logit")
    assert other.status == 2
    assert "inputs[0].average was 'prob', now 'logit'" in other.err
    fewer = soupmerge("eval", *trained[:2], *words[4:], "prob")
    assert fewer.status == 2
    assert "holds a run with other settings" in fewer.err


def test_an_ensemble_is_judged_like_any_network(entries: tuple[Entry, ...]) -> None:
    together = EnsembleEntry(entries, "logit")
    report = judged(together, few())
    assert report == few()(Ensemble([entry.bound() for entry in entries], "logit"))
    assert report.cost["gradient_evaluations"] > 0


# ---- resolutions


def test_the_native_resolution_changes_nothing(entries: tuple[Entry, ...]) -> None:
    benchmark, entry = few(), entries[0]
    same = replace(benchmark, data=Resized(benchmark.data, 8))
    for one in (entry, Entry(entry.checkpoint, entry.net)):
        plain, resized = judged(one, benchmark), judged(one, same)
        assert plain.to_record() == resized.to_record()
    vit = sm.model(VIT)
    bound = sm.bind(vit, vit.state_dict())
    set_size(bound, (8, 8))
    assert torch.equal(bound(images()), vit(images()))


def test_resizing_is_pillow_s_bicubic() -> None:
    y, x = np.mgrid[0:24, 0:36] / 36
    picture = (255 * (0.5 + 0.4 * np.sin(5 * x) * np.cos(4 * y))).astype(np.uint8)
    for side in (12, 24, 40):
        theirs = Image.fromarray(picture).resize((side * 36 // 24, side), Image.Resampling.BICUBIC)
        ours = resize(torch.from_numpy(picture)[None, None] / 255, side)
        assert ours.shape[-2:] == (side, side * 36 // 24)
        assert float((ours[0, 0] * 255 - torch.from_numpy(np.array(theirs))).abs().max()) <= 1.01


def test_a_resized_image_depends_on_no_other_and_stays_in_its_box() -> None:
    data = Resized(sm.data("digits"), 13)
    x, y = data.batch(torch.arange(9))
    assert x.shape == (9, 1, 13, 13)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    assert torch.equal(x[4:5], data.batch(torch.tensor([4]))[0])
    assert torch.equal(y, data.labels[:9])
    assert data.fingerprint()["resolution"] == 13
    assert data.fingerprint() != Resized(sm.data("digits"), 14).fingerprint()


class Seen:
    """An attack that does nothing, and notes the shape of what it was given."""

    threat = sm.Linf(0.1)
    shapes: list[tuple[int, ...]]

    def __init__(self) -> None:
        self.shapes = []

    def describe(self) -> dict[str, Any]:
        return {"attack": "none", "steps": 0}

    def __call__(self, classifier: Any, x: torch.Tensor, y: Any, *, generator: Any) -> Any:
        self.shapes.append(tuple(x.shape[1:]))
        return x


def test_the_attack_works_at_the_resolution(entries: tuple[Entry, ...]) -> None:
    seen = Seen()
    data = Resized(sm.data("digits", limit=20), 12)
    judged(entries[0], sm.Benchmark(data, [seen]))
    assert set(seen.shapes) == {(1, 12, 12)}


def test_position_embeddings_are_timm_s_interpolation_of_the_checkpoint_s() -> None:
    from timm.layers import resample_abs_pos_embed

    vit = sm.model(VIT)
    state = near(vit, seed=1, scale=1.0)
    bound = sm.bind(vit, state)
    set_size(bound, (12, 16))
    expected = resample_abs_pos_embed(state["pos_embed"], [6, 8], [4, 4])
    torch.testing.assert_close(bound.pos_embed, expected)
    assert not any(p.requires_grad for p in bound.parameters())
    assert all(torch.equal(t, state[n]) for n, t in bound.state_dict().items() if n != "pos_embed")
    assert len(bound._forward_pre_hooks) == 1  # the normaliser
    assert bound(torch.rand(1, 1, 12, 16)).shape == (1, 10)
    assert vit.pos_embed.shape[1] == 17


def test_a_network_in_a_wrapper_is_set_too() -> None:
    wrapped = nn.Sequential(nn.Identity(), sm.model(VIT))
    set_size(wrapped, (12, 12))
    assert wrapped(torch.rand(1, 1, 12, 12)).shape == (1, 10)


class Renewed(nn.Module):
    """As timm's windowed networks: what is set to a size is a new parameter."""

    def set_input_size(self, img_size: tuple[int, int]) -> None:
        self.table = nn.Parameter(torch.zeros(img_size))


def test_what_is_interpolated_takes_no_gradient_either() -> None:
    net = nn.Sequential(Renewed(), Renewed()).eval().requires_grad_(False)
    set_size(net, (3, 4))
    assert [(tuple(p.shape), p.requires_grad) for p in net.parameters()] == [((3, 4), False)] * 2


def saved(ref: str, path: Path, seed: int = 0) -> Path:
    sm.save(path, sm.model(ref, seed=seed).state_dict(), model=ref)
    return path


def test_eval_at_several_resolutions(soupmerge: Typed, tmp_path: Path) -> None:
    vit, run = saved(VIT, tmp_path / "vit.safetensors"), tmp_path / "run"
    words = [
        "eval",
        vit,
        "--model",
        VIT,
        *FEW,
        *THREAT,
        "-q",
        "--no-doubts",
        "--resolution",
        "8, 12",
    ]
    result = soupmerge(*words, "-o", run)
    assert result.status == 0
    header, small, large, caption = result.out.splitlines()
    assert header.split()[:2] == ["network", "resolution"]
    assert small.split()[1] == "8"
    assert large.split()[1] == "12"
    assert "resized before the attack (bicubic, antialiased)" in caption
    told = json.loads(soupmerge(*words, "--json").out)["reports"]
    assert [r["data"]["resolution"] for r in told] == [8, 12]
    with open(run / "flags.csv") as file:
        assert {row["resolution"] for row in csv.DictReader(file)} == {"8", "12"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert [b["data"]["resolution"] for b in manifest["benchmarks"]] == [8, 12]
    plain = soupmerge("eval", vit, "--model", VIT, *FEW, *THREAT, "-q", "--json")
    assert json.loads(plain.out)["metrics"] == told[0]["metrics"]


def test_convolutional_networks_see_other_images_and_change_in_nothing_else(
    soupmerge: Typed, tmp_path: Path
) -> None:
    net = saved(RESNET, tmp_path / "a.safetensors")
    result = soupmerge("eval", net, *FEW, *THREAT, "--json", "--resolution", "16")
    told = json.loads(result.out)
    data = sm.data("digits", limit=20)
    x, y = data.batch(torch.arange(20))
    right = sm.model(RESNET)(resize(x, 16)).argmax(1) == y
    assert told["metrics"]["clean"]["correct"] == int(right.sum())


def of_one_size() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_a_network_of_one_size_is_refused_before_any_is_judged(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    ref = "tests.soups.test_evaluating:of_one_size"
    saved(ref, tmp_path / "a.safetensors")
    words = ["eval", tmp_path / "a.safetensors", "--model", ref, *FEW, "-o", tmp_path / "run"]
    result = soupmerge(*words, "--resolution", "8,16")
    assert result.status == 3
    assert "a.safetensors: cannot take images of shape (1, 16, 16)" in result.err
    assert "set_input_size" in result.err
    assert not (tmp_path / "run" / "trials.jsonl").exists()


def test_a_network_that_refuses_a_size_says_why() -> None:
    with pytest.raises(InputError, match=r"nets/a: cannot be set to images of 1×1: .*resolution"):
        set_size(sm.model(VIT), (1, 1), where="nets/a")


# ---- several data sets


def test_eval_on_several_data_sets(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, shifted: str
) -> None:
    both = ["--data", "digits", "--data", shifted, "--limit", 20]
    words = ["eval", *trained[:2], *both, *THREAT, "-q", "-o", tmp_path / "run"]
    result = soupmerge(*words)
    assert result.status == 0
    header, *rows, caption = result.out.splitlines()
    assert header.split()[:3] == ["network", "data", "n"]
    cells = [row.split()[:3] for row in rows]
    assert cells == [[name, data, "20"] for data in ("digits", shifted) for name in NAMES]
    assert f"20 images of digits (test, 20 of it), 20 images of {shifted}" in caption
    told = json.loads(soupmerge(*words, "--json").out)["reports"]
    assert [r["data"]["ref"] for r in told] == ["digits", shifted] * 2
    assert all(r["metrics"]["clean"]["n"] == 20 for r in told)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [b["data"]["ref"] for b in manifest["benchmarks"]] == ["digits", shifted]
    with open(tmp_path / "run" / "flags.csv") as file:
        flags = list(csv.DictReader(file))
    assert len(flags) == 80
    for report in told:
        mine = [f for f in flags if f["model"] == report["model"]]
        right = [f["linf:0.1"] for f in mine if f["data"] == report["data"]["ref"]]
        assert right.count("1") == report["metrics"]["linf:0.1"]["correct"]
    alone = soupmerge("eval", trained[0], "--data", shifted, "--limit", 20, *THREAT, "--json", "-q")
    assert json.loads(alone.out)["metrics"] == told[1]["metrics"]


NAMES = ["linf.safetensors", "l2.safetensors"]


def test_a_comparison_killed_after_the_first_of_two_data_sets_repeats_nothing(
    entries: tuple[Entry, ...], shifted: str, tmp_path: Path
) -> None:
    both = [few(), replace(few(), data=sm.data(shifted, limit=10))]
    two = [entries[0], EnsembleEntry(entries[:2], "prob")]
    whole = compare(two, both, out=tmp_path / "whole")
    assert [r.n for r in whole] == [20, 10, 20, 10]
    assert [(e.ref, b.data.ref) for e, b in pairs(two, both)][1] == (two[0].ref, shifted)
    with pytest.raises(Stop):
        compare(two, both, out=tmp_path / "cut", progress=stop_at(2, "networks"))
    seen: list[tuple[int, str]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        if what == "networks":
            seen.append((done, f"of {total}"))

    assert compare(two, both, out=tmp_path / "cut", progress=progress) == whole
    assert seen == [(1, "of 4"), (2, "of 4"), (3, "of 4"), (4, "of 4")]
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert compare(two, both, out=tmp_path / "cut", progress=stop_at(1, "clean")) == whole


def test_records_of_other_data_are_not_believed(
    entries: tuple[Entry, ...], shifted: str, tmp_path: Path
) -> None:
    both = [few(), replace(few(), data=sm.data(shifted, limit=20))]
    compare(entries[:1], both, out=tmp_path / "run")
    journal = tmp_path / "run" / "trials.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(reversed(lines)))
    with pytest.raises(InputError, match="another network or data set; start over"):
        compare(entries[:1], both, out=tmp_path / "run")


def test_data_that_a_network_cannot_take_are_found_before_any_are_judged(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3, 8, 8)), y=np.arange(4))
    both = ["--data", "digits", "--data", f"npz:{tmp_path}/x.npz"]
    result = soupmerge("eval", trained[0], *both, "-o", tmp_path / "run")
    assert result.status == 3
    assert "linf.safetensors: cannot take images of shape (3, 8, 8)" in result.err
    assert not (tmp_path / "run" / "trials.jsonl").exists()


def test_resolutions_and_data_sets_and_an_ensemble_at_once(
    soupmerge: Typed, trained: list[Path], shifted: str
) -> None:
    words = ["eval", *trained, "--data", "digits", "--data", shifted, "--limit", 10]
    words += ["--resolution", "8,10", "--ensemble", "logit"]
    plan = soupmerge(*words, "--dry-run").out.splitlines()
    assert plan[0].split() == ["network", "data", "resolution", "images", "threats"]
    result = soupmerge(*words)
    assert result.status == 0
    rows = [line.split("  ") for line in result.out.splitlines()[1:-1]]
    assert [row[0] for row in rows] == ["logit ensemble of linf, l2, clean"] * 4
    told = json.loads(soupmerge(*words, "--json").out)["reports"]
    places = [(r["data"]["ref"], r["data"]["resolution"]) for r in told]
    assert places == [("digits", 8), ("digits", 10), (shifted, 8), (shifted, 10)]


EVAL = "eval {good} --data digits --limit 9 "
WRONG = [
    (EVAL + "--ensemble prob", "--ensemble: one network is no ensemble; name another REF"),
    (EVAL + "{good2} --ensemble mean", "'mean' is not one of 'prob', 'logit'"),
    ("eval {good} {seven} --data digits --ensemble prob", "its members have 10, 7 classes; choose"),
    (EVAL + "--resolution 0", "0 is not in 1…4096; give pixels"),
    (EVAL + "--resolution 8,big", "--resolution: 'big' is not a number of pixels; give"),
    (EVAL + "--resolution 8,", "'' is not a number of pixels"),
    (EVAL + "--resolution -8", "'-8' is not a number of pixels"),
    (EVAL + "--resolution 1000000", "is not in 1…4096"),
    (EVAL + "--resolution " + "9" * 5000, "is not a number of pixels"),
    (EVAL + "--resolution 8,16,8", "digits at resolution 8 is given more than once; give each"),
    (EVAL + "--data digits", "digits is given more than once; give each once"),
    ("eval {good}", "Missing option '--data'"),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[words[:30] for _, words in WRONG])
def test_options_that_cannot_be_meant(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, line: str, words: str
) -> None:
    seven = saved("digits-cnn?num_classes=7", tmp_path / "seven.safetensors")
    given = {"good": trained[0], "good2": trained[1], "seven": seven}
    result = soupmerge(*(word.format(**given) for word in line.split()))
    assert result.status == 2
    assert result.out == ""
    assert words in result.err
