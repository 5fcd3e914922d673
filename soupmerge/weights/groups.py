"""Which tensors share one row of coefficients."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from soupmerge.errors import UsageError, near_miss

GROUPINGS: dict[str, Callable[[str], str]] = {
    "model": lambda name: "model",
    "module": lambda name: name.rpartition(".")[0] or "model",
    "tensor": lambda name: name,
}
"""A grouping's name → the group of a tensor name."""


def group_by(by: str, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return group → tensor names, groups and names in order of *names*.

    Args:
        by: ``model`` (one row for all), ``module`` or ``tensor`` (a row for each).

    Raises:
        UsageError: there is no grouping *by*.

    Example:
        >>> group_by("module", ["a.weight", "a.bias", "b.weight"])
        {'a': ('a.weight', 'a.bias'), 'b': ('b.weight',)}
    """
    if by not in GROUPINGS:
        raise UsageError(f"no grouping {by!r}", where="groups", fix=near_miss(by, GROUPINGS))
    groups: dict[str, tuple[str, ...]] = {}
    for name in names:
        group = GROUPINGS[by](name)
        groups[group] = (*groups.get(group, ()), name)
    return groups
