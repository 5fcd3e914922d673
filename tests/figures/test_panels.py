"""The numbers of a page: what its script works on, and the tables beside its pictures."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from soupmerge.choices import MAKERS
from soupmerge.figures import palette
from soupmerge.figures.page import panels
from soupmerge.figures.page.contents import contents, note_lines
from soupmerge.figures.page.panels import Panel
from soupmerge.figures.reading import CURVES, RunRecord, read_run
from soupmerge.soups.search.path import Line
from tests.figures.pages import written
from tests.figures.planted import CORNERS, PAIR, THREE, Runs, right

KINDS = ["lattice", "pair", "race", "greedy", "path", "search", "learn", "judged", "sweep"]
METRICS = ("clean", "linf:0.1", "l2:0.5", "union")


def reports_of(found: Any) -> list[Any]:
    """Return the reports that a kind of run was given: of trials, one trial, a sweep, a list."""
    if hasattr(found, "beside"):
        return [*(trial.report for trial in found.trials), *found.beside.values()]
    if hasattr(found, "report"):
        return [found.report]
    return [getattr(one, "report", one) for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_every_soup_has_the_numbers_of_its_report(runs: Runs, kind: str) -> None:
    run, found = getattr(runs, kind)
    data = contents([run])
    assert [metric["key"] for metric in data["metrics"]] == list(METRICS)
    assert [m["name"] for m in data["metrics"]] == ["clean", "Linf 0.1", "L2 0.5", "union"]
    reports = reports_of(found)
    assert [soup["number"] for soup in data["soups"]] == list(range(1, len(reports) + 1))
    for soup, report in zip(data["soups"], reports, strict=True):
        for m, metric in enumerate(METRICS):
            low, high = report.interval(metric)
            interval = [round(low, 4), round(high, 4)]
            counts = [report.correct(metric), report.n]
            assert soup["metrics"][str(m)] == [report.accuracy(metric), *interval, *counts]


def test_soups_are_named_by_their_coefficients_and_ingredients_by_themselves(runs: Runs) -> None:
    run, trials = runs.lattice
    data = contents([run])
    assert data["runs"] == [{"title": "lattice (grid)", "ingredients": list(THREE)}]
    for soup, trial in zip(data["soups"], trials, strict=True):
        weights = trial.recipe.mean_weights
        assert soup["weights"] == pytest.approx(weights)
        assert soup["groups"] == 1
        if max(weights) == 1:
            assert (soup["kind"], soup["name"]) == ("ingredient", THREE[weights.index(1)])
        else:
            parts = [f"{w:.3g} {n}" for w, n in zip(weights, THREE, strict=True) if w]
            assert (soup["kind"], soup["name"]) == ("grid", " + ".join(parts))


def test_colours_of_light_and_dark_screens_are_on_the_page(runs: Runs) -> None:
    colours = contents([runs.pair[0]])["palette"]
    assert set(colours) == {"light", "dark"}
    for scheme, metrics, ingredients in (
        ("light", palette.COLOURS, palette.INGREDIENTS),
        ("dark", palette.DARK, palette.INGREDIENTS_DARK),
    ):
        wanted = {f"@metric:{norm}": colour for norm, colour in metrics.items()}
        wanted |= {f"@ingredient:{k}": colour for k, colour in enumerate(ingredients)}
        assert colours[scheme] == wanted


def test_judged_networks_are_called_by_what_made_them(runs: Runs) -> None:
    run, _ = runs.judged
    kinds = [soup["kind"] for soup in contents([run])["soups"]]
    made = [record["made by"] for record in run.judged]
    assert kinds == [MAKERS.get(maker, maker) for maker in made]
    soups = contents([runs.learn[0]])["soups"]
    assert [(s["kind"], s["groups"]) for s in soups] == [("learn", 11)]


def test_a_judge_is_told_by_images_hash_and_attacks(runs: Runs) -> None:
    run, trials = runs.lattice
    (judge,) = contents([run])["judges"]
    digest = trials[0].judged().data["sha256"][:12]
    assert judge == (
        f"40 images of planted (all), sha256 {digest}; linf:0.1 by apgd-ce, 5 steps; "
        "l2:0.5 by apgd-ce, 7 steps"
    )
    both = contents([run, runs.clean[0]])
    assert [judge.partition(",")[0] for judge in both["judges"]] == [
        "40 images of planted (all)"
    ] * 2
    assert {soup["judge"] for soup in both["soups"] if soup["run"] == 1} == {1}


def test_soups_of_several_runs_are_numbered_through(runs: Runs) -> None:
    data = contents([runs.pair[0], runs.lattice[0]])
    sizes = [len(runs.pair[0].soups), len(runs.lattice[0].soups)]
    assert [soup["run"] for soup in data["soups"]] == [0] * sizes[0] + [1] * sizes[1]
    assert [soup["number"] for soup in data["soups"]] == list(range(1, sum(sizes) + 1))
    heads = [soup["make"][0] for soup in data["soups"]]
    assert all(f"soup-{i}.safetensors" in head for i, head in enumerate(heads, start=1))


def test_doubts_come_first_and_say_where_to_read_on() -> None:
    doubt = {"name": "chance", "what": "it guesses", "fix": "look again"}
    lines = list(note_lines({"order": ["l2:1"], "doubts": [doubt]}))
    assert lines[0] == "doubt, chance: it guesses; look again (docs/flags.md#chance)"
    assert lines[1:] == ["order: ['l2:1']"]


# ---- Panels.


def panels_of(run: RunRecord) -> dict[str, Panel]:
    return {panel.title: panel for panel in panels.panels(run)}


def table(panel: Panel) -> list[dict[str, Any]]:
    """Return the rows of the table beside a panel, by the names of its columns."""
    return [dict(zip(panel.header, row, strict=True)) for row in panel.rows]


@pytest.mark.parametrize("kind", ["pair", "beyond"])
def test_a_path_s_table_has_accuracies_and_gains_over_the_chord(runs: Runs, kind: str) -> None:
    run, trials = getattr(runs, kind)
    (panel,) = panels.panels(run)
    by_t = sorted(trials, key=lambda trial: trial.recipe.mean_weights[1])
    t = tuple(trial.recipe.mean_weights[1] for trial in by_t)
    line = Line(t, trials.__class__(tuple(by_t)))
    names = [
        name for metric in METRICS for name in (palette.pretty(metric), "over its chord, points")
    ]
    assert panel.header == [f"coefficient of {PAIR[1]}", *names]
    for i, (place, *cells) in enumerate(panel.rows):
        assert place == f"{t[i]:g}"
        accuracies = [by_t[i].judged().accuracy(metric) for metric in METRICS]
        assert cells[::2] == [f"{accuracy:.1%}" for accuracy in accuracies]
        gains = [100 * line.gain(i, metric).mean for metric in METRICS]
        assert [float(cell) for cell in cells[1::2]] == pytest.approx(gains, abs=0.051)
    for m, metric in enumerate(METRICS):
        curve, chord = panel.data[2 * m : 2 * m + 2]
        values = [trial.judged().accuracy(metric) for trial in by_t]
        assert (curve["x"], curve["y"]) == (pytest.approx(t), values)
        below = [values[i] - line.gain(i, metric).mean for i in (0, -1)]
        assert (chord["x"], chord["y"]) == (pytest.approx([t[0], t[-1]]), pytest.approx(below))
        assert curve["name"] == palette.pretty(metric)
        assert curve["line"]["color"] == chord["line"]["color"] == f"@metric:{metric}"
        assert chord["showlegend"] is False


def test_learning_s_panels_have_every_epoch(runs: Runs) -> None:
    run, _ = runs.learn
    found = panels_of(run)
    curves = {key: title for key, title in CURVES.items() if key in run.history[0]}
    assert list(found)[: len(curves)] == [title[0].upper() + title[1:] for title in curves.values()]
    for key, title in curves.items():
        panel = found[title[0].upper() + title[1:]]
        names = list(THREE) if key == "weights" else [title]
        assert panel.header == ["epoch", *names]
        for row, record in zip(panel.rows, run.history, strict=True):
            values = record[key] if key == "weights" else [record[key]]
            assert row == [record["epoch"], *(f"{value:.4g}" for value in values)]
        drawn = [trace for trace in panel.data if trace["name"] in names]
        for k, trace in enumerate(drawn):
            values = [r[key][k] if key == "weights" else r[key] for r in run.history]
            assert (trace["x"], trace["y"]) == ([1, 2, 3], values)
            assert trace["line"]["color"] == (f"@ingredient:{k}" if key == "weights" else "@ink")
    held_out = found["Loss"].data[-1]
    assert (held_out["name"], held_out["y"]) == (
        "held out",
        [record["val"] for record in run.history],
    )


def test_coefficients_are_a_map_and_a_table(runs: Runs) -> None:
    run, trial = runs.learn
    panel = panels_of(run)["Coefficients by depth"]
    rows = dict(zip(trial.recipe.groups, trial.recipe.weights, strict=True))
    groups = [name for name, _ in runs.net.named_parameters()]
    (heat,) = panel.data
    assert heat["z"] == [list(rows[group]) for group in groups]
    assert panel.layout["yaxis"]["ticktext"] == groups
    assert panel.layout["yaxis"]["autorange"] == "reversed"
    assert panel.layout["xaxis"]["ticktext"] == list(THREE)
    assert panel.header == ["group", *THREE]
    assert panel.rows == [[group, *(f"{w:.4f}" for w in rows[group])] for group in groups]
    assert heat["text"][0][1] == f"{groups[0]}<br>berry: {rows[groups[0]][1]:.4f}"
    assert (heat["zmin"], heat["zmax"]) == (0, 1)


def test_barriers_have_a_panel_a_pair(runs: Runs) -> None:
    run, barriers = runs.check
    found = panels.panels(run)
    pairs = list(dict.fromkeys(barrier.pair for barrier in barriers))
    assert [panel.title for panel in found] == [f"Barrier from {a} to {b}" for a, b in pairs]
    for panel, pair in zip(found, pairs, strict=True):
        group = [barrier for barrier in barriers if barrier.pair == pair]
        for i, (row, barrier) in enumerate(zip(table(panel), group, strict=True)):
            height, low, high = (100 * n for n in (barrier.height, barrier.low, barrier.high))
            assert row == {
                "metric": barrier.metric,
                "barrier, points of error": f"{height:+.1f} ({low:+.1f} to {high:+.1f})",
                "at": barrier.at,
                "verdict": barrier.verdict,
            }
            curve, chord = panel.data[2 * i : 2 * i + 2]
            assert (curve["x"], curve["y"]) == (list(barrier.t), list(barrier.error))
            assert (chord["x"], chord["y"]) == ([0, 1], [barrier.error[0], barrier.error[-1]])


def test_a_plane_has_a_map_a_metric_with_gaps_for_holes(runs: Runs) -> None:
    run, points = runs.landscape
    found = panels_of(run)
    assert list(found) == ["Landscape, clean", "Landscape, Linf 0.1"]
    for panel, metric in zip(found.values(), ("clean", "linf:0.1"), strict=True):
        (levels,) = panel.data
        for point in points[3:]:
            value = levels["z"][levels["y"].index(point.y)][levels["x"].index(point.x)]
            assert value == point.accuracy.get(metric)
        marks = [(mark["x"], mark["y"], mark["text"]) for mark in panel.layout["annotations"]]
        assert marks == [(x, y, f"● {n}") for (x, y), n in zip(CORNERS, THREE, strict=True)]
        assert len(panel.rows) == len(points)
        for row, point in zip(table(panel), points, strict=True):
            numbers = {"accuracy": point.accuracy, "loss": point.loss}
            cells = {k: f"{v[metric]:.4g}" if v else "–" for k, v in numbers.items()}
            assert row == {"x": f"{point.x:.4g}", "y": f"{point.y:.4g}", **cells}


def test_a_plane_of_holes_alone_has_no_map(runs: Runs) -> None:
    run, _ = runs.landscape
    holes = [{k: v for k, v in r.items() if k != "metrics"} for r in run.trials]
    assert panels.panels(dataclasses.replace(run, trials=holes)) == []


def test_shifted_images_have_a_row_a_network(runs: Runs) -> None:
    run, adaptation = runs.adapt
    (panel,) = panels.panels(run)
    sets = [*adaptation.sets, "mean of all"]
    assert panel.header == ["network", "forward passes", *sets]
    assert panel.rows == [
        [row.name, row.passes, *(f"{a:.1%}" for a in (*row.accuracies, row.mean))]
        for row in adaptation.rows
    ]
    shown = [row for row in adaptation.rows if not row.name.startswith("best individual")]
    assert [trace["name"] for trace in panel.data] == [row.name for row in shown]
    assert [trace["x"] for trace in panel.data] == [[*row.accuracies, row.mean] for row in shown]
    assert {tuple(trace["y"]) for trace in panel.data} == {tuple(sets)}
    symbols = [trace["marker"]["symbol"] for trace in panel.data]
    assert symbols[:3] == ["circle-open"] * 3
    assert symbols[3:] == ["diamond-open", "cross-open", "square", "triangle-up"]


def axis(panel: Panel, letter: str) -> tuple[str, str | None, str | None]:
    """Return the title of an axis, and how its ticks and the numbers of dots are written."""
    found = panel.layout[f"{letter}axis"]
    return found["title"]["text"], found.get("tickformat"), found.get("hoverformat")


PERCENT, PLAIN = (".0%", ".1%"), (None, None)
AXES = {
    "pair": (("coefficient of berry", *PLAIN), ("accuracy", *PERCENT)),
    "finetune": (("epoch", *PLAIN), ("loss", *PLAIN)),
    "check": (("position from the first to the second", *PLAIN), ("error", *PERCENT)),
    "landscape": (("distance in weights", *PLAIN), ("distance in weights", *PLAIN)),
    "adapt": (("accuracy", *PERCENT), ("", *PLAIN)),
}


@pytest.mark.parametrize("kind", AXES)
def test_axes_are_named_and_accuracies_and_errors_in_percent(runs: Runs, kind: str) -> None:
    found = panels.panels(getattr(runs, kind)[0])
    assert found
    for panel in found:
        assert (axis(panel, "x"), axis(panel, "y")) == AXES[kind]


def test_colour_bars_are_named_and_stand_at_the_top(runs: Runs) -> None:
    plane = panels.panels(runs.landscape[0])[0].data[0]["colorbar"]
    heat = panels_of(runs.learn[0])["Coefficients by depth"].data[0]["colorbar"]
    assert (plane["title"]["text"], heat["title"]["text"]) == ("accuracy", "coefficient")
    assert plane["tickformat"] == ".0%"
    for bar in (plane, heat):
        assert (bar["y"], bar["yanchor"]) == (1, "top")


def test_names_on_a_plane_begin_at_their_checkpoints(runs: Runs) -> None:
    for panel in panels.panels(runs.landscape[0]):
        assert panel.data[0]["type"] == "contour"
        assert panel.data[0]["zhoverformat"] == ".1%"
        for mark in panel.layout["annotations"]:
            assert (mark["showarrow"], mark["xanchor"]) == (False, "left")


def test_every_curve_of_learning_is_named_on_its_axis(runs: Runs) -> None:
    for panel in panels.panels(runs.learn[0])[:4]:
        assert axis(panel, "x") == ("epoch", *PLAIN)
        title = axis(panel, "y")[0]
        assert title[0].upper() + title[1:] == panel.title
        assert panel.about == f"{panel.title} over 3 epochs of learning."


def test_marks_are_left_out_where_epochs_are_many(runs: Runs) -> None:
    found, _ = runs.finetune
    for n, mode in ((59, "lines+markers"), (60, "lines")):
        long = [{"epoch": i, "loss": 1 / i} for i in range(1, n + 1)]
        (panel,) = panels.panels(dataclasses.replace(found, history=long))
        (trace,) = panel.data
        assert trace["mode"] == mode


def test_many_ingredients_take_colours_and_dashes_in_turn(runs: Runs) -> None:
    inputs = [{"ref": f"net{k}"} for k in range(10)]
    history = [{"epoch": i, "weights": [0.1] * 10} for i in (1, 2)]
    found, _ = runs.learn
    manifest = {**found.manifest, "inputs": inputs}
    many = dataclasses.replace(found, manifest=manifest, history=history, recipe=None)
    (panel,) = panels.panels(many)
    looks = [(t["line"]["color"], t["line"]["dash"]) for t in panel.data]
    assert [colour for colour, _ in looks] == [f"@ingredient:{k % 8}" for k in range(10)]
    assert len(set(looks[:8])) == 8
    assert [dash for _, dash in looks[:4]] == ["solid", "dash", "dot", "dashdot"]
    assert [trace["marker"]["symbol"] for trace in panel.data] == list(range(10))


def test_a_loss_that_is_no_number_is_left_out_of_the_curve(runs: Runs) -> None:
    found, _ = runs.learn
    some = [{**r, "val": v} for r, v in zip(found.history, (0.5, "inf", None), strict=True)]
    loss = panels.panels(dataclasses.replace(found, history=some))[0]
    (held_out,) = (trace for trace in loss.data if trace["name"] == "held out")
    assert (held_out["x"], held_out["y"]) == ([1], [0.5])


def test_a_map_of_coefficients_has_room_for_its_rows_and_colours_for_its_range(
    runs: Runs,
) -> None:
    found, _ = runs.learn
    for n, low in ((2, 0.0), (40, -0.5)):
        weights = {f"layer{i}.w": [low, 1 - low, 0.0] for i in range(n)}
        recipe = {**(found.recipe or {}), "weights": weights}
        panel = panels_of(dataclasses.replace(found, recipe=recipe))["Coefficients by depth"]
        assert panel.layout["height"] >= 100 + 15 * n, "15 pixels a row, besides names"
        (heat,) = panel.data
        assert (heat["zmin"], heat["zmax"]) == (low, 1 - low)
        assert heat["y"] == panel.layout["yaxis"]["tickvals"] == list(range(n))
        assert heat["x"] == panel.layout["xaxis"]["tickvals"] == ["0", "1", "2"]
        assert heat["type"] == "heatmap"
        assert heat["hoverinfo"] == "text"
        assert panel.about.startswith(f"Coefficients of {n} groups")


def test_the_reason_of_a_verdict_stands_beside_it(runs: Runs) -> None:
    found, _ = runs.check
    barriers = [{**b, "reason": "within the noise"} for b in found.barriers]
    panel = panels.panels(dataclasses.replace(found, barriers=barriers))[0]
    assert {row["verdict"] for row in table(panel)} == {"shared within the noise"}


@pytest.mark.parametrize(("length", "cut"), [(34, 34), (35, 33)])
def test_long_names_are_cut_in_the_middle(runs: Runs, length: int, cut: int) -> None:
    found, _ = runs.adapt
    name = "a" * 18 + "b" * (length - 32) + "c" * 14
    inputs = [{**found.manifest["inputs"][0], "ref": name}, *found.manifest["inputs"][1:]]
    rows = [{**row, "name": name} if i == 0 else row for i, row in enumerate(found.adapted["rows"])]
    changed = dataclasses.replace(
        found,
        manifest={**found.manifest, "inputs": inputs},
        adapted={**found.adapted, "rows": rows},
    )
    (panel,) = panels.panels(changed)
    shown = panel.data[0]["name"]
    assert len(shown) == cut
    assert shown == (name if length == 34 else "a" * 18 + "…" + "c" * 14)
    assert panel.rows[0][0] == name, "the table has it whole"


def test_a_plane_needs_a_point_beside_its_checkpoints(runs: Runs) -> None:
    found, _ = runs.landscape
    assert panels.panels(dataclasses.replace(found, trials=found.trials[:3])) == []
    assert len(panels.panels(dataclasses.replace(found, trials=found.trials[:4]))) == 2
    other = {**found.manifest, "command": "grid"}
    assert panels.panels(dataclasses.replace(found, manifest=other)) == []


def test_rows_of_data_sets_have_room_and_are_in_order(runs: Runs) -> None:
    found, adaptation = runs.adapt
    (panel,) = panels.panels(found)
    one = {**found.adapted, "sets": dict(list(found.adapted["sets"].items())[:1])}
    (short,) = panels.panels(dataclasses.replace(found, adapted=one))
    assert panel.layout["height"] - short.layout["height"] == 26 * (len(adaptation.sets) - 1)
    assert short.layout["height"] > 150
    assert panel.layout["yaxis"]["autorange"] == "reversed"
    assert panel.layout["yaxis"]["type"] == "category"
    assert all((trace["type"], trace["mode"]) == ("scatter", "markers") for trace in panel.data)
    colours = [trace["marker"]["color"] for trace in panel.data]
    assert colours[:3] == [f"@ingredient:{k}" for k in range(3)]
    assert colours[3:] == ["@ink", "@ink", "@metric:clean", "@metric:linf"]


def test_a_path_needs_two_ingredients_and_three_soups(runs: Runs) -> None:
    found, _ = runs.pair
    (panel,) = panels.panels(dataclasses.replace(found, trials=found.trials[:3]))
    assert len(panel.rows) == 3
    assert panels.panels(dataclasses.replace(found, trials=found.trials[:2])) == []
    (whole,) = panels.panels(found)
    assert [trace["name"] for trace in whole.data[::2]] == [palette.pretty(m) for m in METRICS]
    assert all(trace["mode"] == "lines" for trace in whole.data[1::2])
    assert all(trace["hoverinfo"] == "skip" for trace in whole.data[1::2])


@pytest.mark.parametrize(
    "kind", ["pair", "beyond", "learn", "check", "landscape", "adapt", "finetune"]
)
def test_plotly_knows_every_word_of_a_panel(runs: Runs, kind: str) -> None:
    """Its script passes over what it does not know; its Python refuses it."""
    from plotly import graph_objects

    def painted(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: painted(v) for k, v in value.items()}
        if isinstance(value, list):
            return [painted(v) for v in value]
        known = r"@ink|@ingredient:[0-7]|@metric:(clean|linf|l2|l1|union)(:.*)?"
        if isinstance(value, str) and value.startswith("@"):
            assert re.fullmatch(known, value)
            return "#000000"
        return value

    found = panels.panels(getattr(runs, kind)[0])
    assert found
    for panel in found:
        graph_objects.Figure(data=painted(panel.data), layout=painted(panel.layout))


@pytest.mark.parametrize("kind", ["lattice", "search", "judged", "sweep"])
def test_a_run_without_curves_has_no_panels(runs: Runs, kind: str) -> None:
    assert panels.panels(getattr(runs, kind)[0]) == []


def test_names_are_shown_and_never_read_as_tags(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Plotly reads tags and entities in its texts: names come escaped, once."""
    assert panels.escape("<b>&\x1b") == "&lt;b&gt;&amp;\\x1b"
    found = read_run(written(tmp_path_factory.mktemp("x") / "run", ("<i>", "b", "c")))
    pair = dataclasses.replace(
        found,
        manifest={**found.manifest, "inputs": found.manifest["inputs"][:2]},
        trials=[{**r, "weights": [1 - i / 4, i / 4]} for i, r in enumerate(found.trials)],
    )
    (panel,) = panels.panels(pair)
    assert panel.about.startswith("Accuracy from <i> to b"), "escaped where it is put into HTML"


def test_the_rule_of_the_planted_verdicts_is_that_of_the_reports(runs: Runs) -> None:
    run, trials = runs.lattice
    for trial in trials:
        assert trial.judged().correct("clean") == right(trial.recipe.mean_weights, "clean")
