"""Commands typed one after the other, as somebody at work does: what each leaves for the next."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm
from soupmerge.soups.geometry import basin
from tests.shared import files_of

Typed = Callable[..., Any]
JUDGE = ["--threat", "linf:0.1", "--threat", "l2:0.5", "--steps", 1]
FEW = ["--data", "digits", "--limit", 12]


def test_check_says_what_does_not_fit(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    assert soupmerge("check", *ingredients).status == 0
    sm.save(tmp_path / "other.safetensors", sm.model("digits-cnn?width=4").state_dict())
    said = soupmerge("check", ingredients[0], tmp_path / "other.safetensors")
    assert said.status == 1
    problems = json.loads(
        soupmerge("check", ingredients[0], tmp_path / "other.safetensors", "--json").out
    )
    assert (problems["compatible"], problems["basin"]["verdict"]) == (False, "unknown")
    assert len(problems["problems"]) == len(said.out.splitlines()) - 1 > 5
    assert all(problem in said.out for problem in problems["problems"])
    wrong = soupmerge("check", ingredients[0], "--model", "digits-cnn?width=4")
    assert wrong.status == 1
    assert "model has shape" in wrong.out


def test_check_names_numbers_that_are_none(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    state = {n: t.clone() for n, t in sm.load(ingredients[0])[0].items()}
    state["head.bias"][2] = float("nan")
    sm.save(tmp_path / "nan.safetensors", state)
    said = soupmerge("check", ingredients[0], tmp_path / "nan.safetensors")
    assert said.status == 1
    assert "head.bias: 1 of 10 numbers are NaN or Inf" in said.out


def test_barriers_are_kept_and_not_measured_twice(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["check", *ingredients, *FEW, "--points", 3, "-o", tmp_path / "run"]
    first = soupmerge(*line)
    assert first.status in (0, 1)
    monkeypatch.setattr(basin, "_measure", None)
    assert soupmerge(*line).out == first.out
    other = soupmerge(*line, "--tolerance", "0.5")
    assert other.status == 2
    assert "tolerance was 0.05, now 0.5" in other.err
    (tmp_path / "run" / "barriers.json").write_text("{}")
    damaged = soupmerge(*line)
    assert damaged.status == 3
    assert "barriers.json: holds no barriers" in damaged.err


def test_a_soup_is_mixed_again_from_its_recipe(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    assert soupmerge("mix", *ingredients, "-w", "1/2,0.25,.25", "-o", first).status == 0
    recipe = sm.load(first)[0].notes_of_soupmerge["recipe"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    again = ("mix", "--recipe", tmp_path / "recipe.json", "-o", second)
    assert "give a REF for each ingredient" in soupmerge(*again).err
    swapped = soupmerge(*again, ingredients[1], ingredients[0], ingredients[2])
    assert swapped.status == 3
    assert "expected" in swapped.err
    assert soupmerge(*again, *ingredients).status == 0
    assert first.read_bytes() == second.read_bytes()


def test_an_evaluation_keeps_a_flag_for_each_image_and_threat(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    said = soupmerge("eval", ingredients[0], *FEW, *JUDGE, "--json", "-o", tmp_path / "run", "-q")
    parsed = json.loads(said.out)
    assert set(parsed["metrics"]) == {"clean", "linf:0.1", "l2:0.5", "union"}
    robust = parsed["metrics"]["linf:0.1"]
    assert (robust["attack"], robust["steps"]) == ("apgd-ce", 1)
    assert robust["accuracy"] == robust["correct"] / robust["n"]
    assert set(parsed["cost"]) == {"gradient_evaluations", "forward_evaluations", "seconds"}
    with open(tmp_path / "run" / "flags.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == parsed["data"]["n"] == 12
    for metric in ("clean", "linf:0.1", "l2:0.5"):
        assert sum(int(row[metric]) for row in rows) == parsed["metrics"][metric]["correct"]


def test_a_grid_goes_on_where_it_was_and_can_be_selected_from(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    line = ["grid", *ingredients, *FEW, "--step", "0.5", *JUDGE, "-o", run, "--json"]
    first = soupmerge(*line)
    parsed = json.loads(first.out)
    assert set(parsed["baselines"]["ingredients"].values()) == {0, 3, 5}
    bests = {"clean.json", "linf-0.1.json", "l2-0.5.json", "union.json"}
    assert {f.name for f in (run / "best").iterdir()} == bests
    before = files_of(run)
    again = soupmerge(*line)
    resumed = json.loads(again.out)
    assert resumed.pop("cost") == dict.fromkeys(parsed.pop("cost"), 0)
    assert resumed == parsed
    assert f"resuming {run}: 6 soups already judged" in again.err
    assert "resuming" not in first.err
    assert files_of(run) == before
    picked = tmp_path / "picked.safetensors"
    assert soupmerge("select", run, "--max", "l2:0.5", "-o", picked).status == 0
    recipe = json.loads((run / "best" / "l2-0.5.json").read_text())
    written = sm.load(picked)[0].notes_of_soupmerge["recipe"]
    assert written["weights"] == recipe["weights"]


def test_a_network_that_is_trained_names_itself_in_its_file(
    soupmerge: Typed, tmp_path: Path
) -> None:
    short = [*FEW, "--split", "train", "--epochs", 1, "--augment", "none", "-q"]
    base, fine = tmp_path / "base.safetensors", tmp_path / "fine.safetensors"
    fresh = ["finetune", "--model", "digits-cnn?width=2", "--threat", "linf:0.1"]
    made = soupmerge(*fresh, *short, "-o", base)
    assert made.status == 0
    assert sm.load(base)[0].sha256 in made.out
    assert sm.load(base)[0].model == "digits-cnn?in_channels=1&num_classes=10&width=2"
    assert soupmerge("finetune", base, "--threat", "clean", *short, "-o", fine).status == 0
    assert soupmerge("eval", fine, *FEW).status == 0
    parsed = json.loads(soupmerge("inspect", base, "--json").out)
    assert parsed[0]["notes"]["training"]["objective"]["threat"] == "linf:0.1"
    assert soupmerge("finetune", base, "--threat", "clean", *short, "-o", fine).status == 0
    other = soupmerge("finetune", base, "--threat", "l2:1", *short, "-o", fine)
    assert other.status == 2
    assert "objective" in other.err


@pytest.mark.parametrize(("base", "lr"), [(True, 0.001), (False, 0.1)])
def test_a_base_is_trained_on_more_slowly_than_a_new_network(
    soupmerge: Typed,
    ingredients: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: bool,
    lr: float,
) -> None:
    caught: dict[str, Any] = {}

    def finetune(*args: Any, **settings: Any) -> None:
        caught.update(settings)
        raise sm.errors.UsageError("enough")

    monkeypatch.setattr(sm, "finetune", finetune)
    which = [ingredients[0]] if base else ["--model", "digits-cnn?width=2"]
    soupmerge("finetune", *which, "--threat", "clean", *FEW, "-o", tmp_path / "x.safetensors")
    assert caught["schedule"].lr == lr
    assert (caught["base"] is not None) == base


def test_a_new_network_has_the_classes_and_channels_of_the_data(
    soupmerge: Typed, tmp_path: Path
) -> None:
    line = ["finetune", "--threat", "clean", *FEW, "-o", tmp_path / "x.safetensors", "--dry-run"]
    for model, status in (("digits-cnn?width=2", 0), ("digits-cnn?width=2&num_classes=12", 0)):
        assert soupmerge(*line, "--model", model).status == status
    assert soupmerge(*line, "--model", "resnet9?width=2").status == 0


def test_what_is_converted_names_what_it_was(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    assert soupmerge("convert", ingredients[0], "-o", out).status == 0
    old, new = sm.load(ingredients[0])[0], sm.load(out)[0]
    assert new.notes_of_soupmerge["converted"] == {"ref": "a.safetensors", "sha256": old.sha256}
    assert new.model == old.model
    assert all((new[name] == old[name]).all() for name in old)


def test_a_soup_is_exported_with_the_evaluation_that_is_named(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path
) -> None:
    assert soupmerge("eval", ingredients[0], *FEW, "-o", tmp_path / "run").status == 0
    line = ["export", ingredients[0], "-o", tmp_path / "folder", "--judged", tmp_path / "run"]
    assert soupmerge(*line).status == 0
    assert (tmp_path / "folder" / "evaluation.json").exists()
    plan = soupmerge("push", tmp_path / "folder", "hf-hub:me/soup", "--dry-run")
    assert plan.status == 0
    files = {path.name for path in (tmp_path / "folder").iterdir()}
    assert {line.split()[0] for line in plan.out.splitlines()[1:]} == files


@pytest.mark.parametrize("words", ["--data digits", "--threat l2:1", "--limit 5"])
def test_images_for_statistics_that_are_not_re_estimated_are_refused(
    soupmerge: Typed, ingredients: list[Path], tmp_path: Path, words: str
) -> None:
    out = tmp_path / "soup.safetensors"
    typed = soupmerge("mix", *ingredients[:2], "-w", "1,0", "-o", out, *words.split())
    assert typed.status == 2
    assert "--buffers recalibrate" in typed.err
    assert not out.exists()
