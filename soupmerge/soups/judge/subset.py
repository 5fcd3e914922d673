"""Part of a data set. Its examples keep their ids, so verdicts on them are those in the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from soupmerge.label_spaces.outputs import Outputs, also_right, outputs_of
from soupmerge.types import Examples, expect
from soupmerge.weights.files import sha256_of


@dataclass(frozen=True, eq=False)
class Subset:
    """The examples of *data* at *indices* ``(n,)``; *role* says what they are used for."""

    data: Examples
    indices: Tensor
    role: str

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ref(self) -> str:
        """The reference of the whole set."""
        return self.data.ref

    @cached_property
    def ids(self) -> Sequence[str]:
        """One name per example."""
        return tuple(self.data.ids[i] for i in self.indices.tolist())

    @property
    def labels(self) -> Tensor:
        """``(N,)`` int64."""
        return self.data.labels[self.indices]

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.data.classes

    @property
    def outputs(self) -> Outputs | None:
        """How the logits of a network become those of the classes; see `Images`."""
        return outputs_of(self.data)

    @property
    def also_right(self) -> Tensor | None:
        """``(N, C)`` bool: classes that are right as well, if there are such; see `Images`."""
        also = also_right(self.data)
        return None if also is None else also[self.indices]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 images and labels at *indices* of the subset."""
        return self.data.batch(self.indices[indices])

    def expect(self, indices: Tensor, draw: object = None) -> None:
        """Prepare for `batch` being asked for *indices*, in this order."""
        expect(self.data, self.indices[indices], draw)

    @cached_property
    def sha256(self) -> str:
        """Hash of the hash of the whole set, the role, and the ids of the subset."""
        return sha256_of([str(self.data.fingerprint()["sha256"]), self.role, *self.ids])

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the subset."""
        whole = self.data.fingerprint()
        split = f"{whole['split']}, {len(self)} to {self.role}"
        return {**whole, "split": split, "n": len(self), "sha256": self.sha256}
