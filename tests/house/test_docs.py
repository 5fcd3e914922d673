"""What the documents show works: their Python runs, their commands can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import soupmerge as sm
from soupmerge.cli.main import cli
from tests.shared import near

MOST = 80
"""Images of any set."""

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


PYTHON = [(page, i) for page in PAGES for i in range(len(blocks(page, "python")))]


@pytest.mark.parametrize(("page", "i"), PYTHON, ids=[f"{p.name}-{i}" for p, i in PYTHON])
def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path, i: int) -> None:
    """On networks that were never trained, and on few images: what is shown works, not how well."""
    monkeypatch.chdir(tmp_path)
    base, read = sm.model("digits-cnn?width=4"), sm.data
    for seed, name in enumerate(("linf", "l2", "clean")):
        sm.save(f"{name}.safetensors", near(base, seed), model="digits-cnn?width=4")

    def few(ref: str, *, split: str = "test", limit: int | None = None) -> sm.Images:
        return read(ref, split=split, limit=min(limit or MOST, MOST))

    monkeypatch.setattr(sm, "data", few)
    exec(compile(blocks(page, "python")[i], page.name, "exec"), {})


def commands() -> list[str]:
    found = []
    script = (ROOT / "examples" / "threat_soup.sh").read_text()
    indented = [
        "\n".join(re.findall(r"^    .*$", page.read_text(), re.MULTILINE)) for page in PAGES
    ]
    for text in [script, *indented, *(b for page in PAGES for b in blocks(page, "bash"))]:
        joined = text.replace("\\\n", " ")
        found += re.findall(r"^\s*(soupmerge [a-z]+ .*)$", joined, re.MULTILINE)
    return found


@pytest.mark.parametrize("line", commands())
def test_commands_can_be_typed(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    # In the script, variables stand for words that the shell puts there.
    filled = []
    for word in words:
        known = {
            "$train": ["--data", "digits"],
            "$threats": [],
            "$ingredients": ["a", "b"],
            "$eps": ["0"],
        }
        filled += known.get(word, [word.replace("$threat", "linf:0.1")])
    context = click.Context(cli, **cli.context_settings)
    command = cli.get_command(context, filled[0])
    assert command is not None
    command.make_context(filled[0], filled[1:], parent=context)


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 15


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
