"""The public face: every name is documented, and whatever a public name returns is public, too."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import soupmerge as sm

INTERNAL = {"View", "StableFile", "RunFolder", "Row", "Rule", "Batch", "Finished"}
"""Parts of public values that nobody needs to name: tensors in files, open folders, table rows,
and what attacks and the engine exchange."""

NAMES = {
    "Tensor": torch.Tensor,
    "torch": torch,
    "State": typing.Mapping[str, torch.Tensor],
    "Generators": torch.Generator,
}
"""What modules import for type checkers only."""


def members(name: str) -> Iterator[tuple[str, Any]]:
    """Yield the public function *name*, or the methods, properties and fields of that class."""
    value = getattr(sm, name)
    if not inspect.isclass(value):
        yield name, _hints(value).get("return")
        return
    for field, hint in _hints(value).items():
        if not field.startswith("_"):
            yield f"{name}.{field}", hint
    for key, member in vars(value).items():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if not key.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{key}", _hints(function).get("return")


def _hints(value: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(value, localns=NAMES)


def classes_in(hint: Any) -> Iterator[type]:
    """Yield the classes of soupmerge that the annotation *hint* names."""
    if inspect.isclass(hint) and hint.__module__.startswith("soupmerge"):
        yield hint
    for part in typing.get_args(hint):
        yield from classes_in(part)


@pytest.mark.parametrize("name", sm.__all__)
def test_what_a_public_name_gives_is_public(name: str) -> None:
    public = {getattr(sm, other) for other in sm.__all__ if inspect.isclass(getattr(sm, other))}
    hidden = {
        f"{place} → {found.__name__}"
        for place, hint in members(name)
        for found in classes_in(hint)
        if found not in public and found.__name__ not in INTERNAL
    }
    assert not hidden


@pytest.mark.parametrize("name", sm.__all__)
def test_a_public_function_has_at_most_eight_parameters_or_says_why(name: str) -> None:
    value = getattr(sm, name)
    if not inspect.isfunction(value):
        return
    head = inspect.getsource(value).split("\n", 1)[0]
    assert len(inspect.signature(value).parameters) <= 8 or "#" in head, head
