"""Loss and accuracy on the plane through three checkpoints: what is measured, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.errors import InputError, NumericsError, UsageError
from soupmerge.figures.drawing import draw
from soupmerge.soups.geometry.landscape import Landscape, Point
from soupmerge.weights.buffers import is_statistic
from tests.shared import Outcome, Stop, files_of, in_folder, near, stop_at
from tests.soups import planted
from tests.soups.planted import Planted, make_ingredients, some_flags


def benchmark(limit: int = 24, *threats: sm.Threat) -> sm.Benchmark:
    images = sm.data("digits", limit=limit)
    return sm.Benchmark(images, [sm.APGD.training(t, steps=2) for t in threats], name="landscape")


def save_three(home: Path, *states: Any) -> sm.Ingredients:
    paths = [home / f"{name}.safetensors" for name in "xyz"]
    for path, state in zip(paths, states, strict=True):
        sm.save(path, state, model="digits-cnn?width=4")
    return sm.load(*paths)


def loss_of(net: nn.Module, state: Any, judge: sm.Benchmark) -> float:
    """Return the mean cross-entropy of *state* on the images of *judge*."""
    x, y = judge.data.batch(torch.arange(len(judge.data)))
    with torch.no_grad():
        return float(F.cross_entropy(sm.bind(net, state)(x), y))


# ---- where


def test_the_corners_come_first_and_then_the_lattice_row_by_row(
    net: nn.Module, ingredients: sm.Ingredients
) -> None:
    found = sm.landscape(net, ingredients, benchmark(2), points=3, margin=0.5)
    assert found.names == ("a", "b", "c")
    assert [(p.x, p.y) for p in found.points[:3]] == list(found.plane.places)
    assert [p.weights for p in found.points[:3]] == [
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0),
    ]
    axes = []
    for axis in (0, 1):
        values = [place[axis] for place in found.plane.places]
        length = max(values) - min(values)
        low, high = min(values) - 0.5 * length, max(values) + 0.5 * length
        axes.append([low, (low + high) / 2, high])
    assert [p.x for p in found.points[3:]] == pytest.approx(axes[0] * 3)
    assert [p.y for p in found.points[3:]] == pytest.approx([y for y in axes[1] for _ in range(3)])
    for point in found.points:
        assert point.weights == found.plane.coefficients(point.x, point.y)


def test_a_picture_has_15_points_to_each_side_and_a_margin_of_a_fifth(tmp_path: Path) -> None:
    ingredients, judge = make_ingredients(tmp_path / "in", 3), planted.benchmark(4, threats=0)
    found = sm.landscape(Planted(3, some_flags(0, 4)), ingredients, judge)
    assert len(found.points) == 3 + 15**2
    d, _, q = found.plane.d, found.plane.p, found.plane.q
    assert (found.points[3].x, found.points[3].y) == pytest.approx((-0.2 * d, -0.2 * q))
    assert (found.points[-1].x, found.points[-1].y) == pytest.approx((1.2 * d, 1.2 * q))


# ---- what


def test_each_point_is_measured_as_its_network_is_alone(
    net: nn.Module, ingredients: sm.Ingredients
) -> None:
    """Also the corners; robust loss and accuracy are no better than clean ones."""
    judge = benchmark(24, sm.Linf(0.1))
    found = sm.landscape(net, ingredients, judge, points=3, margin=0.0)
    for ingredient, point in zip(ingredients, found.points, strict=False):
        assert point.loss["clean"] == pytest.approx(loss_of(net, ingredient, judge), rel=1e-5)
    inside = [p for p in found.points if min(p.weights) >= 0]
    assert len(inside) > 3
    for point in inside:
        state = sm.mix(ingredients, sm.Recipe.of(ingredients, point.weights))
        assert point.loss["clean"] == pytest.approx(loss_of(net, state, judge), rel=1e-5)
        report = judge(sm.bind(net, state))
        assert point.accuracy["clean"] == pytest.approx(report.accuracy("clean"))
    for point in found.points:
        assert point.loss["linf:0.1"] >= point.loss["clean"]
        assert point.accuracy["linf:0.1"] <= point.accuracy["clean"]


def test_accuracies_are_those_of_the_table(tmp_path: Path) -> None:
    table, n = some_flags(0, 30), 30
    ingredients, judge = make_ingredients(tmp_path / "in", 3), planted.benchmark(n)
    found = sm.landscape(Planted(3, table), ingredients, judge, points=2)
    for point in found.points:
        flags = table(tuple(round(float(torch.tensor(w)), 4) for w in point.weights))
        assert point.accuracy["clean"] == pytest.approx(flags[0].mean())
        assert point.accuracy["linf:0.1"] == pytest.approx((flags[0] & flags[1]).mean())


def test_outside_of_the_triangle_statistics_are_those_of_the_positive_coefficients(
    net: nn.Module, ingredients: sm.Ingredients
) -> None:
    """A variance would be negative there; all else is extrapolated."""
    with pytest.raises(NumericsError, match="variance"):
        sm.mix(ingredients, sm.Recipe.of(ingredients, (-29.0, 15.0, 15.0), affine=True))
    judge = benchmark(8)
    found = sm.landscape(net, ingredients, judge, points=2, margin=3.0)
    assert not found.holes
    for point in found.points[3:]:
        assert min(point.weights) < 0
        kept = [max(w, 0.0) for w in point.weights]
        near_by = sm.Recipe.of(ingredients, [w / sum(kept) for w in kept])
        state = sm.mix(
            ingredients, sm.Recipe.of(ingredients, point.weights, affine=True, buffers="base")
        )
        state |= {n: t for n, t in sm.mix(ingredients, near_by).items() if is_statistic(n)}
        assert point.loss["clean"] == pytest.approx(loss_of(net, state, judge), rel=1e-5)


@pytest.mark.parametrize("base", [0, 2])
def test_statistics_may_be_those_of_one_ingredient(
    net: nn.Module, ingredients: sm.Ingredients, base: int
) -> None:
    judge = benchmark(8)
    found = sm.landscape(net, ingredients, judge, points=2, buffers=sm.Buffers("base", base=base))
    for point in found.points:
        recipe = sm.Recipe.of(ingredients, point.weights, affine=True, buffers="base", base=base)
        state = sm.mix(ingredients, recipe)
        assert point.loss["clean"] == pytest.approx(loss_of(net, state, judge), rel=1e-5)


def test_statistics_can_be_estimated_anew(
    net: nn.Module, ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    """At every point, also at the corners, from weights alone."""
    judge, calibration = benchmark(24), sm.Calibration(sm.data("digits", split="train", limit=64))
    found = sm.landscape(
        net, ingredients, judge, points=2, calibration=calibration, run=sm.Run(tmp_path / "run")
    )
    for point in found.points:
        recipe = sm.Recipe.of(ingredients, point.weights, affine=True, buffers="base")
        state = sm.recalibrate(net, sm.mix(ingredients, recipe), calibration)
        assert point.loss["clean"] == pytest.approx(loss_of(net, state, judge), rel=1e-5)
    settings = json.loads((tmp_path / "run" / "manifest.json").read_text())["settings"]
    assert settings["buffers"] == "recalibrate"
    assert settings["calibration"] == calibration.describe()


def test_a_point_without_a_finite_loss_is_a_hole(net: nn.Module, tmp_path: Path) -> None:
    wild = [near(net, seed) for seed in (2, 3)]
    wild[0]["head.weight"] = torch.full_like(wild[0]["head.weight"], 3e38)
    wild[0]["features.7.bias"] += 1000.0
    wild[1]["head.weight"] = 3e38 * wild[1]["head.weight"].sign()
    ingredients = save_three(tmp_path, near(net, 1), *wild)
    judge = benchmark(8, sm.Linf(0.1))
    found = sm.landscape(
        net, ingredients, judge, points=3, margin=4.0, run=sm.Run(tmp_path / "run")
    )
    reasons = {hole.hole for hole in found.holes}
    assert any("overflow" in reason for reason in reasons)
    assert any("no finite loss on" in reason for reason in reasons)
    assert not found.points[0].hole
    assert len(found.points) == 3 + 9
    again = sm.landscape(
        net, ingredients, judge, points=3, margin=4.0, run=sm.Run(tmp_path / "run")
    )
    assert again == found
    assert draw(tmp_path / "run")


# ---- points, as records


def a_point(**more: Any) -> Point:
    found: dict[str, Any] = {
        "loss": {"clean": 0.5, "l2:1": 2.0},
        "accuracy": {"clean": 0.75, "l2:1": 0.25},
    }
    return Point(1.5, -2.0, (1.25, -0.5, 0.25), **{**found, **more})


def test_a_record_gives_its_point_again_and_no_other() -> None:
    for point in (a_point(), a_point(loss={}, accuracy={}, hole="overflow")):
        record = json.loads(json.dumps(point.to_record()))
        assert Point.from_record(record, point.x, point.y, point.weights) == point
        near_by = (1.5 + 1e-7, -2.0 - 1e-7, (1.25 + 1e-7, -0.5, 0.25))
        assert Point.from_record(record, *near_by).hole == point.hole
        for other in (
            (1.501, -2.0, point.weights),
            (1.5, -2.001, point.weights),
            (1.5, -2.0, (1.251, -0.5, 0.25)),
            (1.5, -2.0, (1.25, -0.5)),
        ):
            with pytest.raises(InputError, match=r"trials\.jsonl: .*not of this point.*--force"):
                Point.from_record(record, *other)


@pytest.mark.parametrize("harm", ["x", "weights", "metrics"])
def test_a_record_that_lacks_something_is_refused(harm: str) -> None:
    point = a_point()
    record = {key: value for key, value in point.to_record().items() if key != harm}
    with pytest.raises(InputError, match="not of this point"):
        Point.from_record(record, point.x, point.y, point.weights)


def test_a_summary_names_checkpoints_with_their_places(
    net: nn.Module, ingredients: sm.Ingredients
) -> None:
    found = sm.landscape(net, ingredients, benchmark(4), points=2)
    summary = json.loads(json.dumps(found.summary()))
    assert summary["checkpoints"] == dict(zip("abc", map(list, found.plane.places), strict=True))
    assert summary["points"] == [json.loads(json.dumps(p.to_record())) for p in found.points]
    holes = (a_point(hole="overflow"), a_point())
    assert Landscape(found.names, found.plane, holes).holes == holes[:1]


# ---- in a run folder


def survey(tmp_path: Path, **settings: Any) -> Landscape:
    ingredients, judge = make_ingredients(tmp_path / "in", 3), planted.benchmark(10)
    given, net = {"points": 2, **settings}, Planted(3, some_flags(0, 10))
    given["run"] = in_folder(given.get("run", sm.Run()), tmp_path / "run")
    net.soupmerge_ref = "planted"  # type: ignore[assignment]
    return sm.landscape(net, ingredients, judge, **given)


def test_a_manifest_tells_what_is_measured(tmp_path: Path) -> None:
    survey(tmp_path)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["command"], manifest["model"], manifest["device"]) == (
        "landscape",
        "planted",
        "cpu",
    )
    assert manifest["benchmark"] == planted.benchmark(10).describe()
    settings = {"points": 2, "margin": 0.2, "buffers": "average", "base": 0}
    assert manifest["settings"] == settings
    ingredients = make_ingredients(tmp_path / "in", 3)
    assert [source["sha256"] for source in manifest["inputs"]] == list(ingredients.hashes)
    images = (tmp_path / "run" / "images.csv").read_text().splitlines()
    assert images == ["id,label", *(f"{i},{i}" for i in range(10))]
    with pytest.raises(UsageError, match="contains an input"):
        survey(tmp_path, run=sm.Run(tmp_path / "in", force=True))


def test_a_survey_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    whole = survey(tmp_path, run=sm.Run(tmp_path / "whole"))
    with pytest.raises(Stop):
        survey(tmp_path, run=sm.Run(progress=stop_at(4, "points")))
    calls: list[tuple[int, int]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((done, total))

    assert survey(tmp_path, run=sm.Run(progress=progress)) == whole
    assert calls == [(3, 7), (4, 7), (5, 7), (6, 7), (7, 7)]
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")
    path = tmp_path / "run" / "trials.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match="14 records for 7 points"):
        survey(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"margin": 0.3}, "settings.margin was 0.2, now 0.3"),
        ({"points": 3}, "settings.points was 2, now 3"),
        ({"buffers": sm.Buffers("base")}, "settings.buffers was 'average', now 'base'"),
        ({"buffers": sm.Buffers(base=1)}, "settings.base was 0, now 1"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    survey(tmp_path)
    with pytest.raises(UsageError, match=says):
        survey(tmp_path, **settings)
    assert survey(tmp_path, run=sm.Run(force=True), **settings) == survey(
        tmp_path, run=None, **settings
    )


@pytest.mark.parametrize("settings", [{"points": 1}, {"margin": -0.1}, {"margin": 100}])
def test_what_makes_no_picture_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="^points and margin: cannot measure"):
        survey(tmp_path, **settings)
    assert not (tmp_path / "run").exists()
    assert len(survey(tmp_path, margin=99.9).points) == 7


# ---- the command


def files(home: Path) -> dict[str, bytes]:
    found = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


def test_a_run_goes_on_where_it_was_cut(
    soupmerge: Callable[..., Outcome], ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = (
        "landscape",
        *(ingredient.ref for ingredient in ingredients),
        "--data",
        "digits",
        "--limit",
        8,
    )
    words += ("--threat", "linf:0.1", "--steps", 2, "--points", 3, "-o", run)
    whole = soupmerge(*words)
    assert whole.status == 0, whole.err
    assert "lowest linf:0.1 loss" in whole.out
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["benchmark"]["name"] == "landscape"
    before = files(run)
    lines = before["trials.jsonl"].splitlines(keepends=True)
    assert len(lines) == 12
    (run / "trials.jsonl").write_bytes(b"".join(lines[:5]))
    parsed = json.loads(soupmerge(*words, "--json").out)
    assert files(run) == before
    assert [parsed["checkpoints"][name][1] for name in ("a", "b")] == [0, 0]
    assert len(parsed["points"]) == 12
    other = soupmerge(*words, "--margin", 0.3)
    assert other.status == 2
    assert "margin was 0.2, now 0.3" in other.err
    drawn = soupmerge("report", run)
    assert drawn.status == 0
    assert (run / "figures" / "landscape.png").read_bytes().startswith(b"\x89PNG")
    (run / "trials.jsonl").write_bytes(b"".join(lines[1:]))
    assert soupmerge(*words).status == 3
    (run / "trials.jsonl").write_bytes(b"".join(lines[:5]))
    assert soupmerge("report", run).status == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--points 1", "points"),
        ("--margin -1", "margin"),
        ("--calibrate-on test", "recalibrate"),
        ("--base 4", "base"),
    ],
)
def test_what_cannot_be_meant_makes_no_run(
    soupmerge: Callable[..., Outcome],
    ingredients: sm.Ingredients,
    tmp_path: Path,
    words: str,
    expected: str,
) -> None:
    refs = [ingredient.ref for ingredient in ingredients]
    run = tmp_path / "run"
    found = soupmerge("landscape", *refs, "--data", "digits", *words.split(), "-o", run)
    assert found.status == 2
    assert expected in found.err
    assert not run.exists()
