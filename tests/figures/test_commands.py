"""Commands on a page: what it offers makes the soup it shows, whatever names files have."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.figures.page.commands import mix_command, quote
from soupmerge.figures.page.contents import contents
from soupmerge.figures.reading import read_run
from tests.figures.pages import recipe, written

Typed = Callable[..., Any]


@settings(max_examples=25)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=6)
)
def test_a_shell_reads_back_every_word(words: list[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    line = "printf '%s\\0' " + " ".join(map(quote, words))
    assert line.isprintable()
    output = subprocess.run([bash, "-c", line], capture_output=True, check=True).stdout
    assert output.decode() == "".join(f"{word}\0" for word in words)


def test_the_command_makes_the_soup_it_stands_beside(
    ingredients: sm.Ingredients, soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = sm.Benchmark(sm.data("digits", limit=8), name="val")
    net, out = sm.model(like=ingredients), tmp_path / "a run; rm -rf"
    sm.grid(net, ingredients, few, step="1/3", buffers=sm.Buffers("base", base=1), run=sm.Run(out))
    sm.learn(
        net,
        ingredients,
        sm.data("digits", split="train", limit=8),
        sm.against(None),
        epochs=1,
        benchmark=few,
        run=sm.Run(tmp_path / "l"),
    )
    runs = [read_run(out), read_run(tmp_path / "l")]
    data = contents(runs)
    monkeypatch.chdir(tmp_path)
    for soup in (data["soups"][4], data["soups"][-1]):
        head, tail = soup["make"]
        words = shlex.split(head + data["tails"][tail])
        assert soupmerge(*words[1:]).status == 0
        source = runs[soup["run"]].trials[4 if soup["run"] == 0 else 0]["recipe"]
        made = sm.load(f"soup-{soup['number']}.safetensors")[0].notes_of_soupmerge["recipe"]
        assert made["weights"] == source["weights"]
        assert made["buffers"] == source["buffers"]
    assert data["recipes"] == {}
    learned = tmp_path / f"soup-{data['soups'][-1]['number']}.safetensors"
    assert sm.load(learned)[0].sha256 == sm.load(tmp_path / "l" / "soup.safetensors")[0].sha256


def test_a_recipe_that_is_in_no_file_can_be_saved(tmp_path: Path) -> None:
    found = read_run(written(tmp_path / "run"))
    own = recipe(["a", "b", "c"], {"x": [1, 0, 0], "y": [0, 1, 0]})
    made = mix_command({"recipe": own}, found, 7)
    assert made is not None
    assert made.head == "soupmerge mix --recipe recipe-7.json -o soup-7.safetensors"
    assert made.recipe == own
    soup = {"ref": "r/soup.safetensors", "made by": "learn"}
    assert mix_command({**soup, "made by": "finetune"}, found, 1) is None
    command = mix_command(soup, found, 1)
    assert command is not None
    assert "--recipe r/soup.safetensors" in command.head


def test_a_name_that_looks_like_an_option_is_none(tmp_path: Path) -> None:
    found = read_run(written(tmp_path / "run", ("-a", "b", "c")))
    made = mix_command(found.trials[3], found, 1)
    assert made is not None
    assert made.tail == "-- -a b c"
