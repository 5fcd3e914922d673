"""Networks before images of another size than they were made for."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.binding import set_size
from soupmerge.errors import InputError
from soupmerge.soups.judge.comparison import report_on
from soupmerge.soups.judge.entries import Entry
from soupmerge.sources.images.resizing import Resized, resize
from tests.shared import near

Typed = Callable[..., Any]
THREAT = ["--threat", "linf:0.1", "--steps", 3]
FEW = ["--data", "digits", "--limit", 20]
VIT = (
    "timm:vit_tiny_patch16_224?img_size=8&patch_size=2&embed_dim=16&depth=1&num_heads=2"
    "&in_chans=1&num_classes=10&mean=0.5&std=0.5"
)
RESNET = "resnet9?width=4&in_channels=1"


def images() -> torch.Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def few(seed: int = 0) -> sm.Benchmark:
    attacks = [sm.APGD(sm.Linf(0.1), steps=3)]
    return sm.Benchmark(sm.data("digits", limit=20), attacks, seed=seed, batch_size=8)


@pytest.fixture
def entries(trained: list[Path]) -> tuple[Entry, ...]:
    return tuple(Entry(ingredient, sm.model(like=ingredient)) for ingredient in sm.load(*trained))


def test_the_native_resolution_changes_nothing(entries: tuple[Entry, ...]) -> None:
    benchmark, entry = few(), entries[0]
    same = replace(benchmark, data=Resized(benchmark.data, 8))
    for one in (entry, Entry(entry.checkpoint, entry.net)):
        plain, resized = report_on(one, benchmark), report_on(one, same)
        assert plain.to_record() == resized.to_record()
    vit = sm.model(VIT)
    bound = sm.bind(vit, vit.state_dict())
    set_size(bound, (8, 8))
    assert torch.equal(bound(images()), vit(images()))


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
    report_on(entries[0], sm.Benchmark(data, [seen]))
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
    parsed = json.loads(soupmerge(*words, "--json").out)["reports"]
    assert [r["data"]["resolution"] for r in parsed] == [8, 12]
    with open(run / "flags.csv") as file:
        assert {row["resolution"] for row in csv.DictReader(file)} == {"8", "12"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert [b["data"]["resolution"] for b in manifest["benchmarks"]] == [8, 12]
    plain = soupmerge("eval", vit, "--model", VIT, *FEW, *THREAT, "-q", "--json")
    assert json.loads(plain.out)["metrics"] == parsed[0]["metrics"]


def test_convolutional_networks_see_other_images_and_change_in_nothing_else(
    soupmerge: Typed, tmp_path: Path
) -> None:
    net = saved(RESNET, tmp_path / "a.safetensors")
    result = soupmerge("eval", net, *FEW, *THREAT, "--json", "--resolution", "16")
    parsed = json.loads(result.out)
    data = sm.data("digits", limit=20)
    x, y = data.batch(torch.arange(20))
    right = sm.model(RESNET)(resize(x, 16)).argmax(1) == y
    assert parsed["metrics"]["clean"]["correct"] == int(right.sum())


def of_one_size() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_a_network_of_one_size_is_refused_before_any_is_judged(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    ref = "tests.soups.test_resolutions:of_one_size"
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
