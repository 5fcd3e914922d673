"""What the outputs of a network stand for, as far as the ledger in its file tells."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from soupmerge.errors import InputError
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.ledger import ledger_of

if TYPE_CHECKING:
    from soupmerge.types import Examples

SHOWN = 12
"""Classes that a message lists."""


def orders_of(checkpoint: Checkpoint) -> list[list[str]]:
    """Return the classes of each set that *checkpoint* was trained on, in the order of outputs."""
    told = [e.get("classes") for e in ledger_of(checkpoint) if e.get("by") == "finetune"]
    return [n for n in told if isinstance(n, list) and n and all(isinstance(x, str) for x in n)]


def require_same(checkpoints: Iterable[Checkpoint], data: Examples) -> None:
    """Refuse *data* whose classes stand in another order than those of *checkpoints*.

    What is not named, here or there, is not compared. A network that was trained on several sets
    in turn may go with any of them.

    Raises:
        InputError: a class that both know is another output of the network than its label says.
    """
    names = data.fingerprint().get("classes")
    if not names:
        return
    problems = []
    for checkpoint in checkpoints:
        known = orders_of(checkpoint)
        if known and all(_contradict(order, names) for order in known):
            problems.append(f"{checkpoint.ref}: trained on {listed(known[-1])}")
        elif known and not any(_share(order, names) for order in known):
            what = (
                f"{checkpoint.ref}: trained on {listed(known[-1])}, but the classes of {data.ref}"
            )
            warnings.warn(f"{what} are {listed(names)}: no name in common", stacklevel=3)
    if problems:
        what = f"has the classes {listed(names)}, in another order than the networks"
        fix = "rename its class folders so that they sort as the network's classes"
        raise InputError(what, problems=problems, where=data.ref, fix=fix)


def disagreements(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return, in words, which of *checkpoints* were trained on classes in another order."""
    told = [(checkpoint, orders_of(checkpoint)) for checkpoint in checkpoints]
    return [
        f"{a.ref} was trained on {listed(ours[-1])}, but {b.ref} on {listed(theirs[-1])}"
        for (a, ours), (b, theirs) in combinations(told, 2)
        if ours and theirs and all(_contradict(x, y) for x in ours for y in theirs)
    ]


def listed(names: Sequence[str]) -> str:
    """Return *names* as text, the first of them if they are many."""
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _contradict(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether a class that both name has different labels."""
    places = _places(one)
    return any(places.get(name, label) != label for name, label in _places(other).items())


def _share(one: Sequence[str], other: Sequence[str]) -> bool:
    return not _places(one).keys().isdisjoint(_places(other))


def _places(names: Sequence[str]) -> dict[str, int]:
    """Return name → label; of names that differ in capitals alone, none tells anything."""
    folded = [name.casefold() for name in names]
    return {name: i for i, name in enumerate(folded) if folded.count(name) == 1}
