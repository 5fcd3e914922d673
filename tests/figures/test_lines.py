"""Curves: paths and barriers over their chords, learning epoch by epoch, sets of shifted images."""

from __future__ import annotations

import dataclasses
from itertools import groupby

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from soupmerge.figures import history, palette, paths, shifts
from soupmerge.figures.reading import CURVES
from soupmerge.soups.search.path import Line
from tests.figures import drawn
from tests.figures.planted import PAIR, THREE, Runs

METRICS = ("clean", "linf:0.1", "l2:0.5", "union")


@pytest.mark.parametrize("kind", ["pair", "path", "beyond"])
def test_accuracy_on_a_path_stands_over_the_chord_between_the_ingredients(
    runs: Runs, kind: str
) -> None:
    found, trials = getattr(runs, kind)
    by_t = sorted(trials, key=lambda trial: trial.recipe.mean_weights[1])
    t = tuple(trial.recipe.mean_weights[1] for trial in by_t)
    line = Line(t, trials.__class__(tuple(by_t)))
    figure = drawn.some(paths.path_lines(found))
    for axes, metric in zip(figure.axes, METRICS, strict=True):
        values = [trial.judged().accuracy(metric) for trial in by_t]
        gains = [line.gain(i, metric).mean for i in range(len(t))]
        below = [value - gain for value, gain in zip(values, gains, strict=True)]
        chord, curve, most = drawn.unnamed(axes)
        assert curve.points == drawn.rounded(zip(t, values, strict=True))
        assert chord.points == drawn.rounded(zip(t, below, strict=True))
        assert (chord.line, curve.line, most.line) == ("--", "-", ":")
        assert {d.colour for d in (chord, curve, most)} == {palette.colour(metric)}
        best = int(np.argmax(np.round(gains, 9)))
        assert most.points == drawn.rounded([(t[best], below[best]), (t[best], values[best])])
        title = f"{palette.pretty(metric)}: {100 * gains[best]:+.1f} over the chord"
        assert axes.get_title() == title
        ends = [
            (tick.get_text(), place)
            for tick, place in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
        ]
        assert ends == [(PAIR[0], 0), ("½", 0.5), (PAIR[1], 1)]
    assert len({axes.get_lines()[1].get_marker() for axes in figure.axes}) == len(METRICS)


def test_a_path_has_two_ends_and_something_between(runs: Runs) -> None:
    assert paths.path_lines(runs.lattice[0]) is None
    found, _ = runs.pair
    assert paths.path_lines(dataclasses.replace(found, trials=found.trials[:2])) is None
    assert paths.path_lines(dataclasses.replace(found, trials=found.trials[:3])) is not None


def test_barriers_stand_over_their_chords_the_highest_first(runs: Runs) -> None:
    found, barriers = runs.check
    figure = drawn.some(paths.barrier_curves(found))
    pairs = [list(group) for _, group in groupby(barriers, key=lambda b: b.pair)]
    pairs.sort(key=lambda group: -max(b.height for b in group))
    titles = [f"{a} to {b}" for ((a, b), *_) in ((g[0].pair,) for g in pairs)]
    assert [axes.get_title() for axes in figure.axes] == titles
    for axes, group in zip(figure.axes, pairs, strict=True):
        labels = [f"{palette.pretty(b.metric)} {100 * b.height:+.1f}: {b.verdict}" for b in group]
        lines, chords = drawn.lines(axes), drawn.unnamed(axes)
        assert list(lines) == drawn.legend(axes) == labels
        for barrier, line, chord in zip(group, lines.values(), chords, strict=True):
            points = drawn.rounded(zip(barrier.t, barrier.error, strict=True))
            assert line.points == points
            assert chord.points == [points[0], points[-1]]
            assert (line.line, chord.line) == ("-", "--")
            assert line.colour == chord.colour == palette.colour(barrier.metric)
        assert axes.get_ylabel() == "error"


def test_of_many_pairs_the_highest_barriers_are_drawn(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "MOST_PANELS", 2)
    figure = drawn.some(paths.barrier_curves(runs.check[0]))
    assert [axes.get_title() for axes in figure.axes] == ["apple to cherry", "berry to cherry"]
    assert paths.barrier_curves(runs.lattice[0]) is None


def test_pairs_stand_three_in_a_row_on_one_scale(runs: Runs) -> None:
    found, _ = runs.check
    for pairs, shape in ((1, (1, 1)), (3, (1, 3)), (4, (2, 3))):
        some = [{**found.barriers[0], "pair": [f"a{i}", "b"]} for i in range(pairs)]
        figure = drawn.some(paths.barrier_curves(dataclasses.replace(found, barriers=some)))
        specs = [axes.get_subplotspec() for axes in figure.axes]
        assert {spec.get_gridspec().get_geometry() for spec in specs} == {shape}
        assert len({axes.get_ylim() for axes in figure.axes}) == 1
        for axes in figure.axes:
            assert axes.get_xlabel() == "position from the first to the second"
            assert axes.yaxis.get_major_formatter()(0.125) == "12.5%"


def test_axes_of_a_path_are_in_percent_and_named_once(runs: Runs) -> None:
    figure = drawn.some(paths.path_lines(runs.path[0]))
    assert [axes.get_ylabel() for axes in figure.axes] == ["accuracy", "", "", ""]
    for axes in figure.axes:
        assert axes.yaxis.get_major_formatter()(0.5) == "50%"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.25, 1), (0, 1.25), (-0.25, 1.25)])
def test_names_at_the_edges_of_a_path_point_inwards(runs: Runs, low: float, high: float) -> None:
    found, _ = runs.beyond
    trials = [r for r in found.trials if low <= r["weights"][1] <= high]
    figure = drawn.some(paths.path_lines(dataclasses.replace(found, trials=trials)))
    inward = (low, high) == (0, 1)
    for axes in figure.axes:
        sides = [label.get_horizontalalignment() for label in axes.get_xticklabels()]
        assert sides == (["left", "center", "right"] if inward else ["center"] * 3)


def test_more_metrics_than_markers_take_them_in_turn(runs: Runs) -> None:
    found, _ = runs.pair
    metrics = ["clean", *(f"l2:{i}" for i in range(7))]
    some = [{**r, "metrics": dict.fromkeys(metrics, r["metrics"]["clean"])} for r in found.trials]
    figure = drawn.some(paths.path_lines(dataclasses.replace(found, trials=some)))
    marks = [axes.get_lines()[1].get_marker() for axes in figure.axes]
    assert marks == list((paths.MARKS * 2)[:8])


# ---- Learning.


def test_what_is_learned_is_drawn_epoch_by_epoch(runs: Runs) -> None:
    found, _ = runs.learn
    figure = drawn.some(history.learning(found))
    curves = {key: label for key, label in CURVES.items() if key in found.history[0]}
    assert [axes.get_ylabel() for axes in figure.axes] == list(curves.values())
    assert set(CURVES) - set(curves) == {"losses", "gaps"}, "which a front has"
    epochs = [record["epoch"] for record in found.history]
    assert epochs == [1, 2, 3]
    for axes, key in zip(figure.axes, curves, strict=True):
        assert axes.get_xlabel() == "epoch"
        assert axes.xaxis.get_gridlines()[0].get_visible()
        lines = drawn.lines(axes)
        columns = np.array([record[key] for record in found.history]).reshape(len(epochs), -1).T
        wanted = [drawn.rounded(zip(epochs, column, strict=True)) for column in columns]
        names = list(THREE) if key == "weights" else ["training"]
        assert [lines[name].points for name in names] == wanted
        if key == "weights":
            assert drawn.legend(axes) == names
            assert [lines[name].colour for name in names] == list(palette.INGREDIENTS[:3])
            assert len({lines[name].line for name in names}) == 3
            assert axes.get_ylim() == (0, 1)


def test_held_out_loss_is_drawn_beside_that_of_training(runs: Runs) -> None:
    found, _ = runs.learn
    line = drawn.lines(drawn.some(history.learning(found)).axes[0])["held out"]
    assert line.points == drawn.rounded((r["epoch"], r["val"]) for r in found.history)
    assert line.line == "--"
    # Nothing was held out, or a loss is no number.
    for values in ([None] * 3, ["inf"] * 3, [0.5, "inf", 0.5]):
        some = [{**r, "val": v} for r, v in zip(found.history, values, strict=True)]
        axes = drawn.some(history.learning(dataclasses.replace(found, history=some))).axes[0]
        assert list(drawn.lines(axes)) == ["training"]


def test_coefficients_outside_of_0_and_1_are_seen(runs: Runs) -> None:
    found, _ = runs.learn
    some = [{**r, "weights": [-0.5, 1.25, 0.25]} for r in found.history]
    figure = drawn.some(history.learning(dataclasses.replace(found, history=some)))
    axes = next(a for a in figure.axes if a.get_ylabel() == CURVES["weights"])
    assert axes.get_ylim() == (-0.5, 1.25)


def test_four_curves_stand_two_by_two_and_three_in_a_row(runs: Runs) -> None:
    found, _ = runs.learn
    own = [key for key in CURVES if key in found.history[0]]
    shapes = {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 5: (2, 3)}
    for count, shape in shapes.items():
        keys = own[:count]
        some = [{k: v for k, v in r.items() if k in ("epoch", *keys)} for r in found.history]
        figure = drawn.some(history.learning(dataclasses.replace(found, history=some)))
        specs = [axes.get_subplotspec() for axes in figure.axes]
        assert {spec.get_gridspec().get_geometry() for spec in specs} == {shape}
        assert [spec.num1 for spec in specs] == list(range(len(keys)))


def test_a_curve_has_the_epochs_that_know_of_it(runs: Runs) -> None:
    found, _ = runs.learn
    some = [dict(record) for record in found.history]
    del some[0]["entropy"]
    figure = drawn.some(history.learning(dataclasses.replace(found, history=some)))
    entropy = next(a for a in figure.axes if a.get_ylabel() == CURVES["entropy"])
    assert [x for x, _ in drawn.lines(entropy)["training"].points] == [2, 3]
    for axes in figure.axes:
        assert all(float(tick).is_integer() for tick in axes.get_xticks()), "no half epochs"


def test_many_ingredients_take_colours_and_lines_in_turn(runs: Runs) -> None:
    found, _ = runs.learn
    inputs = [{"ref": f"net{k}"} for k in range(10)]
    rows = [{"epoch": i, "weights": [k / 45 for k in range(10)]} for i in (1, 2)]
    manifest = {**found.manifest, "inputs": inputs}
    many = dataclasses.replace(found, manifest=manifest, history=rows)
    (axes,) = drawn.some(history.learning(many)).axes
    looks = [(line.colour, line.line) for line in drawn.lines(axes).values()]
    assert [colour for colour, _ in looks] == [palette.INGREDIENTS[k % 8] for k in range(10)]
    assert [line for _, line in looks] == [history.LINES[k % 4] for k in range(10)]
    assert len(set(history.LINES)) == 4


def test_a_training_has_its_loss_alone(runs: Runs) -> None:
    found, _ = runs.finetune
    (axes,) = drawn.some(history.learning(found)).axes
    line = drawn.lines(axes)["training"]
    assert line.points == drawn.rounded((r["epoch"], r["loss"]) for r in found.history)
    assert len(line.points) == 3
    assert history.learning(runs.lattice[0]) is None


def test_marks_are_left_out_where_epochs_are_many(runs: Runs) -> None:
    found, _ = runs.finetune
    for n, mark in ((59, "."), (60, "None")):
        long = [{"epoch": i, "loss": 1 / i} for i in range(1, n + 1)]
        (axes,) = drawn.some(history.learning(dataclasses.replace(found, history=long))).axes
        assert drawn.lines(axes)["training"].mark == mark


# ---- Shifted images.


def test_every_network_has_a_dot_on_the_line_of_each_set(runs: Runs) -> None:
    found, adaptation = runs.adapt
    figure = drawn.some(shifts.shifts(found))
    (axes,) = figure.axes
    sets = [*adaptation.sets, "mean of all"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == sets
    levels = dict(zip(sets, axes.get_yticks(), strict=True))
    assert list(levels.values()) == sorted(levels.values())
    assert axes.yaxis_inverted(), "the first set is above"
    rows = {row.name: [*row.accuracies, row.mean] for row in adaptation.rows}
    shown = {name: row for name, row in rows.items() if not name.startswith("best individual")}
    lines = drawn.lines(axes)
    assert list(lines) == list(shown) == drawn.legend(figure)
    for name, row in shown.items():
        assert [x for x, _ in lines[name].points] == pytest.approx(row)
        near = [
            abs(y - level)
            for (_, y), level in zip(lines[name].points, levels.values(), strict=True)
        ]
        assert max(near) < 0.3, "each beside the line of its own set"
    marks = [
        (line.mark, axes_line.get_markeredgecolor())
        for line, axes_line in zip(lines.values(), axes.get_lines(), strict=False)
    ]
    assert len(set(marks)) == len(marks)
    (spans,) = (c for c in axes.collections if isinstance(c, LineCollection))
    reach = [(min(column), max(column)) for column in zip(*rows.values(), strict=True)]
    assert [drawn.rounded([s[:, 0]]) for s in spans.get_segments()] == [
        drawn.rounded([pair]) for pair in reach
    ]
    assert [s[0, 1] for s in spans.get_segments()] == list(levels.values())


def test_soups_and_ensembles_are_marked_as_such(runs: Runs) -> None:
    axes = drawn.some(shifts.shifts(runs.adapt[0])).axes[0]
    looks = {name: (line.mark, line.colour) for name, line in drawn.lines(axes).items()}
    assert looks["prob ensemble"] == ("D", "#999999")
    assert looks["logit ensemble"] == ("d", "#666666")
    assert looks["single soup"] == ("s", "#000000")
    assert looks["a soup for each set"] == ("^", "#D55E00")
    assert {looks[name] for name in THREE} == {("o", "white")}
    assert shifts.shifts(runs.lattice[0]) is None
    assert axes.get_xlabel() == "accuracy on images that were not used to choose"
    assert axes.xaxis.get_major_formatter()(0.5) == "50%"


def test_the_mean_stands_below_a_line(runs: Runs) -> None:
    axes = drawn.some(shifts.shifts(runs.adapt[0])).axes[0]
    *_, last, mean = axes.get_yticks()
    (rule,) = (line for line in axes.get_lines() if line.get_transform() != axes.transData)
    assert last < rule.get_ydata()[0] < mean
    low, high = axes.get_ylim()
    assert low - mean > 0.3, "dots at the ends are not cut"
    assert axes.get_yticks()[0] - high > 0.3


def test_ensembles_stand_below_the_line_of_their_set_and_soups_above(runs: Runs) -> None:
    axes = drawn.some(shifts.shifts(runs.adapt[0])).axes[0]
    lines = drawn.lines(axes)
    signs = {"prob ensemble": 1, "logit ensemble": 1, "single soup": -1, "a soup for each set": -1}
    for name, sign in signs.items():
        offsets = {
            round(y - level, 9) for (_, y), level in zip(lines[name].points, range(4), strict=True)
        }
        assert [sign * o > 0.1 for o in offsets] == [True], name
    for name in THREE:
        assert [y for _, y in lines[name].points] == [0, 1, 2, 3]
