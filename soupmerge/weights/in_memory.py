"""Ingredients in memory, from which many soups can be mixed without reading files again."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field, replace

from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.tensors import Array, Reader, View

SHARE = 0.5
"""Fraction of the free memory that ingredients may take."""


@dataclass(frozen=True)
class InMemoryView(View):
    """A view whose *numbers* are in memory, as a flat array."""

    numbers: Array = field(kw_only=True)

    @classmethod
    def of(cls, view: View) -> InMemoryView:
        """Return *view* with its numbers in memory."""
        return cls(view.info, view.file, view.start, view.stride, numbers=view.array())

    def reader(self) -> Reader:
        """Return a function that copies a piece of the tensor from memory."""

        def read(start: int, out: Array) -> Array:
            out[:] = self.numbers[start : start + len(out)]
            return out

        return read


def in_memory(ingredients: Ingredients, *, most: int | None = None) -> Ingredients:
    """Return *ingredients* with all numbers in memory, or unchanged if they exceed *most* bytes.

    `mixing.mix` returns the same soups for both, bit for bit. A change of the files is noticed
    when the chosen soup is written.

    Args:
        most: default half of the free memory.
    """
    size = sum(info.bytes for checkpoint in ingredients for info in checkpoint.infos.values())
    if size > (_free_share() if most is None else most):
        return ingredients
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these were given when *ingredients* was made
        return Ingredients(
            tuple(
                replace(
                    checkpoint, views={n: InMemoryView.of(v) for n, v in checkpoint.views.items()}
                )
                for checkpoint in ingredients
            ),
            ingredients.selection,
        )


def _free_share() -> int:
    try:
        return int(SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # unknown on this system
        return 4 << 30
