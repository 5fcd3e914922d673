"""Clean against robust accuracy: every dot, line, mark, name and legend entry, and what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex

from soupmerge.choices import MAKERS, NO_SOUPS, ORIGINS
from soupmerge.figures import fronts, palette, style, sweeps
from tests.figures import drawn
from tests.figures.planted import MADE, THREE, Planted, Runs, best_of, judge, points_of

SEARCHES = ["lattice", "pair", "race", "greedy", "path", "search"]
AGAINST = ["linf:0.1", "l2:0.5", "union"]


@pytest.mark.parametrize("kind", SEARCHES)
def test_soups_their_front_and_the_best_are_where_the_library_has_them(
    runs: Runs, kind: str
) -> None:
    found, trials = getattr(runs, kind)
    figure = drawn.some(fronts.soups_front(found))
    assert len(figure.axes) == len(AGAINST)
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        points = points_of([trial.judged() for trial in trials], metric)
        dots, best = drawn.dots(axes), best_of(trials, metric)
        assert drawn.places(dots["soup"]) == points
        (star,) = drawn.places(dots[f"best {best.judged().accuracy(metric):.1%}"])
        assert star == points[list(trials).index(best)]
        line = drawn.lines(axes)["front"]
        assert line.points == [points[i] for i in trials.front("clean", metric)]
        assert line.line == "-"
        assert drawn.legend(axes) == ["soup", "front", *(set(dots) - {"soup"})]
        colours = {line.colour, *(to_hex(c) for c in dots["soup"].get_facecolor())}
        assert {c.lower() for c in colours} == {palette.colour(metric).lower()}


@pytest.mark.parametrize("kind", SEARCHES)
def test_ingredients_are_circled_and_bear_their_own_names(runs: Runs, kind: str) -> None:
    found, trials = getattr(runs, kind)
    figure = drawn.some(fronts.soups_front(found))
    alone = {}
    for trial in trials:
        if max(trial.recipe.mean_weights) == 1:
            alone[found.names[trial.recipe.mean_weights.index(1)]] = trial.judged()
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        places = points_of(alone.values(), metric)
        assert drawn.names(axes) == dict(zip(alone, places, strict=True))
        circles = [c.points[0] for c in drawn.unnamed(axes) if c.mark == "o"]
        assert circles == places


@pytest.mark.parametrize("kind", ["lattice", "judged", "sweep"])
def test_points_fill_their_panels(runs: Runs, kind: str) -> None:
    found = getattr(runs, kind)[0]
    draw = {"lattice": fronts.soups_front, "judged": fronts.comparison, "sweep": sweeps.curves}
    for axes in drawn.some(draw[kind](found)).axes:
        bounds = axes.dataLim
        for (low, high), span in (
            (axes.get_xlim(), bounds.width), (axes.get_ylim(), bounds.height),
        ):  # fmt: skip
            assert 1.1 * span < high - low < 1.7 * span


def test_axes_say_what_they_measure(runs: Runs) -> None:
    found, _ = runs.lattice
    figure = drawn.some(fronts.soups_front(found))
    named = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    wanted = ["Linf 0.1", "L2 0.5", "union"]
    assert named == [("clean accuracy", f"accuracy under {metric}") for metric in wanted]
    for axes in figure.axes:
        assert [f.get_major_formatter()(0.125) for f in (axes.xaxis, axes.yaxis)] == ["12.5%"] * 2


def test_one_threat_has_no_union_beside_it_and_none_has_clean_alone(runs: Runs) -> None:
    few = judge()
    one = Planted(few.data, few.attacks[:1])
    for benchmark, label in (
        (one, "accuracy under Linf 0.1"),
        (Planted(few.data), "clean accuracy"),
    ):
        name = label.replace(" ", "-")
        found, trials = runs.grid(name, step=0.5, judge=benchmark)
        figure = drawn.some(fronts.soups_front(found))
        assert [axes.get_ylabel() for axes in figure.axes] == [label]


def test_a_dominated_soup_is_not_starred(runs: Runs) -> None:
    """Of soups that are equal in a metric, the star is at the one that is better elsewhere."""
    rows = [([1, 0, 0], 5, 5), ([0, 1, 0], 8, 5), ([0, 0, 1], 3, 2), ([0.5, 0.5, 0], 8, 4)]
    found = runs.written("ties", rows)
    axes = drawn.some(fronts.soups_front(found)).axes[0]
    assert drawn.places(drawn.dots(axes)["best 50.0%"]) == [(0.8, 0.5)]


def test_many_dots_are_small_and_an_image(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    found, trials = runs.lattice
    for most, look in ((len(trials), (14, 0.5, False)), (len(trials) - 1, (5, 0.3, True))):
        monkeypatch.setattr(style, "MANY", most)
        soups = drawn.dots(drawn.some(fronts.soups_front(found)).axes[0])["soup"]
        assert (soups.get_sizes()[0], soups.get_alpha(), bool(soups.get_rasterized())) == look


def test_of_one_soup_there_is_no_front_and_of_two_there_is(runs: Runs) -> None:
    rows = [([1, 0], 5, 5), ([0, 1], 8, 3)]
    assert fronts.soups_front(runs.written("one soup", rows[:1])) is None
    (axes,) = drawn.some(fronts.soups_front(runs.written("two soups", rows))).axes
    assert drawn.lines(axes)["front"].points == [(0.5, 0.5), (0.8, 0.3)]


def test_long_labels_end_at_dots_in_the_right_half(runs: Runs) -> None:
    found, _ = runs.lattice
    axes = drawn.some(fronts.soups_front(found)).axes[0]
    for text, left in (("sevens7", True), ("sixes6", False)):
        for x, expected in ((0.0, "left"), (0.9, "right" if left else "left")):
            axes.set_xlim(0, 1)
            fronts.write_beside(axes, text, (x, 0.5))
            note = axes.texts[-1]
            assert note.get_ha() == expected
            assert (note.xyann[0] < 0) == (expected == "right")
            assert [abs(offset) for offset in note.xyann] == [4, 4], "as far to either side"
            assert not note.get_in_layout(), "a label does not make its panel smaller"
    fronts.write_beside(axes, "short", (0.0, 0.5), left=True)
    assert axes.texts[-1].get_ha() == "right"


# ---- The comparison.


def kinds(records: Any) -> dict[str, list[int]]:
    """Return what made them → places of records."""
    found: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        found.setdefault(record["made by"], []).append(i)
    return found


def test_every_origin_has_a_mark_a_legend_entry_and_a_sentence() -> None:
    assert set(fronts.MARKS) == set(MAKERS) == {*NO_SOUPS, *ORIGINS}
    marks = [*fronts.MARKS.values(), fronts.UNKNOWN]
    assert len(set(marks)) == len(marks)
    assert len(set(MAKERS.values())) == len(MAKERS)
    for name, origin in ORIGINS.items():
        assert origin.label
        assert origin.sentence.startswith(("chosen ", "found ", "learned ", "a point ")), name


def test_every_judged_network_is_drawn_with_the_mark_of_what_made_it(runs: Runs) -> None:
    found, reports = runs.judged
    made = kinds(found.judged)
    assert set(made) == {*MAKERS, "annealing"}, "one of each, and one of a newer soupmerge"
    figure = drawn.some(fronts.comparison(found))
    labels = {kind: MAKERS.get(kind, kind) for kind in (*MAKERS, "annealing")}
    entries = [labels[kind] for kind in (*fronts.MARKS, "annealing")]
    entries.insert(entries.index("best of grid") + 1, "the grid's chord")
    assert drawn.legend(figure) == entries
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        lines, points = drawn.lines(axes), points_of(reports, metric)
        for kind, numbers in made.items():
            line = lines[labels[kind]]
            assert line.points == sorted(points[i] for i in numbers), kind
            assert line.mark == fronts.MARKS.get(kind, fronts.UNKNOWN)
            joined = ("-", palette.colour(metric))
            look = joined if kind in ("learn", "front") else ("None", "#666666")
            assert (line.line, line.colour) == look


def test_the_grid_s_chord_joins_its_best_clean_and_its_best_robust_soup(runs: Runs) -> None:
    found, reports = runs.judged
    figure = drawn.some(fronts.comparison(found))
    grid = [reports[i] for i in kinds(found.judged)["grid"]]
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        robust, clean = (max(grid, key=lambda r: r.accuracy(m)) for m in (metric, "clean"))
        chord = drawn.lines(axes)["the grid's chord"]
        assert robust is not clean
        assert chord.points == points_of([robust, clean], metric)
        assert chord.line == "--"


def test_crosses_are_the_reports_intervals(runs: Runs) -> None:
    found, reports = runs.judged
    figure = drawn.some(fronts.comparison(found))
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        wanted = set()
        for report in reports:
            ends = {m: [round(e, 4) for e in report.interval(m)] for m in ("clean", metric)}
            (x, y), (left, right), (low, high) = *points_of([report], metric), *ends.values()
            wanted |= {((left, y), (right, y)), ((x, low), (x, high))}
        assert drawn.crosses(axes) == wanted


def test_numbers_stand_beside_their_networks_and_are_listed(runs: Runs) -> None:
    found, reports = runs.judged
    figure = drawn.some(fronts.comparison(found))
    ensemble = "prob ensemble of…pple, berry"
    listed = [f"{i}  {name}" for i, name in enumerate((*THREE, *MADE, ensemble), start=1)]
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        names, points = drawn.names(axes), points_of(reports, metric)
        key = names.pop("\n".join(listed), None)
        assert (key is None) == (axes is not figure.axes[-1])
        spans = [end - start for start, end in (axes.get_xlim(), axes.get_ylim())]
        numbered = {int(n): place for text, place in names.items() for n in text.split(",")}
        lengths = [[line.rstrip(",").count(",") + 1 for line in t.split("\n")] for t in names]
        assert all(set(full) <= {3} and last <= 3 for *full, last in lengths)
        assert sorted(numbered) == list(range(1, len(reports) + 1))
        for number, place in numbered.items():
            gaps = [abs(a - b) for a, b in zip(place, points[number - 1], strict=True)]
            assert all(g <= n * s for g, n, s in zip(gaps, fronts.NEAR, spans, strict=True))
        assert len(names) > 5, "neighbours alone share a text"


def test_an_evaluation_without_threats_shows_clean_accuracy(runs: Runs) -> None:
    found, reports = runs.clean
    figure = drawn.some(fronts.comparison(found))
    assert [axes.get_ylabel() for axes in figure.axes] == ["clean accuracy"]
    alone = drawn.lines(figure.axes[0])["mixed by hand"]
    assert alone.points == [(reports[3].accuracy("clean"),) * 2]


def test_a_lone_soup_of_a_grid_has_no_chord(runs: Runs) -> None:
    found, _ = runs.judged
    grid = [r for r in found.trials if r["made by"] == "grid"]
    for count in (1, 2):
        some = dataclasses.replace(found, trials=grid[:count])
        axes = drawn.some(fronts.comparison(some)).axes[0]
        assert ("the grid's chord" in drawn.lines(axes)) == (count == 2)


def test_a_record_without_a_maker_is_from_elsewhere(runs: Runs) -> None:
    found, _ = runs.judged
    some = [{k: v for k, v in r.items() if k != "made by"} for r in found.trials[:2]]
    some.append({**found.trials[2], "made by": None})
    figure = drawn.some(fronts.comparison(dataclasses.replace(found, trials=some)))
    assert drawn.legend(figure) == ["from elsewhere"]
    assert fronts.comparison(dataclasses.replace(found, trials=[])) is None


# ---- The sweep.


def test_a_sweep_s_curve_goes_through_the_means_of_its_seeds(runs: Runs) -> None:
    found, swept = runs.sweep
    figure = drawn.some(sweeps.curves(found))
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        xs, ys = swept.spread("clean"), swept.spread(metric)
        curve = drawn.lines(axes)["learned, mean of 2 seeds"]
        means = drawn.rounded((xs[goal][0], ys[goal][0]) for goal in swept.objectives)
        assert (curve.points, curve.mark, curve.line) == (means, "^", "-")
        assert curve.colour == palette.colour(metric)
        wanted = set()
        for goal in swept.objectives:
            (x, left, right), (y, low, high) = xs[goal], ys[goal]
            wanted |= {
                tuple(drawn.rounded([(left, y), (right, y)])),
                tuple(drawn.rounded([(x, low), (x, high)])),
            }
        assert drawn.crosses(axes) == wanted
        assert any(a != b for a, b in wanted), "seeds differ"


def test_beside_a_sweep_stand_the_grid_s_bests_their_chord_and_the_ingredients(runs: Runs) -> None:
    found, swept = runs.sweep
    figure = drawn.some(sweeps.curves(found))
    learned = "learned, mean of 2 seeds"
    entries = [learned, "best of grid", "uniform", "the grid's chord", "ingredients"]
    assert drawn.legend(figure) == entries
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        lines = drawn.lines(axes)
        place = {n: points_of([r], metric)[0] for n, r in swept.beside.items()}
        grid = [place["grid-clean"], place["grid-union"]]
        assert (lines["best of grid"].points, lines["best of grid"].mark) == (grid, "s")
        assert (lines["uniform"].points, lines["uniform"].mark) == ([place["uniform"]], "D")
        chord = [max(grid, key=lambda p: p[1]), max(grid)]
        assert (lines["the grid's chord"].points, lines["the grid's chord"].line) == (chord, "--")
        assert lines["ingredients"].points == [place[name] for name in THREE]
        named = drawn.names(axes)
        assert {name: named[name] for name in THREE} == {name: place[name] for name in THREE}
        (rest,) = (text for text in named if text not in THREE)
        assert rest == "0, 2/255", "objectives by what tells them apart, sharing a text if near"


def test_a_sweep_of_one_seed_has_points_and_no_mean(runs: Runs) -> None:
    found, _ = runs.sweep
    first = [r for r in found.trials if "seed5" not in r["ref"]]
    single = [{**r, "ref": r["ref"].replace("-seed3", "")} for r in first]
    manifest = {**found.manifest, "seeds": [3]}
    run = dataclasses.replace(found, manifest=manifest, trials=single)
    figure = drawn.some(sweeps.curves(run))
    entries = ["learned", "best of grid", "uniform", "the grid's chord", "ingredients"]
    assert drawn.legend(figure) == entries
    for axes, metric in zip(figure.axes, AGAINST, strict=True):
        learned = [r for r in single if Path(r["ref"]).parent.name in found.manifest["objectives"]]
        points = [
            (r["metrics"]["clean"]["accuracy"], r["metrics"][metric]["accuracy"]) for r in learned
        ]
        assert drawn.lines(axes)["learned"].points == drawn.rounded(points)
        assert len(points) == 2


def test_a_sweep_beside_nothing_but_one_soup_of_a_grid(runs: Runs) -> None:
    found, _ = runs.sweep
    few = [r for r in found.trials if "seed" in r["ref"] or "grid-clean" in r["ref"]]
    figure = drawn.some(sweeps.curves(dataclasses.replace(found, trials=few)))
    assert drawn.legend(figure) == ["learned, mean of 2 seeds", "best of grid"]
    for other in (runs.lattice[0], runs.judged[0]):
        assert sweeps.curves(other) is None


def test_an_ingredient_that_lies_under_a_soup_has_no_second_label(runs: Runs) -> None:
    found, _ = runs.sweep
    grid = next(r for r in found.trials if "grid-clean" in r["ref"])
    same = [{**r, "metrics": grid["metrics"]} if "apple" in r["ref"] else r for r in found.trials]
    figure = drawn.some(sweeps.curves(dataclasses.replace(found, trials=same)))
    for axes in figure.axes:
        assert not {"apple"} & set(drawn.names(axes))
        assert {"berry", "cherry"} <= set(drawn.names(axes))


def test_a_sweep_that_is_not_all_judged_is_not_drawn(runs: Runs) -> None:
    found, _ = runs.sweep
    assert sweeps.curves(dataclasses.replace(found, trials=found.trials[1:])) is None
    assert fronts.comparison(found) is None, "a sweep has a figure of its own"


def test_neighbours_share_a_text_and_others_do_not() -> None:
    places = [(0.0, 0.0), (0.05, 0.0), (0.0, 0.3), (0.04, 0.02)]
    grouped = fronts.group_neighbours(list("abcd"), places, (0.05, 0.1))
    assert grouped == [(["a", "b", "d"], (0.0, 0.0)), (["c"], (0.0, 0.3))]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["linf-0", "linf-2-255"], ["0", "2/255"]),
        (["clean"], ["clean"]),
        (["linf-8-255-trades-0", "linf-8-255-trades-0.5"], ["0", "0.5"]),
        (["linf-1", "linf-10"], ["1", "10"]),
    ],
)
def test_objectives_are_named_by_what_differs(names: list[str], parts: list[str]) -> None:
    assert sweeps.distinct_parts(names) == parts


def test_long_names_are_cut_in_the_middle_and_dollars_are_no_formula() -> None:
    name = "a-network-with-$-and-a-very-long-name"
    cut = style.label(name, 22)
    assert len(cut.replace("\\", "")) == 22
    assert cut == r"a-network-wit…ong-name"
    assert style.label("a$b") == r"a\$b"
