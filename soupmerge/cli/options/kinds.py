"""Kinds of values that options take: numbers in plain digits, and threat models."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.numbers import is_decimal


class ThreatType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A threat model as text: ``linf:8/255``; ``clean`` is none, where that makes sense."""

    name = "threat"

    def __init__(self, *, clean: bool = False) -> None:
        self.clean = clean

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `Threat`, or None for ``clean``."""
        if not isinstance(value, str) or (self.clean and value == "clean"):
            return None if value == "clean" else value
        return sm.Threat.parse(value)


class Whole(click.IntRange):
    """A whole number in ASCII digits; click also takes ``1_000`` and digits of other scripts."""

    def _describe_range(self) -> str:
        return _described(self, super()._describe_range())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int."""
        return super().convert(_in_ascii(self, value, param, ctx), param, ctx)


class Real(click.FloatRange):
    """A decimal number in ASCII digits, and so neither NaN nor infinite."""

    def _describe_range(self) -> str:
        return _described(self, super()._describe_range())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a float."""
        return super().convert(_in_ascii(self, value, param, ctx), param, ctx)


def _described(kind: Whole | Real, limits: str) -> str:
    """Return the *limits* of a number as --help shows them, nothing where there are none."""
    return "" if kind.min is None and kind.max is None else limits


def _in_ascii(
    kind: Whole | Real, value: Any, param: click.Parameter | None, ctx: click.Context | None
) -> Any:
    if isinstance(value, str) and not is_decimal(value.strip()):
        kind.fail(f"{value!r} is not a valid {kind.name.removesuffix(' range')}.", param, ctx)
    return value
