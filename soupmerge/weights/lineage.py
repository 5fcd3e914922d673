"""Where weights come from: a family tree in the files, which soups of soups inherit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from soupmerge.errors import InputError
from soupmerge.references import portable
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.recipe import Recipe

DEEPEST = 16
"""How many generations are read."""


@dataclass(frozen=True)
class Ancestor:
    """Weights in a family tree.

    Attributes:
        ref: the name of their file.
        sha256: their hash; empty for a training run that other files name, but no file.
        made: how they were made: ``mix``, ``grid``, ``learn``, ``finetune`` …; empty if unknown.
        detail: coefficients or objective, in words.
        parents: the weights that they were made from.
    """

    ref: str
    sha256: str
    made: str = ""
    detail: str = ""
    parents: tuple[Ancestor, ...] = ()

    def lines(self, before: str = "", beneath: str = "") -> Iterator[str]:
        """Yield the tree as lines of text, the youngest first."""
        origin = ": " + ", ".join(filter(None, (self.made, self.detail))) if self.made else ""
        digest = f" ({self.sha256[:12]})" if self.sha256 else ""
        yield f"{before}{self.ref}{digest}{origin}"
        for parent in self.parents:
            last = parent is self.parents[-1]
            branch, trunk = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield from parent.lines(beneath + branch, beneath + trunk)

    def roots(self) -> set[str]:
        """Return the hashes of the oldest weights, and the names of training runs among them."""
        return {end.sha256 or end.ref for end in self.ends()}

    def ends(self) -> Iterator[Ancestor]:
        """Yield the oldest ancestors: those without known parents."""
        if not self.parents:
            yield self
        for parent in self.parents:
            yield from parent.ends()


def trained_apart(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return a message for each two of *checkpoints* known to have no common ancestor.

    This is known only where the whole ancestry goes back to training runs from scratch.
    """
    trees = [family_of(checkpoint) for checkpoint in checkpoints]
    runs = [tree.roots() if not any(e.sha256 for e in tree.ends()) else set() for tree in trees]
    named = zip(checkpoints, runs, strict=True)
    return [
        f"{a.ref} and {b.ref} were trained apart, from scratch"
        for (a, ours), (b, theirs) in combinations(named, 2)
        if ours and theirs and not ours & theirs
    ]


def family_of(checkpoint: Checkpoint) -> Ancestor:
    """Return the family tree in the notes of *checkpoint*, which may come from anyone."""
    return _ancestor(node_of(checkpoint), 0)


def node_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the tree of *checkpoint* as JSON values, for the notes of its children."""
    notes = checkpoint.notes_of_soupmerge
    licence = notes.get("licence")
    node = {"ref": portable(checkpoint.ref), "sha256": checkpoint.sha256}
    node |= {"licence": licence} if isinstance(licence, str) else {}
    family = notes.get("family")
    try:
        recipe = Recipe.from_json(notes.get("recipe"))
    except InputError:
        return {**node, **_training(notes)}
    sources = [{"ref": s.ref, "sha256": s.sha256} for s in recipe.sources]
    complete = isinstance(family, list) and len(family) == len(sources)
    shares = ", ".join(f"{w:.4g}" for w in recipe.mean_weights)
    suffix = "" if recipe.by == "model" else f" (means over {len(recipe.groups)} groups)"
    return {
        **node,
        "made": recipe.origin,
        "detail": shares + suffix,
        "parents": family if complete else sources,
    }


def _training(notes: dict[str, Any]) -> dict[str, Any]:
    """Return how weights were trained, from their notes."""
    training = notes.get("training")
    if not isinstance(training, dict):
        return {}
    objective = training.get("objective")
    settings = objective.items() if isinstance(objective, dict) else ()
    base = training.get("base")
    return {
        "made": "finetune" if base else "train",
        "detail": ", ".join(f"{key} {value}" for key, value in settings),
        "parents": notes.get("family") or ([base] if base else []),
    }


def _ancestor(node: Any, depth: int) -> Ancestor:
    if not isinstance(node, dict):
        return Ancestor("?", "?")
    parents = node.get("parents")
    parents = parents if isinstance(parents, list) and depth < DEEPEST else []
    return Ancestor(
        ref=str(node.get("ref", "?")),
        sha256=str(node.get("sha256", "?")),
        made=str(node.get("made", "")),
        detail=str(node.get("detail", "")),
        parents=tuple(_ancestor(parent, depth + 1) for parent in parents),
    )
