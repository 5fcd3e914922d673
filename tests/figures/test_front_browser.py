"""Fronts in a real browser: the slider moves numbers, map, coefficients and command."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from soupmerge.figures.judged_front import by_depth
from soupmerge.figures.reading import RunRecord
from tests.figures.pages import measured
from tests.figures.planted import THREE, Runs
from tests.figures.tabs import Tab, opened

pytestmark = pytest.mark.browser


def told_apart(run: RunRecord) -> RunRecord:
    """Return *run* with accuracies that differ from soup to soup and from metric to metric."""
    trials = []
    for i, record in enumerate(run.trials):
        counts = {"clean": 90 - 2 * i, "linf:0.1": 20 + 3 * i, "l2:0.5": 10 + i, "union": 5 + i}
        metrics = {m: {**record["metrics"][m], **measured(n)} for m, n in counts.items()}
        trials.append({**record, "metrics": metrics})
    return dataclasses.replace(run, trials=trials)


@pytest.fixture(scope="module")
def two(chromium: Any, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    found = [told_apart(runs.front[0])]
    return opened(chromium, found, tmp_path_factory.mktemp("two") / "page.html")


@pytest.fixture(scope="module")
def three(chromium: Any, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    found = [told_apart(runs.front_of_three[0])]
    return opened(chromium, found, tmp_path_factory.mktemp("three") / "page.html")


def move(page: Tab, position: int) -> None:
    page.tab.locator("#front-0-at").fill(str(position))


def numbers(page: Tab) -> list[list[str]]:
    return page.cells("#front-0-detail table")[1:]


def percent(record: dict[str, Any], metric: str) -> str:
    return f"{100 * record['metrics'][metric]['accuracy']:.1f}%"


def heat(page: Tab) -> Any:
    return np.array(page.value("document.querySelector('#front-0-heat').data[0].z"))


@pytest.mark.parametrize("position", [0, 20, 60, 100])
def test_at_a_judged_point_the_numbers_are_those_of_the_run(two: Tab, position: int) -> None:
    move(two, position)
    record = two.runs[0].trials[position // 20]
    assert two.tab.inner_text("#front-0-detail h3 >> nth=0") == f"λ = {position / 100:g}"
    assert "Judged accuracy" in two.tab.inner_text("#front-0-detail caption")
    for row, (metric, found) in zip(numbers(two), record["metrics"].items(), strict=True):
        low, high = found["ci95"]
        interval = f"{100 * low:.1f}% to {100 * high:.1f}%"
        assert row[1:] == [percent(record, metric), interval, f"{found['correct']} of 100"]
    assert "≈" not in two.tab.inner_text("#front-0-detail")


def test_between_judged_points_numbers_are_interpolated_and_say_so(two: Tab) -> None:
    move(two, 25)
    before, after = two.runs[0].trials[1:3]
    assert "Not judged" in two.tab.inner_text("#front-0-detail caption")
    assert two.cells("#front-0-detail table")[0][1:] == ["interpolated", "at λ = 0.2", "at λ = 0.4"]
    for row, metric in zip(numbers(two), before["metrics"], strict=True):
        a, b = (record["metrics"][metric]["accuracy"] for record in (before, after))
        assert row[2:] == [percent(before, metric), percent(after, metric)]
        assert row[1].startswith("≈ ")
        shown = float(row[1].strip("≈ %"))
        assert shown == pytest.approx(100 * (a + (b - a) / 4), abs=0.051)
    assert "to" not in " ".join(row[1] for row in numbers(two)), "no interval"


def test_the_ring_is_where_the_numbers_are_and_dotted_between_points(two: Tab) -> None:
    for position, dash in ((40, "solid"), (50, "dot")):
        move(two, position)
        (ring,) = two.value("document.querySelector('#front-0-map').layout.shapes")
        first, second = two.runs[0].trials[2], two.runs[0].trials[3 if dash == "dot" else 2]
        wanted = [
            np.mean([r["metrics"][m]["accuracy"] for r in (first, second)])
            for m in ("clean", "linf:0.1")
        ]
        assert [ring["xanchor"], ring["yanchor"]] == pytest.approx(wanted)
        assert ring["line"]["dash"] == dash


@pytest.mark.parametrize("position", [0, 33, 100])
def test_the_map_of_coefficients_follows_the_slider(two: Tab, position: int) -> None:
    move(two, position)
    front = two.runs[0].front
    assert front is not None
    groups, rows = by_depth(front, position / 100)
    np.testing.assert_allclose(heat(two), rows, atol=0.00051)
    assert two.tab.inner_text("#front-0-here") == f"λ = {position / 100:g}"
    layout = "document.querySelector('#front-0-heat').layout"
    assert two.value(f"{layout}.yaxis.ticktext") == groups
    assert two.value(f"{layout}.xaxis.ticktext") == list(THREE)


def test_the_table_of_coefficients_follows_too(two: Tab) -> None:
    two.tab.click("#front-0-numbers summary")
    for position in (10, 90):
        move(two, position)
        caption = "document.querySelector('#front-0-numbers caption')?.textContent"
        two.until(f"{caption} === 'Coefficients, λ = {position / 100:g}'")
        _, *rows = two.cells("#front-0-numbers table")
        shown = np.array([[float(w) for w in row[1:]] for row in rows])
        np.testing.assert_allclose(shown, heat(two), atol=1e-9)
        assert [row[0] for row in rows] == two.data["fronts"][0]["groups"]
    two.tab.click("#front-0-numbers summary")


@pytest.mark.parametrize(("position", "option"), [(0, "0"), (60, "0.6"), (37, "0.37")])
def test_the_command_writes_the_soup_of_the_slider(two: Tab, position: int, option: str) -> None:
    move(two, position)
    file = two.runs[0].path / "front.json"
    line = f"soupmerge mix --recipe {file} --at {option} -o soup.safetensors"
    assert two.tab.inner_text("#front-0-command") == line
    two.tab.click("#front-0-detail button")
    two.until("document.querySelector('#status').textContent.startsWith('The command ')")
    if "selected" in two.status():
        assert two.value("getSelection().toString().trim()") == line


def test_the_curve_has_every_soup_in_its_place_with_its_intervals(two: Tab) -> None:
    traces = two.value("document.querySelector('#front-0-map').data")
    trials = two.runs[0].trials
    assert [trace["name"] for trace in traces] == ["uniform", "grid", "ingredients", "front"]
    assert [i for trace in traces for i in trace["customdata"]] == [9, 10, 11, 6, 7, 8, *range(6)]
    for trace in traces:
        for axis, metric in (("x", "clean"), ("y", "linf:0.1")):
            found = [trials[i]["metrics"][metric] for i in trace["customdata"]]
            assert trace[axis] == [one["accuracy"] for one in found]
            bars = trace[f"error_{axis}"]
            ends = [
                (y - low, y + high)
                for y, low, high in zip(trace[axis], bars["arrayminus"], bars["array"], strict=True)
            ]
            wanted = [tuple(one["ci95"]) for one in found]
            np.testing.assert_allclose(ends, wanted)
    assert traces[-1]["mode"].startswith("lines")
    assert traces[-1]["text"] == ["λ = 0", "", "", "", "", "λ = 1"]


def test_keys_move_the_slider_and_buttons_go_to_judged_points(two: Tab) -> None:
    tab, front = two.tab, "#front-0-at"
    tab.focus(front)
    tab.keyboard.press("Home")
    assert tab.input_value(front) == "0"
    tab.keyboard.press("ArrowRight")
    value = tab.get_attribute(front, "aria-valuetext")
    assert value.startswith("λ = 0.01, clean about 89.9%, Linf 0.1 about 20.2%")
    assert tab.inner_text("#front-0-value") == "λ = 0.01"
    met = []
    for button in ("on", "on", "back"):
        tab.click(f"#front-0-{button}")
        met.append(tab.input_value(front))
    assert met == ["20", "40", "20"]
    assert tab.get_attribute(front, "aria-valuetext").startswith("λ = 0.2, clean 88.0%,")
    tab.focus(front)
    tab.keyboard.press("End")
    assert [tab.is_disabled(f"#front-0-{button}") for button in ("back", "on")] == [False, True]


def test_a_click_on_a_judged_point_moves_the_slider_there(two: Tab) -> None:
    tab = two.tab
    tab.locator("#front-0-map").scroll_into_view_if_needed()
    dot = tab.locator("#front-0-map .scatterlayer .trace").last.locator("path.point").nth(4)
    box = dot.bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    two.until("document.querySelector('#front-0-at').value === '80'")


def test_colours_follow_the_screen(two: Tab) -> None:
    for scheme in ("light", "dark"):
        two.tab.emulate_media(color_scheme=scheme)
        ground = two.value(
            "getComputedStyle(document.documentElement).getPropertyValue('--ground')"
        )
        for part in ("map", "heat"):
            drawn = f"document.querySelector('#front-0-{part}')._fullLayout.paper_bgcolor"
            two.until(f"{drawn} === '{ground.strip()}'")


# ---- Three objectives.


def test_a_point_of_three_objectives_is_chosen_from_the_list_or_the_map(three: Tab) -> None:
    tab, run = three.tab, three.runs[0]
    for position in (4, 0):
        tab.select_option("#front-0-at", str(position))
        assert numbers(three)[0][1] == percent(run.trials[position], "clean")
        assert run.front is not None
        shares = three.data["fronts"][0]["at"][position]
        np.testing.assert_allclose(heat(three), by_depth(run.front, shares)[1], atol=0.00051)
        assert three.status().startswith(three.data["fronts"][0]["names"][position])
    tab.locator("#front-0-map").scroll_into_view_if_needed()
    dot = tab.locator("#front-0-map .scatterlayer .trace").first.locator("path.point").nth(2)
    box = dot.bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    three.until("document.querySelector('#front-0-at').value === '2'")
    assert "--at 0.5,0,0.5 -o" in tab.inner_text("#front-0-command")


def test_the_simplex_of_preferences_is_shaded_by_the_chosen_metric(three: Tab) -> None:
    for m, metric in enumerate(("clean", "linf:0.1", "l2:0.5", "union")):
        three.tab.select_option("#front-0-metric", str(m))
        trace = three.value("document.querySelector('#front-0-map').data[0]")
        wanted = [r["metrics"][metric]["accuracy"] for r in three.runs[0].trials[:6]]
        assert trace["marker"]["color"] == wanted
        rows = [list(row) for row in zip(trace["a"], trace["b"], trace["c"], strict=True)]
        assert rows == [list(shares) for shares in three.data["fronts"][0]["at"]]


BOXES = """(where) => [...document.querySelectorAll(
    `${where} .ternarylayer text, ${where} .g-atitle text, ${where} .g-btitle text,
     ${where} .g-ctitle text, ${where} .cbaxis text, ${where} .cbtitle text`)].map((text) => {
    const { left, right, top, bottom } = text.getBoundingClientRect();
    return [text.textContent, left, right, top, bottom];
})"""


@pytest.mark.parametrize(
    ("width", "names"),
    [
        (360, ("resnet18_linf_8_255_epoch_200",) * 3),
        (800, ("WideResNet-70-16_L2_128_255",) * 3),
        (1400, THREE),
    ],
)
def test_names_of_corners_and_ticks_do_not_cover_each_other(
    chromium: Any, runs: Runs, tmp_path_factory: pytest.TempPathFactory, width: int, names: Any
) -> None:
    """They did: ticks stood at the corners, beside the names."""
    run = runs.lattice[0]
    inputs = [{"ref": f"{letter}{name}"} for letter, name in zip("abc", names, strict=True)]
    run = dataclasses.replace(run, manifest={**run.manifest, "inputs": inputs})
    page = opened(chromium, [run], tmp_path_factory.mktemp("corners") / "page.html", width=width)
    boxes = page.value(BOXES, "#ternary-0")
    page.tab.close()
    found = {text for text, *_ in boxes}
    assert {"0.2", "0.4", "0.6", "0.8"} < found
    assert not {"0", "1"} & found
    assert sum(text[0] in "abc" for text in found) == 3
    for i, (text, left, right, top, bottom) in enumerate(boxes):
        assert 0 <= left < right <= width, text
        for other, a, b, c, d in boxes[:i]:
            overlap = min(right, b) - max(left, a) > 1 and min(bottom, d) - max(top, c) > 1
            assert not overlap, (text, other)


def test_nothing_went_wrong_and_nothing_was_fetched(two: Tab, three: Tab) -> None:
    for page in (two, three):
        assert [line for line in page.seen if not line.startswith("file:")] == []


@pytest.mark.parametrize("kind", ["front", "front_of_three"])
def test_the_page_of_a_front_fits_a_narrow_screen(
    chromium: Any, runs: Runs, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    run = getattr(runs, kind)[0]
    page = opened(chromium, [run], tmp_path_factory.mktemp("narrow") / "page.html", width=360)
    page.until("document.documentElement.scrollWidth <= 360")
    page.tab.close()


def test_a_front_that_nobody_judged_shows_coefficients_and_command(
    chromium: Any, runs: Runs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = runs.front[0]
    run = dataclasses.replace(run, trials=[], manifest={**run.manifest, "benchmark": None})
    path = tmp_path_factory.mktemp("unjudged") / "page.html"
    page = opened(chromium, [run], path, ready="#front-0-heat .main-svg")
    move(page, 70)
    assert "No point of this front was judged." in page.tab.inner_text("#front-0-detail")
    assert page.tab.inner_text("#front-0-command").endswith("--at 0.7 -o soup.safetensors")
    assert page.seen == [path.as_uri()]
    page.tab.close()
