"""The page of a run: true to its files, harmless whatever they say, usable in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import InputError, OutputError
from soupmerge.figures.page import writing
from soupmerge.figures.page.contents import contents
from soupmerge.figures.page.making import making, quoted
from soupmerge.figures.reading import read_run, remarks
from soupmerge.storage import run
from tests.figures.colours import contrast
from tests.shared import browser

Typed = Callable[..., Any]
HOSTILE = [
    "<script>alert(1)</script>.safetensors",
    "\"'><img src=x onerror=alert(1)></script><!--.safetensors",
    "a\x1b[31mb\u202egpj.%{y}$x$&lt;b&gt;\u2028.safetensors",
]
PLOTLY = "a plotting library"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plotting library, whose five megabytes take a second to parse."""
    monkeypatch.setattr(writing, "_plotly", lambda: PLOTLY)


def measured(correct: int, n: int = 100) -> dict[str, Any]:
    p = correct / n
    return {"accuracy": p, "correct": correct, "n": n, "ci95": [max(0, p - 0.1), min(1, p + 0.1)]}


def recipe(refs: Sequence[str], rows: dict[str, list[float]], **more: Any) -> dict[str, Any]:
    return {
        "format": "soupmerge-recipe/1",
        "ingredients": [{"ref": ref, "sha256": f"{k}" * 64} for k, ref in enumerate(refs)],
        "groups": "model" if len(rows) == 1 else "tensor",
        "weights": rows,
        "buffers": {"policy": "average", "base": 0},
        "origin": "grid",
        **more,
    }


ROWS = [
    ([1.0, 0.0, 0.0], 90, 20),
    ([0.0, 1.0, 0.0], 60, 60),
    ([0.0, 0.0, 1.0], 70, 30),
    ([0.5, 0.5, 0.0], 80, 50),
    ([0.0, 0.5, 0.5], 50, 40),
]
"""Coefficients, clean and robust accuracy; the front is the first two and the fourth."""


def written(path: Path, refs: Sequence[str] = ("a", "b", "c"), **more: Any) -> Path:
    """Write a run of a grid of three, judged as `ROWS` say."""
    data = {"ref": f"folder:{refs[0]}", "split": "val", "n": 100, "sha256": "d" * 64}
    attack = {"attack": "apgd-ce", "steps": 5}
    manifest = {
        "command": "grid",
        "inputs": [{"ref": ref, "sha256": f"{k}" * 64} for k, ref in enumerate(refs)],
        "benchmark": {"data": data, "attacks": {"linf:0.1": attack}},
        "settings": {"step": "1/2", "named": refs[1]},
        **more,
    }
    with run.opened(path, manifest) as folder:
        journal = folder.journal("trials")
        for row, clean, robust in ROWS:
            metrics = {"clean": measured(clean), "linf:0.1": {**measured(robust), **attack}}
            doubt = {"name": "chance", "what": f"a doubt about {refs[2]}", "fix": "look again"}
            notes = {"notes": {"doubts": [doubt]}} if robust == 50 else {}
            record = {"weights": row, "recipe": recipe(refs, {"model": row}), "metrics": metrics}
            journal.append({**record, **notes})
    (path / "recipe.json").write_text(json.dumps(recipe(refs, {"model": ROWS[3][0]})))
    return path


# ---- Commands: what the page offers makes the soup it shows.


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=6))
def test_a_shell_reads_back_every_word(words: list[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    line = "printf '%s\\0' " + " ".join(map(quoted, words))
    assert line.isprintable()
    told = subprocess.run([bash, "-c", line], capture_output=True, check=True).stdout
    assert told.decode() == "".join(f"{word}\0" for word in words)


def test_the_command_makes_the_soup_it_stands_beside(
    pots: sm.Ingredients, soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = sm.Benchmark(sm.data("digits", limit=8), name="val")
    net, out = sm.model(like=pots), tmp_path / "a run; rm -rf"
    sm.grid(net, pots, few, step="1/3", buffers="base", base=1, out=out)
    sm.learn(
        net,
        pots,
        sm.data("digits", split="train", limit=8),
        sm.against(None),
        epochs=1,
        benchmark=few,
        out=tmp_path / "l",
    )
    runs = [read_run(out), read_run(tmp_path / "l")]
    told = contents(runs)
    monkeypatch.chdir(tmp_path)
    for soup in (told["soups"][4], told["soups"][-1]):
        head, tail = soup["make"]
        words = shlex.split(head + told["tails"][tail])
        assert soupmerge(*words[1:]).status == 0
        source = runs[soup["run"]].trials[4 if soup["run"] == 0 else 0]["recipe"]
        made = sm.load(f"soup-{soup['number']}.safetensors")[0].notes_of_soupmerge["recipe"]
        assert made["weights"] == source["weights"]
        assert made["buffers"] == source["buffers"]
    assert told["recipes"] == {}
    learned = tmp_path / f"soup-{told['soups'][-1]['number']}.safetensors"
    assert sm.load(learned)[0].sha256 == sm.load(tmp_path / "l" / "soup.safetensors")[0].sha256


def test_a_recipe_that_is_in_no_file_can_be_saved(tmp_path: Path) -> None:
    found = read_run(written(tmp_path / "run"))
    own = recipe(["a", "b", "c"], {"x": [1, 0, 0], "y": [0, 1, 0]})
    made = making({"recipe": own}, found, 7)
    assert made is not None
    assert made.head == "soupmerge mix --recipe recipe-7.json -o soup-7.safetensors"
    assert made.recipe == own
    soup = {"ref": "r/soup.safetensors", "made by": "learn"}
    assert making({**soup, "made by": "finetune"}, found, 1) is None
    told = making(soup, found, 1)
    assert told is not None
    assert "--recipe r/soup.safetensors" in told.head


def test_a_name_that_looks_like_an_option_is_none(tmp_path: Path) -> None:
    found = read_run(written(tmp_path / "run", ("-a", "b", "c")))
    made = making(found.trials[3], found, 1)
    assert made is not None
    assert made.tail == "-- -a b c"


# ---- The file: what is in it, and what cannot be.


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.usefixtures("short")
def test_the_page_has_every_setting_doubt_and_hash(tmp_path: Path) -> None:
    text = writing.page([read_run(written(tmp_path / "run"))])
    for word in ("0" * 64, "d" * 64, "apgd-ce", "1/2", "a doubt about c", "settings.step"):
        assert word in text
    digest = hashlib.sha256((tmp_path / "run" / "trials.jsonl").read_bytes()).hexdigest()
    assert digest in text


@pytest.mark.usefixtures("short")
def test_what_files_say_makes_no_tag(tmp_path: Path) -> None:
    """The same tags with the same attributes as for harmless names, and nothing unseen."""
    mild = Tags(writing.page([read_run(written(tmp_path / "mild"))]))
    path = written(tmp_path / "hostile", HOSTILE)
    page = writing.page([read_run(path)])
    wild = Tags(page)
    own = ("title", "content")
    shapes = [
        [(tag, {k: v for k, v in attrs.items() if k not in own}) for tag, attrs in one.tags]
        for one in (mild, wild)
    ]
    assert shapes[0] == shapes[1]
    assert all(c.isprintable() or c == "\n" for c in page)
    data = next(t for t in wild.texts if t.startswith('{"runs"'))
    pots = json.loads(data)["runs"][0]["pots"]
    assert pots[2].startswith("a\\x1b[31mb\\u202egpj.%{y}$x$&lt;"), "the name is shown, not lost"


@pytest.mark.usefixtures("short")
def test_only_our_scripts_may_run_and_nothing_is_fetched(tmp_path: Path) -> None:
    page = writing.page([read_run(written(tmp_path / "run"))])
    tags = Tags(page).tags
    policy = next(str(a["content"]) for t, a in tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"sha256-([^']+)", policy) == hashes
    assert len(scripts) == 2
    for tag, attributes in tags:
        assert tag not in {"link", "img", "iframe", "object", "base"}
        assert not {"src", "srcset", "action", "background"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href", "#")).startswith("#")


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    found = read_run(written(tmp_path / "run"))
    page = writing.page([found])
    assert page == writing.page([read_run(tmp_path / "run")])
    assert len(page) < 5_500_000


# ---- The command: where the page goes, and what of damaged runs.


@pytest.mark.usefixtures("short")
def test_only_a_page_of_ours_is_replaced(soupmerge: Typed, tmp_path: Path) -> None:
    path = written(tmp_path / "run")
    page = path / "report.html"
    line = ["report", path, "--format", "none"]
    page.write_text("<p>my thesis</p>")
    refused = soupmerge(*line)
    assert refused.status == 5
    assert "is no page of soupmerge's; choose another -o, or give --force" in refused.err
    assert page.read_text() == "<p>my thesis</p>"
    assert soupmerge(*line, "--force").status == 0
    ours = page.read_bytes()
    assert soupmerge(*line).status == 0
    assert page.read_bytes() == ours
    assert sorted(p.name for p in path.iterdir() if p.name[0] != ".") == [
        "manifest.json",
        "recipe.json",
        "report.html",
        "trials.jsonl",
    ]


@pytest.mark.usefixtures("short")
def test_runs_are_compared_on_one_page(soupmerge: Typed, tmp_path: Path) -> None:
    paths = [written(tmp_path / "one"), written(tmp_path / "two", ("x", "b", "c"))]
    alone = soupmerge("report", *paths)
    assert alone.status == 2
    assert "-o: several runs share a page" in alone.err
    out = tmp_path / "both.html"
    assert soupmerge("report", *paths, "-o", out, "--format", "none").status == 0
    text = out.read_text()
    assert "inputs[1].ref (they differ)" in text
    assert "inputs[2].ref (they differ)" not in text
    assert "Not all were judged on the same images" in text


@pytest.mark.parametrize("word", ["gif", "png,", "pngs"])
def test_a_format_that_is_none_is_refused(soupmerge: Typed, tmp_path: Path, word: str) -> None:
    ended = soupmerge("report", tmp_path, "--format", word)
    assert ended.status == 2
    assert "--format: no format" in ended.err


@pytest.mark.usefixtures("short")
def test_a_torn_line_is_left_out_and_said(tmp_path: Path) -> None:
    path = written(tmp_path / "run")
    whole = (path / "trials.jsonl").read_bytes()
    assert list(remarks(read_run(path))) == []
    for torn in (whole[:-5], whole[:-5] + b"\n"):
        (path / "trials.jsonl").write_bytes(torn)
        found = read_run(path)
        assert len(found.soups) == len(ROWS) - 1
        assert "The last line of trials.jsonl is torn" in writing.page([found])
        assert (path / "trials.jsonl").read_bytes() == torn, "a report changes no journal"
    (path / "recipe.json").unlink()
    assert "The run is not finished" in writing.page([found])


def spoilt(path: Path, name: str, text: str) -> Path:
    (path / name).write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("trials.jsonl", "{}\n{}\n", "trials.jsonl: line 1 is damaged"),
        ("trials.jsonl", "", "holds nothing finished"),
        ("manifest.json", '{"format": "soupmerge-run/9"}', "take a newer soupmerge"),
        ("recipe.json", "[]", "recipe.json: is no JSON object"),
        ("recipe.json", '{"weights": 3}', "a record lacks something"),
        ("barriers.json", '{"barriers": [1]}', "a record lacks something"),
        ("adapted.json", '{"sets": {"a": {}}, "rows": [{}]}', "a record lacks something"),
    ],
)
@pytest.mark.usefixtures("short")
def test_damage_is_named(
    soupmerge: Typed, tmp_path: Path, name: str, text: str, words: str
) -> None:
    path = spoilt(written(tmp_path / "run"), name, text)
    ended = soupmerge("report", path, "--format", "none")
    assert ended.status == 3, ended.err
    assert words in ended.err
    assert "; " in ended.err
    assert not (path / "report.html").exists()


def test_a_page_cannot_take_the_place_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        writing.check_page(tmp_path)
    with pytest.raises(InputError, match="is not a run folder"):
        read_run(tmp_path)


# ---- A real browser.


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """Open the page of runs with hostile names, and note what it fetches and complains of."""
    from playwright.sync_api import sync_playwright

    home = tmp_path_factory.mktemp("visited")
    runs = [written(home / "one", HOSTILE), written(home / "two", HOSTILE)]
    writing.write_page([read_run(path) for path in runs], home / "page.html")
    seen: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        tab = chromium.new_page(color_scheme="dark", viewport={"width": 1200, "height": 800})
        tab.set_default_timeout(20_000)
        tab.on("request", lambda request: seen.append(request.url))
        tab.on("console", lambda message: seen.append(message.text))
        tab.on("pageerror", lambda error: seen.append(str(error)))
        tab.on("dialog", lambda dialog: seen.append(f"dialog {dialog.message}"))
        tab.goto((home / "page.html").as_uri())
        tab.wait_for_selector("#soups tbody tr")
        yield tab, seen
        chromium.close()


def told_by(tab: Any) -> str:
    return str(tab.inner_text("#status"))


def until(tab: Any, condition: str) -> None:
    """Wait for *condition*; playwright's own way is forbidden by the page's policy."""
    for _ in range(100):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    raise AssertionError(condition)


@pytest.mark.browser
def test_arrow_keys_move_along_the_front(visited: tuple[Any, list[str]]) -> None:
    tab, _ = visited
    tab.focus("#map")
    for key, number, place in (("Home", 2, 1), ("ArrowRight", 4, 2), ("End", 1, 3)):
        tab.keyboard.press(key)
        assert told_by(tab).startswith(f"Soup {number}, ")
        assert f"{place} of 3 on the front" in told_by(tab)
    tab.keyboard.press("ArrowRight")
    assert told_by(tab).startswith("Soup 1, "), "the front ends there"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    assert "not on the front" in told_by(tab)
    assert tab.get_attribute("tr[aria-current]", "aria-current") == "true"


@pytest.mark.browser
def test_a_soup_of_the_table_shows_its_command(visited: tuple[Any, list[str]]) -> None:
    tab, _ = visited
    tab.click("[data-soup='3']")
    parts = " ".join(map(quoted, HOSTILE))
    told = tab.inner_text("#command")
    assert told == f"soupmerge mix -w 0.5,0.5,0.0 -o soup-4.safetensors {parts}"
    assert "80.0%" in tab.inner_text("#detail")
    assert "doubt, chance" in tab.inner_text("#detail")
    assert tab.evaluate("document.activeElement.dataset.soup") == "3", "the focus stays"


@pytest.mark.browser
def test_a_soup_is_hovered_and_clicked(visited: tuple[Any, list[str]]) -> None:
    tab, _ = visited
    tab.click("[data-soup='0']")
    tab.locator("#map").scroll_into_view_if_needed()
    dot = tab.locator("#map .scatterlayer .trace").first.locator("path.point").first
    box = dot.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector("#map .hoverlayer .hovertext")
    assert "80.0% (70.0% to 90.0%)" in tab.inner_html("#map .hoverlayer")
    tab.mouse.down()
    tab.mouse.up()
    until(tab, "document.querySelector('#command').textContent.includes('0.5,0.5')")


@pytest.mark.browser
def test_what_can_be_used_has_a_name_and_is_reached_by_keys(
    visited: tuple[Any, list[str]],
) -> None:
    tab, _ = visited
    nameless = """[...document.querySelectorAll('button, select, input, [tabindex="0"]')].filter(
        (one) => !(one.textContent || one.getAttribute('aria-label') || one.closest('label')))"""
    assert tab.evaluate(f"{nameless}.length") == 0
    tab.focus(".skip")
    met = []
    for _ in range(6):
        tab.keyboard.press("Tab")
        met.append(tab.evaluate("document.activeElement.id || document.activeElement.className"))
    assert met == ["x", "y", "back", "on", "map", "copy"]
    headers = tab.evaluate("[...document.querySelectorAll('#soups th')].map((th) => th.scope)")
    assert set(headers) == {"col"}
    tab.click("#sort-m1")
    assert tab.get_attribute("th:has(#sort-m1)", "aria-sort") == "descending"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_both_schemes(visited: tuple[Any, list[str]], scheme: str) -> None:
    tab, _ = visited
    tab.emulate_media(color_scheme=scheme)
    names = ("--ground", "--raised", "--ink", "--quiet", "--link", "--chosen", "--warn")
    script = "(n) => getComputedStyle(document.documentElement).getPropertyValue(n).trim()"
    shade = {name: tab.evaluate(script, name) for name in names}
    for text in ("--ink", "--quiet", "--link"):
        assert contrast(shade[text], shade["--ground"]) >= 4.5, text  # WCAG 2.2, 1.4.3
    assert contrast(shade["--ink"], shade["--warn"]) >= 4.5
    assert contrast(shade["--quiet"], shade["--raised"]) >= 4.5
    assert contrast(shade["--chosen"], shade["--ground"]) >= 3  # 1.4.11
    drawn = tab.evaluate("document.querySelector('#map')._fullLayout.paper_bgcolor")
    assert drawn == shade["--ground"]


@pytest.mark.browser
def test_the_page_fits_a_narrow_screen(visited: tuple[Any, list[str]]) -> None:
    tab, _ = visited
    tab.set_viewport_size({"width": 360, "height": 700})
    until(tab, "document.documentElement.scrollWidth <= 360")


@pytest.mark.browser
def test_it_fetched_nothing_and_nothing_went_wrong(visited: tuple[Any, list[str]]) -> None:
    tab, seen = visited
    assert [line for line in seen if not line.startswith("file:")] == []
    assert len([line for line in seen if line.startswith("file:")]) == 1
    refused = tab.evaluate("fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')")
    assert refused == "refused"
    assert tab.evaluate("document.querySelectorAll('img').length") == 0
