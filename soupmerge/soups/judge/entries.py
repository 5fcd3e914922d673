"""Entries of a comparison: a network from a checkpoint, or an ensemble of several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from soupmerge.binding import bind, ref_of, set_size
from soupmerge.robustness.ensembles import Ensemble
from soupmerge.weights.files import Checkpoint, sha256_of


@dataclass(frozen=True)
class Entry:
    """A checkpoint, and the network it belongs to."""

    checkpoint: Checkpoint
    net: nn.Module

    @property
    def ref(self) -> str:
        """What the entry is called."""
        return self.checkpoint.ref

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What it is made of."""
        return (self.checkpoint,)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the entry, and how its weights were made, if they say so."""
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
        """Return the classifier; for images of *size* (height, width), if it is not its own."""
        bound = bind(self.net, self.checkpoint)
        if size is not None:
            set_size(bound, size, where=self.ref)
        return bound


@dataclass(frozen=True)
class EnsembleEntry:
    """Several entries judged as one classifier; *average* is ``prob`` or ``logit``."""

    members: tuple[Entry, ...]
    average: str

    @property
    def ref(self) -> str:
        """What the entry is called."""
        return f"{self.average} ensemble of {', '.join(_short(m.ref) for m in self.members)}"

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What it is made of."""
        return tuple(member.checkpoint for member in self.members)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the entry: its members, and what is averaged of them."""
        return {
            "ref": self.ref,
            "sha256": sha256_of([checkpoint.sha256 for checkpoint in self.checkpoints]),
            "made by": "ensemble",
            "average": self.average,
            "forward_passes": len(self.members),
            "members": [member.describe() for member in self.members],
        }

    def bound(self, size: tuple[int, int] | None = None) -> nn.Module:
        """Return the classifier; for images of *size* (height, width), if it is not its own."""
        return Ensemble([member.bound(size) for member in self.members], self.average)


AnyEntry: TypeAlias = Entry | EnsembleEntry


def _short(ref: str) -> str:
    """Return the file's name, or its run folder's if it is the soup of a run."""
    path = Path(ref)
    return path.parent.name if path.stem == "soup" and path.parent.name else path.stem
