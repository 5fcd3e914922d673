"""Which checkpoints are compared, and what speaks against mixing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.ingredients import Selection
from soupmerge.cli.options.network import Network, network
from soupmerge.errors import InputError


@dataclass(frozen=True)
class Checked:
    """The checkpoints that are compared, and the network that they are held to."""

    refs: tuple[str, ...]
    origin: str | None
    selection: Selection
    base: int
    weights_key: str | None
    network: Network

    def fit(self) -> tuple[sm.Ingredients | None, list[str]]:
        """Return the ingredients, if they fit, and all that speaks against mixing them."""
        from soupmerge.sources.refs import opened_all
        from soupmerge.weights.ingredients import mismatches
        from soupmerge.weights.selection import select

        checkpoints = opened_all(self.refs, weights_key=self.weights_key)
        ingredients.tell(checkpoints)
        chosen = select(
            checkpoints,
            exclude=self.selection.exclude,
            only=self.selection.only,
            head=self.selection.head,
            base=ingredients.index_of_base(self.base, len(self.refs)),
        )
        found = mismatches(checkpoints, chosen)
        problems = [f"{ref}: {line}" for ref, lines in found.items() for line in lines]
        for checkpoint in checkpoints:
            problems += [f"{checkpoint.ref}: {line}" for line in checkpoint.faults()]
        if self.network.model is not None:
            problems += self._misfits(checkpoints)
        return (None if found else sm.Ingredients(checkpoints, chosen)), problems

    def _misfits(self, checkpoints: Sequence[sm.Checkpoint]) -> list[str]:
        from soupmerge.binding import align

        net, problems = self.network.make(like=checkpoints[0]), []
        for checkpoint in checkpoints:
            try:
                align(checkpoint, net)
            except InputError as error:
                problems += [f"{checkpoint.ref}: {problem}" for problem in error.problems]
        return problems

    def opened_origin(self, loaded: sm.Ingredients) -> sm.Checkpoint | None:
        """Return what *loaded* were fine-tuned from, if it is named."""
        from soupmerge.sources.refs import opened
        from soupmerge.weights.ingredients import require_fit

        if self.origin is None:
            return None
        origin = opened(self.origin, weights_key=self.weights_key)
        require_fit((loaded[0], origin), loaded.selection)
        return origin


def checked(command: F) -> F:
    """Add the options that say what is compared."""
    return grouped(
        "checked",
        Checked,
        ingredients.refs,
        click.option(
            "--origin",
            metavar="REF",
            help="What they were fine-tuned from, to measure distances from.",
        ),
        ingredients.selection,
        ingredients.base,
        ingredients.weights_key,
        network,
    )(command)
