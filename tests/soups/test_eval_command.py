"""``soupmerge eval`` as a user types it: ensembles, several data sets, what cannot be meant."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soupmerge as sm

Typed = Callable[..., Any]
THREAT = ["--threat", "linf:0.1", "--steps", 3]
FEW = ["--data", "digits", "--limit", 20]
NAMES = ["linf.safetensors", "l2.safetensors"]


@pytest.fixture
def shifted(tmp_path: Path) -> str:
    """Digits of less contrast, as a data set of its own."""
    some = sm.data("digits", split="val", limit=30)
    np.savez(tmp_path / "shifted.npz", x=some.pixels.numpy() * 0.6, y=some.labels.numpy())
    return f"npz:{tmp_path}/shifted.npz"


def test_eval_of_an_ensemble(soupmerge: Typed, trained: list[Path], tmp_path: Path) -> None:
    words = ["eval", *trained, *FEW, *THREAT, "-q", "-o", tmp_path / "run", "--ensemble"]
    result = soupmerge(*words, "prob")
    assert result.status == 0
    header, row, caption = result.out.splitlines()
    assert "forward passes" in header
    assert row.startswith("prob ensemble of linf, l2, clean  ×3")
    parsed = json.loads(soupmerge(*words, "prob", "--json").out)
    assert parsed["forward_passes"] == 3
    assert parsed["members"] == [str(path) for path in trained]
    assert parsed["metrics"]["linf:0.1"]["n"] == 20
    assert parsed["cost"]["forward_evaluations"] == 0  # all of it was done before
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    hashes = [ingredient.sha256 for ingredient in sm.load(*trained)]
    assert [m["sha256"] for m in manifest["inputs"][0]["members"]] == hashes
    other = soupmerge(*words, "logit")
    assert other.status == 2
    assert "inputs[0].average was 'prob', now 'logit'" in other.err
    fewer = soupmerge("eval", *trained[:2], *words[4:], "prob")
    assert fewer.status == 2
    assert "holds a run with other settings" in fewer.err


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
    parsed = json.loads(soupmerge(*words, "--json").out)["reports"]
    assert [r["data"]["ref"] for r in parsed] == ["digits", shifted] * 2
    assert all(r["metrics"]["clean"]["n"] == 20 for r in parsed)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [b["data"]["ref"] for b in manifest["benchmarks"]] == ["digits", shifted]
    with open(tmp_path / "run" / "flags.csv") as file:
        flags = list(csv.DictReader(file))
    assert len(flags) == 80
    for report in parsed:
        mine = [f for f in flags if f["model"] == report["model"]]
        right = [f["linf:0.1"] for f in mine if f["data"] == report["data"]["ref"]]
        assert right.count("1") == report["metrics"]["linf:0.1"]["correct"]
    alone = soupmerge("eval", trained[0], "--data", shifted, "--limit", 20, *THREAT, "--json", "-q")
    assert json.loads(alone.out)["metrics"] == parsed[1]["metrics"]


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
    parsed = json.loads(soupmerge(*words, "--json").out)["reports"]
    places = [(r["data"]["ref"], r["data"]["resolution"]) for r in parsed]
    assert places == [("digits", 8), ("digits", 10), (shifted, 8), (shifted, 10)]


EVAL = "eval {good} --data digits --limit 9 "
WRONG = [
    (EVAL + "--ensemble prob", "--ensemble: needs several networks; give another REF"),
    (EVAL + "{good2} --ensemble mean", "'mean' is not one of 'prob', 'logit'"),
    ("eval {good} {seven} --data digits --ensemble prob", "its members have 10, 7 classes; choose"),
    (EVAL + "--resolution 0", "0 is not in 1…4096; give pixels"),
    (EVAL + "--resolution 8,big", "--resolution: 'big' is not a number of pixels; give"),
    (EVAL + "--resolution 8,", "'' is not a number of pixels"),
    (EVAL + "--resolution -8", "'-8' is not a number of pixels"),
    (EVAL + "--resolution 1000000", "is not in 1…4096"),
    (EVAL + "--resolution " + "9" * 5000, "is not a number of pixels"),
    (EVAL + "--resolution 8,16,8", "digits at resolution 8 is given more than once; give each"),
    (EVAL + "--data digits", "digits is given more than once; give each data set once"),
    ("eval {good}", "no data set is given"),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[words[:30] for _, words in WRONG])
def test_options_that_cannot_be_meant(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, line: str, words: str
) -> None:
    seven, ref = tmp_path / "seven.safetensors", "digits-cnn?num_classes=7"
    sm.save(seven, sm.model(ref).state_dict(), model=ref)
    given = {"good": trained[0], "good2": trained[1], "seven": seven}
    result = soupmerge(*(word.format(**given) for word in line.split()))
    assert result.status == 2
    assert result.out == ""
    assert words in result.err
