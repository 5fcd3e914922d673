"""``soupmerge report``: where the page goes, and what becomes of damaged runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import InputError, OutputError
from soupmerge.figures.page import writing
from soupmerge.figures.reading import read_run
from soupmerge.figures.remarks import remarks
from tests.figures.pages import ROWS, written

Typed = Callable[..., Any]


@pytest.mark.usefixtures("short")
def test_only_a_page_of_ours_is_replaced(soupmerge: Typed, tmp_path: Path) -> None:
    path = written(tmp_path / "run")
    page = path / "report.html"
    line = ["report", path, "--format", "none"]
    page.write_text("<p>my thesis</p>")
    refused = soupmerge(*line)
    assert refused.status == 5
    assert "exists and is not a page written by soupmerge; choose another -o" in refused.err
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
    assert "-o: the page of several runs needs a name" in alone.err
    out = tmp_path / "both.html"
    assert soupmerge("report", *paths, "-o", out, "--format", "none").status == 0
    text = out.read_text()
    assert "inputs[1].ref (they differ)" in text
    assert "inputs[2].ref (they differ)" not in text
    assert "Not all soups were judged on the same images" in text


@pytest.mark.parametrize("word", ["gif", "png,", "pngs"])
def test_a_format_that_is_none_is_refused(soupmerge: Typed, tmp_path: Path, word: str) -> None:
    ended = soupmerge("report", tmp_path, "--format", word)
    assert ended.status == 2
    assert "--format: unknown format" in ended.err


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
        ("trials.jsonl", "", "no results to show yet"),
        ("manifest.json", '{"format": "soupmerge-run/9"}', "install a newer soupmerge"),
        ("recipe.json", "[]", "recipe.json: not a JSON object"),
        ("recipe.json", '{"weights": 3}', "a record is incomplete or damaged"),
        ("barriers.json", '{"barriers": [1]}', "a record is incomplete or damaged"),
        ("adapted.json", '{"sets": {"a": {}}, "rows": [{}]}', "a record is incomplete or damaged"),
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
