"""Which checkpoints, which of their tensors, and where the statistics of a soup come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.kinds import Whole
from soupmerge.errors import UsageError

refs = click.argument("refs", nargs=-1, required=True, metavar="REF...")
weights_key = click.option(
    "--weights-key", metavar="KEY", help="Which state dict to take from a file that wraps several."
)


@dataclass(frozen=True)
class Policy:
    """Where batch-norm statistics and counters of a soup come from; people count *base* from 1."""

    buffers: str
    base: int

    def of(self, k: int) -> sm.Buffers:
        """Return the policy of the library for *k* ingredients.

        Raises:
            UsageError: there is no such base ingredient.
        """
        return sm.Buffers(self.buffers, index_of_base(self.base, k))


@dataclass(frozen=True)
class Selection:
    """Which tensors are mixed, and which ingredient the others are copied from."""

    exclude: tuple[str, ...]
    only: tuple[str, ...]
    head: str | None

    def load(self, refs: Sequence[str], weights_key: str | None, base: int) -> sm.Ingredients:
        """Return the ingredients at *refs*, and say what had to be unwrapped.

        People count the *base* ingredient, from which the others' tensors are copied, from 1.
        """
        if not refs:
            return sm.load()
        found = sm.load(
            *refs,
            weights_key=weights_key,
            exclude=self.exclude,
            only=self.only,
            head=self.head,
            base=index_of_base(base, len(refs)),
        )
        tell(found)
        return found


def tell(checkpoints: Iterable[sm.Checkpoint]) -> None:
    """Say what was unwrapped and stripped to get at the weights; if verbose, what they are."""
    for checkpoint in checkpoints:
        for note in checkpoint.notes:
            show.note(f"{checkpoint.ref}: {note}")
        if show.is_verbose():  # a hash takes its time
            told = f"{len(checkpoint)} tensors, {checkpoint.numel:,} numbers"
            show.note(f"{checkpoint.ref}: {told}, sha256 {checkpoint.sha256}")


def index_of_base(base: int, k: int) -> int:
    """Return the index of the ingredient *base*, of *k*, which people count from 1.

    Raises:
        UsageError: there is no such ingredient.
    """
    if not 1 <= base <= k:
        what = f"{base} is not one of {k} ingredients"
        raise UsageError(what, where="--base", fix=f"give a number from 1 to {k}")
    return base - 1


base = click.option(
    "--base",
    type=Whole(),
    default=1,
    show_default=True,
    metavar="N",
    help="The ingredient, counted from 1, that counters and base statistics come from.",
)


def policy(command: F) -> F:
    """Add the options that say where batch-norm statistics come from."""
    return grouped(
        "policy",
        Policy,
        click.option(
            "--buffers",
            type=click.Choice(["average", "base"]),
            default="average",
            show_default=True,
            help="Batch-norm statistics: averaged like weights, or taken from one ingredient.",
        ),
        base,
    )(command)


def selection(command: F) -> F:
    """Add the options that select tensors."""
    return grouped(
        "selection",
        Selection,
        click.option(
            "--exclude",
            multiple=True,
            metavar="GLOB",
            help="Tensors to copy from the base ingredient instead; may be repeated.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="GLOB",
            help="Tensors to mix, all others being copied from the base ingredient.",
        ),
        click.option(
            "--head",
            type=click.Choice(["base", "first", "skip"]),
            help="Copy the classifier from the base or the first ingredient, or leave it out.",
        ),
    )(command)


@dataclass(frozen=True)
class Ingredients:
    """The checkpoints of a command, of which some tensors may be left out of the mixture."""

    refs: tuple[str, ...]
    selection: Selection
    weights_key: str | None

    def load(self, base: int = 1) -> sm.Ingredients:
        """Return the ingredients, and say what had to be unwrapped; *base* is counted from 1."""
        return self.selection.load(self.refs, self.weights_key, base)


def ingredients(command: F) -> F:
    """Add the options that name checkpoints, and select tensors of them."""
    return grouped("ingredients", Ingredients, refs, selection, weights_key)(command)
