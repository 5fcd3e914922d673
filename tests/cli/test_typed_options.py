"""Options reach their commands as values of known types, and nothing as a dictionary."""

from __future__ import annotations

import ast
import importlib
import typing
from pathlib import Path

import click
import pytest

from soupmerge.cli import main
from soupmerge.cli.options.option_groups import Command, Group, grouped, groups_of, several

FOLDER = Path(main.__file__).parent
COMMANDS = [FOLDER / f"{name}.py" for name in main.COMMANDS]


def typed_parameters(function: object) -> dict[str, object]:
    found = dict(typing.get_type_hints(function))
    found.pop("return", None)
    return found


def groups_in(groups: typing.Mapping[str, Group]) -> typing.Iterator[tuple[Group, str, Group]]:
    for group in groups.values():
        for name, inner in group.inner.items():
            yield group, name, inner
        yield from groups_in(group.inner)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_a_command_declares_the_values_that_its_options_make(name: str) -> None:
    module = importlib.import_module(f"soupmerge.cli.{name}")
    command, hints = module.command, typed_parameters(module.command.callback)
    groups = groups_of(command)
    for parameter, group in groups.items():
        assert hints[parameter] is group.value
    for outer, parameter, group in groups_in(groups):
        assert typed_parameters(outer.value)[parameter] is group.value
    alone = {p.name for p in command.params if p.expose_value}
    taken = {key for group in _all(groups) for key in group.keys}
    assert set(hints) == set(groups) | (alone - taken)
    for group in _all(groups):
        passed, fields = set(group.keys) | set(group.inner), typed_parameters(group.value)
        assert set(fields) - passed == {n for n in fields if hasattr(group.value, n)} - passed
        assert passed <= set(fields)


def _all(groups: typing.Mapping[str, Group]) -> typing.Iterator[Group]:
    for group in groups.values():
        yield group
        yield from _all(group.inner)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_no_function_takes_whatever_is_given(path: Path) -> None:
    text = path.read_text()
    assert "given[" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.args.kwarg:
            raise AssertionError(f"{node.name} takes **{node.args.kwarg.arg}")


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_is_read_on_one_screen_or_two(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 150


def test_groups_nest_and_options_of_none_stay_alone() -> None:
    class Inner(typing.NamedTuple):
        a: int

    class Outer(typing.NamedTuple):
        b: int
        inner: Inner

    seen = []
    inner = grouped("inner", Inner, click.option("--a", type=int))
    options = several(grouped("outer", Outer, inner, click.option("--b", type=int)))

    def command(outer: Outer, c: int) -> None:
        seen.append((outer, c))

    made = click.command(cls=Command)(options(click.option("--c", type=int)(command)))
    made.main(["--a", "1", "--b", "2", "--c", "3"], standalone_mode=False)
    assert seen == [(Outer(2, Inner(1)), 3)]
