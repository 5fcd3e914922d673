"""The words of a page around its plots: summaries, remarks, doubts, settings, tables, commands."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import InputError, OutputError
from soupmerge.figures.page import writing
from soupmerge.figures.page.commands import mix_command, quote
from soupmerge.figures.page.contents import judge
from soupmerge.figures.page.panels import Panel, panels
from soupmerge.figures.reading import RunRecord, read_run, records_of
from soupmerge.figures.remarks import remarks
from tests.figures.pages import ROWS, measured, recipe, written
from tests.figures.planted import Runs

pytestmark = pytest.mark.usefixtures("short")


@pytest.fixture
def found(tmp_path: Path) -> RunRecord:
    return read_run(written(tmp_path / "run"))


def texts(page: str, tag: str) -> list[str]:
    """Return what stands in every element *tag* of *page*, without tags inside of it."""
    inner = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", text)).strip() for text in inner]


def section(page: str, heading: str) -> str:
    """Return the section of *page* whose heading has the id *heading*."""
    (text,) = re.findall(rf'<section aria-labelledby="{heading}".*?</section>', page, re.DOTALL)
    return str(text)


# ---- The head of the page.


def test_a_summary_counts_networks_soups_and_epochs(found: RunRecord, runs: Runs) -> None:
    assert texts(writing._summary(found), "p") == [
        f"run (grid): 3 networks (a, b, c); {len(ROWS)} judged.",
        "To make its chosen soup again:",
    ]
    assert texts(writing._summary(found), "pre") == [
        f"soupmerge mix --recipe {quote(str(found.path / 'recipe.json'))} -o soup.safetensors"
    ]
    without = dataclasses.replace(found, recipe=None, trials=[])
    assert texts(writing._summary(without), "p") == ["run (grid): 3 networks (a, b, c)."]
    assert writing._summary(without).count("<pre>") == 0
    (line, *_) = texts(writing._summary(runs.learn[0]), "p")
    assert (
        line == "learn (learn): 3 networks (apple, berry, cherry); 1 judged; 3 epochs of learning."
    )
    many = dataclasses.replace(found, trials=list(found.trials) * 300)
    assert "1,500 judged" in writing._summary(many)
    networks = dataclasses.replace(runs.judged[0], recipe=None)
    assert f"{len(runs.judged[1])} judged." in writing._summary(networks)


def test_the_title_names_all_runs(found: RunRecord, tmp_path: Path) -> None:
    other = read_run(written(tmp_path / "other"))
    page = writing.page([found, other])
    assert texts(page, "title") == texts(page, "h1") == ["Report on run (grid), other (grid)"]


def test_the_map_is_hidden_where_there_are_no_soups(found: RunRecord, runs: Runs) -> None:
    for record, hidden in ((found, False), (runs.check[0], True)):
        (tag,) = re.findall(r'<section id="all"[^>]*>', writing.page([record]))
        assert tag.endswith(" hidden>") == hidden


def test_a_page_needs_something_to_show(found: RunRecord) -> None:
    empty = dataclasses.replace(found, trials=[])
    with pytest.raises(InputError, match=rf"{found.path}, {found.path}: no results to show yet"):
        writing.page([empty, empty])


def test_remarks_name_their_runs_and_only_different_judges_are_remarked(
    found: RunRecord, tmp_path: Path
) -> None:
    other = read_run(written(tmp_path / "other", ("x", "b", "c")))
    (tmp_path / "other" / "recipe.json").unlink()
    first, second = texts(writing.page([found, other]), "li")[:2]
    assert first.startswith("other (grid): The run is not finished")
    assert second.startswith("Not all soups were judged on the same images by the same attacks")
    assert not [line for line in texts(writing.page([found, found]), "li") if "Not all" in line]


# ---- Doubts.


def doubts_of(runs: list[RunRecord]) -> tuple[list[str], list[str]]:
    text = section(writing.page(runs), "doubts-heading")
    return texts(text, "li"), texts(text, "p")


def test_doubts_are_listed_or_their_absence_is_explained(found: RunRecord) -> None:
    doubt = {"name": "masking", "what": "gradients vanish", "fix": "use Square"}
    lines, _ = doubts_of([dataclasses.replace(found, doubts=[doubt])])
    assert lines == [
        "run (grid): doubt, chance: a doubt about c; look again (docs/flags.md#chance)",
        "run (grid), the chosen soup: doubt, masking: gradients vanish; use Square"
        " (docs/flags.md#masking)",
    ]
    calm = [{k: v for k, v in record.items() if k != "notes"} for record in found.trials]
    calm_run = dataclasses.replace(found, trials=calm)
    assert doubts_of([calm_run]) == (
        [],
        ["The accuracies were not checked for doubts: soupmerge eval --doubts does so."],
    )
    checked = "The checks of docs/flags.md found no reason to doubt the accuracies"
    for other in (
        dataclasses.replace(calm_run, doubts=[]),
        dataclasses.replace(calm_run, manifest={**found.manifest, "doubts": True}),
    ):
        lines, (text,) = doubts_of([calm_run, other])
        assert not lines
        assert text.startswith(checked)


def test_doubts_about_judged_networks_name_them(runs: Runs) -> None:
    record, _ = runs.judged
    noted = [
        {**r, "notes": {"precision": "bf16"}} if i == 1 else r for i, r in enumerate(record.trials)
    ]
    lines, _ = doubts_of([dataclasses.replace(record, trials=noted)])
    assert lines == ["berry: precision: bf16"]


# ---- Settings.


def settings_of(runs: list[RunRecord]) -> dict[str, list[str]]:
    text = section(writing.page(runs), "settings-heading")
    rows = [
        [html.unescape(re.sub(r"<[^>]+>", "", c)) for c in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL)
    ]
    return {key: values for key, *values in rows}


def test_every_leaf_of_the_manifest_is_a_row_and_differences_are_marked(
    found: RunRecord, tmp_path: Path
) -> None:
    more = {"settings": {"step": "1/2", "empty": {}, "none": None, "list": [1, [2, True]]}}
    other = read_run(written(tmp_path / "other", **more))
    table = settings_of([found, other])
    assert table["setting"] == ["run (grid)", "other (grid)"]
    assert table["command"] == ["grid", "grid"]
    assert table["settings.step"] == ["1/2", "1/2"]
    assert table["settings.named"] == ["b", "–"], "one lacks it: no difference in value"
    assert table["settings.empty"] == ["–", "{}"]
    assert table["settings.none"] == ["–", "null"]
    assert table["settings.list[1]"] == ["–", "1"]
    assert table["settings.list[2][2]"] == ["–", "true"]
    assert table["inputs[2].ref"] == ["b", "b"]
    assert table["benchmark.data.n"] == ["100", "100"]
    different = read_run(written(tmp_path / "third", settings={"step": "1/3", "named": "b"}))
    table = settings_of([found, different])
    assert table["settings.step (they differ)"] == ["1/2", "1/3"]
    assert table["settings.named"] == ["b", "b"]
    page = writing.page([found, different])
    assert page.count('<tr class="other">') == sum("(they differ)" in key for key in table)


def test_the_hashes_of_all_files_are_listed(found: RunRecord) -> None:
    (found.path / "history.jsonl").write_text("")
    (found.path / "barriers.json").write_text("{}")
    table = settings_of([found])
    for name in ("manifest.json", "trials.jsonl", "history.jsonl", "recipe.json", "barriers.json"):
        digest = hashlib.sha256((found.path / name).read_bytes()).hexdigest()
        assert table[f"sha256 of {name}"] == [digest]


# ---- Panels as tables.


def test_a_panel_is_a_section_with_a_plot_and_a_table() -> None:
    panel = Panel(
        "A <title>", "What & where.", [], {"height": 321}, ["a", "b"], [["x", 1], ["<y>", 2]]
    )
    text = writing._panel(panel, 7, "")
    assert texts(text, "h2") == ["A <title>"]
    assert texts(text, "p") == ["What & where."]
    assert texts(text, "th") == ["a", "b", "x", "<y>"]
    assert texts(text, "td") == ["1", "2"]
    assert 'id="panel-7" class="flat" style="height: 321px" role="img"' in text
    assert 'aria-label="What &amp; where."' in text
    assert '<section aria-labelledby="panel-7-heading" class=tall>' in text
    assert texts(writing._panel(panel, 7, "run (grid)"), "h2") == ["A <title>, run (grid)"]
    low = writing._panel(panel._replace(layout={}), 7, "")
    assert "tall" not in low
    assert "height" not in low


def test_panels_are_numbered_through_and_named_by_run_if_there_are_several(runs: Runs) -> None:
    pair, check = runs.pair[0], runs.check[0]
    both = "".join(writing._panels([pair, check]))
    count = len(panels(pair)) + len(panels(check))
    assert re.findall(r'id="panel-(\d+)-heading"', both) == [str(i) for i in range(count)]
    assert texts(both, "h2")[0] == "Path between two ingredients, pair (grid)"
    assert texts("".join(writing._panels([pair])), "h2") == ["Path between two ingredients"]


# ---- Where the page goes.


def test_a_page_is_known_by_its_mark_near_its_beginning(found: RunRecord, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert writing.write_page([found], out) == str(out)
    assert out.read_text().find(writing.MARK) < writing.MARK_WITHIN - len(writing.MARK)
    within = writing.MARK_WITHIN - len(writing.MARK)
    out.write_text(" " * within + writing.MARK)
    writing.check_page(out)
    out.write_text(" " * (within + 1) + writing.MARK)
    with pytest.raises(OutputError, match="is not a page written by soupmerge"):
        writing.check_page(out)
    with pytest.raises(OutputError):
        writing.write_page([found], out)
    writing.check_page(out, force=True)


# ---- Commands.


PLAIN = recipe(["a", "b c"], {"model": [0.25, 0.75]})


@pytest.mark.parametrize(
    ("changed", "head", "tail"),
    [
        ({}, "-w 0.25,0.75 ", "a 'b c'"),
        ({"affine": True}, "-w 0.25,0.75 ", "--affine a 'b c'"),
        ({"buffers": {"policy": "base", "base": 1}}, "", "--buffers base --base 2 a 'b c'"),
        ({"buffers": {"policy": "average", "base": 0}}, "", "a 'b c'"),
        ({"dtype": "float16"}, "", "--dtype float16 a 'b c'"),
        ({"affine": False, "dtype": None}, "", "a 'b c'"),
    ],
)
def test_a_plain_recipe_is_written_as_options(
    found: RunRecord, changed: dict[str, Any], head: str, tail: str
) -> None:
    command = mix_command({"recipe": {**PLAIN, **changed}}, found, 3)
    assert command is not None
    assert command.head.startswith(f"soupmerge mix {head}")
    assert command.head.endswith(" -o soup-3.safetensors ")
    assert (command.tail, command.recipe) == (tail, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"groups": "tensor"},
        {"weights": {"x": [1, 0], "y": [0, 1]}},
        {"copied": ["x"]},
        {"skipped": ["x"]},
        {"calibration": {"n": 8}},
    ],
)
def test_any_other_recipe_is_read_from_a_file(found: RunRecord, changed: dict[str, Any]) -> None:
    special = {**PLAIN, **changed}
    command = mix_command({"recipe": special}, found, 3)
    assert command == (
        "soupmerge mix --recipe recipe-3.json -o soup-3.safetensors",
        "",
        special,
    )
    own = dataclasses.replace(found, recipe=special)
    path = quote(str(found.path / "recipe.json"))
    assert mix_command({"recipe": special}, own, 3) == (
        f"soupmerge mix --recipe {path} -o soup-3.safetensors",
        "",
        None,
    )


@pytest.mark.parametrize("maker", ["finetune", "elsewhere", "ensemble", None])
def test_what_was_not_mixed_has_no_command(found: RunRecord, maker: str | None) -> None:
    assert mix_command({"ref": "x.pt", "made by": maker}, found, 1) is None


def test_bytes_that_are_no_text_are_quoted_as_bytes() -> None:
    assert quote("a\udcffb") == "$'a\\xffb'"
    assert quote("\\\x01é") == "$'\\\\\\x01é'"
    assert quote("\u202e") == "$'\\xe2\\x80\\xae'"
    assert quote("\ud800") == "$'\\x3f'", "a lone surrogate cannot be in a file name"


# ---- The judge.


def test_a_judge_without_details_is_still_described(found: RunRecord) -> None:
    metrics = {"clean": measured(5), "l2:1": {**measured(3), "attack": "fab"}}
    bare = dataclasses.replace(found, manifest={"command": "eval"})
    assert judge({"metrics": metrics}, bare) == (
        "100 images of unknown (), sha256 unknown; l2:1 by fab, ? steps"
    )
    data = {"ref": "cifar10", "split": "test", "sha256": "0123456789abcdef", "resolution": 64}
    assert judge({"metrics": {"clean": measured(5, 7)}, "data": data}, found) == (
        "7 images of cifar10 (test) at 64, sha256 0123456789ab"
    ), "the record's own images come before those of the run"


# ---- What is unfinished or damaged.


def test_a_torn_history_is_remarked(found: RunRecord) -> None:
    (found.path / "history.jsonl").write_text('{"epoch": 1, "loss": 2.0}')
    assert list(remarks(read_run(found.path))) == [
        "The last line of history.jsonl is torn or still being written, and was left out."
    ]


@pytest.mark.parametrize("name", ["recipe.json", "barriers.json", "flags.csv", "judged/flags.csv"])
def test_any_last_file_shows_that_a_run_is_finished(found: RunRecord, name: str) -> None:
    (found.path / "recipe.json").unlink()
    assert [line[:23] for line in remarks(found)] == ["The run is not finished"]
    (found.path / name).parent.mkdir(exist_ok=True)
    (found.path / name).write_text("")
    assert list(remarks(found)) == []


@pytest.mark.parametrize("text", ["{}", "[1]", '[{}, "x"]'])
def test_doubts_are_a_list_of_objects(found: RunRecord, text: str) -> None:
    assert found.doubts is None
    path = found.path / "doubts.json"
    path.write_text(json.dumps([{"name": "x"}]))
    assert read_run(found.path).doubts == [{"name": "x"}]
    path.write_text(text)
    with pytest.raises(InputError, match=r"doubts\.json: not a list of JSON objects; run its"):
        read_run(found.path)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), AttributeError(), KeyError("x"), TypeError(), ValueError()]
)
def test_what_damaged_records_cause_names_every_run(found: RunRecord, error: Exception) -> None:
    name = type(error).__name__
    with (
        pytest.raises(InputError, match=rf"{found.path}, {found.path}: .* damaged: {name}"),
        records_of(found, found),
    ):
        raise error


def test_an_error_that_names_its_place_is_passed_on(found: RunRecord) -> None:
    own = InputError("no", where="there", fix="so")
    with pytest.raises(InputError) as caught, records_of(found):
        raise own
    assert caught.value is own
