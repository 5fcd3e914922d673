"""What a search leaves behind can be trusted: also unfinished, run again, tied or masked."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import OutputError
from soupmerge.soups.judge.trials import Trial
from soupmerge.storage import run_folder
from soupmerge.weights import ledger
from soupmerge.weights.recipe import Source
from soupmerge.weights.recipe_files import read_recipe
from tests.shared import Outcome, Stop, files_of, stop_at

Typed = Callable[..., Outcome]


# ---- A run that is stopped, and chosen from.


def stopped_grid(trained: list[Path], chooser: sm.Benchmark, out: Path) -> None:
    ingredients = sm.load(*trained)
    progress = stop_at(5, "soups")
    with pytest.raises(Stop):
        sm.grid(
            sm.model(like=ingredients),
            ingredients,
            chooser,
            step=0.5,
            run=sm.Run(out, progress=progress),
        )


def test_a_soup_of_an_unfinished_search_knows_which_images_chose_it(
    soupmerge: Typed, trained: list[Path], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    run, soup = tmp_path / "run", tmp_path / "soup.safetensors"
    stopped_grid(trained, chooser, run)
    selected = soupmerge("select", run, "-o", soup, "--json")
    assert selected.status == 0
    assert "is unfinished: 4 of 6 soups are judged" in selected.err
    assert json.loads(selected.out)["unfinished"] == {str(run): "4 of 6 soups are judged"}
    entries = [e for e in ledger.ledger_of(sm.load(soup)[0]) if e["by"] == "grid"]
    assert [(e["purpose"], e["split"]) for e in entries] == [
        (ledger.CHOSEN, chooser.data.fingerprint()["split"])
    ]
    judged = soupmerge("eval", soup, "--data", "digits", "--split", "val", "--limit", 50)
    assert "chosen on digits, " in judged.err


def test_a_finished_search_is_not_called_unfinished(
    soupmerge: Typed, trained: list[Path], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    ingredients = sm.load(*trained[:2])
    sm.grid(sm.model(like=ingredients), ingredients, chooser, step=1, run=sm.Run(tmp_path / "run"))
    selected = soupmerge("select", tmp_path / "run", "--json")
    assert "unfinished" not in selected.err
    assert json.loads(selected.out)["unfinished"] == {}


def test_a_run_of_an_earlier_version_that_names_no_images_is_said_to(
    soupmerge: Typed, trained: list[Path], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    stopped_grid(trained, chooser, tmp_path / "run")
    (tmp_path / "run" / "plan.json").unlink()
    typed = soupmerge("select", tmp_path / "run", "-o", tmp_path / "soup.safetensors")
    assert typed.status == 0
    assert "does not record which images chose" in typed.err


# ---- A finished run that is asked for another choice.


def test_a_finished_soup_is_not_replaced_by_another_choice_unless_forced(
    trained: list[Path], tmp_path: Path
) -> None:
    ingredients = sm.load(*trained)
    judge = sm.Benchmark(sm.data("digits", split="val", limit=50), [sm.APGD(sm.Linf(0.2), steps=2)])

    def run(metric: str, **settings: Any) -> sm.Trials:
        out = tmp_path / "run"
        return sm.grid(
            sm.model(like=ingredients),
            ingredients,
            judge,
            step=1,
            metric=metric,
            run=sm.Run(out, **settings),
        )

    trials = run("union")
    assert trials.best("clean").recipe != trials.best("union").recipe  # or nothing is at stake
    before = files_of(tmp_path / "run")
    with pytest.raises(OutputError, match=r"soupmerge select, or start over with --force"):
        run("clean")
    assert files_of(tmp_path / "run") == before
    run("union")
    assert files_of(tmp_path / "run") == before
    run("clean", force=True)
    kept = read_recipe(tmp_path / "run" / "soup.safetensors")
    assert kept.weights == trials.best("clean").recipe.weights


# ---- Soups that are equal in what was asked for.


def planted(*flags: Sequence[int]) -> Trial:
    """Return a trial that is right on the first so many of ten images: clean, Linf, L2."""
    names = ("clean", "linf:0.1", "l2:1")
    bits = {n: torch.arange(10) < count for n, count in zip(names, flags[0], strict=True)}
    recipe = sm.Recipe((Source("a", ""), Source("b", "")), ("model",), ((0.5, 0.5),))
    attacks = {name: {"attack": "apgd-ce", "steps": 1} for name in names[1:]}
    return Trial(recipe, sm.Report({}, bits, attacks))


def test_of_equal_soups_the_one_that_is_better_elsewhere_is_taken() -> None:
    trials = sm.Trials((planted((6, 2, 4)), planted((7, 2, 5)), planted((7, 2, 5))))
    assert trials.best("union") is trials[1]
    assert trials.best("linf:0.1") is trials[1]
    assert trials.knee("linf:0.1", "linf:0.1") is trials[1]
    assert trials.summary()["best"]["union"] == 1


COUNTS = st.tuples(st.integers(2, 4), st.integers(0, 2), st.integers(0, 2))


@given(st.lists(COUNTS, min_size=1, max_size=8))
def test_what_is_best_is_never_dominated(counts: list[tuple[int, int, int]]) -> None:
    trials = sm.Trials(tuple(map(planted, counts)))
    for metric, knee in itertools.product((*trials.metrics, "clean + union"), (False, True)):
        best = trials.knee("clean", metric) if knee and "+" not in metric else trials.best(metric)
        own = counts[trials.trials.index(best)]
        assert not any(
            all(a >= b for a, b in zip(other, own, strict=True)) and other != own
            for other in counts
        )


# ---- A network that hides its gradients, before a search.


@pytest.fixture
def masked(trained: list[Path], tmp_path: Path) -> list[Path]:
    """Two networks whose logits are so large that the cross-entropy has no gradient."""
    paths = []
    for path in trained[:2]:
        ingredient = sm.load(path)[0]
        last = list(ingredient)[-2:]
        state = {n: t * 1e6 if n in last else t for n, t in ingredient.items()}
        paths.append(tmp_path / path.name)
        sm.save(paths[-1], state, model=ingredient.model)
    return paths


WORDS = ("--data", "digits", "--limit", 40, "--threat", "linf:0.2", "--steps", 5)
SEARCHES = {
    "grid": ("--step", 1),
    "grid --race-best": ("--step", 1, "--race-best"),
    "path": ("--points", 2),
    "greedy": (),
    "search": ("-n", 1),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_the_soup_that_a_search_chooses_gets_the_cheap_checks(
    soupmerge: Typed, masked: list[Path], tmp_path: Path, search: str
) -> None:
    words = (search.split()[0], *masked, *WORDS, *SEARCHES[search], "-o", tmp_path / "run")
    first = soupmerge(*words)
    assert first.status == 0
    assert "doubt: " in first.out
    assert "docs/flags.md#zero-gradient" in first.out
    found = json.loads((tmp_path / "run" / "doubts.json").read_text())
    assert {"zero-gradient", "scale"} <= {doubt["name"] for doubt in found}
    again = json.loads(soupmerge(*words, "--json").out)
    noted = [t["notes"]["doubts"] for t in again["trials"] if "notes" in t]
    assert noted == [found]
    assert soupmerge("report", tmp_path / "run", "--format", "none").status == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the chosen soup: doubt, zero-gradient: " in page


def test_an_honest_soup_raises_no_doubt(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    typed = soupmerge("grid", *trained[:2], *WORDS, "--step", 1, "-o", run)
    assert "doubt" not in typed.out
    assert json.loads((run / "doubts.json").read_text()) == []
    assert soupmerge("report", run, "--format", "none").status == 0
    assert "found no reason to doubt the accuracies" in (run / "report.html").read_text()


# ---- Numbers that are none.


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_network_of_nan_is_not_judged(
    soupmerge: Typed, trained: list[Path], tmp_path: Path, bad: float
) -> None:
    ingredient = sm.load(trained[0])[0]
    state = {name: tensor.clone() for name, tensor in ingredient.items()}
    name = next(iter(state))
    state[name].view(-1)[-1] = bad
    sm.save(tmp_path / "bad.safetensors", state, model=ingredient.model)
    judged = soupmerge("eval", trained[0], tmp_path / "bad.safetensors", "--data", "digits")
    assert judged.status == 7
    assert f"bad.safetensors: {name}" in judged.err
    assert judged.out == ""


def test_logits_of_nan_end_with_7_but_are_shown(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    ingredient = sm.load(trained[0])[0]
    last = [name for name in ingredient if name.endswith("weight")][-1]
    # Finite weights whose products overflow: on which images, depends on the image.
    state = {n: t * 1e38 if n == last else t for n, t in ingredient.items()}
    sm.save(tmp_path / "large.safetensors", state, model=ingredient.model)
    words = ("eval", tmp_path / "large.safetensors", "--data", "digits", "--limit", 20)
    judged = soupmerge(*words, "-o", tmp_path / "run")
    assert judged.status == 7
    assert "large.safetensors" in judged.out
    assert re.search(r"large.safetensors: [1-9]\d* of 20 images", judged.err)
    assert soupmerge(*words, "-o", tmp_path / "run").status == 7  # also when nothing is judged anew


# ---- What a manifest says was decided.


def decided(
    ingredients: sm.Ingredients, out: Path, objective: Any, **settings: Any
) -> dict[str, str]:
    net, images = sm.model(like=ingredients), sm.data("digits", split="train", limit=16)
    settings = {"batch_size": 16, **settings}
    sm.learn(
        net,
        ingredients,
        images,
        objective,
        epochs=1,
        settings=sm.Settings(**settings),
        run=sm.Run(out),
    )
    found: dict[str, str] = run_folder.read_manifest(out)["decisions"]
    return found


def test_decisions_are_those_of_the_run(trained: list[Path], tmp_path: Path) -> None:
    ingredients, goal = sm.load(*trained[:2]), sm.against(sm.Linf(0.1))
    usual = decided(ingredients, tmp_path / "usual", goal, dropout=0.8, init="xavier")
    assert "no rescaling" in usual["detach dropout"]
    assert "differentiated" in usual["statistics"]
    other = decided(
        ingredients,
        tmp_path / "other",
        sm.against(None),
        dropout=0.5,
        rescale=True,
        init="uniform",
        batch_norm="batch",
        buffers="base",
        base=1,
    )
    assert set(usual) - set(other) == {"attack", "xavier"}
    assert "1 - p" in other["detach dropout"]
    assert "ingredient 2" in other["statistics"]
    assert "the batch's own statistics" in other["batch norm"]
    assert "detach dropout" not in decided(ingredients, tmp_path / "none", goal)


def test_a_network_without_batch_norms_has_nothing_to_decide_about_them(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    images = sm.data("digits", split="train", limit=16)
    schedule = sm.Schedule(epochs=1, lr=0.01, augment="none")
    for seed, path in enumerate(paths):
        sm.finetune(net, images, sm.against(None), path, schedule=schedule, seed=seed)
        assert run_folder.read_manifest(path.with_suffix(".run"))["decisions"] == {}
    ingredients = sm.load(*paths)
    sm.learn(net, ingredients, images, sm.against(None), epochs=1, run=sm.Run(tmp_path / "run"))
    manifest = run_folder.read_manifest(tmp_path / "run")["decisions"]
    assert not {"batch norm", "statistics"} & set(manifest)
