"""``soupmerge learn`` as a user types it: several soups in one run, and what cannot be meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import soupmerge as sm


def test_recalibrated_at_the_end_as_mix_would(
    kitchen: tuple[nn.Module, sm.Ingredients],
    tmp_path: Path,
    soupmerge: Callable[..., Any],
) -> None:
    net, ingredients = kitchen
    refs = [ingredient.ref for ingredient in ingredients]
    words = ["--data", "digits", "--limit", 64]
    result = soupmerge(
        *("learn", *refs, *words, "--eps", "0.1", "--epochs", 1, "--augment", "none"),
        *("--batch-norm", "batch", "--recalibrate", "attacked", "-o", tmp_path / "run"),
    )
    assert result.status == 0, result.err
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["buffers"]["policy"] == "recalibrate"
    assert recipe["calibration"]["attack"]["steps"] == 2


def test_the_command_sweeps_radii_and_shares(
    trained: list[Path], tmp_path: Path, soupmerge: Callable[..., Any]
) -> None:
    common = ["learn", *trained[:2], "--data", "digits", "--limit", 64, "--epochs", 1, "--json"]
    judged = ["--judge-split", "test", "--judge-limit", 20, "--threat", "linf:0.1", "--steps", 2]
    run = tmp_path / "run"
    result = soupmerge(*common, *judged, "--eps", "0,0.1", "--trades", "0,0.5", "-o", run)
    assert result.status == 0, result.err
    parsed = json.loads(result.out)
    names = ["linf-0-trades-0", "linf-0-trades-0.5", "linf-0.1-trades-0", "linf-0.1-trades-0.5"]
    assert [t["name"] for t in parsed["trials"]] == names
    assert set(parsed["baselines"]) == {"linf", "l2"}
    assert (run / "soups" / "linf-0.1-trades-0.5" / "soup.safetensors").exists()
    again = soupmerge(*common, *judged, "--eps", "0,0.1", "--trades", "0,0.5", "-o", run)
    assert json.loads(again.out) == parsed


WRONG = [
    ("--eps 0.1 --against linf:0.1", "give one of the two"),
    ("", "give one of the two"),
    ("--eps 0.1,0.1", "a value is repeated"),
    ("--eps 0.1,", "not a number"),
    ("--eps 0.1 --trades-kl 6 --mart 6", "give one of the two"),
    ("--eps 0.1 --trades 2", "not in [0, 1]"),
    ("--eps 0.1 --beside nowhere", "nothing is judged"),
    ("--eps 0.1 --judge-split test --threat linf:0.1 --beside nowhere", "no best soups"),
    ("--eps 0.1 --patience 2", "--patience: needs --stop-split"),
    ("--eps 0.1 --ingredients files --store bf16", "stay in their files"),
    ("--eps 0.1 --init only:3", "names none of the 2"),
    ("--eps 0,0.1 --recalibrate attacked", "needs one attack"),
    ("--eps 0.1 --stop-split train", "stopping split"),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_learning_that_cannot_be_meant(
    trained: list[Path], tmp_path: Path, soupmerge: Callable[..., Any], options: str, says: str
) -> None:
    words = ["learn", *trained[:2], "--data", "digits", "--limit", 64, "--epochs", 1]
    result = soupmerge(*words, *options.split(), "-o", tmp_path / "run")
    assert result.status == 2
    assert says in result.err
    assert "Traceback" not in result.err
