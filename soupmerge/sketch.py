"""A summary of an image set in a few kilobytes, from which shared images can be found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soupmerge.types import Examples

MOST = 1024
"""Hashes kept per set."""
DIGITS = 12
"""Hexadecimal digits of a hash: 48 bits, so a shared hash practically means a shared image."""


@dataclass(frozen=True)
class Sketch:
    """The smallest hashes of the images of a set ("bottom-k", Cohen & Kaplan 2007).

    If m images of a set of n are also in another set, the two sketches share about 1024 · m / n
    hashes. Sets of up to 1024 images are recorded completely, and no shared image is missed.

    Attributes:
        marks: hashes of images, sorted, at most 1024.
        whole: whether every image of the set has its hash here.
    """

    marks: tuple[str, ...]
    whole: bool

    @classmethod
    def of(cls, examples: Examples) -> Sketch:
        """Return the sketch of *examples*; images are identified by 8-bit pixels, not by name.

        Examples with a method ``marks`` know the marks of their images. The hash is unkeyed, so it
        does not detect a set that was disguised on purpose.
        """
        known = getattr(examples, "marks", None)
        return cls.of_marks(*known()) if known else cls.of_marks(marks_of(examples), True)

    @classmethod
    def of_marks(cls, marks: Iterable[str], whole: bool) -> Sketch:
        """Return the sketch of images from their *marks*.

        Args:
            marks: the `mark` of each image.
            whole: whether these are the marks of all images of the set.
        """
        lowest = sorted(set(marks))
        return cls(tuple(lowest[:MOST]), whole and len(lowest) <= MOST)

    def common(self, other: Sketch) -> int:
        """Return how many images both sketches record: a lower bound on those the sets share."""
        return len(set(self.marks) & set(other.marks))

    def to_text(self) -> str:
        """Return the sketch as one word of text."""
        return ("whole:" if self.whole else "lowest:") + "".join(self.marks)

    @classmethod
    def from_text(cls, text: Any) -> Sketch | None:
        """Return the sketch that `to_text` wrote, or None if *text* is not one."""
        kind, _, digits = text.partition(":") if isinstance(text, str) else ("", "", "")
        if kind not in ("whole", "lowest") or len(digits) % DIGITS or not digits:
            return None
        marks = (digits[i : i + DIGITS] for i in range(0, len(digits), DIGITS))
        return cls(tuple(sorted(marks)), kind == "whole")


def marks_of(examples: Examples) -> list[str]:
    """Return the `mark` of each of *examples*, from their batches."""
    import torch

    marks: list[str] = []
    for indices in torch.arange(len(examples)).split(1024):
        x, _ = examples.batch(indices)
        marks.extend(map(mark, (x * 255).round().to(torch.uint8).contiguous().numpy()))
    return marks


def mark(pixels: Iterable[Any]) -> str:
    """Return the hash of the *pixels* of an image, ``(C_in, H, W)`` contiguous uint8."""
    return hashlib.blake2b(pixels, digest_size=DIGITS // 2).hexdigest()  # type: ignore[arg-type]
