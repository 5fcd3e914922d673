"""Which images a set holds, in a few kilobytes: enough to tell whether two sets share any."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soupmerge.types import Examples

MOST = 1024
"""Marks that are kept of a set."""
DIGITS = 12
"""Hexadecimal digits of a mark: 48 bits, so that a mark in common is an image in common."""


@dataclass(frozen=True)
class Sketch:
    """The smallest hashes of the images of a set ("bottom-k", Cohen & Kaplan 2007).

    Of two sets that share images, the sketches share marks: of m common images of a set of n, about
    1024 · m / n. Sets of up to 1024 images are held whole, and then not one is missed.

    Attributes:
        marks: hashes of images, in order, 1024 at most.
        whole: whether every image of the set has its mark here.
    """

    marks: tuple[str, ...]
    whole: bool

    @classmethod
    def of(cls, examples: Examples) -> Sketch:
        """Return the sketch of *examples*; an image is its pixels, in 256 steps, whatever its name.

        The hash has no secret: who wants to hide a set can.
        """
        import torch

        hashes: set[str] = set()
        for indices in torch.arange(len(examples)).split(1024):
            x, _ = examples.batch(indices)
            hashes.update(map(_mark, (x * 255).round().to(torch.uint8).contiguous().numpy()))
        marks = sorted(hashes)
        return cls(tuple(marks[:MOST]), len(marks) <= MOST)

    def common(self, other: Sketch) -> int:
        """Return how many images both sketches show to be in both sets; above 0 is certain."""
        return len(set(self.marks) & set(other.marks))

    def to_text(self) -> str:
        """Return the sketch in one word."""
        return ("whole:" if self.whole else "lowest:") + "".join(self.marks)

    @classmethod
    def from_text(cls, text: Any) -> Sketch | None:
        """Return the sketch that `to_text` wrote, or None if it is none: files may say anything."""
        kind, _, digits = text.partition(":") if isinstance(text, str) else ("", "", "")
        if kind not in ("whole", "lowest") or len(digits) % DIGITS or not digits:
            return None
        marks = (digits[i : i + DIGITS] for i in range(0, len(digits), DIGITS))
        return cls(tuple(sorted(marks)), kind == "whole")


def _mark(pixels: Iterable[Any]) -> str:
    return hashlib.blake2b(pixels, digest_size=DIGITS // 2).hexdigest()  # type: ignore[arg-type]
