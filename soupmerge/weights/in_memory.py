"""Ingredients held in memory: many soups of them are mixed without reading a file again."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field, replace

from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.tensors import Array, Reader, View

SHARE = 0.5
"""Of the memory that is free, what ingredients may take."""


@dataclass(frozen=True)
class InMemoryView(View):
    """A view whose *numbers*, flat, are in memory."""

    numbers: Array = field(kw_only=True)

    @classmethod
    def of(cls, view: View) -> InMemoryView:
        """Return *view*, its numbers read."""
        return cls(view.info, view.file, view.start, view.stride, numbers=view.array())

    def reader(self) -> Reader:
        """Return how to get the tensor a piece at a time, from memory."""

        def read(start: int, out: Array) -> Array:
            out[:] = self.numbers[start : start + len(out)]
            return out

        return read


def held(ingredients: Ingredients, *, most: int | None = None) -> Ingredients:
    """Return *ingredients* with all numbers in memory, or unchanged if those exceed *most* bytes.

    `mixing.mix` gives the same soups of either, bit for bit: it asks views, not files. What the
    files become meanwhile is seen when the chosen soup is written.

    Args:
        most: default half of the memory that is free.
    """
    size = sum(info.bytes for checkpoint in ingredients for info in checkpoint.infos.values())
    if size > (_room() if most is None else most):
        return ingredients
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all was said when *ingredients* were made
        return Ingredients(
            tuple(
                replace(
                    checkpoint, views={n: InMemoryView.of(v) for n, v in checkpoint.views.items()}
                )
                for checkpoint in ingredients
            ),
            ingredients.selection,
        )


def _room() -> int:
    try:
        return int(SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # not told here
        return 4 << 30
