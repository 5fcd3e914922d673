"""The page in a real browser: usable by keys and by pointer, true to the files of its runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from soupmerge.figures import palette
from soupmerge.figures.page import panels
from soupmerge.figures.page.commands import quote
from soupmerge.figures.reading import read_run
from soupmerge.soups.judge.trials import Trials
from tests.figures.colours import contrast
from tests.figures.pages import HOSTILE, written
from tests.figures.planted import THREE, Runs
from tests.figures.tabs import Tab, opened

pytestmark = pytest.mark.browser

KINDS = ("lattice", "learn", "judged", "pair", "path", "check", "landscape", "adapt")
"""Runs that share a page: soups with and without rows by group, networks, and all panels."""


@pytest.fixture(scope="module")
def visited(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    """Open the page of runs with hostile names."""
    home = tmp_path_factory.mktemp("visited")
    runs = [read_run(written(home / name, HOSTILE)) for name in ("one", "two")]
    return opened(chromium, runs, home / "page.html")


@pytest.fixture(scope="module")
def full(chromium: Any, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    """Open the page of a run of nearly every kind."""
    path = tmp_path_factory.mktemp("full") / "page.html"
    return opened(chromium, [getattr(runs, kind)[0] for kind in KINDS], path)


# ---- True to the files.


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def rows_of(page: Tab) -> list[list[str]]:
    """Return what the table of soups should say, from the records of the runs."""
    titles = [run.title for run in page.runs]
    rows = []
    for soup, record in zip(page.data["soups"], records_of(page), strict=True):
        accuracies = [percent(found["accuracy"]) for found in record["metrics"].values()]
        accuracies += [""] * (len(page.data["metrics"]) - len(accuracies))
        rows.append(
            [str(soup["number"]), soup["name"], titles[soup["run"]], soup["kind"], *accuracies]
        )
    return rows


def records_of(page: Tab) -> list[dict[str, Any]]:
    return [record for run in page.runs for record in (*run.soups, *run.judged)]


def test_the_table_has_every_soup_with_its_accuracies(full: Tab) -> None:
    header, *first = full.cells("#soups")
    assert [word.removesuffix(" ↑") for word in header] == [
        "no.", "soup", "run", "made by", "clean", "Linf 0.1", "L2 0.5", "union", "front",
    ]  # fmt: skip
    full.tab.click("#later")
    shown = [*first, *full.cells("#soups")[1:]]
    wanted = rows_of(full)
    assert 50 < len(wanted) <= 100
    assert full.tab.inner_text("#where") == f"51 to {len(wanted)} of {len(wanted)}"
    assert full.tab.is_disabled("#later")
    full.tab.click("#earlier")
    assert [row[:-1] for row in shown] == wanted


@pytest.mark.parametrize(("x", "y"), [(0, 3), (0, 1), (2, 1), (3, 0)])
def test_the_page_s_front_is_the_library_s(full: Tab, runs: Runs, x: int, y: int) -> None:
    full.tab.select_option("#x", str(x))
    full.tab.select_option("#y", str(y))
    full.tab.check("#front-only")
    _, *rows = full.cells("#soups")
    full.tab.uncheck("#front-only")
    metrics = [metric["key"] for metric in full.data["metrics"]]
    shown = {
        title: [int(r[0]) for r in rows if r[2] == title] for title in (r.title for r in full.runs)
    }
    first = 1
    for kind, run in zip(KINDS, full.runs, strict=True):
        size = len(run.soups) + len(run.judged)
        if kind in ("lattice", "pair", "path"):
            trials: Trials = getattr(runs, kind)[1]
            front = trials.front(metrics[x], metrics[y])
            assert sorted(shown[run.title]) == sorted(first + i for i in front)
        elif size:
            assert shown[run.title], kind
        first += size
    assert {row[-1] for row in rows} == {"front"}


@pytest.mark.parametrize("number", [1, 5, 22, 23, 35])
def test_a_chosen_soup_shows_its_numbers_and_its_command(full: Tab, number: int) -> None:
    full.choose(number)
    soup, record = full.data["soups"][number - 1], records_of(full)[number - 1]
    run = full.runs[soup["run"]]
    assert full.tab.inner_text("#detail h3 >> nth=0") == f"{number}. {soup['name']}"
    _, *measured = full.cells("#detail table")
    for row, (metric, recorded) in zip(measured, record["metrics"].items(), strict=True):
        name, *numbers, counts = row
        assert name == palette.pretty(metric)
        assert counts == f"{recorded['correct']} of {recorded['n']}"
        shown = [float(n) for n in re.findall(r"[\d.]+", " ".join(numbers))]
        wanted = [100 * n for n in (recorded["accuracy"], *recorded["ci95"])]
        assert shown == pytest.approx(wanted, abs=0.051)
    detail = full.tab.inner_text("#detail")
    assert full.data["judges"][soup["judge"]] in detail
    if "weights" in record:
        _, *mixed = full.cells("#detail table:nth-of-type(2)")
        assert [name for name, _ in mixed] == run.names
        assert [float(w) for _, w in mixed] == pytest.approx(record["weights"], abs=1e-3)
    if "make" in soup:
        assert full.tab.inner_text("#command") == (
            soup["make"][0] + full.data["tails"][soup["make"][1]]
        )
        assert full.tab.inner_text("#command").startswith("soupmerge mix ")
    else:
        assert "A checkpoint or an ensemble, which no mix command makes." in detail


def test_the_map_has_every_soup_in_its_place(full: Tab) -> None:
    full.tab.select_option("#x", "0")
    full.tab.select_option("#y", "3")
    traces = full.value(
        "document.querySelector('#map').data.map((t) => [t.mode, t.name, t.x, t.y, t.customdata])"
    )
    records = records_of(full)
    dots: dict[int, tuple[float, float]] = {}
    for mode, _, xs, ys, which in traces:
        if mode != "lines":
            assert not dots.keys() & set(which), "each soup is one dot"
            dots |= {i: (x, y) for i, x, y in zip(which, xs, ys, strict=True)}
    places = [[record["metrics"][m]["accuracy"] for m in ("clean", "union")] for record in records]
    assert dots == {i: tuple(place) for i, place in enumerate(places)}
    for mode, _, xs, ys, which in traces:
        if mode == "lines":
            assert [(x, y) for x, y in zip(xs, ys, strict=True)] == [dots[i] for i in which]
            assert xs == sorted(xs)
            assert ys == sorted(ys, reverse=True)
    titles = full.value(
        "['x', 'y'].map((a) => document.querySelector('#map')._fullLayout[a + 'axis'].title.text)"
    )
    assert titles == ["accuracy, clean", "accuracy, union"]


def test_the_simplex_has_soups_at_their_coefficients(full: Tab) -> None:
    run = full.runs[0]
    full.tab.select_option("#y", "3")  # the metric that shades
    a, b, c, shades = full.value(
        """(({ a, b, c, marker }) => [a, b, c, marker.color])(
            document.querySelector('#ternary-0').data[0])"""
    )
    rows = [list(row) for row in zip(a, b, c, strict=True)]
    assert rows == [record["weights"] for record in run.soups]
    assert shades == [record["metrics"]["union"]["accuracy"] for record in run.soups]
    axes = "document.querySelector('#ternary-0')._fullLayout.ternary"
    assert full.value(f"[...'abc'].map((k) => {axes}[k + 'axis'].title.text)") == [
        THREE[0],
        *(f"<br>{name}" for name in THREE[1:]),
    ], "the lower two on a line below the ticks"


def common(value: Any, wanted: Any) -> Any:
    """Return what of *value* is in *wanted* as well: plotly adds to it. Colours are left out."""
    if isinstance(wanted, dict):
        return {k: common(value.get(k), w) for k, w in wanted.items() if k != "color"}
    if isinstance(wanted, (list, tuple)) and len(value) == len(wanted):
        return [common(v, w) for v, w in zip(value, wanted, strict=True)]
    return value


def test_every_panel_is_drawn_from_its_numbers_and_stands_beside_their_table(full: Tab) -> None:
    wanted = [(run.title, panel) for run in full.runs for panel in panels.panels(run)]
    assert len(wanted) == 6 + 2 + 3 + 2 + 1
    for i, (title, panel) in enumerate(wanted):
        assert full.tab.inner_text(f"#panel-{i}-heading") == f"{panel.title}, {title}"
        header, *rows = full.cells(f"section:has(> #panel-{i}) table")
        assert header == panel.header
        assert rows == [[str(cell) for cell in row] for row in panel.rows]
        traces = full.value(f"document.querySelector('#panel-{i}').data")
        assert common(traces, panel.data) == common(json.loads(json.dumps(panel.data)), panel.data)
        colours = full.value(f"JSON.stringify(document.querySelector('#panel-{i}').data)")
        assert '"@' not in colours, "names of colours became colours"
    assert full.value("document.querySelectorAll('[id^=panel-] .main-svg').length") > len(wanted)


def test_what_is_pointed_at_is_told_in_the_units_of_its_table(full: Tab) -> None:
    """In percent where it is an accuracy or an error; and chords tell nothing."""
    shown = {
        "Path between two ingredients": lambda trace: f"{100 * trace['y'][0]:.1f}%",
        "Barrier from": lambda trace: f"{100 * trace['y'][0]:.1f}%",
        "Landscape": lambda trace: f"{100 * trace['z'][0][0]:.1f}%",
        "Coefficients by depth": lambda trace: f"{trace['z'][0][0]:.4f}",
        "Soups for shifted images": lambda trace: f"{100 * trace['x'][0]:.1f}%",
    }
    for i, panel in enumerate(panel for run in full.runs for panel in panels.panels(run)):
        expected = next((of for title, of in shown.items() if panel.title.startswith(title)), None)
        for curve, trace in enumerate(panel.data):
            it: Any = [{"curveNumber": curve, "pointNumber": 0}]
            if "z" in trace:
                it = {"xval": trace["x"][0], "yval": trace["y"][0]}
            full.value("([i, it]) => Plotly.Fx.hover(`panel-${i}`, it)", [i, it])
            texts = full.texts(f"#panel-{i} .hoverlayer text")
            if trace.get("showlegend") is False:
                assert texts == []
            elif expected is not None:
                assert expected(trace) in " ".join(texts).replace("\u2212", "-"), (
                    panel.title,
                    texts,
                )
            full.value(f"Plotly.Fx.unhover('panel-{i}')")
        named = [t["name"] for t in panel.data if t.get("showlegend", True) and "name" in t]
        entries = full.texts(f"#panel-{i} .legendtext")
        assert entries == (named if len(named) > 1 else []), panel.title
        layout = f"document.querySelector('#panel-{i}')._fullLayout"
        titles = full.value(f"['x', 'y'].map((a) => {layout}[a + 'axis'].title.text)")
        for axis, title in zip("xy", titles, strict=True):
            wanted = panel.layout[f"{axis}axis"].get("title", {}).get("text")
            assert title == wanted or (not wanted and title.startswith("Click")), panel.title


def test_a_recipe_that_is_in_no_file_is_saved_from_the_page(
    chromium: Any, runs: Runs, tmp_path: Path
) -> None:
    found, trial = runs.learn
    (found.path / "recipe.json").rename(tmp_path / "recipe.json")
    try:
        page = opened(chromium, [read_run(found.path)], tmp_path / "page.html")
    finally:
        (tmp_path / "recipe.json").rename(found.path / "recipe.json")
    assert "--recipe recipe-1.json -o soup-1.safetensors" in page.tab.inner_text("#command")
    with page.tab.expect_download() as saved:
        page.tab.click("text=save recipe-1.json")
    assert saved.value.suggested_filename == "recipe-1.json"
    assert json.loads(Path(saved.value.path()).read_text()) == trial.recipe.to_json()
    page.tab.close()


def test_nothing_went_wrong_on_the_page_of_all_kinds(full: Tab) -> None:
    assert [line for line in full.seen if not line.startswith(("file:", "blob:"))] == []


# ---- Usable.


def test_arrow_keys_move_along_the_front(visited: Tab) -> None:
    tab = visited.tab
    visited.choose(1)  # of the first run: soups of the second have the same accuracies
    tab.focus("#map")
    for key, number, place in (("Home", 2, 1), ("ArrowRight", 4, 2), ("End", 1, 3)):
        tab.keyboard.press(key)
        assert visited.status().startswith(f"Soup {number}, ")
        assert f"{place} of 3 on the front" in visited.status()
    tab.keyboard.press("ArrowRight")
    assert visited.status().startswith("Soup 1, "), "the front ends there"
    tab.keyboard.press("ArrowLeft")
    assert visited.status().startswith("Soup 4, ")
    tab.keyboard.press("End")
    for _ in range(4):
        tab.keyboard.press("ArrowDown")
    assert visited.status().startswith("Soup 5, ")
    assert "clean 50.0%, Linf 0.1 40.0%; not on the front." in visited.status()
    tab.keyboard.press("ArrowUp")
    assert visited.status().startswith("Soup 4, ")
    assert tab.get_attribute("tr[aria-current]", "aria-current") == "true"


def test_from_beside_the_front_a_step_leads_onto_it(visited: Tab) -> None:
    for key, number in (("ArrowRight", 4), ("ArrowLeft", 2)):
        visited.choose(3)  # clean 0.7: between soups 2 (0.6) and 4 (0.8)
        visited.tab.focus("#map")
        visited.tab.keyboard.press(key)
        assert visited.status().startswith(f"Soup {number}, ")


def test_a_soup_of_the_table_shows_its_command(visited: Tab) -> None:
    tab = visited.tab
    tab.click("[data-soup='3']")
    parts = " ".join(map(quote, HOSTILE))
    command = tab.inner_text("#command")
    assert command == f"soupmerge mix -w 0.5,0.5,0.0 -o soup-4.safetensors {parts}"
    assert "80.0%" in tab.inner_text("#detail")
    assert "doubt, chance" in tab.inner_text("#detail")
    assert visited.value("document.activeElement.dataset.soup") == "3", "the focus stays"


def test_c_copies_the_command_or_selects_it(visited: Tab) -> None:
    tab = visited.tab
    visited.choose(4)
    tab.focus("#map")
    tab.keyboard.press("c")
    visited.until("document.querySelector('#status').textContent.startsWith('The command ')")
    if "selected" in visited.status():
        assert visited.value("getSelection().toString().trim()") == tab.inner_text("#command")


def test_a_soup_is_hovered_and_clicked(visited: Tab) -> None:
    tab = visited.tab
    tab.click("[data-soup='0']")
    tab.locator("#map").scroll_into_view_if_needed()
    dot = tab.locator("#map .scatterlayer .trace").first.locator("path.point").first
    box = dot.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector("#map .hoverlayer .hovertext")
    assert "80.0% (70.0% to 90.0%)" in tab.inner_html("#map .hoverlayer")
    tab.mouse.down()
    tab.mouse.up()
    visited.until("document.querySelector('#command').textContent.includes('0.5,0.5')")


def test_columns_sort_the_table_both_ways(visited: Tab) -> None:
    tab = visited.tab
    tab.click("#sort-m1")
    assert tab.get_attribute("th:has(#sort-m1)", "aria-sort") == "descending"
    clean = ["number", "name", "run", "kind", "m0", "m1"].index("m1")
    values = [float(row[clean].rstrip("%")) for row in visited.cells("#soups")[1:]]
    assert values == sorted(values, reverse=True)
    tab.click("#sort-m1")
    assert [float(row[clean].rstrip("%")) for row in visited.cells("#soups")[1:]] == sorted(values)
    tab.click("#sort-number")
    assert [row[0] for row in visited.cells("#soups")[1:]] == [str(i) for i in range(1, 11)]


def test_what_can_be_used_has_a_name_and_is_reached_by_keys(visited: Tab) -> None:
    tab = visited.tab
    nameless = """[...document.querySelectorAll('button, select, input, [tabindex="0"]')].filter(
        (one) => !(one.textContent || one.getAttribute('aria-label') || one.closest('label')))"""
    assert visited.value(f"{nameless}.length") == 0
    visited.choose(4)
    tab.focus(".skip")
    met = []
    for _ in range(6):
        tab.keyboard.press("Tab")
        met.append(visited.value("document.activeElement.id || document.activeElement.className"))
    assert met == ["x", "y", "back", "on", "map", "copy"]
    headers = visited.value("[...document.querySelectorAll('#soups th')].map((th) => th.scope)")
    assert set(headers) == {"col"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_both_schemes(visited: Tab, scheme: str) -> None:
    visited.tab.emulate_media(color_scheme=scheme)
    names = ("--ground", "--raised", "--ink", "--quiet", "--link", "--chosen", "--warn")
    script = "(n) => getComputedStyle(document.documentElement).getPropertyValue(n).trim()"
    shade = {name: visited.value(script, name) for name in names}
    for text in ("--ink", "--quiet", "--link"):
        assert contrast(shade[text], shade["--ground"]) >= 4.5, text  # WCAG 2.2, 1.4.3
    assert contrast(shade["--ink"], shade["--warn"]) >= 4.5
    assert contrast(shade["--quiet"], shade["--raised"]) >= 4.5
    assert contrast(shade["--chosen"], shade["--ground"]) >= 3  # 1.4.11
    drawn = visited.value("document.querySelector('#map')._fullLayout.paper_bgcolor")
    assert drawn == shade["--ground"]
    colours = palette.DARK if scheme == "dark" else palette.COLOURS
    dots = visited.value("document.querySelector('#map').data[0].marker.color")
    assert dots == colours["linf"]


def test_the_page_fits_a_narrow_screen(visited: Tab) -> None:
    visited.tab.set_viewport_size({"width": 360, "height": 700})
    visited.until("document.documentElement.scrollWidth <= 360")


def test_it_fetched_nothing_and_nothing_went_wrong(visited: Tab) -> None:
    assert [line for line in visited.seen if not line.startswith("file:")] == []
    assert len([line for line in visited.seen if line.startswith("file:")]) == 1
    refused = visited.value("fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')")
    assert refused == "refused"
    assert visited.value("document.querySelectorAll('img').length") == 0
