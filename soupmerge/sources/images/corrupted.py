"""Corrupted pixels of images that are decoded when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from soupmerge.sources.images import corruptions
from soupmerge.sources.images.pixels import Pixels


@dataclass(frozen=True, eq=False)
class CorruptedPixels(Pixels):
    """The *pixels* of images, corrupted when they are asked for; see `corruptions.corrupt`.

    Attributes:
        pixels: the images as they are.
        ids: one name per image, which seeds its noise.
        kind: one of `choices.corruption_names`.
        strength: 1 to 5.
    """

    pixels: Pixels
    ids: Sequence[str]
    kind: str
    strength: int

    def __post_init__(self) -> None:
        corruptions.maker(self.kind)  # a missing package is reported before work begins

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C_in, H, W)``."""
        return self.pixels.shape

    @property
    def digest(self) -> str:
        """Hash of what is stored, and of the corruption."""
        text = f"{self.kind}-{self.strength} {self.pixels.digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return the pixels ``(B, C_in, H, W)``, uint8, at *indices*."""
        ids = [self.ids[i] for i in indices.tolist()]
        return corruptions.corrupt(self.pixels[indices], ids, self.kind, self.strength)

    def image(self, index: int) -> Tensor:
        """Return one image, ``(C_in, H, W)`` uint8, whatever the sizes of the others."""
        x, ids = self.pixels.image(index)[None], [self.ids[index]]
        return corruptions.corrupt(x, ids, self.kind, self.strength)[0]

    def sizes(self, indices: Tensor) -> list[tuple[int, int]]:
        """Return height and width of the images at *indices* as they are stored."""
        return self.pixels.sizes(indices)

    def expect(self, indices: Tensor, draw: object = None) -> None:
        """Prepare for being asked for *indices*, in this order."""
        self.pixels.expect(indices, draw)

    def take(self, indices: Tensor) -> CorruptedPixels:
        """Return the pixels at *indices* as a set of their own."""
        ids = [self.ids[i] for i in indices.tolist()]
        return CorruptedPixels(self.pixels.take(indices), ids, self.kind, self.strength)

    def describe(self) -> dict[str, Any]:
        """Return what a fingerprint says of the pixels besides their digest."""
        maker = corruptions.maker(self.kind)
        return {**self.pixels.describe(), **({"corrupted by": maker} if maker else {})}

    def marks(self) -> tuple[list[str], bool]:
        """Return the marks of the images as they are, so that shared images are found."""
        return self.pixels.marks()
