"""Where a soup goes: one file, or a folder of shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

import soupmerge as sm
from soupmerge.cli.options import output
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Written:
    """Where the soup goes: one file, or a folder of shards."""

    out: str
    max_shard_size: str | None
    force: bool

    def shard_bytes(self) -> int | None:
        """Return how many bytes a shard may have; None for one file.

        Raises:
            UsageError: it is no such file, or no such size.
        """
        from soupmerge.numbers import size

        if self.max_shard_size is None:
            if not self.out.endswith(".safetensors"):
                what = f"cannot write {Path(self.out).suffix!r} files"
                raise UsageError(what, where=self.out, fix="name a .safetensors file")
            return None
        found = size(self.max_shard_size, "--max-shard-size")
        if found < 1:
            what, fix = "a shard must hold a byte at least", "write a size such as 500MB"
            raise UsageError(what, where="--max-shard-size", fix=fix)
        return found

    def check(self, ingredients: sm.Ingredients, size: int) -> None:
        """Refuse, before any work, an output of *size* bytes that cannot be written."""
        from soupmerge.storage import commit

        if self.max_shard_size is None:
            commit.check_free(self.out, force=self.force, inputs=ingredients.files)
        else:
            commit.check_free_folder(self.out)
        commit.require_room(self.out, size)


def written(command: F) -> F:
    """Add the options that say where the soup goes."""
    return grouped(
        "written",
        Written,
        click.option(
            "-o", "--out", required=True, metavar="OUT", help="A .safetensors file, or a folder."
        ),
        click.option(
            "--max-shard-size", metavar="SIZE", help="Write a folder of shards, 500MB each, say."
        ),
        output.force,
    )(command)
