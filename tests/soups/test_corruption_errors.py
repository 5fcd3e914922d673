"""Errors on corruptions: arithmetic on paper, published figures, and the command's table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import soupmerge as sm
from soupmerge.choices import IMAGENET_C, STRENGTHS
from soupmerge.soups.judge.corruption_errors import ALEXNET
from tests.shared import near

Typed = Callable[..., Any]


def report(ref: str, right: int, n: int = 10, **data: Any) -> sm.Report:
    flags = {"clean": torch.arange(n) < right}
    return sm.Report({"ref": ref, **data}, flags, {})


def errors_of(by_kind: Mapping[str, float], data: str) -> sm.CorruptionErrors:
    errors = {kind: dict.fromkeys(STRENGTHS, error) for kind, error in by_kind.items()}
    return sm.CorruptionErrors("net", data, None, errors)


PUBLISHED = {
    76.38: "0.6854 0.7090 0.7401 0.6110 0.7323 0.6187 0.6368 0.6785 0.6268 0.5450 0.3216 0.6090 "
    "0.5504 0.5514 0.4616",
    64.17: "0.5520 0.5438 0.5630 0.5194 0.6487 0.4636 0.5046 0.6051 0.5756 0.5284 0.3082 0.4869 "
    "0.4794 0.4245 0.3976",
}
"""RobustBench's mCE of torchvision's ResNet-50 and of AugMix's, and their errors by kind."""


@pytest.mark.parametrize("mce", PUBLISHED)
def test_mce_is_the_published_one(mce: float) -> None:
    by_kind = dict(zip(IMAGENET_C, map(float, PUBLISHED[mce].split()), strict=True))
    found = errors_of(by_kind, "imagenet-c").mce
    assert found is not None
    assert 100 * found == pytest.approx(mce, abs=0.05)


def test_alexnet_is_the_unit_on_imagenet_and_nowhere_else() -> None:
    assert errors_of(ALEXNET, "imagenet-c:folder").mce == pytest.approx(1)
    plain = errors_of(ALEXNET, "cifar10-c")
    assert plain.mce == pytest.approx(np.mean(list(ALEXNET.values())))
    assert plain.mce == pytest.approx(1 - plain.mean_accuracy)
    assert (plain.normalised, errors_of(ALEXNET, "imagenet").normalised) == (False, True)


def test_kinds_count_alike_and_validation_kinds_not_in_mce() -> None:
    by_kind = dict.fromkeys(IMAGENET_C, 0.2) | {"saturate": 1.0}
    found = errors_of(by_kind, "digits")
    assert found.mce == pytest.approx(0.2)
    assert found.mean_accuracy == pytest.approx(1 - (15 * 0.2 + 1) / 16)


def test_errors_are_told_apart_by_network_data_and_resolution() -> None:
    rows: Iterable[tuple[str, sm.Report]] = [
        ("a", report("fog-1:digits", 5)),
        ("a", report("fog-2:digits", 3)),
        ("a", report("snow-1:digits", 9)),
        ("b", report("fog-1:digits", 10)),
        ("b", report("snow-1:digits", 10)),
        ("a", report("fog-1:cifar10", 5)),  # alone
        ("a", report("digits", 5)),  # not corrupted
        ("a", report("fog-1:digits", 2, resolution=64)),
        ("a", report("fog-2:digits", 4, resolution=64)),
    ]
    names, reports = zip(*rows, strict=True)
    found = sm.corruption_errors(names, reports)
    assert [(e.network, e.data, e.resolution) for e in found] == [
        ("a", "digits", None),
        ("b", "digits", None),
        ("a", "digits", 64),
    ]
    assert found[0].by_kind == pytest.approx({"fog": 0.6, "snow": 0.1})
    assert found[0].mean_accuracy == pytest.approx(0.65)
    assert found[2].by_kind == pytest.approx({"fog": 0.7})
    assert (found[0].missing, found[0].mce) == (72, None)


def test_eval_of_all_corruptions(soupmerge: Typed, tmp_path: Path) -> None:
    model = "digits-cnn?width=2&in_channels=3"
    for seed, name in enumerate("ab"):
        sm.save(tmp_path / f"{name}.safetensors", near(sm.model(model), seed), model=model)
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", x=x, y=[0, 1, 2, 9])
    data = f"npz:{tmp_path}/few.npz"
    nets = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    words = ["eval", *nets, "--data", f"corruptions:{data}", "--data", data, "-q"]
    result = soupmerge(*words, "-o", tmp_path / "run")
    assert result.status == 0
    assert (
        f"4 images of {data} (test) under 75 corruptions, 4 images of {data} (test);" in result.out
    )
    lines = result.out.splitlines()
    start = lines.index(next(line for line in lines if line.startswith(f"corruptions of {data}")))
    table = [line.split() for line in lines[start + 1 : start + 18]]
    assert [row[0] for row in table] == [*IMAGENET_C, "mean", "mCE"]
    assert lines[start + 18].endswith(
        "mean error over the fifteen kinds, in percent, not normalised"
    )
    parsed = json.loads(soupmerge(*words, "-o", tmp_path / "run", "--json").out)
    reports = parsed["reports"]
    assert len(reports) == 2 * 76
    for i, (name, found) in enumerate(zip("ab", parsed["corruptions"], strict=True)):
        own = [r for r in reports if r["model"].endswith(f"{name}.safetensors")][:75]
        accuracies = [r["metrics"]["clean"]["accuracy"] for r in own]
        assert found["mean_accuracy"] == pytest.approx(np.mean(accuracies))
        assert found["mce"] == pytest.approx(1 - np.mean(accuracies))
        assert found["normalised_by"] is None
        assert table[-1][1 + i] == f"{100 * found['mce']:.1f}"
        assert table[-2][2 + i] == f"{found['mean_accuracy']:.1%}"


def test_eval_of_some_corruptions_says_what_mce_lacks(
    soupmerge: Typed, trained: list[Path]
) -> None:
    few = ["--data", "blur-1:digits", "--data", "blur-5:digits", "--limit", 20, "-q"]
    *_, header, blur, mean, note = soupmerge("eval", *trained[:2], *few).out.splitlines()
    assert header.split() == ["corruptions", "of", "digits", "linf.safetensors", "l2.safetensors"]
    assert blur.split()[0] == "blur"
    assert blur.split()[1:] == mean.split()[2:]
    assert note.endswith("no mCE: 75 of its 75 corruptions were not judged")


def test_one_corruption_has_no_table(soupmerge: Typed, trained: list[Path]) -> None:
    words = ["--data", "blur-1:digits", "--data", "digits", "--limit", 20, "-q"]
    assert "corruptions of" not in soupmerge("eval", trained[0], *words).out
    assert "corruptions" not in soupmerge("eval", trained[0], *words, "--json").out


def test_images_under_several_corruptions_are_noted_once(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (9, 9), 50).save(tmp_path / "photos" / name / "0.png")
    data = [
        f"--data={ref}:folder:{tmp_path}/photos?resize=8&channels=1" for ref in ("blur-1", "jpeg-1")
    ]
    said = soupmerge("eval", trained[0], *data).err
    assert said.count("preprocessing: resize=8") == 1
