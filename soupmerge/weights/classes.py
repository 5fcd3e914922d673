"""Which class each output of a network stands for, as recorded in the ledger of its file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from soupmerge.errors import InputError
from soupmerge.label_spaces.outputs import outputs_of
from soupmerge.label_spaces.space import LabelSpace
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.ledger import ledger_of

if TYPE_CHECKING:
    from soupmerge.types import Examples

SHOWN = 12
"""How many classes a message lists."""


def orders_of(checkpoint: Checkpoint) -> list[list[str]]:
    """Return the class names of each set that *checkpoint* was trained on, in order of outputs."""
    classes = [e.get("classes") for e in ledger_of(checkpoint) if e.get("by") == "finetune"]
    return [n for n in classes if isinstance(n, list) and n and all(isinstance(x, str) for x in n)]


def space_of(checkpoints: Iterable[Checkpoint], names: Sequence[str]) -> LabelSpace | None:
    """Return what the outputs of *checkpoints* stand for, by the classes that they record.

    A network that was trained on several sets in turn may go by any of them: by the set whose
    classes are *names*, if there is one, or else by the last that has them all.

    Args:
        checkpoints: networks that are asked about the same images.
        names: the classes of the images.

    Returns:
        The label space; None if no network records its classes.

    Raises:
        InputError: no order of classes is that of all networks.
    """
    recorded = [(c, orders) for c in checkpoints if (orders := orders_of(c))]
    if not recorded:
        return None
    due = [order for _, orders in recorded for order in reversed(orders)]
    fitting = [o for o in due if all(_agrees(o, orders) for _, orders in recorded)]
    if not fitting:
        problems = [f"{c.ref}: trained on {listed(orders[-1])}" for c, orders in recorded]
        what, fix = "their outputs stand for different classes", "judge them one by one"
        raise InputError(what, problems=problems, where="networks", fix=fix)
    wanted = [name.casefold() for name in names]

    def rank(order: Sequence[str]) -> int:
        folded = [name.casefold() for name in order]
        return 0 if folded == wanted else 1 if set(wanted) <= set(folded) else 2

    order = min(fitting, key=rank)
    return LabelSpace.of("", [(name,) for name in order])


def _agrees(order: Sequence[str], orders: Sequence[Sequence[str]]) -> bool:
    return not all(_contradict(order, other) for other in orders)


def require_same(checkpoints: Iterable[Checkpoint], data: Examples) -> None:
    """Reject *data* by which outputs stand for other classes than *checkpoints* were trained on.

    Classes that only one side names are not compared. A network that was trained on several sets
    in turn may match any of them.

    Raises:
        InputError: for some class, another output than the network's stands for it.
    """
    outputs = outputs_of(data)
    names = outputs.names if outputs else data.fingerprint().get("classes")
    if not names:
        return
    problems = []
    for checkpoint in checkpoints:
        orders = orders_of(checkpoint)
        if orders and not _agrees(names, orders):
            problems.append(f"{checkpoint.ref}: trained on {listed(orders[-1])}")
        elif orders and not any(_share(order, names) for order in orders):
            what = (
                f"{checkpoint.ref}: trained on {listed(orders[-1])}, but the classes of {data.ref}"
            )
            warnings.warn(f"{what} are {listed(names)}: no name in common", stacklevel=3)
    if problems:
        what = f"has the classes {listed(names)}, in a different order than the networks"
        fix = "read it with classes=, the networks whose classes it has: labels are then by name"
        raise InputError(what, problems=problems, where=data.ref, fix=fix)


def disagreements(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return a message for each two of *checkpoints* whose classes were in different orders."""
    orders = [(checkpoint, orders_of(checkpoint)) for checkpoint in checkpoints]
    return [
        f"{a.ref} was trained on {listed(ours[-1])}, but {b.ref} on {listed(theirs[-1])}"
        for (a, ours), (b, theirs) in combinations(orders, 2)
        if ours and theirs and all(_contradict(x, y) for x in ours for y in theirs)
    ]


def listed(names: Sequence[str]) -> str:
    """Return *names* as text: the first `SHOWN`, and how many there are."""
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _contradict(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether a class that both name has different labels."""
    labels = _labels(one)
    return any(labels.get(name, label) != label for name, label in _labels(other).items())


def _share(one: Sequence[str], other: Sequence[str]) -> bool:
    return not _labels(one).keys().isdisjoint(_labels(other))


def _labels(names: Sequence[str]) -> dict[str, int]:
    """Return name → label, ignoring case; names that differ only in case are left out."""
    folded = [name.casefold() for name in names]
    return {name: i for i, name in enumerate(folded) if folded.count(name) == 1}
