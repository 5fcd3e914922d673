"""Maps: what is shaded where, whose corner is whose, and where nothing could be measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, TriMesh
from matplotlib.figure import Figure

from soupmerge.figures import history, landscape, palette, simplex
from soupmerge.figures.reading import RunRecord, coefficients
from tests.figures import drawn
from tests.figures.planted import CORNERS, PLACES, THREE, Runs, best_of

METRICS = ("clean", "linf:0.1", "l2:0.5", "union")


def maps(found: RunRecord) -> tuple[list[Any], list[Any]]:
    """Return the ternary axes of *found*'s figure, and those of their colour bars."""
    figure = drawn.some(simplex.ternary_maps(found))
    return figure.axes[::2], figure.axes[1::2]


def corners(axes: Any) -> Any:
    """Return where in *axes* the soups (1, 0, 0), (0, 1, 0) and (0, 0, 1) are dots."""
    return np.asarray(axes.scatter(*np.eye(3)).get_offsets())


def test_soups_are_shaded_at_their_own_coefficients(runs: Runs) -> None:
    found, trials = runs.lattice
    panels, bars = maps(found)
    rows = np.array([trial.recipe.mean_weights for trial in trials])
    for axes, bar, metric in zip(panels, bars, METRICS, strict=True):
        values = [trial.judged().accuracy(metric) for trial in trials]
        (mesh,) = (c for c in axes.collections if isinstance(c, TriMesh))
        assert mesh.get_array().tolist() == values
        dots, star = (c for c in axes.collections if isinstance(c, PathCollection))
        ends = corners(axes)
        np.testing.assert_allclose(dots.get_offsets(), rows @ ends, atol=1e-12)
        best = best_of(trials, metric)
        np.testing.assert_allclose(
            star.get_offsets()[0], best.recipe.mean_weights @ ends, atol=1e-12
        )
        assert bar.get_xlabel() == f"{palette.pretty(metric)}: best {max(values):.1%}"
        assert mesh.get_clim() == (min(values), max(values))


def test_corners_bear_their_own_names(runs: Runs) -> None:
    found, _ = runs.lattice
    for axes in maps(found)[0]:
        places = axes.transData.transform(corners(axes))
        for k, name in enumerate(THREE):
            (text,) = (t for t in axes.texts if t.get_text() == name)
            here = axes.transAxes.transform(text.xy)
            assert np.linalg.norm(places - here, axis=1).argmin() == k
            assert np.linalg.norm(places[k] - here) < 1, name


def test_the_sides_of_a_map_are_scaled_alike(runs: Runs) -> None:
    for axes in maps(runs.lattice[0])[0]:
        for axis in (axes.taxis, axes.laxis, axes.raxis):
            assert [text.get_text() for text in axis.get_ticklabels()] == [
                "0.2",
                "0.4",
                "0.6",
                "0.8",
            ]


def test_a_dominated_soup_has_no_star_on_the_map(runs: Runs) -> None:
    rows = [([1, 0, 0], 5, 5), ([0, 1, 0], 8, 5), ([0, 0, 1], 3, 2), ([0.5, 0.5, 0], 8, 4)]
    found = runs.written("ties on the map", rows)
    axes = maps(found)[0][1]
    star = [c for c in axes.collections if isinstance(c, PathCollection)][-1]
    np.testing.assert_allclose(star.get_offsets()[0], corners(axes)[1])


def test_many_soups_are_patches_and_soups_on_a_line_are_dots(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trials = runs.lattice
    values = [trial.judged().accuracy("clean") for trial in trials]
    on_a_line = [found.soups[i] for i, t in enumerate(trials) if t.recipe.mean_weights[2] == 0]
    shades, _ = simplex._shaded, monkeypatch.setattr(simplex, "FEW", len(trials) - 1)
    patches = maps(found)[0][0].collections[0]
    assert patches.get_array().tolist() == values
    assert patches.get_rasterized()
    assert not patches.get_clip_on(), "those on the edge are whole"
    assert patches.get_sizes() * len(values) == pytest.approx(2.6 * simplex.SIDE**2)  # they tile
    axes = Figure().add_subplot(projection="ternary")
    weights = np.array([record["weights"] for record in on_a_line])
    level = shades(axes, weights, list(range(len(on_a_line))))
    assert isinstance(level, PathCollection)
    assert level.get_array().tolist() == list(range(len(on_a_line)))


@pytest.mark.parametrize("kind", ["pair", "search", "greedy"])
def test_a_map_is_of_three_ingredients(runs: Runs, kind: str) -> None:
    assert simplex.ternary_maps(getattr(runs, kind)[0]) is None


def test_a_map_has_all_three_corners(runs: Runs) -> None:
    found, _ = runs.lattice
    some = [r for r in found.trials if r["weights"] != [0, 1, 0]]
    assert simplex.ternary_maps(dataclasses.replace(found, trials=some)) is None


def test_three_soups_are_enough_for_a_map(runs: Runs) -> None:
    rows = [([1, 0, 0], 5, 5), ([0, 1, 0], 8, 5), ([0, 0, 1], 3, 2)]
    for axes in maps(runs.written("corners alone", rows))[0]:
        assert [c for c in axes.collections if isinstance(c, TriMesh)]


def test_a_map_and_its_bar_stand_one_below_the_other_in_their_own_column(runs: Runs) -> None:
    panels, bars = maps(runs.lattice[0])
    for i, (axes, bar) in enumerate(zip(panels, bars, strict=True)):
        for box in (axes.get_position(), bar.get_position()):
            assert i / 4 < box.x0 < box.x1 < (i + 1) / 4
        assert 0 < bar.get_position().y0 < bar.get_position().y1 < axes.get_position().y0
        assert axes.get_position().y1 < 1
        middles = [(b.x0 + b.x1) / 2 for b in (axes.get_position(), bar.get_position())]
        assert middles == pytest.approx([(i + 0.5) / 4] * 2, abs=0.01)
        assert bar.xaxis.get_major_formatter()(0.5) == "50%"


# ---- The plane.


def test_the_plane_is_shaded_by_its_own_losses_and_accuracies(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, points = runs.landscape
    shaded, contourf = [], Axes.contourf

    def noted(axes: Any, *args: Any, **keywords: Any) -> Any:
        shaded.append((axes.get_title(), *args))
        return contourf(axes, *args, **keywords)

    monkeypatch.setattr(Axes, "contourf", noted)
    assert landscape.landscape(found) is not None
    titles = [title for title, *_ in shaded]
    assert titles == ["clean: loss", "clean: accuracy", "Linf 0.1: loss", "Linf 0.1: accuracy"]
    for title, xs, ys, table, levels in shaded:
        metric = "clean" if title.startswith("clean") else "linf:0.1"
        for point in points[3:]:
            value = table[ys.index(point.y), xs.index(point.x)]
            values = point.loss if title.endswith("loss") else point.accuracy
            assert value is np.ma.masked if point.hole else value == values[metric]
        assert levels[0] <= table.min()
        assert levels[-1] >= table.max()
        if title.endswith("loss"):
            assert len(levels) == landscape.LEVELS + 1
            steps = np.diff(np.log(levels))
            np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_checkpoints_are_numbered_in_their_places_and_named_below(runs: Runs) -> None:
    found, _ = runs.landscape
    figure = drawn.some(landscape.landscape(found))
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 4
    assert drawn.legend(figure)[:3] == [f"{k}  {name}" for k, name in enumerate(THREE, start=1)]
    for axes in panels:
        triangle, *dots = drawn.unnamed(axes)
        assert triangle.points == [*CORNERS, CORNERS[0]]
        assert [dot.points for dot in dots] == [[corner] for corner in CORNERS]
        assert drawn.names(axes) == dict(zip("123", CORNERS, strict=True))
        assert axes.get_xlabel() == "distance in weights, 1 → 2"
        assert axes.get_ylabel() == "at right angles,\ntowards 3"
        xs, ys = zip(*PLACES[3:], strict=True)
        assert axes.get_xlim() == (min(xs), max(xs))
        assert axes.get_ylim() == (min(ys), max(ys))


def stretched(run: RunRecord, x: float, y: float) -> RunRecord:
    """Return *run* with its plane as much wider and higher as *x* and *y* say."""
    trials = [{**record, "x": x * record["x"], "y": y * record["y"]} for record in run.trials]
    return dataclasses.replace(run, trials=trials)


@pytest.mark.parametrize(
    ("x", "y", "shape"), [(1, 1, 0.5), (1, 2, 1.0), (1, 0.1, 0.4), (0.1, 1, 2.5)]
)
def test_both_axes_of_a_plane_have_one_scale_unless_it_is_too_flat_or_tall(
    runs: Runs, x: float, y: float, shape: float
) -> None:
    figure = drawn.some(landscape.landscape(stretched(runs.landscape[0], x, y)))
    drawn.words(figure)
    for axes in figure.axes:
        if axes.get_title():
            frame = axes.get_window_extent()
            assert frame.height / frame.width == pytest.approx(shape, rel=0.01)


@pytest.mark.parametrize("third", [-1.0, 1.0, 3.0])
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_a_plane_can_be_read_wherever_its_checkpoints_are_and_whatever_they_are_called(
    runs: Runs, third: float, margin: float
) -> None:
    """At the frame, too, where names beside the dots once crossed it."""
    corners = [(0.0, 0.0), (2.0, 0.0), (third, 0.1)]
    xs = [min(0, third) - margin, 0.5, max(2, third) + margin]
    places = [*corners, *((x, y) for y in (-margin / 10, 0.05, 0.1 + margin / 10) for x in xs)]
    found, _ = runs.landscape
    trials = [{**r, "x": x, "y": y} for r, (x, y) in zip(found.trials, places, strict=True)]
    manifest = {**found.manifest, "inputs": [{"ref": letter * 40} for letter in "WMQ"]}
    plane = dataclasses.replace(found, trials=trials, manifest=manifest)
    figure = drawn.some(landscape.landscape(plane))
    assert drawn.unreadable(figure) == []
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            dot = axes.transData.transform(text.xy)
            middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
            assert np.abs(dot - middle).max() < 2, "within its dot"


def test_holes_are_hatched_and_explained(runs: Runs) -> None:
    found, _ = runs.landscape
    whole = [{k: v for k, v in r.items() if k != "hole"} for r in found.trials]
    metrics = found.trials[0]["metrics"]
    whole = [{"metrics": metrics, **record} for record in whole]
    for trials, entries in ((found.trials, ["hole: no finite loss"]), (whole, [])):
        figure = drawn.some(landscape.landscape(dataclasses.replace(found, trials=trials)))
        assert drawn.legend(figure)[3:] == entries
        assert all(axes.patch.get_hatch() for axes in figure.axes if axes.get_title())


def test_a_plane_of_holes_or_of_equal_zeros_can_be_drawn(runs: Runs) -> None:
    found, _ = runs.landscape
    holes = [{**r, "hole": "x"} for r in found.trials]
    for record in holes:
        record.pop("metrics", None)
    nothing = {"clean": {"loss": 0.0, "accuracy": 1.0}}
    zeros = [{**r, "metrics": nothing} for r in found.trials]
    for trials in (holes, zeros):
        figure = drawn.some(landscape.landscape(dataclasses.replace(found, trials=trials)))
        assert drawn.words(figure)


def test_an_unfinished_plane_is_not_drawn(runs: Runs) -> None:
    found, _ = runs.landscape
    assert landscape.landscape(dataclasses.replace(found, trials=found.trials[:-1])) is None
    assert landscape.landscape(runs.lattice[0]) is None


# ---- Coefficients by depth.


def test_coefficients_are_in_the_order_of_the_network(runs: Runs) -> None:
    found, trial = runs.learn
    groups, rows = coefficients(found) or ([], [])
    assert groups == [name for name, _ in runs.net.named_parameters()]
    by_name = dict(zip(trial.recipe.groups, trial.recipe.weights, strict=True))
    assert rows == [list(by_name[group]) for group in groups]
    figure = drawn.some(history.heat_map(found))
    axes, bar = figure.axes
    assert axes.images[0].get_array().tolist() == rows
    assert [t.get_text() for t in axes.get_yticklabels()] == groups
    assert [t.get_text() for t in axes.get_xticklabels()] == list(THREE)
    assert axes.images[0].get_clim() == (0, 1)
    assert bar.get_ylabel() == "coefficient"


def many(runs: Runs, n: int, low: float = 0.0) -> RunRecord:
    """Return a run whose recipe has *n* groups, row i being (i/n + low, 1 − i/n − low, 0)."""
    found, _ = runs.learn
    weights = {f"layer{i}.w": [i / n + low, 1 - i / n - low, 0.0] for i in range(n)}
    return dataclasses.replace(found, recipe={**(found.recipe or {}), "weights": weights})


@pytest.mark.parametrize(
    ("n", "columns", "length", "every"),
    [(50, 1, 50, 1), (51, 2, 26, 1), (250, 5, 50, 1), (600, 5, 120, 3)],
)
def test_many_groups_stand_in_columns(
    runs: Runs, n: int, columns: int, length: int, every: int
) -> None:
    figure = drawn.some(history.heat_map(many(runs, n)))
    *panels, _ = figure.axes
    tables = [axes.images[0].get_array().filled(np.nan) for axes in panels]
    drawn.words(figure)  # lays it out
    inches = [axes.get_window_extent().width / figure.dpi for axes in panels]
    assert all(0.55 < width / 3 < 0.85 for width in inches), "however many columns"
    assert [table.shape for table in tables] == [(length, 3)] * columns
    shown = np.concatenate(tables)
    assert np.isnan(shown[n:]).all()
    np.testing.assert_allclose(shown[:n, 0], np.arange(n) / n)
    labels = [t.get_text() for axes in panels for t in axes.get_yticklabels()]
    parts = [range(start, min(start + length, n), every) for start in range(0, n, length)]
    assert labels == [f"layer{i}.w" for part in parts for i in part]


def test_colours_reach_as_far_as_coefficients_do(runs: Runs) -> None:
    figure = drawn.some(history.heat_map(many(runs, 10, low=-0.25)))
    assert figure.axes[0].images[0].get_clim() == (-0.25, 1.25)


def test_one_row_is_no_map(runs: Runs) -> None:
    assert history.heat_map(runs.lattice[0]) is None
    assert history.heat_map(many(runs, 1)) is None
