"""Run folders of searches: what they hold, how they resume, and whose they refuse to be."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.judge.estimate import Estimate, duration
from soupmerge.soups.judge.kept_adversarials import KeptAdversarials
from soupmerge.soups.judge.verdicts import Verdicts, clear
from soupmerge.soups.search.checks import metric_of
from soupmerge.storage import run_folder
from soupmerge.storage.journal import Journal
from tests.shared import Stop, files_of, in_folder, stop_at
from tests.soups.planted import Planted, asked, benchmark, images, make_ingredients, some_flags

pytestmark = pytest.mark.usefixtures("unexamined")

Search = Callable[..., Any]
SEARCHES: dict[str, tuple[Search, dict[str, Any]]] = {
    "grid": (sm.grid, {"step": 0.5}),
    "race": (sm.race, {"step": 0.5}),
    "greedy": (sm.greedy, {}),
    "path": (sm.path, {"points": 3}),
    "search": (sm.search, {"n": 2}),
}
EVERY = pytest.mark.parametrize("name", SEARCHES)


def run_search(name: str, home: Path, judge: sm.Benchmark | None = None, **more: Any) -> Any:
    """Run the search of two ingredients on 40 images, in the folder *home*/run."""
    search, settings = SEARCHES[name]
    ingredients = make_ingredients(home / "in", 2)
    net = Planted(2, some_flags(2, 40, rows=3))
    net.soupmerge_ref = "planted"  # type: ignore[assignment]
    run = in_folder(more.pop("run", sm.Run()), home / "run")
    return search(net, ingredients, judge or benchmark(40), run=run, **{**settings, **more})


# ---- every search


@EVERY
def test_a_search_that_was_killed_goes_on_to_the_same_files(tmp_path: Path, name: str) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = run_search(name, tmp_path, run=sm.Run(whole))
    what = "soups of a round" if name == "race" else "soups"
    for n in (2, 3):
        with pytest.raises(Stop):
            run_search(name, tmp_path, run=sm.Run(cut, progress=stop_at(n, what)))
    assert run_search(name, tmp_path, run=sm.Run(cut)) == expected
    assert files_of(cut) == files_of(whole)


@EVERY
def test_a_search_that_is_done_asks_nothing_again(tmp_path: Path, name: str) -> None:
    judge = benchmark(40)
    expected = run_search(name, tmp_path, judge)
    spent = asked(judge)
    assert spent > 0
    before = files_of(tmp_path / "run")
    assert (
        run_search(name, tmp_path, judge, run=sm.Run(progress=stop_at(1, "images clean")))
        == expected
    )
    assert asked(judge) == spent
    assert files_of(tmp_path / "run") == before


@EVERY
def test_a_run_tells_what_it_was_about(tmp_path: Path, name: str) -> None:
    judge = benchmark(40)
    run_search(name, tmp_path, judge, buffers=sm.Buffers("base", 1))
    home = tmp_path / "run"
    manifest = json.loads((home / "manifest.json").read_text())
    assert manifest["command"] == ("grid" if name == "race" else name)
    assert manifest["benchmark"] == judge.describe()
    ingredients = make_ingredients(tmp_path / "in", 2)
    assert [item["sha256"] for item in manifest["inputs"]] == list(ingredients.hashes)
    plan = json.loads((home / "plan.json").read_text())
    assert plan["soups"] == {"grid": 3, "race": 3, "greedy": None, "path": 3, "search": 5}[name]
    settings = manifest["settings"]
    assert (settings["buffers"], settings["base"]) == ("base", 1)
    assert (manifest["device"], manifest["model"]) == ("cpu", "planted")
    for file in (home / "recipe.json", home / "best" / "clean.json", home / "best" / "union.json"):
        recipe = sm.Recipe.from_json(json.loads(file.read_text()))
        assert (recipe.buffers, recipe.base, recipe.origin) == ("base", 1, manifest["command"])
        assert [entry["sha256"] for entry in recipe.seen] == [judge.data.fingerprint()["sha256"]]
    with open(home / "images.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(judge.data.ids)
    assert [int(row["label"]) for row in rows] == judge.data.labels.tolist()
    soup = sm.load(home / "soup.safetensors")[0]
    recipe = sm.Recipe.from_json(json.loads((home / "recipe.json").read_text()))
    assert torch.equal(soup["weight"], sm.mix(ingredients, recipe)["weight"])
    assert soup.model == "planted"


@EVERY
def test_a_run_of_other_settings_is_refused_and_started_over_by_force(
    tmp_path: Path, name: str
) -> None:
    run_search(name, tmp_path)
    with pytest.raises(UsageError, match=r"benchmark.seed was 0, now 1.*--force"):
        run_search(name, tmp_path, benchmark(40, seed=1))
    with pytest.raises(UsageError, match="settings.buffers was 'average', now 'base'"):
        run_search(name, tmp_path, buffers=sm.Buffers("base"))
    with pytest.raises(UsageError, match="settings.base was 0, now 1"):
        run_search(name, tmp_path, buffers=sm.Buffers(base=1))
    judge = benchmark(40, seed=1)
    found = run_search(name, tmp_path, judge, run=sm.Run(force=True))
    assert asked(judge) > 0
    assert found == run_search(name, tmp_path, benchmark(40, seed=1), run=None)


@EVERY
def test_a_search_without_a_run_folder_finds_the_same_and_writes_nothing(
    tmp_path: Path, name: str
) -> None:
    kept = run_search(name, tmp_path)
    before = files_of(tmp_path)
    assert run_search(name, tmp_path, run=None) == kept
    assert files_of(tmp_path) == before


@EVERY
def test_the_metric_that_chooses_is_the_union_or_clean_without_threats(
    tmp_path: Path, name: str
) -> None:
    for threats, metric in ((2, "union"), (0, "clean")):
        judge, out = benchmark(40, threats=threats), tmp_path / str(threats)
        found = run_search(name, tmp_path, judge, run=sm.Run(out))
        trials = found if isinstance(found, sm.Trials) else found.trials
        recipe = json.loads((out / "recipe.json").read_text())
        row = tuple(recipe["weights"]["model"])
        chosen = next(t for t in trials if t.recipe.weights[0] == row)
        value = chosen.judged().correct(metric)
        if name == "greedy":
            assert found.trial.judged().correct(metric) == value
        else:
            assert value == max(t.judged().correct(metric) for t in trials)
        assert metric_of(judge, None) == metric
    with pytest.raises(UsageError, match="^metric: no metric 'unoin'.*'union'"):
        metric_of(benchmark(4), "unoin")


def test_progress_tells_how_many_soups_are_done_of_how_many_and_what_they_cost(
    tmp_path: Path,
) -> None:
    calls: list[tuple[int, int, str]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        if what == "soups":
            calls.append((done, total, note))

    run_search("grid", tmp_path, run=sm.Run(progress=progress))
    assert [entry[:2] for entry in calls] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert calls[0][2] == ""
    assert all(note.endswith(" left") for _, _, note in calls[1:3])


# ---- other people's folders


def test_a_folder_that_holds_an_ingredient_is_refused(tmp_path: Path) -> None:
    ingredients, home = make_ingredients(tmp_path / "in", 2), tmp_path / "in"
    before = files_of(home)
    for name in SEARCHES:
        with pytest.raises(UsageError, match="contains an input"):
            run_search(name, tmp_path, run=sm.Run(home, force=True))
    assert files_of(home) == before
    assert len(ingredients) == 2


def test_a_folder_with_a_stranger_s_manifest_is_left_alone(tmp_path: Path) -> None:
    web = tmp_path / "web"
    (web / "best").mkdir(parents=True)
    for name in ("manifest.json", "recipe.json", "best/shot.json"):
        (web / name).write_text('{"name": "my app"}')
    before = files_of(web)
    with pytest.raises(InputError, match="not the manifest of a run"):
        run_search("grid", tmp_path, run=sm.Run(web, force=True))
    assert files_of(web) == before


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda lines: lines[::-1], "a record belongs to another soup; start over with --force"),
        (lambda lines: lines * 2, "holds 6 records for 3 soups; start over with --force"),
    ],
)
def test_a_journal_of_other_soups_is_not_believed(tmp_path: Path, harm: Any, says: str) -> None:
    run_search("grid", tmp_path)
    path = tmp_path / "run" / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(harm(lines)))
    with pytest.raises(InputError, match=rf"trials\.jsonl: {says}"):
        run_search("grid", tmp_path)


def test_a_run_goes_on_when_its_ingredients_have_moved(tmp_path: Path) -> None:
    judge = benchmark(40)
    with pytest.raises(Stop):
        run_search("grid", tmp_path, judge, run=sm.Run(progress=stop_at(3, "soups")))
    before = asked(judge)
    shutil.move(tmp_path / "in", tmp_path / "moved")
    ingredients = sm.load(*sorted((tmp_path / "moved").iterdir()))
    net = Planted(2, some_flags(2, 40, rows=3))
    net.soupmerge_ref = "planted"  # type: ignore[assignment]
    found = sm.grid(net, ingredients, judge, step=0.5, run=sm.Run(tmp_path / "run"))
    assert len(found) == 3
    alone = benchmark(40)
    sm.grid(net, ingredients, alone, step=0.5)
    assert asked(judge) == asked(alone) > before


def test_a_finished_run_whose_soup_was_removed_writes_it_again(tmp_path: Path) -> None:
    run_search("grid", tmp_path)
    before = files_of(tmp_path / "run")
    (tmp_path / "run" / "soup.safetensors").unlink()
    run_search("grid", tmp_path)
    assert files_of(tmp_path / "run") == before


# ---- verdicts on single images


@pytest.mark.parametrize("transfer", [False, True])
def test_a_search_that_is_killed_within_a_soup_repeats_no_verdict(
    tmp_path: Path, transfer: bool
) -> None:
    """Only, with transfer, what fell: it must be found again to be tried on the soups to come."""
    ingredients, robust = make_ingredients(tmp_path / "in", 2), some_flags(0, 40, rows=1)
    net = Planted(2, lambda row: [[True] * 40, robust(row)[0]])
    judges = [benchmark(40, batch_size=8, transfer=transfer) for _ in range(2)]
    whole = sm.grid(net, ingredients, judges[0], step=1, run=sm.Run(tmp_path / "whole"))
    cut, progress = tmp_path / "cut", stop_at(3, "images linf:0.1")
    with pytest.raises(Stop):
        sm.grid(net, ingredients, judges[1], step=1, run=sm.Run(cut, progress=progress))
    kept = Journal(cut / "verdicts.jsonl").records
    assert [record["of"] for record in kept] == ["clean"] * 5 + ["linf:0.1 0"] * 3
    fell = [i for record in kept[5:] for i in record["fall"]]
    assert fell == np.nonzero(~robust((1.0, 0.0))[0, :24])[0].tolist()
    assert sm.grid(net, ingredients, judges[1], step=1, run=sm.Run(cut)) == whole
    spent, again = map(asked, judges)
    # Images come in batches of 8, and a batch that is not all known is asked again.
    assert spent <= again <= spent + (24 if transfer else 0)
    assert files_of(cut) == files_of(tmp_path / "whole")
    assert not (cut / "verdicts.jsonl").exists()


def test_verdicts_are_of_one_evaluation_and_one_question(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path / "run", {"command": "grid"}) as folder:
        Verdicts(folder, 3).add("clean", {0: True, 5: False})
        ledger = Verdicts(folder, 4)
        assert ledger.known("clean") == {}
        ledger.add("clean", {7: True, 2: False})
        ledger.add("linf:0.1 0", {7: False})
        ledger.add("clean", {1: True})
        again = Verdicts(folder, 4)
        for found in (ledger, again):
            assert found.known("clean") == {7: True, 2: False, 1: True}
            assert found.known("linf:0.1 0") == {7: False}
            assert found.known("l2:1 0") == {}
        assert Verdicts(folder, 3).known("clean") == {0: True, 5: False}
        clear(folder)
        assert Verdicts(folder, 4).known("clean") == {}
        clear(folder)


@pytest.mark.parametrize("harm", [{"hold": 5}, {"fall": None}, {"of": ...}])
def test_a_record_that_holds_no_verdicts_is_refused(tmp_path: Path, harm: dict[str, Any]) -> None:
    record = {"evaluation": 0, "of": "clean", "hold": [1], "fall": [2], **harm}
    with run_folder.opened(tmp_path / "run", {"command": "grid"}) as folder:
        kept = {key: value for key, value in record.items() if value is not ...}
        folder.journal("verdicts.jsonl").append(kept)
        with pytest.raises(InputError, match=r"verdicts\.jsonl: .* no verdicts; .*--force"):
            Verdicts(folder, 0)
        assert Verdicts(folder, 1).known("clean") == {}


# ---- what fooled the soups before


def test_what_fooled_a_soup_before_is_tried_first_on_the_next(tmp_path: Path) -> None:
    """The attack meets only images that no earlier image fooled; the table decides the verdicts."""
    table = some_flags(2, 40, rows=3)
    plain, judge = benchmark(40, threats=2), benchmark(40, threats=2, transfer=True)
    alone = run_search("grid", tmp_path, plain, run=sm.Run(tmp_path / "plain"))
    found = run_search("grid", tmp_path, judge)
    assert [t.judged().flags["l2:0.5"].tolist() for t in found] == [
        t.judged().flags["l2:0.5"].tolist() for t in alone
    ]
    fooled: dict[int, set[int]] = {1: set(), 2: set()}
    expected = 0
    for trial in found:
        flags = np.asarray(table(trial.recipe.weights[0]))
        for row, before in fooled.items():
            falls = set(np.nonzero(flags[0] & ~flags[row])[0].tolist())
            expected += int(flags[0].sum()) - len(falls & before)
            before |= falls
    assert asked(judge) == expected < asked(plain)
    assert found[0].judged().to_metrics()["l2:0.5"]["transfer"] is True
    assert not (tmp_path / "run" / "adversarial.safetensors").exists()


def test_what_fooled_before_survives_a_kill(tmp_path: Path) -> None:
    whole = benchmark(40, transfer=True)
    expected = run_search("grid", tmp_path, whole, run=sm.Run(tmp_path / "whole"))
    judge = benchmark(40, transfer=True)
    with pytest.raises(Stop):
        run_search("grid", tmp_path, judge, run=sm.Run(progress=stop_at(2, "soups")))
    kept = tmp_path / "run" / "adversarial.safetensors"
    assert kept.exists()
    assert run_search("grid", tmp_path, judge) == expected
    assert asked(judge) == asked(whole)
    assert not kept.exists()


def test_what_fooled_before_is_refused_if_it_is_damaged(tmp_path: Path) -> None:
    judge = benchmark(40, transfer=True)
    with pytest.raises(Stop):
        run_search("grid", tmp_path, judge, run=sm.Run(progress=stop_at(2, "soups")))
    kept = tmp_path / "run" / "adversarial.safetensors"
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"adversarial\.safetensors.*damaged"):
        run_search("grid", tmp_path, judge)


def test_fooling_images_are_held_after_they_were_saved_and_only_then(tmp_path: Path) -> None:
    x = images(3).batch(torch.arange(3))[0]
    with run_folder.opened(tmp_path / "run", {"command": "grid"}) as folder:
        fooling = KeptAdversarials(folder)
        fooling.keep("linf:0.1", ["a", "b"], x[:2])
        assert KeptAdversarials(folder).known("linf:0.1", ["a", "b"]) == []
        fooling.save()
        again = KeptAdversarials(folder)
        assert again.known("linf:0.1", ["b", "c", "a"]) == [0, 2]
        assert torch.equal(again.images("linf:0.1", ["b"]), x[1:2])
        again.clear()
        assert KeptAdversarials(folder).known("linf:0.1", ["a"]) == []
    nowhere = KeptAdversarials(None)
    nowhere.keep("linf:0.1", ["a"], x[:1])
    nowhere.save()
    nowhere.clear()
    assert nowhere.known("linf:0.1", ["a"]) == [0]


# ---- what is left


def test_an_estimate_is_the_mean_of_the_soups_so_far() -> None:
    estimate = Estimate()
    assert estimate.note(7) == ""
    for gradients, seconds in ((1_000, 2.0), (999_500, 4.0)):
        report = run_report(gradient_evaluations=gradients, seconds=seconds)
        estimate.add(report)
    assert (estimate.soups, estimate.gradients, estimate.seconds) == (2, 1_000_500, 6.0)
    assert estimate.note(7) == "1.0 million gradient evaluations, about 21 s left"
    assert estimate.note(0) == "1.0 million gradient evaluations"
    few = Estimate()
    few.add(run_report(gradient_evaluations=999_999, forward_evaluations=8, seconds=0.12345))
    few.add(run_report(forward_evaluations=4))
    cost = {"gradient_evaluations": 999_999, "forward_evaluations": 12, "seconds": 0.123}
    assert few.cost() == cost
    assert few.note(1) == "999,999 gradient evaluations, about 0 s left"


def run_report(**cost: float) -> sm.Report:
    return replace(sm.Report({}, {"clean": torch.ones(1).bool()}, {}), cost=cost)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (42, "42 s"), (99.4, "99 s"), (100, "2 min"), (600, "10 min")]
    + [(5_999, "100 min"), (6_000, "1.7 h"), (100_000, "27.8 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@EVERY
def test_verdicts_that_a_kill_left_after_the_last_soup_are_cleared(
    tmp_path: Path, name: str
) -> None:
    run_search(name, tmp_path)
    left = tmp_path / "run" / "verdicts.jsonl"
    assert not left.exists()
    left.write_text("")
    run_search(name, tmp_path)
    assert not left.exists()
