"""What ``soupmerge eval`` keeps and says: verdicts on single images, doubts, precision, order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.robustness.meter import Meter
from soupmerge.soups.judge.verdicts import Verdicts
from tests.robustness import cases
from tests.shared import files_of

Typed = Callable[..., Any]


@pytest.fixture
def line(tmp_path: Path) -> list[Any]:
    return saved(tmp_path, "digits_network")


def saved(home: Path, maker: str, limit: int = 48) -> list[Any]:
    file = home / f"{maker}.safetensors"
    sm.save(file, getattr(cases, maker)().state_dict())
    return ["eval", file, "--model", f"{cases.__name__}:{maker}", "--data", "digits"] + [
        "--limit",
        limit,
        "-q",
    ]


def test_a_killed_evaluation_goes_on_where_it_was(
    soupmerge: Typed, line: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line += ["--batch-size", 16, "--steps", 5, "--attack", "apgd-ce+t", "--no-doubts"]
    line += ["--threat", "linf:0.05", "--threat", "l2:0.3"]
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


def test_doubts_are_printed_and_strict_makes_them_a_status(
    soupmerge: Typed, tmp_path: Path
) -> None:
    line = [*saved(tmp_path, "probable_digits"), "--threat", "linf:0.05", "--steps", 20]
    output = soupmerge(*line)
    assert output.status == 0
    assert "docs/flags.md#probabilities" in output.out
    assert soupmerge(*line, "--strict").status == 1
    value = json.loads(soupmerge(*line, "--json").out)
    assert "probabilities" in [doubt["name"] for doubt in value["doubts"]]
    assert "doubt:" not in soupmerge(*line, "--no-doubts").out
    assert soupmerge(*line, "--no-doubts", "--strict").status == 2


def test_a_plain_network_passes_strict(soupmerge: Typed, line: list[Any]) -> None:
    output = soupmerge(*line, "--threat", "linf:0.05", "--steps", 20, "--strict")
    assert output.status == 0, output.out
    assert "doubt:" not in output.out


def test_what_bf16_and_only_union_mean_is_said(soupmerge: Typed, line: list[Any]) -> None:
    line += ["--steps", 5, "--threat", "linf:0.05", "--threat", "l2:0.3", "--no-doubts"]
    half = soupmerge(*line, "--attack-precision", "bf16").out
    assert "fell in float32" in " ".join(half.split())
    union = soupmerge(*line, "--only-union", "--batch-size", 20).out
    assert "threats in the order" in " ".join(union.split())
    assert "union" in union


def test_what_is_compiled_is_judged_alike_and_apart(
    soupmerge: Typed, line: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling takes longer than judging here, so the network stands for what it gives."""
    asked: list[Any] = []

    def at_once(net: nn.Module, **settings: Any) -> nn.Module:
        asked.append(settings)
        return nn.Sequential(net).eval()

    monkeypatch.setattr(torch, "compile", at_once)
    line += ["--threat", "linf:0.05", "--steps", 5, "--no-doubts"]
    plain = soupmerge(*line, "-o", tmp_path / "plain")
    made = soupmerge(*line, "-o", tmp_path / "made", "--compile")
    assert asked == [{"dynamic": True}]
    assert made.status == 0, made.err
    assert made.out == plain.out
    assert soupmerge(*line, "-o", tmp_path / "made").status == 2
