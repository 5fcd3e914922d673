"""What documents, examples and benchmarks show works: Python runs, commands can be typed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import soupmerge as sm
from soupmerge.cli.main import cli
from soupmerge.robustness.doubts import CHECKS
from tests.shared import near

MOST = 80
"""The most images of any data set."""

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


PYTHON = [(page, i) for page in PAGES for i in range(len(blocks(page, "python")))]


@pytest.mark.parametrize(("page", "i"), PYTHON, ids=[f"{p.name}-{i}" for p, i in PYTHON])
def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path, i: int) -> None:
    """The code runs, on untrained networks and few images; whether it is any good is not tested."""
    monkeypatch.chdir(tmp_path)
    base, read = sm.model("digits-cnn?width=4"), sm.data
    for seed, name in enumerate(("linf", "l2", "clean")):
        sm.save(f"{name}.safetensors", near(base, seed), model="digits-cnn?width=4")

    def few(ref: str, **options: Any) -> sm.Images:
        images = read(ref, **options)
        return images if len(images) <= MOST else read(ref, **{**options, "limit": MOST})

    monkeypatch.setattr(sm, "data", few)
    exec(compile(blocks(page, "python")[i], page.name, "exec"), {})


def commands() -> list[str]:
    """Return the lines of documents and examples that call soupmerge."""
    scripts = [path.read_text() for path in sorted((ROOT / "examples").glob("*.sh"))]
    indented = [
        "\n".join(re.findall(r"^    .*$", page.read_text(), re.MULTILINE)) for page in PAGES
    ]
    lines = []
    for text in [*scripts, *indented, *(b for page in PAGES for b in blocks(page, "bash"))]:
        joined = text.replace("\\\n", " ")
        lines += re.findall(r"^\s*(soupmerge [a-z]+ .*)$", joined, re.MULTILINE)
    return lines


TRAIN, CHOOSE = "--data digits", "--data digits --threat linf:0.1"
VARIABLES = {
    "$train": TRAIN,
    "$choose": CHOOSE,
    "$judge": "--judge-split test --threat linf:0.1",
    "$short": f"{TRAIN} --judge-split test --threat linf:0.1",
    "$threats": "",
    "$ingredients": "a b",
    "$threat": "a b",
    "$continuous": "a b",
    "${!kind}": "a b",
    "$eps": "a b",
}
"""Words of the example scripts that the shell replaces, and what may stand there."""


@pytest.mark.parametrize("line", commands())
def test_commands_can_be_typed(line: str) -> None:
    words = []
    for word in shlex.split(line, comments=True)[1:]:
        follows = words[-1] if words else ""
        if follows in ("--threat", "--eps"):
            words.append(re.sub(r"linf:\$eps|\$threat", "linf:0.1", word).replace("$eps", "0"))
        else:
            words += VARIABLES.get(word, word).split()
    context = click.Context(cli, **cli.context_settings)
    command = cli.get_command(context, words[0])
    assert command is not None
    command.make_context(words[0], words[1:], parent=context)


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 15


UNMAPPED = {"cli", "page", "models", "hub", "robustbench"}
"""Rooms whose modules the map does not list one by one."""


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of what *path* imports from soupmerge."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("soupmerge"):
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_import_what_exists(path: Path) -> None:
    for module, name in imported(path):
        home = importlib.import_module(module)
        assert hasattr(home, name) or importlib.util.find_spec(f"{module}.{name}"), (
            f"{module}.{name}"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_pages_name_exist(page: Path) -> None:
    rooms = ("soupmerge", "tests", "scripts", "benchmarks", "examples", "fuzz")
    files = [f"/{path.relative_to(ROOT)}" for room in rooms for path in (ROOT / room).rglob("*")]
    for name in set(re.findall(r"`([\w/.]+\.(?:py|sh|toml))\b", page.read_text())):
        known = name == "checks.py"  # AutoAttack's
        assert known or any(file.endswith(f"/{name}") for file in files), f"{page.name}: {name}"


def test_the_map_has_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.search(r"## The house\n\n```\n(.*?)```", text, re.DOTALL)
    assert drawn is not None
    modules = {
        path.stem
        for path in (ROOT / "soupmerge").rglob("*.py")
        if path.stem[0] != "_" and not UNMAPPED & set(path.parts)
    }
    listed = set(re.findall(r"(?:  |\()([a-z]\w+)(?=  |\n| \||\))", drawn[1]))
    rooms = {path.parent.name for path in (ROOT / "soupmerge").rglob("__init__.py")} | {"ground"}
    assert modules - listed == set()
    assert listed - modules - rooms == set()


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of *page*, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
            name, _, anchor = target.partition("#")
            home = page.parent / name if name else page
            assert home.exists(), f"{page.name} links to {name}"
            assert not anchor or anchor in anchors(home), f"{page.name} links to {target}"


def test_every_doubt_has_a_section() -> None:
    assert set(CHECKS) <= anchors(ROOT / "docs" / "flags.md")
