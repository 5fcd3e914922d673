"""``soupmerge front`` as a user types it, and ``select --data`` on what it writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm
from soupmerge.storage import run_folder
from soupmerge.weights import ledger
from soupmerge.weights.recipe_files import read_front

Typed = Callable[..., Any]
ENDS = ("--objective", "clean", "--objective", "linf:0.1")
LEARN = (*ENDS, "--data", "digits", "--limit", 64, "--epochs", 1, "--augment", "none")
JUDGED = ("--judge-split", "test", "--judge-limit", 20, "--steps", 2, "--points", 3)


def test_a_front_is_planned_learned_judged_and_chosen_from(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    home, grid, few = tmp_path / "run", tmp_path / "grid", ("--data", "digits", "--steps", 2)
    refs = trained[:2]
    searched = soupmerge(
        *("grid", *refs, *few, "--limit", 20, "--split", "val", "--threat", "linf:0.1"),
        *("--step", 0.5, "-o", grid),
    )
    assert searched.status == 0, searched.err
    line = ("front", *refs, *LEARN, *JUDGED, "--beside", grid, "-o", home)
    planned = soupmerge(*line, "--dry-run")
    assert planned.status == 0, planned.err
    assert "2 ingredients, 64 images, 1 step: clean, linf:0.1" in planned.err
    assert not home.exists()
    usual = [word for word in line if word not in ("--epochs", 1)]
    assert "2 ingredients, 64 images, 600 steps: clean" in soupmerge(*usual, "--dry-run").err
    result = soupmerge(*line, "--json")
    assert result.status == 0, result.err
    parsed = json.loads(result.out)
    assert [trial["at"]["linf:0.1"] for trial in parsed["trials"]] == [0, 0.5, 1]
    assert set(parsed["trials"][0]["metrics"]) == {"clean", "linf:0.1", "union"}
    names = {"linf", "l2", "uniform"}
    beside = set(parsed["baselines"]) - names
    assert names <= set(parsed["baselines"])
    assert beside
    assert all(name.startswith("grid ") for name in beside)
    assert parsed["objectives"] == ["clean", "linf:0.1"]
    assert parsed["sha256"] == read_front(home).sha256
    assert parsed["hypervolume"]["metrics"] == ["clean", "linf:0.1"]
    assert set(parsed["hypervolume"]) == {"metrics", "reference", "ours", "theirs", "gap"}
    assert set(parsed["cost"]) == {"gradient_evaluations", "forward_evaluations", "seconds"}
    plain = soupmerge(*line)
    assert plain.status == 0, plain.err
    for text in ("at 0.5", "uniform", "hypervolume above the worst ingredient"):
        assert text in plain.out
    out = tmp_path / "soup.safetensors"
    choosing = (*few, "--split", "val", "--limit", 20, "--where", "clean>=0", "-o", out)
    chosen = soupmerge("select", home, *choosing, "--max", "linf:0.1", "--json")
    assert chosen.status == 0, chosen.err
    assert "20 images of digits (val) choose" in chosen.err
    soup = sm.load(out)[0]
    assert soup.notes_of_soupmerge["recipe"]["front"]["sha256"] == parsed["sha256"]
    entries = [(e["by"], e["purpose"], e["sha256"]) for e in ledger.ledger_of(soup)]
    taught, chose = (
        sm.data("digits", split="train", limit=64),
        sm.data("digits", split="val", limit=20),
    )
    assert ("front", ledger.TRAINED, taught.sha256) in entries
    assert ("front", ledger.CHOSEN, chose.sha256) in entries
    knee = soupmerge("select", home, *few, "--split", "val", "--limit", 20, "--knee", "--json")
    assert knee.status == 0, knee.err
    assert json.loads(knee.out)["tried"] >= json.loads(chosen.out)["tried"]


def test_images_that_made_what_they_judge_are_warned_of(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    """Ingredients are fine-tunes on all of train, and the grid chooses on val."""
    grid, refs = tmp_path / "grid", trained[:2]
    few = ("--data", "digits", "--limit", 20, "--step", 1, "-o", grid)
    assert soupmerge("grid", *refs, *few).status == 0

    def judged_on(split: str) -> str:
        line = ("front", *refs, *LEARN, "--beside", grid, "--steps", 1, "--points", 2)
        home = tmp_path / split.partition("[")[0]
        result = soupmerge(*line, "--judge-split", split, "--judge-limit", 20, "-o", home)
        assert result.status == 0, result.err
        return str(result.err)

    assert "look better" not in judged_on("test")
    for split, names, use in (
        ("train[100:]", [f"{path} was" for path in refs], "trained on digits, train (by finetune)"),
        ("val", ["grid 1 0 was", "grid 0 1 was"], "chosen on digits, val, 20 of it (by grid)"),
    ):
        said = judged_on(split)
        assert "images that judge have made networks, which look better on them" in said
        for name in names:
            assert any(name in line and use in line for line in said.splitlines()), said


def test_as_paper_sets_what_the_paper_says(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    for command, more in (("front", ENDS), ("learn", ("--eps", 0.1))):
        home = tmp_path / command
        words = ("--data", "digits", "--limit", 64, "--epochs", 2, "--augment", "none")
        result = soupmerge(command, *trained[:2], *more, *words, "--as-paper", "-o", home)
        assert result.status == 0, result.err
        expected = sm.Settings.paper(epochs=2).to_manifest()
        assert run_folder.read_manifest(home)["settings"] == expected


WRONG = [
    (f"{' '.join(ENDS)} --as-paper --lr 3", "--lr: --as-paper determines these"),
    (f"{' '.join(ENDS)} --as-paper --buffers base --init best", "--init, --buffers: --as-paper"),
    ("--objective clean", "--objective: give two or more, each once"),
    ("--objective clean --objective linf:0", "distinct objectives, not clean, clean"),
    ("--objective linf:0.1 --objective linf:0.1", "each once"),
    ("--objective clean --objective line:0.1", "linf"),
    (f"{' '.join(ENDS)} --beside grid", "--beside: nothing is judged"),
    (f"{' '.join(ENDS)} --threat linf:0.1", "--threat: nothing is judged"),
    (f"{' '.join(ENDS)} --preferences 0", "--preferences"),
    (f"{' '.join(ENDS)} --corners 1.5", "corners: 1.5 is not a probability"),
    (f"{' '.join(ENDS)} --judge-split train --judge-limit 9", "judge split: at least 9"),
    (f"{' '.join(ENDS)} --objective l2:0.5 --judge-split test --points 2", "--points: 2 points"),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_fronts_that_cannot_be_meant(
    trained: list[Path], tmp_path: Path, soupmerge: Typed, options: str, says: str
) -> None:
    words = ["front", *trained[:2], "--data", "digits", "--limit", 64, "--epochs", 1]
    result = soupmerge(*words, *options.split(), "-o", tmp_path / "run")
    assert result.status == 2
    assert says in result.err
    assert "Traceback" not in result.err


def test_select_refuses_data_where_nothing_can_be_searched(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    home, data = tmp_path / "grid", ("--data", "digits", "--limit", 10)
    assert soupmerge("grid", *trained[:2], *data, "--step", 1, "-o", home).status == 0
    for words, says in (
        ((home, *data), "--data: searches one front for the soup"),
        ((home, home, *data), "--data: searches one front"),
        ((home, "--threat", "linf:0.1"), "--threat: nothing is judged; give --data"),
    ):
        result = soupmerge("select", *words)
        assert (result.status, says in result.err) == (2, True), result.err


def test_select_warns_of_images_that_taught_the_front(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    home, data = tmp_path / "run", ("--data", "digits", "--limit", 10, "--steps", 1, "--split")
    assert soupmerge("front", *trained[:2], *LEARN, "-o", home).status == 0
    for split, warned in (("val", False), ("train", True)):
        chosen = soupmerge("select", home, *data, split)
        shutil.rmtree(home / "chosen")
        assert chosen.status == 0, chosen.err
        assert ("this front was trained on digits, train" in chosen.err) is warned
