"""Which tensors share one row of coefficients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from soupmerge.errors import UsageError, near_miss
from soupmerge.weights import buffers

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


def rows_of(
    groups: Mapping[str, Sequence[str]], names: Iterable[str], policy: str
) -> dict[str, int]:
    """Return tensor name → its row of W, for every tensor of *names* that is mixed.

    Under the buffer policy ``average`` a batch-norm statistic takes the row of its module's weight,
    or row G, which stands for the mean of all rows, if its module has none. What is not in the
    result is copied from the base ingredient.
    """
    rows = {name: g for g, members in enumerate(groups.values()) for name in members}
    statistics = filter(buffers.is_statistic, names) if policy == "average" else ()
    return rows | {name: rows.get(buffers.weight_beside(name), len(groups)) for name in statistics}
