"""Options: the checkpoints to compare, and the network they must fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.ingredients import TensorSelection
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.errors import InputError


@dataclass(frozen=True)
class Compatibility:
    """The checkpoints to compare, and the network they must fit."""

    refs: tuple[str, ...]
    origin: str | None
    selection: TensorSelection
    base: int
    weights_key: str | None
    network: Network

    def check(self) -> tuple[sm.Ingredients | None, list[str]]:
        """Return the ingredients, or None if they do not fit together, and all problems."""
        from soupmerge.sources.refs import opened_all
        from soupmerge.weights.ingredients import mismatches
        from soupmerge.weights.selection import select

        checkpoints = opened_all(self.refs, weights_key=self.weights_key)
        ingredients.print_notes(checkpoints)
        selection = select(
            checkpoints,
            exclude=self.selection.exclude,
            only=self.selection.only,
            head=self.selection.head,
            base=ingredients.index_of_base(self.base, len(self.refs)),
        )
        misfits = mismatches(checkpoints, selection)
        problems = [f"{ref}: {line}" for ref, lines in misfits.items() for line in lines]
        for checkpoint in checkpoints:
            problems += [f"{checkpoint.ref}: {line}" for line in checkpoint.faults()]
        if self.network.model is not None:
            problems += self._misfits_of_network(checkpoints)
        return (None if misfits else sm.Ingredients(checkpoints, selection)), problems

    def _misfits_of_network(self, checkpoints: Sequence[sm.Checkpoint]) -> list[str]:
        from soupmerge.binding import align

        net, problems = self.network.make(like=checkpoints[0]), []
        for checkpoint in checkpoints:
            try:
                align(checkpoint, net)
            except InputError as error:
                problems += [f"{checkpoint.ref}: {problem}" for problem in error.problems]
        return problems

    def open_origin(self, loaded: sm.Ingredients) -> sm.Checkpoint | None:
        """Return the checkpoint that *loaded* were fine-tuned from, if --origin names it."""
        from soupmerge.sources.refs import opened
        from soupmerge.weights.ingredients import require_fit

        if self.origin is None:
            return None
        origin = opened(self.origin, weights_key=self.weights_key)
        require_fit((loaded[0], origin), loaded.selection)
        return origin


def compatibility(command: F) -> F:
    """Add the options that name the checkpoints to compare."""
    return grouped(
        "compatibility",
        Compatibility,
        ingredients.refs,
        click.option(
            "--origin",
            metavar="REF",
            help="Checkpoint they were fine-tuned from; distances are measured from it.",
        ),
        ingredients.selection,
        ingredients.base,
        ingredients.weights_key,
        network,
    )(command)
