"""Every option reaches its use: what is typed changes that argument of the library, and no other.

Each command is typed once as it is, and once more with each of its options; the call that it makes
is caught both times, and what differs is compared with a table. So an option that is ignored, or
goes where another belongs, is noticed; and one that the table does not have.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from soupmerge.cli.main import COMMANDS, cli
from tests.cli.common import Line
from tests.cli.lines import ELSEWHERE, LINES
from tests.cli.spying import Made, Spy

Typed = Callable[..., Any]
DUE = [(name, option) for name, line in LINES.items() for option in line.options]
_PLAIN: dict[str, dict[str, Any]] = {}


@pytest.fixture
def places(larder: Path, tmp_path: Path) -> dict[str, str]:
    """Return where what a line speaks of is."""
    found = {name: str(larder / f"{name}.safetensors") for name in "abc"}
    found |= {name: str(larder / name) for name in ("grid", "export", "front")}
    copy = shutil.copy(larder / "b.safetensors", tmp_path / "copy.safetensors")
    more = {"recipe": str(larder / "recipe.json"), "copy": str(copy), "home": str(tmp_path)}
    return found | more | {"soup": str(larder / "grid" / "soup.safetensors")}


def arguments_of(
    line: Line, option: str, places: dict[str, str], soupmerge: Typed
) -> dict[str, Any]:
    """Type *line* with *option* in an empty folder, and return what the library is called with."""
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched.chdir(tempfile.mkdtemp(dir=places["home"]))
        spy = Spy(patched)
        spy.wait_for(*line.targets)
        words = [word.format(**places) for word in shlex.split(f"{line.words} {option}")]
        try:
            ended = soupmerge(*words)
        except Made:
            return spy.arguments()
    raise AssertionError(f"{' '.join(words)} ended with {ended.status}: {ended.err}")


@pytest.mark.parametrize(("name", "option"), DUE, ids=[f"{n} {o}" for n, o in DUE])
def test_an_option_changes_its_argument_and_no_other(
    name: str, option: str, places: dict[str, str], soupmerge: Typed
) -> None:
    line = LINES[name]
    if name not in _PLAIN:
        _PLAIN[name] = arguments_of(line, "", places, soupmerge)
    before, after = _PLAIN[name], arguments_of(line, option, places, soupmerge)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    changed = {key: after.get(key) for key in keys}
    wanted = {k: _filled(v, places) for k, v in line.options[option].items()}
    for key, value in wanted.items():
        mine = [c for c in changed if c == key or (key.endswith(".*") and c.startswith(key[:-1]))]
        assert mine, f"{key} has not changed; {changed} has"
        for one in mine:
            assert changed.pop(one) == value, one
    assert changed == {}, "what is another option's has changed, too"


def _filled(value: Any, places: dict[str, str]) -> Any:
    return value.format(**places) if isinstance(value, str) else value


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_has_every_option_of_every_command(command: str) -> None:
    context = click.Context(cli)
    found = cli.get_command(context, command)
    assert found is not None
    known = ELSEWHERE[""] | ELSEWHERE.get(command, set())
    for name, line in LINES.items():
        if name.partition(" ")[0] == command:
            for option in ["", *line.options]:
                known |= set(_parsed(found, f"{line.words} {option}"))
    arguments = {p.name for p in found.params if isinstance(p, click.Argument)}
    exposed = {str(p.name) for p in found.params}
    assert exposed - arguments - known == set()


def _parsed(command: click.Command, words: str) -> Iterator[str]:
    """Yield the names of the options in *words*."""
    spelt = {word for p in command.params for word in (*p.opts, *p.secondary_opts)}
    given = [word for word in shlex.split(words) if word in spelt]
    for param in command.params:
        if set(given) & {*param.opts, *param.secondary_opts}:
            yield str(param.name)
