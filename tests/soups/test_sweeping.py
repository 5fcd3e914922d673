"""Several learned soups in one run: each as `learn` learns it, and all of them in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.learn.settings import Settings
from soupmerge.soups.learn.sweep import Sweep, name_of
from tests.shared import Stop, files_of, in_folder, stop_at
from tests.soups import tiny
from tests.soups.planted import first, judged
from tests.soups.tiny import Pushed, Tiny

SETTINGS = Settings(epochs=1, batch_size=16)
GOALS: dict[str, Any] = {"clean": sm.against(None), "pushed": Pushed()}
NAMES = ("clean-seed3", "clean-seed4", "pushed-seed3", "pushed-seed4")


def judge() -> sm.Benchmark:
    return sm.Benchmark(tiny.images(20, seed=5), [sm.APGD(sm.Linf(0.2), steps=2)])


def sweep(home: Path, **options: Any) -> Sweep:
    ingredients = tiny.make_ingredients(home / "in")
    beside = {"uniform": sm.Recipe.uniform(ingredients)}
    given = {"seeds": (3, 4), "benchmark": judge(), "beside": beside, **options}
    given["run"] = in_folder(given.get("run", sm.Run()), home / "run")
    goals, net = given.pop("objectives", GOALS), Tiny()
    net.soupmerge_ref = "tiny"  # type: ignore[assignment]
    return sm.sweep(net, ingredients, tiny.images(40), goals, settings=SETTINGS, **given)


def test_each_soup_is_what_learn_makes_of_its_objective_and_seed(tmp_path: Path) -> None:
    found, ingredients = sweep(tmp_path), tiny.make_ingredients(tmp_path / "in")
    assert found.names == NAMES
    recipes = []
    for (goal, seed), trial, name in zip(
        [(goal, seed) for goal in GOALS.values() for seed in (3, 4)],
        found.trials,
        found.names,
        strict=True,
    ):
        alone = sm.learn(Tiny(), ingredients, tiny.images(40), goal, settings=SETTINGS, seed=seed)
        assert trial.recipe == alone.recipe
        state = sm.mix(ingredients, trial.recipe)
        assert trial.report == judge()(sm.bind(Tiny(), state))
        soup = sm.load(tmp_path / "run" / "soups" / name / "soup.safetensors")[0]
        assert all(torch.equal(soup[n], state[n]) for n in state)
        recipes.append(trial.recipe.weights)
    assert len(set(recipes)) == 4


def test_ingredients_and_other_soups_are_judged_beside_them(tmp_path: Path) -> None:
    found, ingredients = sweep(tmp_path), tiny.make_ingredients(tmp_path / "in")
    assert list(found.beside) == ["uniform", "0", "1", "2"]
    uniform = sm.mix(ingredients, sm.Recipe.uniform(ingredients))
    for state, report in zip((uniform, *ingredients), found.beside.values(), strict=True):
        assert report == judge()(sm.bind(Tiny(), state))
    summary = json.loads(json.dumps(found.summary()))
    assert [trial["name"] for trial in summary["trials"]] == list(NAMES)
    assert {n: t["metrics"] for n, t in summary["baselines"].items()} == {
        name: json.loads(json.dumps(report.to_metrics())) for name, report in found.beside.items()
    }
    assert set(summary["spread"]) == {"clean", "linf:0.2", "union"}
    assert summary["spread"]["clean"]["clean"] == list(found.spread("clean")["clean"])


def test_the_spread_is_mean_lowest_and_highest_over_the_seeds() -> None:
    counts = [9, 5, 7, 2, 2, 8]
    trials = sm.Trials(tuple(judged(*first(n, n=10)) for n in counts))
    found = Sweep(("a", "b"), (0, 1, 2), trials, {})
    assert found.spread("clean") == {
        "a": (pytest.approx(0.7), 0.5, 0.9),
        "b": (pytest.approx(0.4), 0.2, 0.8),
    }
    assert found.names == ("a-seed0", "a-seed1", "a-seed2", "b-seed0", "b-seed1", "b-seed2")


def test_one_seed_goes_without_saying() -> None:
    assert (name_of("a", 7, (7,)), name_of("a", 7, (7, 8))) == ("a", "a-seed7")


def test_a_sweep_may_be_judged_by_nothing(tmp_path: Path) -> None:
    found = sweep(tmp_path, benchmark=None, beside=None, seeds=(0,))
    assert found.names == ("clean", "pushed")
    assert [trial.report for trial in found.trials] == [None, None]
    assert found.beside == {}
    summary = found.summary()
    assert "spread" not in summary
    assert summary["baselines"] == {}
    assert not (tmp_path / "run" / "judged").exists()


def test_a_manifest_tells_what_is_learned_from_what(tmp_path: Path) -> None:
    sweep(tmp_path)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["command"], manifest["model"], manifest["seeds"]) == ("sweep", "tiny", [3, 4])
    assert manifest["objectives"] == {name: goal.describe() for name, goal in GOALS.items()}
    assert manifest["data"] == tiny.images(40).fingerprint()
    assert manifest["benchmark"] == judge().describe()
    assert list(manifest["beside"]["uniform"]["model"]) == [1 / 3] * 3
    ingredients = tiny.make_ingredients(tmp_path / "in")
    assert [source["sha256"] for source in manifest["inputs"]] == list(ingredients.hashes)
    with pytest.raises(UsageError, match="contains an input"):
        sweep(tmp_path, run=sm.Run(tmp_path / "in", force=True))
    soup = sm.load(tmp_path / "run" / "beside" / "uniform.safetensors")[0]
    assert soup.model == "tiny"
    assert (tmp_path / "run" / "judged" / "flags.csv").exists()
    assert {path.name for path in (tmp_path / "run" / "soups").iterdir()} == set(NAMES)


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    whole = sweep(tmp_path, run=sm.Run(tmp_path / "whole"))
    for n, what in ((1, "steps"), (2, "steps"), (5, "clean"), (2, "clean")):
        with pytest.raises(Stop):
            sweep(tmp_path, run=sm.Run(tmp_path / "cut", progress=stop_at(n, what)))
    calls: list[tuple[int, int, str]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        if what == "soups":
            calls.append((done, total, note))
        assert what != "steps"  # all of them are learned

    assert sweep(tmp_path, run=sm.Run(tmp_path / "cut", progress=progress)) == whole
    assert calls == [*((i, 4, name) for i, name in enumerate(NAMES)), (4, 4, "")]
    soups = [files_of(tmp_path / out / "soups") for out in ("cut", "whole")]
    assert soups[0] == soups[1]  # the table beside them holds their paths


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"objectives": {"clean": sm.against(None)}}, "objectives"),
        ({"seeds": (3, 5)}, r"seeds\[1\] was 4, now 5"),
        ({"beside": {}}, "beside"),
        ({"benchmark": None}, "benchmark"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    sweep(tmp_path)
    with pytest.raises(UsageError, match=says):
        sweep(tmp_path, **settings)
    assert sweep(tmp_path, run=sm.Run(force=True), **settings).names


def test_soups_of_other_ingredients_are_not_put_beside(tmp_path: Path) -> None:
    ingredients = tiny.make_ingredients(tmp_path / "in")
    other = sm.Recipe.uniform(sm.Ingredients(ingredients.checkpoints[::-1]))
    with pytest.raises(InputError, match="^mine: these are not its ingredients"):
        sweep(tmp_path, beside={"mine": other})
    assert not (tmp_path / "run").exists()
