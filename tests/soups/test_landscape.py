"""The plane through three checkpoints: where things lie on it, and what is measured there."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from math import dist
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.weights.plane import Plane, plane_through
from tests.shared import Outcome, near

LENGTHS = st.floats(1e-3, 1e3)


def vector(pots: sm.Ingredients, state: Any) -> torch.Tensor:
    return torch.cat([state[name].double().reshape(-1) for name in pots.mixed])


def benchmark(limit: int = 24, *threats: sm.Threat) -> sm.Benchmark:
    images = sm.data("digits", limit=limit)
    return sm.Benchmark(images, [sm.APGD.training(t, steps=2) for t in threats], name="landscape")


def save_three(home: Path, *states: Any) -> sm.Ingredients:
    paths = [home / f"{name}.safetensors" for name in "xyz"]
    for path, state in zip(paths, states, strict=True):
        sm.save(path, state, model="digits-cnn?width=4")
    return sm.load(*paths)


# ---- the plane


@given(LENGTHS, st.floats(-1e3, 1e3), LENGTHS)
def test_at_the_checkpoints_coefficients_are_one_hot(d: float, p: float, q: float) -> None:
    plane = Plane(d, p, q)
    assert [plane.coefficients(*place) for place in plane.places] == [
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0),
    ]


@given(LENGTHS, st.floats(-1e3, 1e3), LENGTHS, st.floats(-9, 9), st.floats(-9, 9))
def test_coefficients_lead_back_to_the_place(
    d: float, p: float, q: float, x: float, y: float
) -> None:
    plane = Plane(d, p, q)
    weights = plane.coefficients(x, y)
    size = max(1.0, *map(abs, weights))
    assert sum(weights) == pytest.approx(1, abs=1e-12 * size)
    found = [
        sum(w * place[axis] for w, place in zip(weights, plane.places, strict=True))
        for axis in (0, 1)
    ]
    assert found == pytest.approx([x, y], abs=1e-9 * size * max(d, abs(p), q))


def test_distances_on_the_plane_are_distances_of_weights(pots: sm.Ingredients) -> None:
    plane = plane_through(pots)
    rows = [vector(pots, pot) for pot in pots]
    for i, j in combinations(range(3), 2):
        there = dist(plane.places[i], plane.places[j])
        assert there == pytest.approx(float((rows[i] - rows[j]).norm()), rel=1e-9)


def test_a_point_is_the_origin_plus_steps_along_two_directions(pots: sm.Ingredients) -> None:
    plane = plane_through(pots)
    one, two, three = (vector(pots, pot) for pot in pots)
    u = (two - one) / (two - one).norm()
    v = (three - one) - ((three - one) @ u) * u
    v = v / v.norm()
    for x, y in ((0.3, 0.4), (-0.5, 2.0), (plane.d, -plane.q)):
        recipe = sm.Recipe.of(pots, plane.coefficients(x, y), affine=True, buffers="base")
        found = vector(pots, sm.mix(pots, recipe))
        assert torch.allclose(found, one + x * u + y * v, atol=1e-6)


def test_checkpoints_at_their_places_are_themselves_bit_for_bit(pots: sm.Ingredients) -> None:
    plane = plane_through(pots)
    for k, place in enumerate(plane.places):
        state = sm.mix(pots, sm.Recipe.of(pots, plane.coefficients(*place), base=k))
        assert all(torch.equal(state[name], pots[k][name]) for name in state)


def test_a_line_is_no_plane(net: nn.Module, tmp_path: Path) -> None:
    a, b = near(net, 1), near(net, 2)
    middle = {n: ((a[n].double() + b[n].double()) / 2).to(a[n].dtype) for n in a}
    with pytest.raises(InputError, match="on one line") as caught:
        plane_through(save_three(tmp_path, a, b, middle))
    assert "x.safetensors" in str(caught.value)
    assert caught.value.fix


@pytest.mark.filterwarnings("ignore:.*are the same weights")
def test_the_same_weights_twice_are_no_plane(net: nn.Module, tmp_path: Path) -> None:
    a, b = near(net, 1), near(net, 2)
    with pytest.raises(InputError, match="same weights") as caught:
        plane_through(save_three(tmp_path, a, b, b))
    assert "y.safetensors and" in str(caught.value)
    assert "x.safetensors" not in str(caught.value)


def test_a_plane_takes_three(pots: sm.Ingredients) -> None:
    with pytest.raises(UsageError, match="three"):
        plane_through(sm.load(pots[0].ref, pots[1].ref))


# ---- what is measured


def test_checkpoints_do_there_what_they_do_alone(net: nn.Module, pots: sm.Ingredients) -> None:
    judge = benchmark(24, sm.Linf(0.1))
    found = sm.landscape(net, pots, judge, points=2)
    x, y = judge.data.batch(torch.arange(24))
    for pot, point in zip(pots, found.points, strict=False):
        with torch.no_grad():
            logits = sm.bind(net, pot)(x)
        assert point.loss["clean"] == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-5)
        assert point.accuracy["clean"] == pytest.approx(
            float((logits.argmax(1) == y).double().mean())
        )
    assert len(found.points) == 3 + 4
    for point in found.points:
        assert point.loss["linf:0.1"] >= point.loss["clean"]
        assert point.accuracy["linf:0.1"] <= point.accuracy["clean"]


def test_the_lattice_reaches_beyond_the_checkpoints_by_the_margin(
    net: nn.Module, pots: sm.Ingredients
) -> None:
    found = sm.landscape(net, pots, benchmark(2), points=3, margin=0.5)
    for axis in (0, 1):
        inner = [place[axis] for place in found.plane.places]
        outer = [(p.x, p.y)[axis] for p in found.points[3:]]
        length = max(inner) - min(inner)
        assert min(outer) == pytest.approx(min(inner) - 0.5 * length)
        assert max(outer) == pytest.approx(max(inner) + 0.5 * length)


def test_within_the_triangle_a_point_is_the_soup(net: nn.Module, pots: sm.Ingredients) -> None:
    judge = benchmark(24)
    found = sm.landscape(net, pots, judge, points=6, margin=0.0)
    inside = [p for p in found.points[3:] if min(p.weights) >= 0]
    assert len(inside) > 3
    for point in inside:
        report = judge(sm.bind(net, sm.mix(pots, sm.Recipe.of(pots, point.weights))))
        assert point.accuracy["clean"] == pytest.approx(report.accuracy("clean"))


def test_far_outside_variances_stay_positive(net: nn.Module, pots: sm.Ingredients) -> None:
    with pytest.raises(sm.errors.NumericsError, match="variance"):
        sm.mix(pots, sm.Recipe.of(pots, (-29.0, 15.0, 15.0), affine=True))
    found = sm.landscape(net, pots, benchmark(8), points=3, margin=29.0)
    assert not found.holes
    assert min(min(p.weights) for p in found.points) < -29


def test_statistics_can_be_estimated_anew(net: nn.Module, pots: sm.Ingredients) -> None:
    images = sm.data("digits", split="train", limit=64)
    how = {"points": 2, "calibration": sm.Calibration(images)}
    judge = benchmark(24)
    found = sm.landscape(net, pots, judge, **how)
    anew = sm.recalibrate(net, dict(pots[1]), sm.Calibration(images))
    report = judge(sm.bind(net, anew))
    assert found.points[1].accuracy["clean"] == pytest.approx(report.accuracy("clean"))
    assert found.points[1].loss != sm.landscape(net, pots, judge, points=2).points[1].loss


def test_a_point_without_a_finite_loss_is_a_hole(net: nn.Module, tmp_path: Path) -> None:
    wild = [near(net, seed) for seed in (2, 3)]
    wild[0]["head.weight"] = torch.full_like(wild[0]["head.weight"], 3e38)
    wild[0]["features.7.bias"] += 1000.0
    wild[1]["head.weight"] = 3e38 * wild[1]["head.weight"].sign()
    pots = save_three(tmp_path, near(net, 1), *wild)
    judge = benchmark(8, sm.Linf(0.1))
    found = sm.landscape(net, pots, judge, points=3, margin=4.0, out=tmp_path / "run")
    reasons = {hole.hole for hole in found.holes}
    assert any("overflow" in reason for reason in reasons)
    assert any("no finite loss on" in reason for reason in reasons)
    assert not found.points[0].hole
    assert len(found.points) == 3 + 9
    again = sm.landscape(net, pots, judge, points=3, margin=4.0, out=tmp_path / "run")
    assert again == found
    from soupmerge.figures.drawing import draw

    assert draw(tmp_path / "run")


# ---- the command


def files(home: Path) -> dict[str, bytes]:
    found = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


def test_a_run_goes_on_where_it_was_cut(
    soupmerge: Callable[..., Outcome], pots: sm.Ingredients, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("landscape", *(pot.ref for pot in pots), "--data", "digits", "--limit", 8)
    words += ("--threat", "linf:0.1", "--steps", 2, "--points", 3, "-o", run)
    whole = soupmerge(*words)
    assert whole.status == 0, whole.err
    assert "lowest linf:0.1 loss" in whole.out
    before = files(run)
    lines = before["trials.jsonl"].splitlines(keepends=True)
    assert len(lines) == 12
    (run / "trials.jsonl").write_bytes(b"".join(lines[:5]))
    told = json.loads(soupmerge(*words, "--json").out)
    assert files(run) == before
    assert [told["checkpoints"][name][1] for name in ("a", "b")] == [0, 0]
    assert len(told["points"]) == 12
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
    ("words", "told"),
    [
        ("--points 1", "points"),
        ("--margin -1", "margin"),
        ("--calibrate-on test", "recalibrate"),
        ("--base 4", "base"),
    ],
)
def test_what_cannot_be_meant_makes_no_run(
    soupmerge: Callable[..., Outcome], pots: sm.Ingredients, tmp_path: Path, words: str, told: str
) -> None:
    refs = [pot.ref for pot in pots]
    run = tmp_path / "run"
    found = soupmerge("landscape", *refs, "--data", "digits", *words.split(), "-o", run)
    assert found.status == 2
    assert told in found.err
    assert not run.exists()
