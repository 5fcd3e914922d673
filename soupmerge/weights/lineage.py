"""Where weights come from: a family tree that travels in the files, also for soups of soups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.places import is_at_site
from soupmerge.weights.recipe import Recipe

DEEPEST = 16
"""Generations that are told."""


@dataclass(frozen=True)
class Ancestor:
    """Weights by their name and hash, how they were made, and of what.

    Attributes:
        ref: the name of their file.
        sha256: their hash; empty if this is no file, but a training run that others tell of.
        made: how: ``mix``, ``grid``, ``learn``, ``finetune``, or nothing if that is not known.
        detail: coefficients or objective, in words.
        parents: what they were made of.
    """

    ref: str
    sha256: str
    made: str = ""
    detail: str = ""
    parents: tuple[Ancestor, ...] = ()

    def lines(self, before: str = "", beneath: str = "") -> Iterator[str]:
        """Yield the tree as lines of text, the youngest first."""
        how = ": " + ", ".join(filter(None, (self.made, self.detail))) if self.made else ""
        digest = f" ({self.sha256[:12]})" if self.sha256 else ""
        yield f"{before}{self.ref}{digest}{how}"
        for parent in self.parents:
            last = parent is self.parents[-1]
            branch, trunk = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield from parent.lines(beneath + branch, beneath + trunk)

    def roots(self) -> set[str]:
        """Return the hashes of the weights at the tree's ends, and the names of training runs."""
        return {end.sha256 or end.ref for end in self.ends()}

    def ends(self) -> Iterator[Ancestor]:
        """Yield the ancestors that nothing is known before."""
        if not self.parents:
            yield self
        for parent in self.parents:
            yield from parent.ends()


def trained_apart(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return, in words, which of *checkpoints* are known to have no ancestor in common.

    That is known of weights all of whose ancestry goes back to training runs from scratch.
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
    """Return the family tree that the notes of *checkpoint* tell; they may be anyone's."""
    return _ancestor(node_of(checkpoint), 0)


def node_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a child of *checkpoint* notes about it: its tree, as JSON values."""
    notes = checkpoint.notes_of_soupmerge
    ref = checkpoint.ref if is_at_site(checkpoint.ref) else Path(checkpoint.ref).name
    licence = notes.get("licence")
    node = {"ref": ref, "sha256": checkpoint.sha256}
    node |= {"licence": licence} if isinstance(licence, str) else {}
    family = notes.get("family")
    try:
        recipe = Recipe.from_json(notes.get("recipe"))
    except InputError:
        return {**node, **_training(notes)}
    sources = [{"ref": s.ref, "sha256": s.sha256} for s in recipe.sources]
    told = isinstance(family, list) and len(family) == len(sources)
    shares = ", ".join(f"{w:.4g}" for w in recipe.mean_weights)
    per = "" if recipe.by == "model" else f" (means over {len(recipe.groups)} groups)"
    return {
        **node,
        "made": recipe.origin,
        "detail": shares + per,
        "parents": family if told else sources,
    }


def _training(notes: dict[str, Any]) -> dict[str, Any]:
    """Return what is noted of weights that were trained."""
    training = notes.get("training")
    if not isinstance(training, dict):
        return {}
    objective = training.get("objective")
    told = objective.items() if isinstance(objective, dict) else ()
    base = training.get("base")
    return {
        "made": "finetune" if base else "train",
        "detail": ", ".join(f"{key} {value}" for key, value in told),
        "parents": notes.get("family") or ([base] if base else []),
    }


def _ancestor(node: Any, depth: int) -> Ancestor:
    if not isinstance(node, dict):
        return Ancestor("?", "?")
    parents = node.get("parents")
    known = parents if isinstance(parents, list) and depth < DEEPEST else []
    return Ancestor(
        ref=str(node.get("ref", "?")),
        sha256=str(node.get("sha256", "?")),
        made=str(node.get("made", "")),
        detail=str(node.get("detail", "")),
        parents=tuple(_ancestor(parent, depth + 1) for parent in known),
    )
