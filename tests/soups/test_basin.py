"""Barriers between ingredients: their heights and intervals, and the verdict on the basin."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.geometry.barriers import SEPARATE, SHARED, UNKNOWN, Barrier, Barriers
from soupmerge.weights.geometry import geometry_of
from tests.shared import Outcome, Stop, files_of, in_folder, stop_at
from tests.soups import planted
from tests.soups.planted import (
    CLASSES,
    SURE,
    Planted,
    Row,
    Table,
    first,
    make_ingredients,
    some_flags,
)

N = 50


def barrier_of(home: Path, k: int, table: Table, threats: int = 0, **settings: Any) -> Barriers:
    judge = planted.benchmark(settings.pop("n", N), threats=threats)
    return sm.barrier(Planted(k, table), make_ingredients(home / "in", k), judge, **settings)


def width(pairs: int, metrics: int, points: int) -> float:
    """Return the z of intervals that hold together with 95%: Bonferroni's, two-sided."""
    return float(stats.norm.ppf(1 - 0.05 / (2 * pairs * metrics * (points - 2))))


# ---- heights and intervals


def losses_of(errors: Any) -> Any:
    """Return the cross-entropy of right and wrong answers."""
    logits = torch.eye(CLASSES)[:2] * SURE
    right, wrong = F.cross_entropy(logits, torch.zeros(2).long(), reduction="none").tolist()
    return np.where(errors, wrong, right)


@pytest.mark.parametrize(("k", "threats", "points"), [(2, 0, 3), (2, 1, 5), (3, 2, 4)])
def test_barriers_are_what_they_are_defined_to_be(
    tmp_path: Path, k: int, threats: int, points: int
) -> None:
    table = some_flags(1, N, rows=1 + threats)
    found = barrier_of(tmp_path, k, table, threats, points=points, tolerance=0.02).barriers
    pairs = list(combinations(range(k), 2))
    z = width(len(pairs), 1 + threats, points)
    names = ["clean", "linf:0.1", "l2:0.5"][: 1 + threats]
    assert [(b.pair, b.metric) for b in found] == [
        ((str(i), str(j)), name) for i, j in pairs for name in names
    ]
    t = np.arange(points) / (points - 1)
    for barrier, ((i, j), row) in zip(
        found, [(pair, row) for pair in pairs for row in range(1 + threats)], strict=True
    ):
        flags = []
        for share in t:
            weights = [0.0] * k
            weights[i], weights[j] = 1 - share, share
            answers = np.asarray(table(tuple(np.round(weights, 4).tolist())))
            flags.append(answers[0] & answers[row])  # wrong clean is wrong under attack, too
        errors = 1.0 - np.array(flags)
        above = (errors - np.outer(1 - t, errors[0]) - np.outer(t, errors[-1]))[1:-1]
        means = above.mean(1)
        deviations = np.maximum(above.std(1, ddof=1) / N**0.5, 1 / N)
        where = int(means.argmax())
        assert barrier.t == pytest.approx(t)
        assert barrier.error == pytest.approx(errors.mean(1))
        assert (barrier.height, barrier.at) == pytest.approx((means[where], t[where + 1]))
        assert barrier.deviation == pytest.approx(deviations[where])
        assert barrier.low == pytest.approx((means - z * deviations).max())
        assert barrier.high == pytest.approx((means + z * deviations).max())
        if row == 0:
            losses = losses_of(errors).mean(1)
            heights = losses - (1 - t) * losses[0] - t * losses[-1]
            assert barrier.loss == pytest.approx(losses)
            assert barrier.loss_height == pytest.approx(heights[1:-1].max())


@pytest.mark.parametrize(
    ("k", "threats", "points"), [(2, 0, 3), (2, 0, 11), (2, 2, 3), (4, 0, 3), (3, 1, 5)]
)
def test_intervals_grow_with_pairs_metrics_and_points(
    tmp_path: Path, k: int, threats: int, points: int
) -> None:
    """Where no image changes, a barrier may still be as high as z images of n."""
    still = first(*[40] * (1 + threats), n=N)
    found = barrier_of(tmp_path, k, lambda row: still, threats, points=points)
    z = width(k * (k - 1) // 2, 1 + threats, points)
    assert len(list(found)) == k * (k - 1) // 2 * (1 + threats)
    for barrier in found:
        assert (barrier.low, barrier.high) == pytest.approx((-z / N, z / N))
        assert (barrier.height, barrier.deviation) == pytest.approx((0, 1 / N))


def test_a_check_walks_in_eleven_points_with_a_tolerance_of_5_points(tmp_path: Path) -> None:
    still = first(950, n=1000)
    (barrier,) = barrier_of(tmp_path, 2, lambda row: still, n=1000)
    assert barrier.t == tuple(n / 10 for n in range(11))
    assert barrier.verdict == SHARED

    def table(row: Row) -> Any:
        """Halfway, 200 images more are wrong: a height of 0.2 at 0.5."""
        return first(750 if 0.45 < row[0] < 0.55 else 950, n=1000)

    (barrier,) = barrier_of(tmp_path, 2, table, n=1000)
    assert (barrier.height, barrier.at, barrier.verdict) == (pytest.approx(0.2), 0.5, SEPARATE)


# ---- verdicts


def middle(n: int, wrong: int, ends: tuple[int, int] = (0, 0)) -> Table:
    """Return a table: so many of *n* are wrong at the ends, and *wrong* in between."""

    def table(row: Row) -> Any:
        at_end = {1.0: ends[0], 0.0: ends[1]}
        return first(n - at_end.get(row[0], wrong), n=n)

    return table


def test_a_verdict_is_certain_where_the_whole_interval_is_on_one_side(tmp_path: Path) -> None:
    n, wrong = 400, 40
    (seen,) = barrier_of(tmp_path, 2, middle(n, wrong), n=n, points=3)
    share = wrong / n
    reach = width(1, 1, 3) * (share * (1 - share) * n / (n - 1) / n) ** 0.5
    assert (seen.low, seen.high) == pytest.approx((share - reach, share + reach))
    for tolerance, verdict in (
        (seen.low - 1e-9, SEPARATE),
        (seen.low, UNKNOWN),  # not above the tolerance
        (share, UNKNOWN),
        (seen.high - 1e-9, UNKNOWN),
        (seen.high, SHARED),  # at most the tolerance
    ):
        (barrier,) = barrier_of(tmp_path, 2, middle(n, wrong), n=n, points=3, tolerance=tolerance)
        assert (barrier.verdict, barrier.reason) == (verdict, "")


def test_where_the_ends_have_nothing_to_lose_nothing_is_known(tmp_path: Path) -> None:
    """Of ten classes alike, chance errs on 90 of 100 images: at 86 a barrier of 5 cannot be seen.

    Under attack every image may be wrong, so that the ceiling is 100. A barrier that is seen all
    the same is one.
    """
    n = 100

    def verdict(ends: int, wrong: int, threats: int, most: float = 0.05) -> tuple[str, bool]:
        table = middle(n, wrong, (ends, ends))
        robust: Table = lambda row: [[True] * n, *table(row)]  # noqa: E731
        settings = {"n": n, "points": 3, "threats": threats, "tolerance": most}
        found = barrier_of(tmp_path, 2, robust if threats else table, **settings).barriers[-1]
        return found.verdict, "nothing to lose" in found.reason

    assert verdict(86, 86, 0) == (UNKNOWN, True)
    assert verdict(84, 84, 0) == (SHARED, False)
    assert verdict(94, 94, 1) == (SHARED, False)
    assert verdict(96, 96, 1) == (UNKNOWN, True)
    assert verdict(75, 75, 1, 0.25) == (UNKNOWN, True)  # no more than the tolerance is left
    assert verdict(74, 74, 1, 0.25) == (SHARED, False)
    assert verdict(86, 10, 0) == (UNKNOWN, True)
    assert verdict(50, 100, 1) == (SEPARATE, False)
    ends = (0, 100)
    (low,) = barrier_of(tmp_path, 2, middle(n, 50, ends), n=n, points=3)
    assert low.reason == ""  # half of it can be lost: the mean of both ends counts


def a_barrier(verdict: str, metric: str = "clean", reason: str = "") -> Barrier:
    numbers = {"height": 0.125, "at": 0.5, "deviation": 0.01, "low": -0.02, "high": 0.04}
    numbers |= {"loss_height": 0.25}
    columns: Any = {"t": (0.0, 0.5, 1.0), "loss": (1.0, 2.0, 1.5), "error": (0.25, 0.5, 0.125)}
    return Barrier(("a", "b"), metric, verdict=verdict, reason=reason, **numbers, **columns)


NOTHING = "the ends have nothing to lose"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([(SHARED, "clean", "")], SHARED),
        ([(SHARED, "clean", ""), (SEPARATE, "linf:0.1", "")], SEPARATE),
        ([(UNKNOWN, "clean", ""), (SEPARATE, "linf:0.1", "")], SEPARATE),
        ([(SHARED, "clean", ""), (UNKNOWN, "linf:0.1", "")], UNKNOWN),
        ([(SHARED, "clean", ""), (UNKNOWN, "linf:0.1", NOTHING)], SHARED),
        ([(UNKNOWN, "clean", NOTHING), (SHARED, "linf:0.1", "")], UNKNOWN),
    ],
)
def test_one_pair_apart_is_apart_and_what_says_nothing_is_passed_over(
    found: list[tuple[str, str, str]], verdict: str
) -> None:
    assert Barriers(tuple(a_barrier(*entry) for entry in found)).verdict == verdict


def test_barriers_are_told_in_points_of_error_and_as_json() -> None:
    found = Barriers((a_barrier(SHARED), a_barrier(UNKNOWN, "linf:0.1", NOTHING)))
    ends, interval = "25.0%, 12.5%", "-2.0 to +4.0"
    height = ["+12.5 at 0.5", interval, "+0.250"]
    assert list(found.rows()) == [
        ["a – b", "clean", ends, *height, SHARED],
        ["a – b", "linf:0.1", ends, *height, f"{UNKNOWN}: {NOTHING}"],
    ]
    kept = json.loads(json.dumps(found.to_json()))
    assert kept["verdict"] == found.verdict
    assert tuple(map(Barrier.from_json, kept["barriers"])) == found.barriers
    assert kept["barriers"][0]["interval"] == [-0.02, 0.04]
    assert kept["barriers"][0]["points"][1] == {"t": 0.5, "loss": 2.0, "error": 0.5}


# ---- the way


def test_the_way_to_oneself_has_no_barrier(trained: list[Path], tmp_path: Path) -> None:
    ingredients = sm.load(trained[0])
    sm.save(tmp_path / "again.safetensors", dict(ingredients[0]), model=ingredients.model)
    twins = sm.load(trained[0], tmp_path / "again.safetensors")
    found = sm.barrier(sm.model(like=twins), twins, benchmark(sm.Linf(0.1), limit=30), points=3)
    assert all(b.height == pytest.approx(0, abs=1e-12) for b in found)
    assert all(b.loss_height == pytest.approx(0, abs=1e-9) for b in found)


def test_walking_back_mirrors_the_way(tmp_path: Path) -> None:
    table = some_flags(3, N)
    there = barrier_of(tmp_path, 2, table, points=6).barriers[0]
    back = barrier_of(tmp_path, 2, lambda row: table(row[::-1]), points=6).barriers[0]
    assert back.error == pytest.approx(there.error[::-1])
    assert back.loss == pytest.approx(there.loss[::-1])
    assert (back.height, back.low, back.high) == pytest.approx(
        (there.height, there.low, there.high)
    )
    assert back.at == pytest.approx(1 - there.at)


def test_a_loss_convex_in_the_weights_has_no_barrier(tmp_path: Path) -> None:
    for i in (1, 2):
        torch.manual_seed(i)
        sm.save(tmp_path / f"{i}.safetensors", nn.Linear(64, 10).state_dict())
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for i in (1, 2):
        state = sm.load(tmp_path / f"{i}.safetensors")[0]
        renamed = {f"1.{n}": t for n, t in state.items()}
        sm.save(tmp_path / f"{i}.safetensors", {**renamed, "pad": torch.ones(1)}, force=True)
    net.register_buffer("pad", torch.ones(1))
    ingredients = sm.load(tmp_path / "1.safetensors", tmp_path / "2.safetensors")
    found = sm.barrier(net, ingredients, benchmark(limit=100)).barriers[0]
    assert found.loss_height <= 1e-6
    assert found.verdict == UNKNOWN  # untrained: both ends answer like chance
    assert "nothing to lose" in found.reason


@pytest.mark.parametrize("policy", ["average", "base"])
def test_statistics_on_the_way_follow_the_policy(
    net: nn.Module, ingredients: sm.Ingredients, policy: str
) -> None:
    """Averaged, or those of the nearer end; at the ends everything is that of the ingredient."""
    two = sm.Ingredients((ingredients[0], ingredients[1]))
    judge = benchmark(limit=30)
    found = sm.barrier(net, two, judge, points=5, buffers=policy).barriers[0]
    x, y = judge.data.batch(torch.arange(30))
    for t, loss in zip(found.t, found.loss, strict=True):
        recipe = sm.Recipe.of(two, (1 - t, t), buffers=policy, base=int(t > 0.5))
        with torch.no_grad():
            logits = sm.bind(net, sm.mix(two, recipe))(x)
        assert loss == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-5)


@pytest.mark.parametrize(("k", "n", "points"), [(1, 9, 3), (2, 1, 3), (2, 9, 2)])
def test_what_makes_no_segment_is_refused(tmp_path: Path, k: int, n: int, points: int) -> None:
    with pytest.raises(
        UsageError, match="^barrier: .*two ingredients, three points and two images"
    ):
        barrier_of(tmp_path, k, lambda row: first(n, n=n), n=n, points=points)


def test_progress_counts_networks_each_ingredient_once(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((what, done, total))

    barrier_of(tmp_path, 3, some_flags(0, N), points=4, run=sm.Run(progress=progress))
    assert calls == [("networks", done, 3 + 3 * 2) for done in range(10)]


# ---- in a run folder


def kept(home: Path, table: Table, **settings: Any) -> Barriers:
    run = in_folder(settings.pop("run", sm.Run()), home / "run")
    ingredients, net = make_ingredients(home / "in", 2), Planted(2, table)
    net.soupmerge_ref = "planted"  # type: ignore[assignment]
    return sm.barrier(net, ingredients, planted.benchmark(N), run=run, **{"points": 5, **settings})


def test_kept_barriers_are_measured_once(tmp_path: Path) -> None:
    table = some_flags(0, N)
    with pytest.raises(Stop):
        kept(tmp_path, table, run=sm.Run(progress=stop_at(4, "networks")))
    found = kept(tmp_path, table)
    assert found == barrier_of(tmp_path, 2, table, 1, points=5)
    before = files_of(tmp_path / "run")
    assert kept(tmp_path, table, run=sm.Run(progress=stop_at(1, "networks"))) == found
    assert files_of(tmp_path / "run") == before
    with pytest.raises(UsageError, match="settings.points was 5, now 6"):
        kept(tmp_path, table, points=6)
    assert kept(tmp_path, table, points=6, run=sm.Run(force=True)) == barrier_of(
        tmp_path, 2, table, 1, points=6
    )
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["command"], manifest["device"]) == ("check", "cpu")
    assert manifest["model"] == "planted"
    ingredients = make_ingredients(tmp_path / "in", 2)
    assert [entry["sha256"] for entry in manifest["inputs"]] == list(ingredients.hashes)
    with pytest.raises(UsageError, match="contains an input"):
        kept(tmp_path, table, run=sm.Run(tmp_path / "in", force=True))
    assert manifest["benchmark"] == planted.benchmark(N).describe()
    assert manifest["settings"] == {"points": 6, "tolerance": 0.05, "buffers": "average"}


@pytest.mark.parametrize("harm", ["[]", "{}", '{"barriers": 5}', '{"barriers": [{"pair": []}]}'])
def test_damaged_barriers_are_refused(tmp_path: Path, harm: str) -> None:
    table = some_flags(0, N)
    kept(tmp_path, table)
    (tmp_path / "run" / "barriers.json").write_text(harm)
    with pytest.raises(InputError, match=r"barriers\.json: holds no barriers .*--force"):
        kept(tmp_path, table)


def test_barriers_of_another_verdict_are_refused(tmp_path: Path) -> None:
    table = some_flags(0, N)
    kept(tmp_path, table)
    file = tmp_path / "run" / "barriers.json"
    parsed = json.loads(file.read_text())
    for harm in ({"verdict": "shared"}, {"more": 1}):
        file.write_text(json.dumps({**parsed, **harm}))
        with pytest.raises(InputError, match=r"barriers\.json: .*--force"):
            kept(tmp_path, table)


# ---- networks that were trained


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the shape of `trained`, from another seed."""
    out = tmp_path_factory.mktemp("stranger") / "stranger.safetensors"
    torch.manual_seed(7)
    net = sm.model("digits-cnn?width=8")
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    schedule = sm.Schedule(epochs=8, lr=0.1, augment="none")
    train = sm.data("digits", split="train")
    return sm.finetune(net, train, sm.against(sm.Linf(0.1)), out, schedule=schedule, seed=7)


def benchmark(*threats: sm.Threat, limit: int = 300) -> sm.Benchmark:
    images = sm.data("digits", split="val", limit=limit)
    return sm.Benchmark(images, [sm.APGD.training(t, steps=3) for t in threats], name="basin")


def test_fine_tunes_of_one_base_share_a_basin(trained: list[Path]) -> None:
    ingredients = sm.load(*trained[:2])
    found = sm.barrier(
        sm.model(like=ingredients), ingredients, benchmark(sm.Linf(0.1)), tolerance=0.1
    )
    assert found.verdict == SHARED
    assert [b.metric for b in found] == ["clean", "linf:0.1"]
    assert geometry_of(ingredients).blocks[0].alike[0] > 0.8


def test_networks_of_different_seeds_do_not(trained: list[Path], stranger: Path) -> None:
    ingredients = sm.load(trained[0], stranger)
    found = sm.barrier(sm.model(like=ingredients), ingredients, benchmark(), tolerance=0.1)
    assert found.verdict == SEPARATE
    assert all(b.error[0] < 0.3 and b.error[-1] < 0.3 for b in found)
    assert geometry_of(ingredients).blocks[0].alike[0] < 0.7


def test_check_says_separate_with_exit_status_1(
    soupmerge: Callable[..., Outcome], trained: list[Path], stranger: Path
) -> None:
    settings = ("--data", "digits", "--split", "val", "--points", 5, "--tolerance", 0.1, "--json")
    apart = soupmerge("check", trained[0], stranger, *settings)
    assert apart.status == 1
    assert json.loads(apart.out)["basin"]["verdict"] == "separate"
    assert json.loads(apart.out)["compatible"] is True
    near_by = soupmerge("check", *trained[:2], *settings)
    assert near_by.status == 0
    assert json.loads(near_by.out)["basin"]["verdict"] == "shared"
    unmeasured = soupmerge("check", trained[0], stranger)
    assert unmeasured.status == 0
    assert "not measured" in unmeasured.out
    assert "unlikely to work" in unmeasured.out
    assert "unlikely" not in soupmerge("check", *trained).out
