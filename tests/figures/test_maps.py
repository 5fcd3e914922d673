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


# ---- The plane.


def test_the_plane_is_shaded_by_its_own_losses_and_accuracies(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, points = runs.landscape
    shaded, contourf = [], Axes.contourf

    def noted(axes: Any, *args: Any, **how: Any) -> Any:
        shaded.append((axes.get_title(), *args))
        return contourf(axes, *args, **how)

    monkeypatch.setattr(Axes, "contourf", noted)
    assert landscape.landscape(found) is not None
    titles = [title for title, *_ in shaded]
    assert titles == ["clean: loss", "clean: accuracy", "Linf 0.1: loss", "Linf 0.1: accuracy"]
    for title, xs, ys, table, levels in shaded:
        metric = "clean" if title.startswith("clean") else "linf:0.1"
        for point in points[3:]:
            value = table[ys.index(point.y), xs.index(point.x)]
            told = point.loss if title.endswith("loss") else point.accuracy
            assert value is np.ma.masked if point.hole else value == told[metric]
        assert levels[0] <= table.min()
        assert levels[-1] >= table.max()
        if title.endswith("loss"):
            steps = np.diff(np.log(levels))
            np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_checkpoints_lie_in_their_places_under_their_own_names(runs: Runs) -> None:
    found, _ = runs.landscape
    figure = drawn.some(landscape.landscape(found))
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 4
    for axes in panels:
        triangle, *dots = drawn.unnamed(axes)
        assert triangle.points == [*CORNERS, CORNERS[0]]
        assert [dot.points for dot in dots] == [[corner] for corner in CORNERS]
        assert drawn.names(axes) == dict(zip(THREE, CORNERS, strict=True))
        assert axes.get_xlabel().endswith("apple → berry")
        assert axes.get_ylabel().endswith("towards cherry")
        xs, ys = zip(*PLACES[3:], strict=True)
        assert axes.get_xlim() == (min(xs), max(xs))
        assert axes.get_ylim() == (min(ys), max(ys))
        assert axes.get_aspect() == 1


@pytest.mark.parametrize("third", [-1.0, 0.6, 1.0, 1.4, 3.0])
def test_names_stay_within_the_map_wherever_their_checkpoints_are(runs: Runs, third: float) -> None:
    found, _ = runs.landscape
    moved = [{**r, "x": third} if i == 2 else r for i, r in enumerate(found.trials)]
    edges = {-0.5: min(-0.5, third - 0.5), 2.5: max(2.5, third + 0.5)}
    spread = [*moved[:3], *({**r, "x": edges.get(r["x"], r["x"])} for r in moved[3:])]
    long = [{"ref": f"{name}-with-a-long-name"} for name in THREE]
    for inputs in (long, found.manifest["inputs"]):
        manifest = {**found.manifest, "inputs": inputs}
        plane = dataclasses.replace(found, trials=spread, manifest=manifest)
        figure = drawn.some(landscape.landscape(plane))
        assert drawn.unreadable(figure) == []
        for axes in figure.axes:
            frame = axes.get_window_extent()
            for text in axes.texts:
                box = text.get_window_extent()
                assert (box.x0 > frame.x0 - 1, box.x1 < frame.x1 + 1) == (True, True), text
                dot = axes.transData.transform(text.xy)[0]
                assert box.x0 - 1 < dot < box.x1 + 1, "beside its dot"
                if inputs is not long:
                    assert abs((box.x0 + box.x1) / 2 - dot) < 1, "short names are centred"


def test_holes_are_hatched_and_explained(runs: Runs) -> None:
    found, _ = runs.landscape
    whole = [{k: v for k, v in r.items() if k != "hole"} for r in found.trials]
    metrics = found.trials[0]["metrics"]
    whole = [{"metrics": metrics, **record} for record in whole]
    for trials, entries in ((found.trials, ["hole: no finite loss"]), (whole, [])):
        figure = drawn.some(landscape.landscape(dataclasses.replace(found, trials=trials)))
        assert drawn.legend(figure) == entries
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
