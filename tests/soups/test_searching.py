"""Searching the simplex: one room for all searches, the race, greedy, path, search, select."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.transfer import Fooling
from soupmerge.soups.betting import Capitals
from soupmerge.soups.metrics import Condition, Metric, interval, paired
from soupmerge.soups.path import steps_of
from soupmerge.soups.searching import drawn
from soupmerge.soups.subset import Subset
from soupmerge.weights.holding import Held, held
from tests.shared import Stop, files_of, stop_at, trial

Typed = Callable[..., Any]
FEW = ["--data", "digits", "--limit", 30, "--threat", "linf:0.1", "--steps", 4, "-q"]


@pytest.fixture(scope="module")
def chooser() -> sm.Benchmark:
    images = sm.data("digits", split="val", limit=40)
    return sm.Benchmark(images, [sm.APGD(sm.Linf(0.12), steps=4)], name="val")


# ---- ingredients in memory


@pytest.mark.parametrize("policy", ["average", "base"])
def test_soups_of_held_ingredients_are_those_of_files_bit_for_bit(
    pots: sm.Ingredients, policy: str
) -> None:
    stacked = held(pots)
    assert all(isinstance(view, Held) for pot in stacked for view in pot.views.values())
    for row in ([1, 0, 0], [0.2, 0.5, 0.3], [1 / 3] * 3, [1.5, -0.2, -0.3]):
        recipe = sm.Recipe.of(pots, row, buffers="base" if min(row) < 0 else policy, affine=True)
        ours, plain = sm.mix(stacked, recipe), sm.mix(pots, recipe)
        assert list(ours) == list(plain)
        assert all(torch.equal(ours[n], plain[n]) for n in plain)


def test_held_ingredients_need_no_files(pots: sm.Ingredients) -> None:
    recipe = sm.Recipe.uniform(pots)
    before, stacked = sm.mix(pots, recipe), held(pots)
    for file in pots.files:
        file.unlink()
    after = sm.mix(stacked, recipe)
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_what_does_not_fit_stays_in_files(pots: sm.Ingredients) -> None:
    assert held(pots, most=1000) is pots


# ---- verdicts are kept


@pytest.mark.parametrize("transfer", [False, True])
def test_a_grid_that_is_killed_within_a_soup_repeats_no_verdict(
    kitchen: tuple[nn.Module, sm.Ingredients],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transfer: bool,
) -> None:
    from soupmerge.robustness.judging import Meter

    net, pots = kitchen
    images, asked, call = sm.data("digits", split="val", limit=48), [], Meter.__call__

    def counted(meter: Meter, x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x) if x.requires_grad else 0)
        return call(meter, x)

    monkeypatch.setattr(Meter, "__call__", counted)
    attacks = [sm.APGD(sm.Linf(0.12), steps=8)]
    judge = sm.Benchmark(images, attacks, batch_size=8, transfer=transfer)
    sm.grid(net, pots, judge, step=1, out=tmp_path / "whole")
    whole = sum(asked)
    asked.clear()
    progress = stop_at(9, "images linf:0.12")
    with pytest.raises(Stop):
        sm.grid(net, pots, judge, step=1, out=tmp_path / "cut", progress=progress)
    kept = (tmp_path / "cut" / "verdicts.jsonl").read_text()
    assert "linf:0.12 0" in kept
    sm.grid(net, pots, judge, step=1, out=tmp_path / "cut")
    # No more than what was on its way at the kill is computed twice, and what fell if it is tried
    # on the soups to come: it must be found again, and is not in the ledger.
    assert whole <= sum(asked) <= whole + 8 * 8 * (2 if transfer else 1)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


# ---- metrics


def test_metrics_are_exact_and_read_as_they_are_written() -> None:
    report = trial(9, 3).judged()
    assert Metric.parse("clean").value(report) == Fraction(9, 10)
    assert Metric.parse("1/3*clean + 2/3*linf:0.1").value(report) == Fraction(1, 2)
    assert Metric.parse("clean+clean").value(report) == Fraction(9, 5)
    mixed = Metric.parse("0.25*clean+0.75*union")
    assert float(mixed.per_image(report).mean()) == pytest.approx(float(mixed.value(report)))


@pytest.mark.parametrize("text", ["", "0.5*", "x*clean", "clean+", "nan*clean"])
def test_metrics_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="metric"):
        Metric.parse(text)


def test_conditions_compare_exactly() -> None:
    report = trial(9, 3).judged()
    assert Condition.parse("clean>=0.9").met(report)
    assert not Condition.parse("clean > 0.9").met(report)
    assert Condition.parse("0.5*clean+0.5*union<0.61").met(report)
    for text in ("clean", "clean=0.9", ">=0.5", "clean>=", "clean>=0.5>=0.2"):
        with pytest.raises(UsageError):
            Condition.parse(text)


def test_paired_intervals_hold_what_they_say() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(1500):
        differences = draw.integers(-1, 2, 200) * 0.6 + 0.1
        gap = interval(differences)
        covered += gap.low <= 0.1 <= gap.high
    assert 0.935 * 1500 <= covered <= 0.965 * 1500
    one = trial(9, 3).judged()
    assert paired(one, one, Metric.parse("clean")).mean == 0
    assert paired(one, one, Metric.parse("clean")).low < 0 < interval(np.zeros(10)).high


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=12))
def test_the_knee_is_highest_above_the_chord(points: list[tuple[int, int]]) -> None:
    points = [(clean, min(clean, robust)) for clean, robust in points]
    trials = sm.Trials(tuple(trial(*p) for p in points))
    front = [points[i] for i in trials.front("clean", "linf:0.1")]
    knee = points[trials.trials.index(trials.knee("clean", "linf:0.1"))]
    (x0, y0), (x1, y1) = front[0], front[-1]

    def above(p: tuple[int, int]) -> int:
        return (p[1] - y0) * (x1 - x0) - (p[0] - x0) * (y1 - y0)

    assert knee in front
    assert all(above(knee) >= above(p) for p in front)


# ---- attacks that give up


def test_giving_up_can_only_spare_images_and_begins_at_the_same_points(
    kitchen: tuple[nn.Module, sm.Ingredients],
) -> None:
    net, pots = kitchen
    images = sm.data("digits", split="val", limit=60)
    full = sm.Benchmark(images, [sm.APGD(sm.Linf(0.15), steps=50)])
    bound = sm.bind(net, pots[0])
    whole, short = full(bound), full.brief()(bound)
    assert bool((short.right("union") | ~whole.right("union")).all())
    assert short.correct("union") - whole.correct("union") <= 1
    assert short.cost["gradient_evaluations"] < 0.7 * whole.cost["gradient_evaluations"]
    assert "gives up" in full.brief().describe()["attacks"]["linf:0.15"]
    assert repr(full.brief().attacks[0]) == repr(full.attacks[0])


# ---- what fooled the soups before


def test_what_fooled_a_soup_before_is_tried_first_and_only_adds_strength(
    kitchen: tuple[nn.Module, sm.Ingredients], tmp_path: Path
) -> None:
    net, pots = kitchen
    images = sm.data("digits", split="val", limit=60)
    plain = sm.Benchmark(images, [sm.APGD(sm.Linf(0.15), steps=6), sm.APGD(sm.L2(1), steps=6)])
    alone = sm.grid(net, pots, plain, step=0.5)
    after = sm.grid(net, pots, replace(plain, transfer=True), step=0.5, out=tmp_path / "run")
    for one, other in zip(alone, after, strict=True):
        for metric in plain.metrics:
            assert bool((one.judged().right(metric) | ~other.judged().right(metric)).all())
    first, last = after[0].judged(), after[-1].judged()
    assert all(torch.equal(first.flags[m], alone[0].judged().flags[m]) for m in first.flags)
    spent = "gradient_evaluations"
    assert last.cost[spent] < alone[-1].judged().cost[spent]
    assert last.to_metrics()["l2:1"]["transfer"] is True
    assert not (tmp_path / "run" / "adversarial.safetensors").exists()


def test_what_fooled_before_is_no_verdict_until_it_is_confirmed(
    kitchen: tuple[nn.Module, sm.Ingredients],
) -> None:
    net, pots = kitchen
    images = sm.data("digits", split="val", limit=20)
    judge, bound = sm.Benchmark(images, [sm.APGD(sm.Linf(0.1), steps=3)]), sm.bind(net, pots[0])
    x, _ = images.batch(torch.arange(20))
    harmless, strange = Fooling(), Fooling()
    harmless.keep("linf:0.1", images.ids, x)
    assert judge(bound, fooling=harmless) == judge(bound)
    strange.keep("linf:0.1", images.ids, 1 - x)
    with pytest.raises(InputError, match="left its threat model"):
        judge(bound, fooling=strange)


def test_what_fooled_before_is_refused_if_it_is_damaged(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    judge, out = replace(chooser, transfer=True), tmp_path / "run"
    with pytest.raises(Stop):
        sm.grid(net, pots, judge, step=1, out=out, progress=stop_at(2, "soups"))
    kept = out / "adversarial.safetensors"
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"adversarial\.safetensors.*damaged"):
        sm.grid(net, pots, judge, step=1, out=out)


def test_what_cannot_give_up_stays_as_it_is() -> None:
    few = sm.Benchmark(
        sm.data("digits", limit=4), [sm.APGD(sm.L1(1.0)), sm.AutoAttack(sm.Linf(0.1))]
    )
    assert few.brief() == few
    assert sm.APGD(sm.Linf(0.1), steps=49).brief() == sm.APGD(sm.Linf(0.1), steps=49)


# ---- the race


def test_capitals_are_seldom_won_where_there_is_nothing_to_win() -> None:
    """Ville: of soups that are not better, 5% at most are ever taken for better."""
    draw = np.random.default_rng(0)
    wrong = 0
    for n, split in ((40, 10), (200, 20), (200, 100)):
        row = np.array([1.0] * split + [-1.0] * split + [0.0] * (n - 2 * split))
        table = np.stack([draw.permutation(row) for _ in range(2000)])
        capitals, ever = Capitals(len(table), n), np.zeros(len(table), dtype=bool)
        for at in range(0, n, 5):
            capitals.see(table[:, at : at + 5])
            ever |= capitals.decided(0.05)
        wrong = max(wrong, int(ever.sum()))
    assert 0 < wrong <= 0.05 * 2000


def test_capitals_are_won_where_there_is_something_and_surely_at_the_end() -> None:
    draw = np.random.default_rng(0)
    row = np.array([1.0] * 30 + [-1.0] * 5 + [0.0] * 165)
    table = np.stack([draw.permutation(row) for _ in range(200)])
    capitals = Capitals(200, 200)
    capitals.see(table[:, :120])
    assert capitals.decided(0.001).mean() > 0.5
    capitals.see(table[:, 120:])
    assert capitals.decided(1e-300).all()


def test_some_images_get_the_verdicts_that_they_get_among_all(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark
) -> None:
    net, pots = kitchen
    bound, part = sm.bind(net, pots[0]), torch.tensor([31, 4, 17, 8, 20])
    whole = chooser(bound)
    some = replace(chooser, data=Subset(chooser.data, part, "compare"))(bound)
    for metric in whole.metrics:
        assert some.right(metric).tolist() == whole.right(metric)[part].tolist()


@pytest.mark.parametrize("goal", ["front", "best"])
def test_a_race_ends_as_the_grid_does(
    kitchen: tuple[nn.Module, sm.Ingredients],
    chooser: sm.Benchmark,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    goal: str,
) -> None:
    from soupmerge.soups import racing

    monkeypatch.setattr(racing, "FEWEST", 5)
    net, pots = kitchen
    grid = sm.grid(net, pots, chooser, step=0.5)
    race = sm.race(net, pots, chooser, step=0.5, goal=goal, out=tmp_path / "whole")
    kept = [i for i, runner in enumerate(race.runners) if runner.beaten_by is None]
    assert [grid[i].judged() for i in kept] == [t.judged() for t in race.trials]
    assert race.trials.best("union").judged().correct("union") == grid.best().judged().correct(
        "union"
    )
    if goal == "front":
        assert set(grid.front("clean", "union")) <= set(kept)
    for runner in race.runners:
        assert (runner.images == 40) >= (runner.beaten_by is None)
    for n in (2, 5, 11):
        progress = stop_at(n, "images linf:0.12")
        with pytest.raises(Stop):
            sm.race(
                net,
                pots,
                chooser,
                step=0.5,
                goal=goal,
                out=tmp_path / "cut",
                progress=progress,
            )
    again = sm.race(net, pots, chooser, step=0.5, goal=goal, out=tmp_path / "cut")
    assert again == race
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


# ---- greedy


def test_greedy_is_the_definition(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    metric = Metric.parse("0.5*clean+0.5*union")

    def value(members: list[int]) -> Fraction:
        row = [float(i in members) / len(members) for i in range(3)]
        return metric.value(chooser(sm.bind(net, sm.mix(pots, sm.Recipe.of(pots, row)))))

    ranked = sorted(range(3), key=lambda i: -value([i]))
    members = ranked[:1]
    for k in ranked[1:]:
        if value([*members, k]) >= value(members):
            members.append(k)
    found = sm.greedy(net, pots, chooser, metric="0.5*clean+0.5*union", out=tmp_path / "run")
    weights = found.trial.recipe.weights[0]
    assert {i for i, w in enumerate(weights) if w} == set(members)
    assert len(found.decisions) == 2
    assert [d.accepted for d in found.decisions] == [k in members for k in ranked[1:]]
    told = json.loads((tmp_path / "run" / "decisions.json").read_text())
    assert [t["reason"] for t in told] == [d.reason for d in found.decisions]


def test_more_orders_and_pruning_are_no_worse_and_repeat_no_soup(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    net, pots = kitchen
    plain = sm.greedy(net, pots, chooser)
    more = sm.greedy(net, pots, chooser, orders=4, prune=True, out=tmp_path / "whole")
    union = [found.trial.judged().correct("union") for found in (plain, more)]
    assert union[1] >= union[0]
    rows = [t.recipe.weights for t in more.trials]
    assert len(rows) == len(set(rows)) <= 7
    progress = stop_at(4, "soups")
    with pytest.raises(Stop):
        sm.greedy(net, pots, chooser, orders=4, prune=True, out=tmp_path / "cut", progress=progress)
    assert sm.greedy(net, pots, chooser, orders=4, prune=True, out=tmp_path / "cut") == more
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


# ---- the path


@given(points=st.integers(2, 40), beyond=st.floats(0, 3))
def test_a_path_has_both_ends_and_even_steps(points: int, beyond: float) -> None:
    steps = steps_of(points, beyond)
    assert {0.0, 1.0} <= set(steps)
    gaps = [b - a for a, b in pairwise(steps)]
    assert max(gaps) - min(gaps) < 1e-12
    assert -steps[0] == pytest.approx(steps[-1] - 1)
    assert beyond - gaps[0] < -steps[0] <= beyond + 1e-6


def test_a_path_is_above_its_chord_by_what_it_is(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark
) -> None:
    net, pots = kitchen
    two = sm.Ingredients((pots[0], pots[2]))
    line = sm.path(net, two, chooser, points=3, beyond=0.5, buffers="base")
    assert line.t == (-0.5, 0.0, 0.5, 1.0, 1.5)
    assert [t.recipe.weights[0] for t in line.trials][0] == (1.5, -0.5)
    ends = [line.trials[i].judged().accuracy("union") for i in (1, 3)]
    here = line.trials[2].judged().accuracy("union")
    assert line.gain(2, "union").mean == pytest.approx(here - sum(ends) / 2)
    assert line.gain(1, "union").mean == line.gain(3, "clean").mean == 0
    assert line.lift(1, "clean", "union") in (None, 0.0)
    with pytest.raises(UsageError, match="2 ends, not 3"):
        sm.path(net, pots, chooser)


# ---- random and CMA-ES


def test_random_soups_are_uniform_on_the_simplex() -> None:
    rows = np.array(list(drawn(3, 3000, 0)))
    assert rows.min() >= 0
    assert np.allclose(rows.sum(1), 1)
    assert np.allclose(rows.mean(0), 1 / 3, atol=0.02)
    assert np.allclose((rows > 0.5).mean(0), 0.25, atol=0.03)  # a quarter of a triangle's area


@pytest.mark.parametrize("method", ["random", "cma"])
def test_a_search_resumes_to_the_same_files_and_leaves_numpy_alone(
    kitchen: tuple[nn.Module, sm.Ingredients], chooser: sm.Benchmark, tmp_path: Path, method: str
) -> None:
    net, pots = kitchen
    np.random.seed(7)  # noqa: NPY002 - that of everyone
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    whole = sm.search(net, pots, chooser, method=method, n=9, out=tmp_path / "whole")
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert len(whole) == 13
    progress = stop_at(11, "soups")
    with pytest.raises(Stop):
        sm.search(net, pots, chooser, method=method, n=9, out=tmp_path / "cut", progress=progress)
    assert sm.search(net, pots, chooser, method=method, n=9, out=tmp_path / "cut") == whole
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_cma_climbs() -> None:
    """On a benchmark that is the distance to a point, it comes nearer than chance does."""
    from types import SimpleNamespace

    from soupmerge.soups.searching import _evolve

    aim, seen = np.array([0.6, 0.3, 0.1]), []

    def trial(row: Any) -> Any:
        seen.append(float(np.abs(np.array(row) - aim).sum()))
        return SimpleNamespace(judged=lambda: seen[-1])

    evaluator: Any = SimpleNamespace(trial=trial, recipe=lambda row: row)
    metric: Any = SimpleNamespace(value=lambda distance: -distance)
    _evolve(evaluator, 3, 150, metric, seed=0)
    assert len(seen) == 150
    assert min(seen[-20:]) < 0.05 < np.mean(seen[:20])


# ---- select


def test_select_takes_the_best_and_says_what_ties(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    run, other, out = tmp_path / "run", tmp_path / "other", tmp_path / "soup.safetensors"
    assert soupmerge("grid", *trained, *FEW, "--step", 0.5, "-o", run).status == 0
    assert soupmerge("search", *trained, *FEW, "-n", 2, "-o", other).status == 0
    result = soupmerge("select", run, other, "--max", "union", "-o", out, "--json")
    assert result.status == 0, result.err
    told = json.loads(result.out)
    assert told["tried"] == 6 + 6 - 3  # the ingredients are there once
    pots = sm.load(*trained)
    soup = sm.mix(pots, sm.Recipe.from_json(told["recipe"]))
    written = sm.load(out)[0]
    assert all(torch.equal(soup[n], written[n]) for n in soup)
    grid = json.loads(soupmerge("grid", *trained, *FEW, "--step", 0.5, "-o", run, "--json").out)
    best = max(t["metrics"]["union"]["correct"] for t in grid["trials"])
    assert told["metrics"]["union"]["correct"] >= best
    assert soupmerge("select", run, "-o", out).status == 5  # it is there
    assert "--force" in soupmerge("select", run, "-o", out).err
    assert soupmerge("select", run, "--knee").status == 0
    code = (
        "import sys\nfrom soupmerge.cli import main\n"
        "sys.exit(main.run(['select', sys.argv[1]]) or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run)]).returncode == 0


def test_select_refuses_what_cannot_be_meant(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert soupmerge("grid", *trained[:2], *FEW, "--step", 1, "-o", run).status == 0
    assert (
        soupmerge("path", *trained[:2], *FEW, "--seed", 1, "--points", 2, "-o", other).status == 0
    )
    for words, status, said in (
        ([run, "--where", "clean>=1.5"], 3, "no soup of 2 meets clean>=1.5"),
        ([run, "--where", "clean"], 2, "not a condition"),
        ([run, "--max", "unoin"], 2, "no metric 'unoin'"),
        ([run, other], 2, "another benchmark"),
        ([run, "--max", "union", "--knee"], 2, "one or the other"),
        ([tmp_path], 3, "not a run folder"),
        ([run, "-o", tmp_path / "x.pt"], 2, "safetensors"),
    ):
        result = soupmerge("select", *words)
        assert (result.status, said in result.err) == (status, True), result.err
    moved = trained[0].rename(tmp_path / "gone.safetensors")
    try:
        result = soupmerge("select", run, "--where", "clean>=0", "-o", tmp_path / "s.safetensors")
        assert result.status in (0, 3)
        assert result.status == 0 or "no such files" in result.err
    finally:
        moved.rename(trained[0])


def test_a_run_of_ten_thousand_soups_is_read_at_once(
    kitchen: tuple[nn.Module, sm.Ingredients], tmp_path: Path
) -> None:
    import time

    from soupmerge.soups.choosing import choose, tried
    from soupmerge.storage import run
    from soupmerge.storage.journal import _sealed

    _, pots = kitchen
    report = trial(9, 3).judged()
    with run.opened(
        tmp_path / "run",
        {"command": "search", "benchmark": {"data": {}, "attacks": dict(report.attacks)}},
    ):
        pass
    (tmp_path / "run" / "plan.json").write_text('{"soups": 10000, "seen": [{}]}')
    with open(tmp_path / "run" / "trials.jsonl", "w") as file:
        told = {"recipe": sm.Recipe.uniform(pots).to_json(), **report.to_record()}
        for row in drawn(3, 10_000, 0):
            made = {**told, "recipe": {**told["recipe"], "weights": {"model": list(row)}}}
            file.write(_sealed(made) + "\n")
    began = time.process_time()
    choice = choose(tried([tmp_path / "run"]), "union", ["clean>=0.5"], "clean", "union")
    assert time.process_time() - began < 3
    assert len(choice.rivals) == 9_999


# ---- the commands


def test_commands_that_cannot_be_meant(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    for line, status, said in (
        ("greedy {a} {b} --metric unoin", 2, "did you mean 'union'?"),
        ("greedy {a}", 2, "two or more"),
        ("path {a}", 2, "2 ends, not 1"),
        ("path {a} {b} --points 1", 2, "--points"),
        ("search {a} {b} --method cmaes", 2, "did you mean 'cma'?"),
        ("search {a} {b} -n 0", 2, "not a number to judge"),
        ("search {a} {b} -n 1000000000", 2, "1,000,000,000 soups"),
        ("grid {a} {b} --best 0.5*clean+0.5*uniom", 2, "'union'"),
        ("grid {a} {b} --race --step 1e-9", 2, "too many to judge"),
    ):
        words = line.format(a=trained[0], b=trained[1]).split()
        result = soupmerge(*words, *FEW, "-o", tmp_path / "run")
        assert (result.status, said in result.err) == (status, True), (line, result.err)
        assert not (tmp_path / "run").exists()


def test_a_search_that_chooses_on_test_images_is_warned_of(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    words = [*FEW, "--split", "test", "--points", 2, "-o", tmp_path / "run"]
    typed = soupmerge("path", *trained[:2], *words)
    assert typed.status == 0
    assert "judge the soup on other images" in typed.err


def test_a_changed_setting_is_refused(
    soupmerge: Typed, trained: list[Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["grid", *trained[:2], *FEW, "--step", 1, "-o", run]
    assert soupmerge(*words, "--race").status == 0
    result = soupmerge(*words)
    assert result.status == 2
    assert "settings.race was 'front', now None" in result.err
    assert soupmerge(*words, "--race", "--json").status == 0


def test_a_damaged_round_is_named(soupmerge: Typed, trained: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["grid", *trained[:2], *FEW, "--step", 1, "--race", "-o", run]
    assert soupmerge(*words).status == 0
    path = run / "rounds.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[::-1]))
    result = soupmerge(*words)
    assert result.status == 3
    assert "another soup or round" in result.err
    path.write_bytes(b"".join(lines)[:-9])
    mended = soupmerge(*words)
    assert mended.status == 0
    assert "torn last line" in mended.err
    assert path.read_bytes() == b"".join(lines)
