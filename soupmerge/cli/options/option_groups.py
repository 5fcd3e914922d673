"""Groups of options, each of which reaches its command as one typed value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """Adds options to the function of a command, and returns the function."""

    def __call__(self, command: F, /) -> F:
        """Return *command* with more options."""


GROUPS = "groups"
"""The attribute of a command's function that holds its groups by name."""


class Group(NamedTuple):
    """Options that belong together.

    Attributes:
        value: called with the values of the options, and of the inner groups, by their names.
        keys: the names of the options.
        inner: name → group that is part of this one.
    """

    value: Callable[..., Any]
    keys: tuple[str, ...]
    inner: Mapping[str, Group]

    def take(self, parsed: dict[str, Any]) -> Any:
        """Return the value of the group, and remove its options from *parsed*, name → value."""
        own = {key: parsed.pop(key) for key in self.keys}
        inner = {name: group.take(parsed) for name, group in self.inner.items()}
        return self.value(**own, **inner)


class Command(click.Command):
    """A command whose groups of options are turned into values before it is called.

    Values check themselves when they are made, so that a mistake is reported before torch and the
    inputs are loaded.
    """

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the whole first sentence of the help, which click would cut at *limit*."""
        return super().get_short_help_str(limit=1000)

    def invoke(self, ctx: click.Context) -> Any:
        """Make the values, and call the function of the command."""
        ctx.params |= {name: group.take(ctx.params) for name, group in groups_of(self).items()}
        return super().invoke(ctx)


def groups_of(command: click.Command) -> Mapping[str, Group]:
    """Return the groups of *command*, by the names of the parameters that receive them."""
    return _groups(command.callback) if command.callback else {}


def several(*options: Decorator) -> Decorator:
    """Return the decorator that adds *options* in this order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def grouped(name: str, value: Callable[..., Any], *options: Decorator) -> Decorator:
    """Return the decorator that adds *options*, which arrive as ``value(…)`` in parameter *name*.

    Groups among *options* become parts of the value.
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
    groups: Mapping[str, Group] = getattr(command, GROUPS, {})
    return groups


def _parameters(command: Callable[..., Any]) -> Sequence[click.Parameter]:
    """Return the parameters that click has attached to a function that will be a command."""
    parameters: Sequence[click.Parameter] = getattr(command, "__click_params__", ())
    return list(parameters)
