"""Entries of a comparison: a network from a checkpoint, or an ensemble of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from soupmerge.binding import bind, ref_of, set_size
from soupmerge.references import short_name
from soupmerge.robustness.ensembles import Ensemble
from soupmerge.weights.files import Checkpoint, sha256_of


@dataclass(frozen=True)
class Entry:
    """A checkpoint and its network, to be judged by `compare`.

    Example:
        >>> Entry(ingredients[0], net).ref == ingredients[0].ref
        True
    """

    checkpoint: Checkpoint
    net: nn.Module

    @property
    def ref(self) -> str:
        """The name of the entry: the reference of the checkpoint."""
        return self.checkpoint.ref

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The one checkpoint."""
        return (self.checkpoint,)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the entry, and what made its weights, if they say so."""
        notes = self.checkpoint.notes_of_soupmerge
        recipe = notes.get("recipe")
        origin = recipe.get("origin") if isinstance(recipe, dict) else None
        return {
            "ref": self.ref,
            "sha256": self.checkpoint.sha256,
            "model": ref_of(self.net),
            "made by": str(origin or ("finetune" if "training" in notes else "elsewhere")),
        }

    def bound(self, size: tuple[int, int] | None = None) -> nn.Module:
        """Return the classifier, set to images of *size* (height, width) if one is given."""
        bound = bind(self.net, self.checkpoint)
        if size is not None:
            set_size(bound, size, where=self.ref)
        return bound


@dataclass(frozen=True)
class EnsembleEntry:
    """Several networks judged as one classifier by `compare`.

    Attributes:
        members: the networks.
        average: what is averaged, ``prob`` (probabilities) or ``logit``.

    Example:
        >>> members = tuple(Entry(checkpoint, net) for checkpoint in ingredients)
        >>> EnsembleEntry(members, "prob").describe()["forward_passes"]
        2
    """

    members: tuple[Entry, ...]
    average: str

    @property
    def ref(self) -> str:
        """The name of the entry: what is averaged, and short names of the members."""
        return f"{self.average} ensemble of {', '.join(short_name(m.ref) for m in self.members)}"

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The checkpoints of the members."""
        return tuple(member.checkpoint for member in self.members)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the entry: its members and what is averaged."""
        return {
            "ref": self.ref,
            "sha256": sha256_of([checkpoint.sha256 for checkpoint in self.checkpoints]),
            "made by": "ensemble",
            "average": self.average,
            "forward_passes": len(self.members),
            "members": [member.describe() for member in self.members],
        }

    def bound(self, size: tuple[int, int] | None = None) -> nn.Module:
        """Return the classifier, set to images of *size* (height, width) if one is given."""
        return Ensemble([member.bound(size) for member in self.members], self.average)


AnyEntry: TypeAlias = Entry | EnsembleEntry
