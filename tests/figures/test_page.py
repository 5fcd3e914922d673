"""The page as a file: what is in it, and what cannot be, whatever the files of a run say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from soupmerge.figures.page import writing
from soupmerge.figures.page.contents import contents
from soupmerge.figures.reading import read_run
from tests.figures.pages import HOSTILE, Tags, written


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
    ingredients = json.loads(data)["runs"][0]["ingredients"]
    assert ingredients[2].startswith("a\\x1b[31mb\\u202egpj.%{y}$x$&lt;"), (
        "the name is shown, not lost"
    )


@pytest.mark.usefixtures("short")
def test_the_data_of_a_page_hold_nothing_that_html_reads(tmp_path: Path) -> None:
    runs = [read_run(written(tmp_path / "run", HOSTILE))]
    mark = '<script type="application/json" id="page-data">'
    data = writing.page(runs).partition(mark)[2].partition("</script>")[0]
    assert not set(data) & set("<>&")
    assert json.loads(data) == json.loads(json.dumps(contents(runs)))


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
