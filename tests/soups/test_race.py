"""Races: the bets that decide them, and that what is dropped is beaten."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.schedule import order
from soupmerge.soups.search.betting import BettingTest
from soupmerge.soups.search.race import ALPHA, FEWEST, MOST_ROUNDS, Race
from soupmerge.storage.journal import Journal
from tests.shared import Stop, files_of, stop_at
from tests.soups.planted import Planted, Row, Table, asked, benchmark, first, make_ingredients

pytestmark = pytest.mark.usefixtures("unexamined")

SURE = 1e-9
"""No capital of these tests grows so large unless nothing can be lost any more."""


# ---- bets


def capitals_of(d: Sequence[float], n: int) -> Iterator[float]:
    """Yield the capital after each of the differences *d*, until no more can be lost.

    Waudby-Smith & Ramdas 2023, betting without replacement: K ← K (1 + λ (d − μ)), λ = f / (1 + μ),
    μ = −S / (images left), for twelve f from 0.02 to 0.95 in even ratios; the mean of the twelve.
    """
    bets = [0.02 * (0.95 / 0.02) ** (i / 11) for i in range(12)]
    purses, total = [1.0] * 12, 0.0
    for i, x in enumerate(d):
        mean = -total / (n - i)
        if mean <= -1:
            break
        purses = [k * (1 + f / (1 + mean) * (x - mean)) for k, f in zip(purses, bets, strict=True)]
        total += x
        yield sum(purses) / 12


@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.5]))
def test_capitals_are_those_of_the_bets(seed: int, unit: float) -> None:
    draw = np.random.default_rng(seed)
    d = unit * draw.choice([-1, 0, 1], 60, p=[0.2, 0.3, 0.5])
    capitals = BettingTest(1, 100)
    for i, capital in enumerate(capitals_of(d, 100)):
        capitals.see(d[None, i : i + 1])
        assert capitals.decided(1 / (capital * (1 - 1e-9))).all()
        assert not capitals.decided(1 / (capital * (1 + 1e-9))).any()


def test_images_may_come_one_by_one_or_together_and_pairs_do_not_meet() -> None:
    table = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (5, 40), p=[0.1, 0.4, 0.5])
    whole, single = BettingTest(5, 60), [BettingTest(1, 60) for _ in range(5)]
    whole.see(table)
    for row, capitals in zip(table, single, strict=True):
        for d in row:
            capitals.see(np.array([[d]]))
    for alpha in (0.5, 0.1, 0.01, 1e-3, 1e-4):
        alone = [bool(capitals.decided(alpha)[0]) for capitals in single]
        assert whole.decided(alpha).tolist() == alone


@pytest.mark.parametrize(
    ("d", "certain"),
    [
        ([1] * 5, False),  # 5 ahead, 5 left: they may yet be equal
        ([1] * 6, True),  # 6 ahead, 4 left
        ([1] * 5 + [0], True),  # 5 ahead, 4 left
        ([1] * 5 + [-1] * 5, False),
        ([1] * 5 + [-1] * 4 + [0], True),
        ([0] * 10, False),
        ([0] * 9 + [0.1], True),  # all seen
        ([0.5] * 7 + [-0.5] * 3, True),
        ([0.1] * 3 + [-0.3] + [0] * 6, False),  # equal, but for rounding
    ],
)
def test_who_cannot_be_caught_is_surely_better(d: list[float], certain: bool) -> None:
    capitals = BettingTest(1, 10)
    for x in d:
        capitals.see(np.array([[float(x)]]))
    assert bool(capitals.decided(SURE)[0]) is certain


def test_certainty_does_not_depend_on_the_level() -> None:
    """6 ahead with 4 left, and then behind: at any level, 2 ahead in the end is better."""
    capitals = BettingTest(1, 10)
    capitals.see(np.array([[1.0] * 6 + [-1.0]]))
    assert capitals.decided(1e-300).all()


def test_capitals_are_seldom_won_where_there_is_nothing_to_win() -> None:
    """Ville: of soups that are not better, 5% at most are ever taken for better."""
    draw = np.random.default_rng(0)
    wrong = 0
    for n, split in ((40, 10), (200, 20), (200, 100)):
        row = np.array([1.0] * split + [-1.0] * split + [0.0] * (n - 2 * split))
        table = np.stack([draw.permutation(row) for _ in range(2000)])
        capitals, ever = BettingTest(len(table), n), np.zeros(len(table), dtype=bool)
        for at in range(0, n, 5):
            capitals.see(table[:, at : at + 5])
            ever |= capitals.decided(0.05)
        wrong = max(wrong, int(ever.sum()))
    assert 0 < wrong <= 0.05 * 2000


def test_capitals_are_won_where_there_is_something_and_surely_at_the_end() -> None:
    draw = np.random.default_rng(0)
    row = np.array([1.0] * 30 + [-1.0] * 5 + [0.0] * 165)
    table = np.stack([draw.permutation(row) for _ in range(200)])
    capitals = BettingTest(200, 200)
    capitals.see(table[:, :120])
    assert capitals.decided(0.001).mean() > 0.5
    capitals.see(table[:, 120:])
    assert capitals.decided(1e-300).all()


# ---- races


def counted(counts: dict[Row, tuple[int, int]], n: int) -> Table:
    """Return a table: the soup of these coefficients has so many of *n* right, clean and robust."""
    return lambda row: first(*counts[row], n=n)


def ladder(n: int, seed: int = 0) -> Table:
    """Return a table of soups that differ: ingredient 0 is robust, 1 accurate, 2 neither."""

    def table(row: Row) -> Any:
        draw = np.random.default_rng([seed, *(round(10_000 * w) for w in row)])
        rates = np.array([[0.9 - 0.2 * row[0] - 0.3 * row[2]], [0.3 + 0.6 * row[0]]])
        return draw.random((2, n)) < rates

    return table


def race(tmp_path: Path, k: int, table: Table, judge: sm.Benchmark, **settings: Any) -> Race:
    return sm.race(Planted(k, table), make_ingredients(tmp_path / "in", k), judge, **settings)


@pytest.mark.parametrize(("k", "goal"), [(2, "front"), (4, "best"), (6, "best")])
def test_a_soup_is_dropped_when_the_capital_is_the_number_of_pairs_over_5_percent(
    tmp_path: Path, k: int, goal: str
) -> None:
    """The first of k soups is ahead of the second on m images of the first round, by design."""
    pairs, n = k * (k - 1), 64
    early = order(n, 0, 0)[:32].tolist()
    capitals = [list(capitals_of([1.0] * m + [0.0] * (32 - m), n))[-1] for m in range(20)]
    least = next(m for m, capital in enumerate(capitals) if capital >= pairs / 0.05)
    assert capitals[least - 1] > 1 / 0.05 or k == 2  # of a single pair, that would be enough
    for m, dropped in ((least - 1, False), (least, True)):
        lost, won_back = set(early[:m]), set(order(n, 0, 0)[32 : 32 + m].tolist())

        def table(row: Row, lost: set[int] = lost, back: set[int] = won_back) -> Any:
            # In the second round, soup 1 makes up for it: none is better on all images.
            away = {0: back, 1: lost}.get(row.index(1.0), back)
            return [[True] * n, [i not in away for i in range(n)]]

        found = race(tmp_path, k, table, benchmark(n), step=1, goal=goal)
        assert (found.runners[1].images < n) is dropped


def test_with_so_many_pairs_a_race_over_equal_soups_errs_in_5_of_100_at_most() -> None:
    """Six soups in each of 300 races are equally good: to be sure of each of 30 pairs by itself
    would be wrong in more."""
    draw, races, k, n = np.random.default_rng(1), 300, 6, 128
    flags = draw.permuted(np.tile(np.arange(n) < n // 2, (races, k, 1)), axis=2).astype(float)
    pairs = [(a, b) for a in range(k) for b in range(k) if a != b]
    first, second = np.array(pairs).T
    capitals = BettingTest(races * len(pairs), n)
    wrong = {alpha: np.zeros(races, dtype=bool) for alpha in (ALPHA, ALPHA / len(pairs))}
    for part in np.array_split(np.arange(n), 16):
        differences = flags[:, first][:, :, part] - flags[:, second][:, :, part]
        capitals.see(differences.reshape(-1, len(part)))
        for alpha, any_of in wrong.items():
            any_of |= capitals.decided(alpha).reshape(races, -1).any(1)
    assert wrong[ALPHA / len(pairs)].mean() <= 0.05 < wrong[ALPHA].mean()


@pytest.mark.parametrize("goal", ["front", "best"])
@pytest.mark.parametrize("seed", range(3))
def test_a_race_ends_as_the_grid_does(tmp_path: Path, goal: str, seed: int) -> None:
    judge = benchmark(400)
    table = ladder(400, seed)
    grid = sm.grid(Planted(3, table), make_ingredients(tmp_path / "in", 3), judge, step=0.5)
    found = race(tmp_path, 3, table, judge, step=0.5, goal=goal, seed=seed)
    kept = [i for i, runner in enumerate(found.runners) if runner.beaten_by is None]
    assert [runner.weights for runner in found.runners] == [t.recipe.weights[0] for t in grid]
    assert list(found.trials) == [grid[i] for i in kept]
    assert 1 <= len(kept) < len(grid)
    top = max(t.judged().correct("union") for t in grid)
    assert found.trials.best("union").judged().correct("union") == top
    if goal == "front":
        assert set(grid.front("clean", "union")) <= set(kept)
    assert all(found.runners[i].images == 400 for i in kept)
    assert min(runner.images for runner in found.runners) < 400


@pytest.mark.parametrize("goal", ["front", "best"])
def test_what_is_dropped_is_worse_on_all_images(tmp_path: Path, goal: str) -> None:
    """And for the goal ``front`` no better clean, which is known exactly."""
    judge, dropped = benchmark(300), 0
    for seed in range(3):
        table = ladder(300, seed)
        found = race(tmp_path, 3, table, judge, step=0.5, goal=goal)
        for runner in found.runners:
            if runner.beaten_by is not None:
                by = found.runners[runner.beaten_by]
                better, worse = (np.asarray(table(soup.weights)) for soup in (by, runner))
                assert better.all(0).sum() > worse.all(0).sum()
                assert goal == "best" or better[0].sum() >= worse[0].sum()
                dropped += 1
    assert dropped >= 6


COUNTS = {(1.0, 0.0): (90, 80), (0.0, 1.0): (91, 10)}
"""The first soup is far more robust, the second is one image better clean."""


def test_a_front_keeps_what_is_better_clean_by_one_image_and_best_does_not(tmp_path: Path) -> None:
    kept = {
        goal: len(race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), step=1, goal=goal).trials)
        for goal in ("front", "best")
    }
    assert kept == {"front": 2, "best": 1}
    equal = {**COUNTS, (0.0, 1.0): (90, 10)}
    found = race(tmp_path, 2, counted(equal, 100), benchmark(100), step=1)
    assert [runner.beaten_by for runner in found.runners] == [None, 0]


def test_who_is_beaten_is_asked_about_no_further_image(tmp_path: Path) -> None:
    """Ten images are wrong for every soup and tell nothing: 96 are left, for three rounds of 32."""
    judge, n = benchmark(106), 106
    counts = {(1.0, 0.0): (96, 90), (0.0, 1.0): (96, 0)}
    found = race(tmp_path, 2, counted(counts, n), judge, step=1, run=sm.Run(tmp_path / "run"))
    assert [(r.images, r.beaten_by) for r in found.runners] == [(106, None), (32, 0)]
    assert asked(judge) == 96 + 32
    records = (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()
    parsed = [json.loads(record) for record in records]
    assert [(t["round"], t["soup"]) for t in parsed] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
        (3, 0),
    ]
    report = json.loads((tmp_path / "run" / "race.json").read_text())
    assert report == json.loads(json.dumps(found.to_json()))
    assert (report["goal"], report["metric"], report["confidence"]) == ("front", "union", 1 - ALPHA)
    assert report["soups"][1] == {"weights": [0.0, 1.0], "images": 32, "beaten_by": 0}


@pytest.mark.parametrize(
    ("n", "rounds"), [(31, 1), (63, 1), (64, 2), (200, 6), (512, 16), (1000, 16)]
)
def test_a_race_has_16_rounds_at_most_of_32_images_at_least(
    tmp_path: Path, n: int, rounds: int
) -> None:
    assert (MOST_ROUNDS, FEWEST) == (16, 32)
    judge = benchmark(n)
    race(tmp_path, 2, lambda row: [[True] * n, [True] * n], judge, step=1)
    sizes = judge.attacks[0].asked[::2]  # type: ignore[attr-defined]
    assert sizes == [len(part) for part in np.array_split(np.arange(n), rounds)]


def test_images_come_in_the_order_of_the_seed(tmp_path: Path) -> None:
    """The first round holds the first 32 of the seed's order: who loses there is out at once."""
    n, seen = 64, {}
    for seed in (0, 1):
        early = set(order(n, seed, 0)[:32].tolist())
        flags = [[True] * n, [place in early for place in range(n)]]
        table: Table = lambda row, f=flags: [f[0], f[1] if row[0] else [False] * n]  # noqa: E731
        found = race(tmp_path, 2, table, benchmark(n), step=1, seed=seed)
        other = race(tmp_path, 2, table, benchmark(n), step=1, seed=seed + 10)
        seen[seed] = (found.runners[1].images, other.runners[1].images)
    assert all(mine == 32 for mine, _ in seen.values())


def test_soups_are_compared_in_the_metric_that_chooses(tmp_path: Path) -> None:
    """Whatever it is multiplied by: twice a metric decides as the metric does, and as early."""
    table, n = ladder(400, 1), 400
    plain, twice, half = (
        race(tmp_path, 3, table, benchmark(n), step=0.5, goal="best", metric=text)
        for text in ("union", "2*union", "0.5*union")
    )
    assert plain.runners == twice.runners == half.runners
    clean = race(tmp_path, 3, table, benchmark(n), step=0.5, goal="best", metric="clean")
    assert clean.trials.best("clean").judged().correct("clean") == max(
        int(np.asarray(table(runner.weights))[0].sum()) for runner in clean.runners
    )
    assert clean.metric == "clean"
    assert clean.runners != plain.runners


def test_a_race_without_threats_is_over_after_the_clean_round(tmp_path: Path) -> None:
    judge = benchmark(100, threats=0)
    found = race(tmp_path, 2, lambda row: first(90 if row[0] else 20, n=100), judge, step=1)
    assert [runner.beaten_by for runner in found.runners] == [None, 0]
    assert found.trials[0].judged().correct("clean") == 90


def test_a_race_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    table, cut = ladder(96), tmp_path / "cut"
    whole = race(tmp_path, 3, table, benchmark(96), step=1, run=sm.Run(tmp_path / "whole"))
    for n in (2, 9):
        judge, progress = benchmark(96, batch_size=16), stop_at(n, "images linf:0.1")
        with pytest.raises(Stop):
            race(tmp_path, 3, table, judge, step=1, run=sm.Run(cut, progress=progress))
        kept = Journal(cut / "verdicts.jsonl").records
        assert len({record["evaluation"] for record in kept}) == 1
    judge = benchmark(96, batch_size=16)
    assert race(tmp_path, 3, table, judge, step=1, run=sm.Run(cut)) == whole
    assert files_of(cut) == files_of(tmp_path / "whole")
    again = benchmark(96)
    assert race(tmp_path, 3, table, again, step=1, run=sm.Run(cut)) == whole
    assert asked(again) == 0


def test_a_round_of_another_soup_is_not_believed(tmp_path: Path) -> None:
    run, settings = tmp_path / "run", {"step": 1, "run": sm.Run(tmp_path / "run")}
    race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), **settings)
    path = run / "rounds.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    (run / "trials.jsonl").unlink()
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(InputError, match=r"rounds\.jsonl: .*another soup or round.*--force"):
        race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), **settings)


def test_the_goal_is_of_the_run_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    settings = {"step": 1, "run": sm.Run(tmp_path / "run")}
    race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), **settings)
    with pytest.raises(UsageError, match="settings.race was 'front', now 'best'"):
        race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), goal="best", **settings)
    with pytest.raises(UsageError, match="settings.seed was 0, now 1"):
        race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), seed=1, **settings)
    with pytest.raises(UsageError, match="settings.metric was 'union', now 'clean'"):
        race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), metric="clean", **settings)
    with pytest.raises(UsageError, match=r"^race: .*'frnt'.*'front'"):
        race(tmp_path, 2, counted(COUNTS, 100), benchmark(100), step=1, goal="frnt")
    with pytest.raises(UsageError, match="two or more"):
        race(tmp_path, 1, counted(COUNTS, 100), benchmark(100), step=1)


def test_a_race_tells_how_far_it_has_come(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int, str]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((what, done, total, note))

    judge = replace(benchmark(96), batch_size=96)
    race(
        tmp_path,
        2,
        counted({**COUNTS, (0.0, 1.0): (90, 10)}, 96),
        judge,
        step=1,
        run=sm.Run(progress=progress),
    )
    rounds = [entry for entry in calls if entry[0] == "rounds"]
    assert [(done, total) for _, done, total, _ in rounds][:2] == [(0, 16), (0, 16)]
    assert rounds[0][3] == "2 soups left"
    assert rounds[-1][1:3] == (2, 2)
    assert rounds[-1][3] == "1 soups left; 0 gradient evaluations"
    soups = [entry[1:3] for entry in calls if entry[0] == "soups of a round"]
    assert soups == [(0, 2), (1, 2), (0, 2), (1, 2), (0, 1)]
