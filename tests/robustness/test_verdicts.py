"""What an evaluation keeps and says: verdicts on single images, doubts, precision, order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import soupmerge as sm
from soupmerge.robustness.judging import Meter
from soupmerge.soups.verdicts import Verdicts
from tests.shared import files_of

Typed = Callable[..., Any]


def test_a_killed_evaluation_goes_on_where_it_was(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["eval", *trained[:2], "--data", "digits", "--limit", 60, "--batch-size", 16]
    line += [
        "--threat",
        "linf:0.12",
        "--threat",
        "l2:0.8",
        "--steps",
        10,
        "--attack",
        "apgd-ce+t",
        "--no-doubts",
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    add, calls, most = Verdicts.add, [], 1 << 30

    def breaks(self: Verdicts, key: str, found: dict[int, bool]) -> None:
        add(self, key, found)
        calls.append(key)
        if len(calls) == most:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Verdicts, "add", breaks)
        assert soupmerge(*line, "-o", whole).status == 0
        most = len(calls) * 3 // 4
        calls.clear()
        assert soupmerge(*line, "-o", cut).status == 130
    kept = (cut / "verdicts.jsonl").read_text().count("\n")
    assert 0 < kept <= most
    asked: list[int] = []
    call = Meter.__call__

    def counts(self: Meter, x: Tensor) -> Tensor:
        asked.append(len(x) if x.requires_grad else 0)
        return call(self, x)

    monkeypatch.setattr(Meter, "__call__", counts)
    assert soupmerge(*line, "-o", cut).status == 0
    assert files_of(cut) == files_of(whole)
    assert not (cut / "verdicts.jsonl").exists()
    again = sum(asked)
    assert soupmerge(*line, "-o", tmp_path / "third").status == 0
    assert again < (sum(asked) - again) * 0.8


def softmaxed(trained: list[Path], tmp_path: Path) -> tuple[Path, str]:
    """Return a checkpoint and a network that gives probabilities for logits."""
    home = tmp_path / "mine"
    home.mkdir()
    code = """
import torch, soupmerge as sm


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = sm.model("MODEL")

    def forward(self, x):
        return self.net(x).softmax(1)
"""
    ref = sm.load(trained[0])[0].model
    (home / "probable.py").write_text(code.replace("MODEL", str(ref)))
    state = {f"net.{name}": tensor for name, tensor in sm.load(trained[0])[0].items()}
    sm.save(home / "probable.safetensors", state)
    return home / "probable.safetensors", "probable:Net"


def test_doubts_are_printed_and_strict_makes_them_a_status(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, net = softmaxed(trained, tmp_path)
    monkeypatch.syspath_prepend(file.parent)
    line = ["eval", file, "--model", net, "--data", "digits", "--limit", 40]
    line += ["--threat", "linf:0.1", "--steps", 20, "-q"]
    told = soupmerge(*line)
    assert told.status == 0
    assert "probabilities" in told.out
    assert "docs/flags.md#probabilities" in told.out
    assert soupmerge(*line, "--strict").status == 1
    value = json.loads(soupmerge(*line, "--json").out)
    assert "probabilities" in [doubt["name"] for doubt in value["doubts"]]
    assert "doubt:" not in soupmerge(*line, "--no-doubts").out
    assert soupmerge(*line, "--no-doubts", "--strict").status == 2


def test_a_plain_network_passes_strict(soupmerge: Typed, trained: list[Path]) -> None:
    line = ["eval", trained[0], "--data", "digits", "--limit", 60, "--threat", "linf:0.1"]
    told = soupmerge(*line, "--strict", "-q")
    assert told.status == 0, told.out
    assert "doubt:" not in told.out


def test_what_bf16_and_only_union_mean_is_said(soupmerge: Typed, trained: list[Path]) -> None:
    line = ["eval", trained[0], "--data", "digits", "--limit", 60, "--steps", 10, "-q"]
    line += ["--threat", "linf:0.1", "--threat", "l2:0.5", "--no-doubts"]
    half = soupmerge(*line, "--attack-precision", "bf16").out
    assert "fell when attacked in float32" in " ".join(half.split())
    union = soupmerge(*line, "--only-union", "--batch-size", 20).out
    assert "threats in the order" in " ".join(union.split())
    assert "union" in union


def test_what_is_compiled_is_judged_alike(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile, asked = torch.compile, []

    def quickly(net: Any, **how: Any) -> Any:
        asked.append(how)
        return compile(net, backend="eager", **how)

    monkeypatch.setattr(torch, "compile", quickly)
    line = ["eval", trained[0], "--data", "digits", "--limit", 40, "--threat", "linf:0.1"]
    plain = soupmerge(*line, "--steps", 5, "-q", "-o", tmp_path / "plain")
    made = soupmerge(*line, "--steps", 5, "-q", "-o", tmp_path / "made", "--compile")
    assert asked == [{"dynamic": True}]
    assert made.status == 0, made.err
    assert made.out == plain.out
    assert soupmerge(*line, "--steps", 5, "-q", "-o", tmp_path / "made").status == 2
