"""Groups of options: what several options say arrives at a command as one typed value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """What adds options to the function of a command, and gives it back."""

    def __call__(self, command: F, /) -> F:
        """Return *command* with more options."""


GROUPS = "groups"
"""The attribute of a command's function that holds its groups by name."""


class Group(NamedTuple):
    """Options that belong together.

    Attributes:
        value: makes one value of what the options say; its parameters are named as they are.
        keys: the names of the options.
        inner: groups that are part of this one, by name.
    """

    value: Callable[..., Any]
    keys: tuple[str, ...]
    inner: Mapping[str, Group]

    def take(self, said: dict[str, Any]) -> Any:
        """Return the value, and take what it is made of out of *said*: option → what it says."""
        own = {key: said.pop(key) for key in self.keys}
        return self.value(**own, **{name: group.take(said) for name, group in self.inner.items()})


class Command(click.Command):
    """A command whose groups of options are made into values before it is called."""

    def invoke(self, ctx: click.Context) -> Any:
        """Make the values, and call the command's function."""
        made = {name: group.take(ctx.params) for name, group in groups_of(self).items()}
        ctx.params |= made
        return super().invoke(ctx)


def groups_of(command: click.Command) -> Mapping[str, Group]:
    """Return the groups of *command* by the name of the parameter that takes them."""
    return _groups(command.callback) if command.callback else {}


def several(*options: Decorator) -> Decorator:
    """Return the decorator that adds *options* in this order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def grouped(name: str, value: Callable[..., Any], *options: Decorator) -> Decorator:
    """Return the decorator that adds *options*, which arrive as ``value(…)`` in *name*.

    Groups among *options* are parts of the value.
    """

    def add(command: F) -> F:
        before, outer = len(_parameters(command)), dict(_groups(command))
        command = several(*options)(command)
        inner = {key: group for key, group in _groups(command).items() if key not in outer}
        taken = {key for group in inner.values() for key in _keys(group)}
        added = [p.name for p in _parameters(command)[before:] if p.expose_value and p.name]
        group = Group(value, tuple(key for key in added if key not in taken), inner)
        setattr(command, GROUPS, {**outer, name: group})
        return command

    return add


def _keys(group: Group) -> set[str]:
    return set(group.keys).union(*map(_keys, group.inner.values()))


def _groups(command: Callable[..., Any]) -> Mapping[str, Group]:
    found: Mapping[str, Group] = getattr(command, GROUPS, {})
    return found


def _parameters(command: Callable[..., Any]) -> Sequence[click.Parameter]:
    """Return the parameters that click has noted at a function that is to be a command."""
    noted: Sequence[click.Parameter] = getattr(command, "__click_params__", ())
    return list(noted)
