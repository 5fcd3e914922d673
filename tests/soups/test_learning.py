"""Learning from ingredients to a run folder: what is written, resumed, judged and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, NumericsError, UsageError
from soupmerge.soups.judge.trials import Trial
from soupmerge.soups.learn.settings import Settings, decisions
from soupmerge.soups.learn.soup import LearnedSoup
from soupmerge.storage import run_folder
from soupmerge.storage.journal import Journal
from soupmerge.storage.snapshot import Snapshot
from soupmerge.weights import ledger
from soupmerge.weights.recipe_files import read_recipe
from soupmerge.weights.saving import mix_to_file
from tests.shared import Stop, files_of, in_folder, stop_at
from tests.soups import tiny
from tests.soups.tiny import Pushed, Tiny

QUIET = pytest.mark.filterwarnings("ignore:.*does not say what it was trained on")
SETTINGS = Settings(epochs=2, batch_size=16)


def learn(home: Path, **settings: Any) -> Trial:
    """Learn a soup of three tiny networks in the folder *home*/run."""
    given = {"settings": SETTINGS, **settings}
    given["run"] = in_folder(given.get("run", sm.Run()), home / "run")
    ingredients = given.pop("ingredients", None) or tiny.make_ingredients(home / "in")
    goal, net = given.pop("objective", Pushed()), Tiny()
    net.soupmerge_ref = "tiny"  # type: ignore[assignment]
    return sm.learn(net, ingredients, given.pop("data", tiny.images(40)), goal, **given)


def everything() -> dict[str, Any]:
    """Return what a run may have: a benchmark, images that stop, a calibration, augmentation."""
    judge = sm.Benchmark(tiny.images(20, seed=5), [sm.APGD(sm.Linf(0.2), steps=2)])
    return {
        "benchmark": judge,
        "stop_on": tiny.images(12, seed=6),
        "calibration": sm.Calibration(tiny.images(40), batch_size=20),
        "augment": lambda x, generator: x + 0.1 * torch.rand(x.shape, generator=generator),
    }


# ---- what is written


@QUIET
def test_a_run_holds_recipe_soup_and_trial(tmp_path: Path) -> None:
    settings = everything()
    found = learn(tmp_path, **settings)
    home, ingredients = tmp_path / "run", tiny.make_ingredients(tmp_path / "in")
    kept = read_recipe(home / "recipe.json")
    assert kept == found.recipe
    state = sm.recalibrate(
        Tiny(), sm.mix(ingredients, replace(kept, buffers="average")), settings["calibration"]
    )
    soup = sm.load(home / "soup.safetensors")[0]
    assert soup.model == "tiny"
    assert all(torch.equal(soup[name], state[name]) for name in state)
    assert found.report == settings["benchmark"](sm.bind(Tiny(), state))
    (record,) = Journal(home / "trials.jsonl").records
    assert record["recipe"] == kept.to_json()
    assert record["depth"] == [
        *("first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight", "last.bias")
    ]
    assert (kept.buffers, kept.calibration) == ("recalibrate", settings["calibration"].describe())
    assert len(Journal(home / "history.jsonl").records) == 2
    images = (home / "images.csv").read_text().splitlines()
    assert images[1:] == [f"{i},{y}" for i, y in enumerate(tiny.images(40).labels.tolist())]
    assert "state.safetensors" not in files_of(home)


def test_without_a_calibration_the_soup_is_the_mix_of_its_recipe(tmp_path: Path) -> None:
    found = learn(tmp_path)
    expected = sm.mix(tiny.make_ingredients(tmp_path / "in"), found.recipe)
    soup = sm.load(tmp_path / "run" / "soup.safetensors")[0]
    assert all(torch.equal(soup[name], expected[name]) for name in expected)
    assert (found.recipe.buffers, found.recipe.calibration, found.report) == ("average", None, None)
    assert learn(tmp_path, run=sm.Run(None)) == found


@QUIET
def test_the_ledger_has_the_images_that_taught_and_those_that_stopped(tmp_path: Path) -> None:
    data, stop_on = tiny.images(40), tiny.images(12, seed=6)
    expected = [
        ("learn", ledger.TRAINED, data.sha256),
        ("learn", ledger.STOPPED, stop_on.sha256),
    ]
    for out, more, entries in (
        ("plain", {}, expected[:1]),
        ("stopped", {"stop_on": stop_on}, expected),
    ):
        found = learn(tmp_path, run=sm.Run(tmp_path / out), **more)
        assert [(e["by"], e["purpose"], e["sha256"]) for e in found.recipe.seen] == entries
        soup = sm.load(tmp_path / out / "soup.safetensors")[0]
        result = [(e["by"], e["purpose"], e["sha256"]) for e in ledger.ledger_of(soup)]
        assert result == entries


def test_a_manifest_tells_all_that_changes_a_number(tmp_path: Path) -> None:
    recipe = tmp_path / "start.json"
    ingredients = tiny.make_ingredients(tmp_path / "in")
    recipe.write_text(json.dumps(sm.Recipe.uniform(ingredients).to_json()))
    settings = replace(SETTINGS, init=f"recipe:{recipe}")
    learn(tmp_path, settings=settings, epochs=1, seed=4)
    manifest = run_folder.read_manifest(tmp_path / "run")
    # What a recipe says is in the digest of the start: the file may move.
    assert manifest["settings"] == {**settings.to_manifest(), "init": "recipe", "epochs": 1}
    assert (manifest["command"], manifest["seed"], manifest["device"]) == ("learn", 4, "cpu")
    assert manifest["model"] == sm.load(tmp_path / "run" / "soup.safetensors")[0].model == "tiny"
    assert manifest["data"] == tiny.images(40).fingerprint()
    assert manifest["objective"] == Pushed().describe()
    decided = decisions(settings, crafts=True, statistics=True, recalibrates=False)
    assert manifest["decisions"] == decided
    assert [source["sha256"] for source in manifest["inputs"]] == list(ingredients.hashes)
    assert (manifest["stops on"], manifest["augment"], manifest["benchmark"]) == (None, None, None)
    assert "calibration" not in manifest
    recipe.rename(tmp_path / "moved.json")
    moved = replace(settings, init=f"recipe:{tmp_path}/moved.json")
    learn(tmp_path, settings=moved, epochs=1, seed=4)
    (tmp_path / "moved.json").write_text(json.dumps(sm.Recipe.of(ingredients, [1, 0, 0]).to_json()))
    with pytest.raises(UsageError, match="start was"):
        learn(tmp_path, settings=moved, epochs=1, seed=4)


def test_a_clean_objective_decides_nothing_about_attacks(tmp_path: Path) -> None:
    learn(tmp_path, objective=sm.against(None), epochs=1)
    assert "attack" not in run_folder.read_manifest(tmp_path / "run")["decisions"]


@QUIET
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"settings": replace(SETTINGS, lr=3.0)}, "settings.lr was 0.1, now 3.0"),
        ({"settings": Settings.paper(epochs=2, batch_size=16)}, "settings.optimiser was 'adam'"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"data": tiny.images(41)}, "data.n was 40, now 41"),
        ({"objective": sm.against(None)}, "objective.objective was 'pushed', now 'clean'"),
        ({"stop_on": tiny.images(12, seed=6)}, "stops on"),
        ({"calibration": sm.Calibration(tiny.images(9))}, "calibration"),
        ({"benchmark": sm.Benchmark(tiny.images(20, seed=5))}, "benchmark"),
        ({"augment": lambda x, generator: x}, "augment was None, now '<lambda>'"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    learn(tmp_path)
    with pytest.raises(UsageError, match=says):
        learn(tmp_path, **settings)
    found = learn(tmp_path, run=sm.Run(force=True), **settings)
    assert found == learn(tmp_path, run=None, **settings)


@pytest.mark.parametrize(
    ("given", "set_to", "length"), [(1, 2, 1), (None, 2, 2), (None, None, 30), (3, None, 3)]
)
def test_the_number_of_epochs_is_given_set_or_usual(
    tmp_path: Path, given: int | None, set_to: int | None, length: int
) -> None:
    settings = Settings(epochs=set_to, batch_size=40)
    learn(tmp_path, settings=settings, epochs=given)
    assert len(Journal(tmp_path / "run" / "history.jsonl").records) == length
    assert run_folder.read_manifest(tmp_path / "run")["settings"]["epochs"] == length


def test_groups_are_listed_from_input_to_output(
    net: nn.Module, ingredients: sm.Ingredients
) -> None:
    """By the first tensor of each, as the network has them; names alone would sort otherwise."""
    tensors = [n for n in net.state_dict() if n in ingredients.mixed]
    assert LearnedSoup(net, ingredients, by="tensor").by_depth() == tensors
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
    assert LearnedSoup(net, ingredients, by="module").by_depth() == modules
    assert LearnedSoup(net, ingredients, by="glob=head.*").by_depth() == ["rest", "head.*"]
    assert LearnedSoup(net, ingredients, by="model").by_depth() == ["model"]


# ---- resuming


@QUIET
def test_a_killed_learning_resumes_to_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Snapshot, "due", lambda self: True)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = learn(tmp_path, run=sm.Run(whole), **everything())
    for n, what in ((1, "steps"), (2, "steps"), (2, "steps"), (1, "clean"), (1, "linf:0.2")):
        with pytest.raises(Stop):
            learn(tmp_path, run=sm.Run(cut, progress=stop_at(n, what)), **everything())
    assert learn(tmp_path, run=sm.Run(cut), **everything()) == expected
    assert files_of(cut) == files_of(whole)
    again = learn(tmp_path, run=sm.Run(cut, progress=stop_at(1, "steps")), **everything())
    assert again == expected
    (cut / "soup.safetensors").unlink()
    learn(tmp_path, run=sm.Run(cut, progress=stop_at(1, "clean")), **everything())
    assert files_of(cut) == files_of(whole)


@pytest.mark.parametrize("harm", [b"", b"not a state"])
def test_a_damaged_state_is_refused(tmp_path: Path, harm: bytes) -> None:
    with pytest.raises(Stop):
        learn(tmp_path, run=sm.Run(progress=stop_at(4, "steps")))
    state = tmp_path / "run" / "state.safetensors"
    assert state.exists()
    state.write_bytes(harm)
    with pytest.raises(InputError, match=r"state\.safetensors.*--force"):
        learn(tmp_path)
    assert learn(tmp_path, run=sm.Run(force=True)) == learn(tmp_path, run=sm.Run(None))


def test_a_state_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        learn(tmp_path, run=sm.Run(progress=stop_at(4, "steps")))
    kept = Snapshot(tmp_path / "run" / "state.safetensors")
    tensors, at = kept.load() or ({}, {})
    kept.save({name: t[..., :2] if t.dim() else t for name, t in tensors.items()}, at)
    with pytest.raises(InputError, match=r"state\.safetensors: is not the state of this run"):
        learn(tmp_path)


def test_a_folder_that_holds_an_ingredient_is_refused(tmp_path: Path) -> None:
    tiny.make_ingredients(tmp_path / "in")
    before = files_of(tmp_path / "in")
    with pytest.raises(UsageError, match="contains an input"):
        learn(tmp_path, run=sm.Run(tmp_path / "in", force=True))
    assert files_of(tmp_path / "in") == before


# ---- what is refused


def test_learning_needs_two_ingredients_of_numbers(tmp_path: Path) -> None:
    ingredients = tiny.make_ingredients(tmp_path / "in")
    with pytest.raises(UsageError, match="learning needs two or more ingredients, not 1"):
        learn(tmp_path, ingredients=sm.Ingredients((ingredients[0],)))
    bad = {name: t.clone() for name, t in ingredients[1].items()}
    bad["last.bias"][0] = torch.nan
    sm.save(tmp_path / "bad.safetensors", bad)
    with pytest.raises(NumericsError, match=r"bad\.safetensors.*last\.bias"):
        learn(tmp_path, ingredients=sm.load(ingredients[0].ref, tmp_path / "bad.safetensors"))
    assert not (tmp_path / "run").exists()


def test_patience_needs_something_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="^patience: .*needs a stopping split; give a split to stop on"
    ):
        learn(tmp_path, settings=replace(SETTINGS, patience=2))


def used(home: Path, data: sm.Images, purpose: str) -> sm.Ingredients:
    """Return three ingredients, the second of which says that *data* were used for *purpose*."""
    ingredients = tiny.make_ingredients(home / "in")
    for k, examples in enumerate((tiny.images(5, seed=20), data, tiny.images(5, seed=21))):
        found = ledger.entry("finetune", examples, purpose if k == 1 else ledger.TRAINED)
        row = [float(i == k) for i in range(3)]
        recipe = replace(sm.Recipe.of(ingredients, row), seen=(found,))
        mix_to_file(home / f"used-{k}.safetensors", ingredients, recipe, force=True)
    return sm.load(*(home / f"used-{k}.safetensors" for k in range(3)))


def test_images_that_stop_may_have_trained_nothing(tmp_path: Path) -> None:
    """Neither coefficients nor an ingredient, whatever the name; that they stopped one is fine."""
    stop_on = tiny.images(12, seed=6)
    ingredients = used(tmp_path, stop_on, ledger.STOPPED)
    learn(tmp_path, ingredients=ingredients, stop_on=stop_on)
    ingredients = used(tmp_path, replace(stop_on, ref="another"), ledger.TRAINED)
    with pytest.raises(UsageError, match="^stopping split: .*trained on images") as caught:
        learn(tmp_path, ingredients=ingredients, stop_on=stop_on, run=sm.Run(tmp_path / "other"))
    assert "used-1.safetensors was trained on another" in str(caught.value)
    assert "12 images in common" in str(caught.value)
    assert "used-0" not in str(caught.value)
    few = tiny.images(12, seed=6).take(torch.arange(3), "few")
    with pytest.raises(UsageError, match="^stopping split: .*at least 3 of them also train"):
        learn(tmp_path, ingredients=used(tmp_path, few, ledger.STOPPED), data=stop_on, stop_on=few)
    assert not (tmp_path / "other").exists()


def test_ingredients_that_say_nothing_are_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="does not say what it was trained on") as caught:
        learn(tmp_path, stop_on=tiny.images(12, seed=6))
    assert [f"{k}.safetensors" in str(w.message) for k, w in enumerate(caught)] == [True] * 3


def test_images_that_judge_may_not_teach(tmp_path: Path) -> None:
    data = tiny.images(40)
    judge = sm.Benchmark(data.take(torch.arange(30, 40), "some"))
    with pytest.raises(UsageError, match="^judge split: at least 10 of the images that judge"):
        learn(tmp_path, benchmark=judge)
    learn(tmp_path, data=data.take(torch.arange(30), "rest"), benchmark=judge)


# ---- that it learns


def test_learning_prefers_a_good_ingredient_to_noise(
    trained: list[Path], digits: sm.Images, tmp_path: Path
) -> None:
    good = sm.load(trained[0])[0]
    noise = {
        n: torch.randn(t.shape, generator=torch.Generator().manual_seed(0)) * t.std() + t.mean()
        if n.endswith(("weight", "bias")) and t.numel() > 1
        else t
        for n, t in good.items()
    }
    sm.save(tmp_path / "noise.safetensors", noise, model=good.model)
    ingredients = sm.load(trained[0], tmp_path / "noise.safetensors")
    learned = sm.learn(
        sm.model(like=ingredients),
        ingredients,
        digits,
        sm.against(sm.Linf(0.05)),
        settings=Settings(by="model", epochs=20, init="uniform"),
    )
    assert learned.recipe.weights[0][0] > 0.95


OBJECTIVES = {
    "clean": sm.against(None),
    "linf": sm.against(sm.Linf(0.1)),
    "l1": sm.against(sm.L1(2.0)),
    "trades": sm.against(sm.L2(0.5), alpha=0.5),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_learning_lowers_its_loss_and_harms_nothing(
    kitchen: tuple[nn.Module, sm.Ingredients], digits: sm.Images, tmp_path: Path, objective: Any
) -> None:
    net, ingredients = kitchen
    before = {n: t.clone() for n, t in net.state_dict().items()}
    random = torch.get_rng_state()
    settings = Settings(epochs=4, init="uniform")
    sm.learn(net, ingredients, digits, objective, settings=settings, run=sm.Run(tmp_path / "run"))
    losses = [r["loss"] for r in Journal(tmp_path / "run" / "history.jsonl").records]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
