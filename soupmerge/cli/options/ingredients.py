"""Options: checkpoints, the tensors to mix, and the source of batch-norm statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.choices import BUFFER_POLICIES, HEADS
from soupmerge.cli import show
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import Whole
from soupmerge.errors import UsageError

refs = click.argument("refs", nargs=-1, required=True, metavar="REF...")
weights_key = click.option(
    "--weights-key", metavar="KEY", help="State dict to use from files that hold several."
)
WITHOUT_IMAGES = [policy for policy in BUFFER_POLICIES if policy != "recalibrate"]
"""Buffer policies that need no images."""


@dataclass(frozen=True)
class BufferPolicy:
    """Where batch-norm statistics and counters of a soup come from; *base* counts from 1."""

    buffers: str
    base: int

    def of(self, k: int) -> sm.Buffers:
        """Return the policy of the library for *k* ingredients.

        Raises:
            UsageError: the base ingredient does not exist.
        """
        return sm.Buffers(self.buffers, index_of_base(self.base, k))


@dataclass(frozen=True)
class TensorSelection:
    """Which tensors are mixed; the others are copied from one ingredient or left out."""

    exclude: tuple[str, ...]
    only: tuple[str, ...]
    head: str | None

    def load(self, refs: Sequence[str], weights_key: str | None, base: int) -> sm.Ingredients:
        """Return the ingredients at *refs*, after notes on how the files were read.

        *base*, the ingredient that tensors are copied from, counts from 1.
        """
        if not refs:
            return sm.load()
        loaded = sm.load(
            *refs,
            weights_key=weights_key,
            exclude=self.exclude,
            only=self.only,
            head=self.head,
            base=index_of_base(base, len(refs)),
        )
        print_notes(loaded)
        return loaded


def print_notes(checkpoints: Iterable[sm.Checkpoint]) -> None:
    """Print one line per file with notes on how it was read; if verbose, also what it holds."""
    for checkpoint in checkpoints:
        notes = list(checkpoint.notes)
        if show.is_verbose():  # hashing takes time
            size = f"{show.counted(len(checkpoint), 'tensor')}, {checkpoint.numel:,} numbers"
            notes.append(f"{size}, sha256 {checkpoint.sha256}")
        if notes:
            show.note(f"{checkpoint.ref}: {'; '.join(notes)}")


def index_of_base(base: int, k: int) -> int:
    """Return the index of the ingredient *base*, which counts from 1, among *k*.

    Raises:
        UsageError: there is no such ingredient.
    """
    if not 1 <= base <= k:
        what = f"{base} is not the number of an ingredient"
        raise UsageError(what, where="--base", fix=f"give a number from 1 to {k}")
    return base - 1


base = click.option(
    "--base",
    type=Whole(),
    default=1,
    show_default=True,
    metavar="N",
    help="Base ingredient, counted from 1: source of counters and of copied tensors and "
    "statistics.",
)


def policy(command: F) -> F:
    """Add the options that say where batch-norm statistics come from."""
    return grouped(
        "policy",
        BufferPolicy,
        click.option(
            "--buffers",
            type=click.Choice(WITHOUT_IMAGES),
            default="average",
            show_default=True,
            help="Batch-norm statistics: averaged like weights, or copied from the base "
            "ingredient.",
        ),
        base,
    )(command)


def selection(command: F) -> F:
    """Add the options that select tensors."""
    return grouped(
        "selection",
        TensorSelection,
        click.option(
            "--exclude",
            multiple=True,
            metavar="GLOB",
            help="Tensors to copy from the base ingredient instead of mixing; may be repeated.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="GLOB",
            help="Tensors to mix; all others are copied from the base ingredient.",
        ),
        click.option(
            "--head",
            type=click.Choice(HEADS),
            help="Copy the classifier from the base or the first ingredient, or leave it out.",
        ),
    )(command)


@dataclass(frozen=True)
class Ingredients:
    """The checkpoints of a command, and which of their tensors are mixed."""

    refs: tuple[str, ...]
    selection: TensorSelection
    weights_key: str | None

    def load(self, base: int = 1) -> sm.Ingredients:
        """Return the ingredients; *base* counts from 1."""
        return self.selection.load(self.refs, self.weights_key, base)


def ingredients(command: F) -> F:
    """Add the options that name checkpoints and select tensors of them."""
    return grouped("ingredients", Ingredients, refs, selection, weights_key)(command)
