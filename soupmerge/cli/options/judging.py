"""How networks are judged: resized images, as an ensemble, compiled, and how strictly."""

from __future__ import annotations

from dataclasses import dataclass

import click

from soupmerge.choices import AVERAGES
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.errors import UsageError
from soupmerge.numbers import count


@dataclass(frozen=True)
class Judging:
    """How networks are judged: resized images, as an ensemble, compiled, and how strictly."""

    resolution: str | None
    ensemble: str | None
    examine: bool
    compiled: bool
    strict: bool

    def sizes(self) -> list[int]:
        """Return the resolutions; what they may be, `Resized` knows."""
        words = [] if self.resolution is None else self.resolution.split(",")
        found = []
        for word in map(str.strip, words):
            size = count(word)
            if size is None:
                what, fix = f"{word!r} is not a number of pixels", "give pixels, such as 224,256"
                raise UsageError(what, where="--resolution", fix=fix)
            found.append(size)
        return found


def judging(command: F) -> F:
    """Add the options that say how networks are judged."""
    return grouped(
        "judging",
        Judging,
        click.option(
            "--resolution",
            metavar="S,S",
            help="Resize images so that their shorter side has S pixels, and attack them so; "
            "networks with position embeddings get them interpolated.",
        ),
        click.option(
            "--ensemble",
            type=click.Choice(AVERAGES),
            help="Judge one classifier that averages the networks' probabilities or logits.",
        ),
        click.option(
            "--doubts/--no-doubts",
            "examine",
            default=True,
            help="Look for reasons to doubt robust accuracies (docs/flags.md), or do not.",
        ),
        click.option(
            "--compile",
            "compiled",
            is_flag=True,
            help="Compile networks first (torch.compile, for GPUs).",
        ),
        click.option("--strict", is_flag=True, help="End with status 1 if there are any."),
    )(command)
