"""Groups of tensors: those of one group share a row of coefficients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from soupmerge.errors import UsageError, near_miss
from soupmerge.weights import buffers

REST = "rest"
"""The group of tensors that no pattern of ``glob=`` matches."""

NESTED = "blocks|block|layers|layer|units|stages"


def block_of(name: str) -> str:
    """Return the block of the tensor *name*: its name up to the first number, or its first part.

    Numbered blocks within numbered stages are blocks of their own.

    Example:
        >>> block_of("layer1.0.conv1.weight"), block_of("stages.2.blocks.5.norm.bias")
        ('layer1.0', 'stages.2.blocks.5')
    """
    match = re.match(rf"(?:[^.]+\.)*?\d+(?:\.(?:{NESTED})\.\d+)*(?=\.)", name)
    return match[0] if match else name.partition(".")[0]


GROUPINGS: dict[str, Callable[[str], str]] = {
    "model": lambda name: "model",
    "block": block_of,
    "module": lambda name: name.rpartition(".")[0] or "model",
    "tensor": lambda name: name,
}
"""Name of a grouping → function from a tensor name to its group."""

GLOB = "glob="
KNOWN = (*GROUPINGS, f"{GLOB}PATTERN,PATTERN")


def check_grouping(by: str) -> None:
    """Reject a *by* that is not a grouping.

    Raises:
        UsageError: it is not.
    """
    if by not in GROUPINGS and not (by.startswith(GLOB) and all(_patterns(by))):
        raise UsageError(f"unknown grouping {by!r}", where="groups", fix=near_miss(by, KNOWN))
    if by.startswith(GLOB) and REST in _patterns(by):
        what = f"{REST!r} is the group of tensors that no pattern matches"
        raise UsageError(what, where="groups", fix="write it as [r]est")


def group_by(
    by: str, names: Iterable[str], ties: Sequence[Sequence[str]] = ()
) -> dict[str, tuple[str, ...]]:
    """Return group → tensor names, both in the order of *names*.

    Args:
        by: ``model`` (one row for all); ``block``, ``module`` or ``tensor`` (a row for each);
            ``glob=A,B`` (a row for the matches of each pattern, and one for the rest).
        names: the names of the mixed tensors.
        ties: names of one shared tensor, which must also share a row.

    Raises:
        UsageError: there is no grouping *by*, a pattern matches nothing, or two patterns match
            one tensor; all such tensors are listed.

    Example:
        >>> group_by("module", ["a.weight", "a.bias", "b.weight"])
        {'a': ('a.weight', 'a.bias'), 'b': ('b.weight',)}
        >>> group_by("glob=*.bias", ["a.weight", "a.bias", "b.weight"])
        {'*.bias': ('a.bias',), 'rest': ('a.weight', 'b.weight')}
    """
    check_grouping(by)
    names = list(names)
    first = _first_of_tie(names, ties)
    if by.startswith(GLOB):
        return _by_pattern(_patterns(by), names, first)
    groups: dict[str, tuple[str, ...]] = {}
    for name in names:
        group = GROUPINGS[by](first[name])
        groups[group] = (*groups.get(group, ()), name)
    return groups


def rows_of(
    groups: Mapping[str, Sequence[str]], names: Iterable[str], policy: str
) -> dict[str, int]:
    """Return tensor name → the index of its row of W, for every mixed tensor of *names*.

    Unless the buffer policy is ``base``, a batch-norm statistic takes the row of its module's
    weight, or, if there is none, row G, which stands for the mean of all rows. Tensors that are not
    in the result are copied from the base ingredient.
    """
    rows = {name: g for g, members in enumerate(groups.values()) for name in members}
    statistics = () if policy == "base" else filter(buffers.is_statistic, names)
    return rows | {name: rows.get(buffers.weight_beside(name), len(groups)) for name in statistics}


def _first_of_tie(names: Sequence[str], ties: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return name → the first of *names* that it is tied to, directly or through others."""
    first = {name: name for name in names}
    for tie in ties:
        firsts = [first[name] for name in tie if name in first]
        joined = {name: min(firsts, key=names.index) for name in firsts}
        first = {name: joined.get(one, one) for name, one in first.items()}
    return first


def _patterns(by: str) -> list[str]:
    return by.removeprefix(GLOB).split(",")


def _by_pattern(
    patterns: Sequence[str], names: Sequence[str], first: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return pattern, or `REST`, → the names it matches; a match of one name covers its ties."""
    hits: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        hits[first[name]] += [p for p in patterns if fnmatchcase(name, p)]
    groups: dict[str, tuple[str, ...]] = dict.fromkeys((*patterns, REST), ())
    doubled = []
    for name in names:
        matching = list(dict.fromkeys(hits[first[name]]))
        group = matching[0] if matching else REST
        groups[group] = (*groups[group], name)
        if len(matching) > 1 or patterns.count(group) > 1:
            both = " and ".join(repr(p) for p in patterns if p in matching)
            doubled.append(f"{name}: {both}")
    if doubled:
        what = "some tensors are matched by several patterns"
        fix = "write patterns that do not overlap"
        raise UsageError(what, problems=doubled, where="groups", fix=fix)
    for pattern in patterns:
        if not groups[pattern]:
            fix = near_miss(pattern.strip("*."), names)
            raise UsageError(f"{pattern!r} matches no tensor", where="groups", fix=fix)
    return {group: members for group, members in groups.items() if members}
