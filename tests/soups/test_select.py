"""Choosing from finished runs: the best under conditions, the knee, and what ties."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.judge.metrics import Metric, paired
from soupmerge.soups.search.choice import Tried, choose, tried
from soupmerge.soups.search.simplex import draws
from soupmerge.storage import run_folder
from soupmerge.storage.journal import Journal, _encode
from tests.shared import Stop, stop_at
from tests.soups.planted import (
    Planted,
    benchmark,
    first,
    images,
    judged,
    make_ingredients,
    some_flags,
)

pytestmark = pytest.mark.usefixtures("unexamined")

Typed = Callable[..., Any]
FEW = ["--data", "digits", "--limit", 30, "--threat", "linf:0.1", "--steps", 4, "-q"]


def seen(*trials: Any) -> Tried:
    """Return these as the trials of a finished run, which say what chose them."""
    found = (replace(t, recipe=replace(t.recipe, seen=({"by": "grid"},))) for t in trials)
    return Tried(sm.Trials(tuple(found)), (Path("run"),) * len(trials), None, {})


def counted(points: Sequence[tuple[int, int]], n: int = 100) -> Tried:
    return seen(*(judged(*first(*point, n=n)) for point in points))


def place(seen: Tried, found: Any) -> int:
    """Return which of *seen* was chosen, or is a rival: `choose` gives it with what it has seen."""
    return next(i for i, t in enumerate(seen.trials) if t.report is found.report)


# ---- choose


def test_the_best_that_meets_the_conditions_is_chosen() -> None:
    runs = counted([(90, 20), (80, 50), (60, 60)])
    assert place(runs, choose(runs, "union", (), "clean", "union").trial) == 2
    assert place(runs, choose(runs, "union", ("clean>=0.7",), "clean", "union").trial) == 1
    both = ("clean>=0.7", "0.5*clean+0.5*union<0.6")
    assert place(runs, choose(runs, "union", both, "clean", "union").trial) == 0
    assert place(runs, choose(runs, "clean+union", (), "clean", "union").trial) == 1


def test_without_a_metric_it_is_the_knee_of_the_axes_that_are_named() -> None:
    """(0.8, 0.5) is above the line from (0.9, 0.2) to (0.6, 0.6). Where nothing is above it, the
    knee is the end that is best in y, which depends on the axes."""
    runs = counted([(90, 20), (80, 50), (60, 60)])
    assert place(runs, choose(runs, None, (), "clean", "union").trial) == 1
    assert place(runs, choose(runs, None, ("clean<=0.7",), "clean", "union").trial) == 2
    ends = counted([(90, 20), (60, 60)])
    assert place(ends, choose(ends, None, (), "clean", "union").trial) == 1
    assert place(ends, choose(ends, None, (), "union", "clean").trial) == 0


@given(st.integers(0, 10_000))
def test_rivals_are_all_that_the_images_do_not_tell_from_the_chosen(seed: int) -> None:
    """Nearest first: those whose paired interval holds 0, in the metric that chose."""
    draw = np.random.default_rng(seed)
    flags = draw.random((8, 2, 50)) < draw.uniform(0.4, 0.9, (8, 2, 1))
    runs = seen(*(judged(clean, clean & robust) for clean, robust in flags))
    for text in ("union", "clean", "2*clean+union", None):
        choice = choose(runs, text, ("clean>=0.5",), "clean", "union")
        asked, one = Metric.parse(text or "union"), choice.trial.judged()
        gaps = {
            i: paired(one, trial.judged(), asked)
            for i, trial in enumerate(runs.trials)
            if trial.judged().accuracy("clean") >= 0.5 and trial.report is not one
        }
        expected = {i: gap for i, gap in gaps.items() if gap.low <= 0 <= gap.high}
        assert {place(runs, rival): gap for rival, gap in choice.rivals} == expected
        means = [gap.mean for _, gap in choice.rivals]
        assert means == sorted(means)


def test_a_rival_may_be_as_far_as_an_interval_of_opposite_images_reaches() -> None:
    """A soup that is right on 59 of 100 images, and one that is right on the 41 others: 0.18 apart,
    by 1.96 · √(1 − 0.18²) / 10 = 0.193, which holds 0. With 60 and 40, 0.2 and 0.192 do not."""
    for right, ties in ((59, 1), (60, 0)):
        one = first(right, n=100)[0]
        runs = seen(judged(one), judged([not flag for flag in one]))
        for text in ("clean", "3*clean"):
            assert len(choose(runs, text, (), "clean", "clean").rivals) == ties


def test_the_home_of_a_soup_is_the_run_that_it_is_from() -> None:
    homes = (Path("a"), Path("a"), Path("b"))
    runs = replace(counted([(90, 20), (80, 50), (60, 60)]), homes=homes)
    for metric, home in (("clean", "a"), ("union", "b")):
        assert choose(runs, metric, (), "clean", "union").home == Path(home)


@pytest.mark.parametrize(
    ("metric", "conditions", "axes", "error", "says"),
    [
        ("unoin", (), ("clean", "union"), UsageError, "'unoin'.*'union'"),
        (None, (), ("claen", "union"), UsageError, "'claen'.*'clean'"),
        (None, (), ("clean", "unoin"), UsageError, "'unoin'.*'union'"),
        ("union", ("clean",), ("clean", "union"), UsageError, "'clean' is not a condition"),
        ("union", ("linf:9>0",), ("clean", "union"), InputError, "no metric 'linf:9'"),
    ],
)
def test_metrics_that_were_not_judged_are_refused(
    metric: Any, conditions: Any, axes: Any, error: Any, says: str
) -> None:
    with pytest.raises(error, match=says):
        choose(counted([(90, 20)]), metric, conditions, *axes)


def test_conditions_that_no_soup_meets_are_told_with_what_there_is() -> None:
    runs = counted([(90, 20), (80, 50), (60, 60)])
    conditions = ("clean>=0.85", "union>=0.3")
    with pytest.raises(InputError) as caught:
        choose(runs, "union", conditions, "clean", "union")
    said = str(caught.value)
    assert "no soup of 3 meets clean>=0.85 and union>=0.3" in said
    assert "clean>=0.85: from 0.6 to 0.9" in said
    assert "union>=0.3: from 0.2 to 0.6" in said
    assert said.startswith("--where: ")


def test_the_chosen_soup_says_which_images_chose_it(tmp_path: Path) -> None:
    """As its recipe tells, or the plan of its run, or the recipe of an earlier version's run."""
    home = grid(tmp_path, "run")
    plan = json.loads((home / "plan.json").read_text())
    assert [entry["sha256"] for entry in plan["seen"]] == [images(30).fingerprint()["sha256"]]
    runs = tried([home])
    assert list(choose(runs, "clean", (), "clean", "union").trial.recipe.seen) == plan["seen"]
    (home / "plan.json").unlink()
    assert list(choose(runs, "clean", (), "clean", "union").trial.recipe.seen) == plan["seen"]
    own = seen(*runs.trials)
    assert choose(own, "clean", (), "clean", "union").trial.recipe.seen == ({"by": "grid"},)
    for text in ("[]", '{"seen": 5}'):
        (home / "plan.json").write_text(text)
        with pytest.raises(InputError, match=r"plan\.json: is not the plan .*--force"):
            choose(runs, "clean", (), "clean", "union")


# ---- what was tried


def grid(tmp_path: Path, name: str, n: int = 30, k: int = 2, step: float = 0.5) -> Path:
    net, ingredients = Planted(k, some_flags(0, n)), make_ingredients(tmp_path / f"in{k}", k)
    sm.grid(net, ingredients, benchmark(n), step=step, run=sm.Run(tmp_path / name))
    return tmp_path / name


def test_the_same_soup_in_several_runs_is_there_once(tmp_path: Path) -> None:
    coarse, fine = grid(tmp_path, "coarse"), grid(tmp_path, "fine", step=0.25)
    runs = tried([coarse, fine])
    assert [t.recipe.weights[0][0] for t in runs.trials] == [1.0, 0.5, 0.0, 0.75, 0.25]
    assert [home.name for home in runs.homes] == ["coarse"] * 3 + ["fine"] * 2
    assert [runs.home(t).name for t in runs.trials] == ["coarse"] * 3 + ["fine"] * 2
    assert tried([fine, coarse]).homes[0] == fine
    assert runs.model is None


def test_soups_that_differ_in_their_statistics_are_both_listed(tmp_path: Path) -> None:
    net, ingredients = Planted(2, some_flags(0, 30)), make_ingredients(tmp_path / "in", 2)
    for policy in ("average", "base"):
        run = sm.Run(tmp_path / policy)
        sm.grid(net, ingredients, benchmark(30), step=1, buffers=sm.Buffers(policy), run=run)
    found = tried([tmp_path / "average", tmp_path / "base"]).trials
    assert [t.recipe.buffers for t in found] == ["average", "average", "base", "base"]


def test_trials_are_those_of_the_journal(tmp_path: Path) -> None:
    home = grid(tmp_path, "run")
    table = some_flags(0, 30)
    for trial in tried([home]).trials:
        clean, robust = np.asarray(table(trial.recipe.weights[0]))
        assert trial.judged().bits("union").tolist() == (clean & robust).tolist()


def test_a_search_that_goes_on_is_chosen_from_and_said_to(tmp_path: Path) -> None:
    """Its plan tells how many soups there will be, and which images choose."""
    net, ingredients = Planted(2, some_flags(0, 30)), make_ingredients(tmp_path / "in2", 2)
    home = tmp_path / "run"
    with pytest.raises(Stop):
        sm.grid(
            net,
            ingredients,
            benchmark(30),
            step=0.5,
            run=sm.Run(home, progress=stop_at(3, "soups")),
        )
    runs = tried([home])
    assert runs.unfinished == {home: "2 of 3 soups are judged"}
    plan = json.loads((home / "plan.json").read_text())
    assert list(choose(runs, "clean", (), "clean", "union").trial.recipe.seen) == plan["seen"]
    (home / "plan.json").write_text('{"soups": null, "seen": [{}]}')
    assert tried([home]).unfinished == {home: "2 soups are judged"}
    (home / "plan.json").unlink()
    assert tried([home]).unfinished == {home: "2 soups are judged"}
    sm.grid(net, ingredients, benchmark(30), step=0.5, run=sm.Run(home))
    assert tried([home]).unfinished == {}


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    one, other = grid(tmp_path, "one"), grid(tmp_path, "other", n=31)
    with pytest.raises(UsageError, match="other: has another benchmark than .*one"):
        tried([one, other])
    shutil.copytree(one, tmp_path / "model")
    manifest = json.loads((one / "manifest.json").read_text())
    (tmp_path / "model" / "manifest.json").write_text(json.dumps({**manifest, "model": "resnet9"}))
    with pytest.raises(UsageError, match="has another model than"):
        tried([one, tmp_path / "model"])
    assert tried([tmp_path / "model"]).model == "resnet9"


def test_what_holds_no_judged_soup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        tried([tmp_path])
    with run_folder.opened(tmp_path / "new", {"command": "grid", "benchmark": {}}):
        pass
    with pytest.raises(InputError, match="holds no judged soup yet; resume the run"):
        tried([tmp_path / "new"])
    for name, manifest, record in (
        ("eval", {"benchmark": {}}, {"metrics": {}}),
        ("unjudged", {"benchmark": None}, {"recipe": {}}),
    ):
        with run_folder.opened(tmp_path / name, {"command": name, **manifest}) as folder:
            folder.journal("trials.jsonl").append(record)
        with pytest.raises(InputError, match=f"holds no judged recipes: it is a run of {name}"):
            tried([tmp_path / name])


def test_a_damaged_recipe_is_refused_by_the_name_of_its_journal(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path / "run", {"command": "grid", "benchmark": {}}) as folder:
        folder.journal("trials.jsonl").append({"recipe": {"format": "another"}})
    with pytest.raises(InputError, match=r"run/trials\.jsonl: is not a recipe"):
        tried([tmp_path / "run"])


def test_garbage_is_collected_as_before(tmp_path: Path) -> None:
    """It is not while thousands of recipes are read, as that takes half of the time."""
    home = grid(tmp_path, "run")
    for enabled in (False, True):
        (gc.enable if enabled else gc.disable)()
        try:
            tried([home])
            assert gc.isenabled() is enabled
            with pytest.raises(InputError):
                tried([tmp_path])
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_a_run_of_thousands_of_soups_is_read_at_once(tmp_path: Path) -> None:
    ingredients = make_ingredients(tmp_path / "in", 3)
    report = judged(*first(9, 3, n=10)).judged()
    found = {"command": "search", "benchmark": {"data": {}, "attacks": dict(report.attacks)}}
    with run_folder.opened(tmp_path / "run", found):
        pass
    (tmp_path / "run" / "plan.json").write_text('{"soups": 4000, "seen": [{}]}')
    with open(tmp_path / "run" / "trials.jsonl", "w") as file:
        record = {"recipe": sm.Recipe.uniform(ingredients).to_json(), **report.to_record()}
        for row in draws(3, 4_000, 0):
            made = {**record, "recipe": {**record["recipe"], "weights": {"model": list(row)}}}
            file.write(_encode(made) + "\n")
    began = time.process_time()
    choice = choose(tried([tmp_path / "run"]), "union", ["clean>=0.5"], "clean", "union")
    assert time.process_time() - began < 4
    assert len(choice.rivals) == 3_999


# ---- the command


def test_select_takes_the_best_and_says_what_ties(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    home, other, out = tmp_path / "run", tmp_path / "other", tmp_path / "soup.safetensors"
    assert soupmerge("grid", *trained, *FEW, "--step", 0.5, "-o", home).status == 0
    assert soupmerge("search", *trained, *FEW, "-n", 2, "-o", other).status == 0
    result = soupmerge("select", home, other, "--max", "union", "-o", out, "--json")
    assert result.status == 0, result.err
    parsed = json.loads(result.out)
    assert parsed["tried"] == 6 + 6 - 3  # the ingredients are there once
    ingredients = sm.load(*trained)
    soup = sm.mix(ingredients, sm.Recipe.from_json(parsed["recipe"]))
    written = sm.load(out)[0]
    assert all(torch.equal(soup[n], written[n]) for n in soup)
    best = max(
        record["metrics"]["union"]["correct"]
        for folder in (home, other)
        for record in Journal(folder / "trials.jsonl").records
    )
    assert parsed["metrics"]["union"]["correct"] == best
    again = soupmerge("select", home, "-o", out)
    assert again.status == 5  # it is there
    assert "--force" in again.err
    code = (
        "import sys\nfrom soupmerge.cli import main\n"
        "sys.exit(main.run(['select', sys.argv[1]]) or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(home)]).returncode == 0


def test_the_command_chooses_as_the_library_does(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    home = tmp_path / "run"
    assert soupmerge("grid", *trained, *FEW, "--step", 0.25, "-o", home).status == 0
    runs = tried([home])
    for words, metric, axes in (
        ([], "union", ("clean", "union")),
        (["--max", "clean"], "clean", ("clean", "union")),
        (["--knee"], None, ("clean", "union")),
        (["--knee", "--x", "union", "--y", "clean"], None, ("union", "clean")),
    ):
        expected = choose(runs, metric, (), *axes)
        parsed = json.loads(soupmerge("select", home, *words, "--json").out)
        assert parsed["recipe"]["weights"]["model"] == list(expected.trial.recipe.weights[0])
        gaps = [gap._asdict() for _, gap in expected.rivals]
        assert [tie["gap"] for tie in parsed["ties"]] == gaps


def test_select_refuses_what_cannot_be_meant(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    home, other = tmp_path / "run", tmp_path / "other"
    assert soupmerge("grid", *trained[:2], *FEW, "--step", 1, "-o", home).status == 0
    words = ["--seed", 1, "--points", 2, "-o", other]
    assert soupmerge("path", *trained[:2], *FEW, *words).status == 0
    for words, status, said in (
        ([home, "--where", "clean>=1.5"], 3, "no soup of 2 meets clean>=1.5"),
        ([home, "--where", "clean"], 2, "not a condition"),
        ([home, "--max", "unoin"], 2, "no metric 'unoin'"),
        ([home, other], 2, "another benchmark"),
        ([home, "--max", "union", "--knee"], 2, "give one of the two"),
        ([tmp_path], 3, "not a run folder"),
        ([home, "-o", tmp_path / "x.pt"], 2, "safetensors"),
    ):
        result = soupmerge("select", *words)
        assert (result.status, said in result.err) == (status, True), result.err
