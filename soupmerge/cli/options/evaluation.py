"""Options of an evaluation: resolutions, ensembles, doubts and compilation."""

from __future__ import annotations

from dataclasses import dataclass

import click

from soupmerge.choices import AVERAGES
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.errors import UsageError
from soupmerge.numbers import count


@dataclass(frozen=True)
class Evaluation:
    """How networks are judged: at which resolutions, as an ensemble, with or without doubts.

    Raises:
        UsageError: a resolution is not a number of pixels, or --strict is given without doubts.
    """

    resolution: str | None
    ensemble: str | None
    examine: bool
    compiled: bool
    strict: bool
    beside: tuple[str, ...]

    def __post_init__(self) -> None:
        self.sizes()
        if self.strict and not self.examine:
            what, fix = "conflicts with --no-doubts", "leave one of them out"
            raise UsageError(what, where="--strict", fix=fix)

    def sizes(self) -> list[int]:
        """Return the resolutions, in pixels; `Resized` checks their range."""
        words = [] if self.resolution is None else self.resolution.split(",")
        sizes = []
        for word in map(str.strip, words):
            size = count(word)
            if size is None:
                what, fix = f"{word!r} is not a number of pixels", "give pixels, such as 224,256"
                raise UsageError(what, where="--resolution", fix=fix)
            sizes.append(size)
        return sizes


def evaluation(command: F) -> F:
    """Add the options of an evaluation."""
    return grouped(
        "evaluation",
        Evaluation,
        click.option(
            "--resolution",
            metavar="S,S",
            help="Resize images, before they are attacked, so that their shorter side has S "
            "pixels; position embeddings of networks are interpolated.",
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
            help="Whether to look for reasons to doubt robust accuracies (docs/flags.md) "
            "[default: yes].",
        ),
        click.option(
            "--compile",
            "compiled",
            is_flag=True,
            help="Compile networks with torch.compile, for GPUs.",
        ),
        click.option(
            "--beside",
            multiple=True,
            metavar="RUN",
            help="An earlier run of eval: its networks are shown beside, and nothing that it "
            "judged is judged again; may be repeated.",
        ),
        click.option("--strict", is_flag=True, help="Exit with status 1 if there are doubts."),
    )(command)
