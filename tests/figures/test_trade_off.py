"""Fronts in print: the curve, what stands beside it, the coefficients over λ, and losses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection, TriMesh

import soupmerge as sm
from soupmerge.figures import fronts, history, palette, paths, simplex, trade_off
from soupmerge.figures.judged_front import by_depth
from soupmerge.figures.reading import RunRecord
from tests.figures import drawn
from tests.figures.planted import THREE, Runs, best_of, points_of

METRICS = ("clean", "linf:0.1", "l2:0.5", "union")


def test_the_curve_joins_the_judged_points_in_the_order_of_lambda(runs: Runs) -> None:
    run, learned = runs.front
    (axes,) = drawn.some(trade_off.trade_off(run)).axes
    curve = drawn.lines(axes)["front"]
    assert curve.points == points_of([trial.judged() for trial in learned.points], "linf:0.1")
    assert (curve.line, curve.colour) == ("-", palette.colour("linf:0.1"))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("clean accuracy", "accuracy under Linf 0.1")
    assert axes.xaxis.get_major_formatter()(0.5) == "50%"


def test_every_soup_has_its_intervals(runs: Runs) -> None:
    run, learned = runs.front
    (axes,) = drawn.some(trade_off.trade_off(run)).axes
    wanted = set()
    for trial in (*learned.points, *learned.beside.values()):
        report = trial.judged()
        ((x, y),) = points_of([report], "linf:0.1")
        (left, right), (low, high) = (
            [round(end, 4) for end in report.interval(metric)] for metric in ("clean", "linf:0.1")
        )
        wanted |= {
            tuple(drawn.rounded([(left, y), (right, y)])),
            tuple(drawn.rounded([(x, low), (x, high)])),
        }
    assert drawn.crosses(axes) == wanted


def test_soups_of_each_kind_have_a_mark_and_an_entry_of_their_own(runs: Runs) -> None:
    run, learned = runs.front
    figure = drawn.some(trade_off.trade_off(run))
    (axes,) = figure.axes
    place = {n: points_of([t.judged()], "linf:0.1")[0] for n, t in learned.beside.items()}
    alone, uniform, *grid = ([*place.values()][:3], *[[p] for p in [*place.values()][3:]])
    entries = {"ingredients": alone, "uniform soup": uniform, "best of grid": [*grid[0], *grid[1]]}
    lines = drawn.lines(axes)
    assert drawn.legend(figure) == ["front", *entries]
    assert {name: lines[name].points for name in entries} == entries
    assert len({lines[name].mark for name in ("front", *entries)} | {"^"}) == 4
    assert {lines[name].line for name in entries} == {"None"}
    assert figure.legends[0].get_title().get_text() == "λ is the share of Linf 0.1"


def test_both_ends_and_the_ingredients_are_named_at_their_places(runs: Runs) -> None:
    run, learned = runs.front
    (axes,) = drawn.some(trade_off.trade_off(run)).axes
    names = drawn.names(axes)
    places = points_of([trial.judged() for trial in learned.points], "linf:0.1")
    alone = [learned.beside[name].judged() for name in learned.beside][:3]
    wanted = dict(zip(THREE, points_of(alone, "linf:0.1"), strict=True))
    wanted |= {"λ = 0": places[0], "λ = 1": places[-1]}
    assert wanted.items() <= names.items()
    inner = {name: place for name, place in names.items() if name not in wanted}
    assert set(inner) <= {f"λ = {share}" for share in ("0.2", "0.4", "0.6", "0.8")}
    for name, place in inner.items():
        assert place == places[round(5 * float(name.split()[-1]))]


def test_of_many_ingredients_none_is_named(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade_off, "MOST_NAMED", 2)
    (axes,) = drawn.some(trade_off.trade_off(runs.front[0])).axes
    assert not set(drawn.names(axes)) & {*THREE}


@pytest.mark.parametrize("count", [1, 2, 6, 8, 12])
def test_an_unfinished_front_is_drawn_as_far_as_it_goes(runs: Runs, count: int) -> None:
    run, _ = runs.front
    part = dataclasses.replace(run, trials=run.trials[:count])
    figure = drawn.some(trade_off.trade_off(part))
    assert len(drawn.lines(figure.axes[0])["front"].points) == min(count, 6)
    assert drawn.unreadable(figure) == []


def test_a_front_is_no_search_and_no_path(runs: Runs) -> None:
    run, _ = runs.front
    three, _ = runs.front_of_three
    assert fronts.soups_front(run) is None
    assert [simplex.ternary_maps(r) for r in (run, three)] == [None, None]
    assert [trade_off.trade_off(three), trade_off.coefficients_over(three)] == [None, None]
    pair = runs.pair[0]
    assert paths.path_lines(dataclasses.replace(pair, front=run.front)) is None
    for draw in (trade_off.trade_off, trade_off.coefficients_over, simplex.preference_maps):
        assert draw(pair) is None
        assert draw(runs.learn[0]) is None


# ---- Coefficients over λ.


def tables(run: RunRecord) -> dict[str, Any]:
    figure = drawn.some(trade_off.coefficients_over(run))
    return {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}


def test_there_is_a_map_for_each_ingredient_with_depth_downwards(runs: Runs) -> None:
    run, _ = runs.front
    assert run.front is not None
    figure = drawn.some(trade_off.coefficients_over(run))
    maps = tables(run)
    assert list(maps) == [*THREE]
    for step in range(21):
        groups, rows = by_depth(run.front, step / 20)
        shown = np.stack([table[:, step] for table in maps.values()], axis=1)
        np.testing.assert_array_equal(shown, rows)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == groups
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    width = (right - left) / 21
    assert (left + width / 2, right - width / 2) == pytest.approx((0, 1)), "centred on 0 and 1"
    assert bottom > top
    assert all(axes.images[0].get_clim() == (0, 1) for axes in figure.axes[:3])
    assert figure.get_supxlabel() == "λ, share of Linf 0.1"


def of_ingredients(run: RunRecord, logits: Any, family: str = "softmax-linear") -> RunRecord:
    """Return *run* with a front of one group, with *logits* ``(2, 1, K)``."""
    count = np.shape(logits)[-1]
    refs = [f"net{k}" for k in range(count)]
    sources = tuple(sm.Source(ref, "0" * 64) for ref in refs)
    recipe = sm.Recipe(sources, ("model",), ((1 / count,) * count,))
    name = "rows" if family == "affine" else "logits"
    front = sm.Front(("clean", "linf:0.1"), family, {name: np.float32(logits)}, recipe)
    manifest = {**run.manifest, "inputs": [{"ref": ref} for ref in refs]}
    return dataclasses.replace(run, front=front, manifest=manifest, trials=[])


def test_of_a_single_group_the_rows_are_ingredients(runs: Runs) -> None:
    logits = np.log([[[0.9, 0.1]], [[0.2, 0.8]]])
    run = of_ingredients(runs.front[0], logits)
    (table,) = tables(run).values()
    np.testing.assert_allclose(table[:, [0, 10, 20]], [[0.9, 0.6, 0.2], [0.1, 0.4, 0.8]], 1e-6)
    axes = drawn.some(trade_off.coefficients_over(run)).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["net0", "net1"]


def test_colours_reach_as_far_as_affine_coefficients_do(runs: Runs) -> None:
    run = of_ingredients(runs.front[0], [[[1.25, -0.25]], [[0, 1]]], family="affine")
    figure = drawn.some(trade_off.coefficients_over(run))
    assert figure.axes[0].images[0].get_clim() == (-0.25, 1.25)


def test_of_many_ingredients_those_with_the_largest_coefficients_are_drawn(runs: Runs) -> None:
    logits = np.zeros((2, 2, 9))
    logits[..., [8, 1, 2, 3, 5, 6]] = 1 + np.arange(6)
    run = of_ingredients(runs.front[0], logits[:, :1])
    assert run.front is not None
    two = {"groups": ("a", "b"), "weights": run.front.recipe.weights * 2, "by": "tensor"}
    recipe = dataclasses.replace(run.front.recipe, **two)
    parameters = {"logits": np.float32(logits)}
    front = dataclasses.replace(run.front, recipe=recipe, parameters=parameters)
    assert list(tables(dataclasses.replace(run, front=front))) == [
        f"net{k}" for k in (1, 2, 3, 5, 6, 8)
    ]


# ---- Three objectives.


def test_preferences_are_shaded_at_their_shares_between_named_corners(runs: Runs) -> None:
    run, learned = runs.front_of_three
    figure = drawn.some(simplex.preference_maps(run))
    panels = figure.axes[::2]
    rows = np.array([trial.recipe.front["at"] and [*trial.recipe.front["at"].values()]
                     for trial in learned.points])  # fmt: skip
    for axes, metric in zip(panels, METRICS, strict=True):
        values = [trial.judged().accuracy(metric) for trial in learned.points]
        (mesh,) = (c for c in axes.collections if isinstance(c, TriMesh))
        assert mesh.get_array().tolist() == values
        star, dots = [c for c in axes.collections if isinstance(c, PathCollection)][::-1]
        corners = np.asarray(axes.scatter(*np.eye(3)).get_offsets())
        np.testing.assert_allclose(dots.get_offsets(), rows @ corners, atol=1e-12)
        best = [*best_of(learned.points, metric).recipe.front["at"].values()]
        np.testing.assert_allclose(star.get_offsets()[0], best @ corners, atol=1e-12)
        assert [text.get_text() for text in axes.texts] == ["clean", "Linf 0.1", "L2 0.5"]


# ---- Learning.


def test_losses_and_gaps_have_a_line_for_each_objective(runs: Runs) -> None:
    run, _ = runs.front
    records = [{**r, "gaps": {**r["gaps"], "clean": None}} for r in run.history]
    figure = drawn.some(history.learning(dataclasses.replace(run, history=records)))
    by_label = {axes.get_ylabel(): axes for axes in figure.axes}
    for key, label in (
        ("losses", "loss of each objective"),
        ("gaps", "Frank-Wolfe gap at each end"),
    ):
        axes = by_label[label]
        assert drawn.legend(axes) == ["clean", "Linf 0.1"]
        for name, line in zip(("clean", "linf:0.1"), axes.get_lines(), strict=True):
            values = [np.nan if r[key][name] is None else r[key][name] for r in records]
            np.testing.assert_array_equal(line.get_xydata(), [*zip([1, 2, 3], values, strict=True)])
            assert line.get_color() == palette.colour(name)
        assert len({line.get_linestyle() for line in axes.get_lines()}) == 2
