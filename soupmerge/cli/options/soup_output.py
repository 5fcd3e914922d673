"""Options: the file of a soup, or the folder of its shards."""

from __future__ import annotations

from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.cli.options import output
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.errors import UsageError
from soupmerge.numbers import size


@dataclass(frozen=True)
class SoupOutput:
    """The file that a soup is written to, or the folder of its shards.

    Raises:
        UsageError: the file is not a .safetensors file, or the size of shards is not a size.
    """

    out: str
    max_shard_size: str | None
    force: bool

    def __post_init__(self) -> None:
        if self.shard_bytes() is None:
            output.require_safetensors(self.out)

    def shard_bytes(self) -> int | None:
        """Return the most bytes per shard, or None for a single file."""
        if self.max_shard_size is None:
            return None
        most = size(self.max_shard_size, "--max-shard-size")
        if most < 1:
            what, fix = "a shard must hold at least one byte", "write a size such as 500MB"
            raise UsageError(what, where="--max-shard-size", fix=fix)
        return most

    def check(self, ingredients: sm.Ingredients, size: int) -> None:
        """Reject, before any work, an output of *size* bytes that cannot be written.

        Raises:
            OutputError: it exists, is an input, or has no room.
        """
        from soupmerge.storage import commit

        if self.max_shard_size is None:
            commit.check_free(self.out, force=self.force, inputs=ingredients.files)
        else:
            commit.check_free_folder(self.out)
        commit.require_room(self.out, size)


def soup_output(command: F) -> F:
    """Add the options that say where the soup is written."""
    return grouped(
        "output",
        SoupOutput,
        click.option(
            "-o",
            "--out",
            required=True,
            metavar="OUT",
            help="A .safetensors file, or with --max-shard-size a new folder.",
        ),
        click.option(
            "--max-shard-size",
            metavar="SIZE",
            help="Write a folder of shards of at most SIZE, such as 500MB.",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="Replace the output file if it exists; folders are never replaced.",
        ),
    )(command)
