"""Types of option values: numbers in plain digits, and threat models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import click

import soupmerge as sm
from soupmerge.errors import near_miss
from soupmerge.numbers import is_decimal


class ThreatType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A threat model written as ``linf:8/255``; ``L_inf``, ``l-inf`` and the like are accepted.

    Args:
        clean: whether ``clean``, which stands for no attack, is accepted too.
    """

    name = "threat"

    def __init__(self, *, clean: bool = False) -> None:
        self.clean = clean

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `Threat`, or None for ``clean``."""
        if not isinstance(value, str):
            return value
        if self.clean and value == "clean":
            return None
        norm, colon, eps = value.partition(":")
        return sm.Threat.parse(norm.replace("-", "").replace("_", "") + colon + eps)


class OneOf(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """One of several names, which are asked for when the option is given: tables may grow."""

    name = "name"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self.names = names

    def to_info_dict(self) -> Any:
        """Return what `click.Choice` would say of itself."""
        return {**super().to_info_dict(), "choices": tuple(self.names())}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        if value not in self.names():
            self.fail(f"{value!r} is unknown; {near_miss(value, self.names())}.", param, ctx)
        return str(value)


class Named(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A value with a name that may be part of a file's name, written ``NAME=VALUE``."""

    name = "named"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the name and the value."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\w[\w.+-]*)=(.+)", value)
        if match is None:
            self.fail(f"{value!r} is not NAME=VALUE, with a name of letters and digits", param, ctx)
        return match[1], match[2]


class Whole(click.IntRange):
    """An integer in ASCII digits; click also accepts ``1_000`` and digits of other scripts."""

    def _describe_range(self) -> str:
        return _range_of(self, super()._describe_range())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int."""
        return super().convert(_require_ascii(self, value, param, ctx), param, ctx)


class Real(click.FloatRange):
    """A decimal number in ASCII digits, which is therefore neither NaN nor infinite."""

    def _describe_range(self) -> str:
        return _range_of(self, super()._describe_range())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a float."""
        return super().convert(_require_ascii(self, value, param, ctx), param, ctx)


def _range_of(kind: Whole | Real, limits: str) -> str:
    """Return *limits*, as --help shows them, or nothing if there are none."""
    return "" if kind.min is None and kind.max is None else limits


def _require_ascii(
    kind: Whole | Real, value: Any, param: click.Parameter | None, ctx: click.Context | None
) -> Any:
    """Return *value* if it is a number in ASCII digits, or not text; fail otherwise."""
    if isinstance(value, str) and not is_decimal(value.strip()):
        kind.fail(f"{value!r} is not a valid {kind.name.removesuffix(' range')}.", param, ctx)
    return value
