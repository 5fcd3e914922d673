"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

import soupmerge as sm
from soupmerge.numbers import is_decimal

F = TypeVar("F", bound=Callable[..., Any])


ATTACKS = (
    "fgsm",
    "pgd",
    "fast",
    "apgd",
    "apgd-dlr",
    "apgd-t",
    "apgd-ce+t",
    "apgd-100",
    "train-2",
    "autoattack",
)
"""The names in `robustness.presets`, which is not imported before it is needed."""


class ThreatType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A threat model as text: ``linf:8/255``; ``clean`` is none, where that makes sense."""

    name = "threat"

    def __init__(self, *, clean: bool = False) -> None:
        self.clean = clean

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `Threat`, or None for ``clean``."""
        if not isinstance(value, str) or (self.clean and value == "clean"):
            return None if value == "clean" else value
        return sm.Threat.parse(value)


class Whole(click.IntRange):
    """A whole number in ASCII digits; click also takes ``1_000`` and digits of other scripts."""

    def _describe_range(self) -> str:
        return _described(self, super()._describe_range())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int."""
        return super().convert(_in_ascii(self, value, param, ctx), param, ctx)


class Real(click.FloatRange):
    """A decimal number in ASCII digits, and so neither NaN nor infinite."""

    def _describe_range(self) -> str:
        return _described(self, super()._describe_range())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a float."""
        return super().convert(_in_ascii(self, value, param, ctx), param, ctx)


def _described(kind: Whole | Real, limits: str) -> str:
    """Return the *limits* of a number as --help shows them, nothing where there are none."""
    return "" if kind.min is None and kind.max is None else limits


def _in_ascii(
    kind: Whole | Real, value: Any, param: click.Parameter | None, ctx: click.Context | None
) -> Any:
    if isinstance(value, str) and not is_decimal(value.strip()):
        kind.fail(f"{value!r} is not a valid {kind.name.removesuffix(' range')}.", param, ctx)
    return value


def _several(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


refs = click.argument("refs", nargs=-1, required=True, metavar="REF...")
weights_key = click.option(
    "--weights-key", metavar="KEY", help="Which state dict to take from a file that wraps several."
)
model = _several(
    click.option(
        "--model",
        metavar="NAME",
        help="digits-cnn, resnet9, resnet18-cifar, wrn-28-10, timm:NAME, package.module:function; "
        "arguments as a query, resnet9?width=16.",
    ),
    click.option("--mean", metavar="M,M,M", help="Mean of a normaliser to put inside the network."),
    click.option("--std", metavar="S,S,S", help="Standard deviation of that normaliser."),
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force = click.option(
    "--force",
    is_flag=True,
    help="Replace what is at the output; of a run folder, only what a run wrote.",
)
licence = click.option(
    "--licence",
    "--license",
    "licence",
    metavar="ID",
    help="Licence of the export, as the Hub calls it [default: that of all ingredients].",
)
dry_run = click.option("--dry-run", is_flag=True, help="Print the plan, and stop.")
base = click.option(
    "--base",
    type=Whole(),
    default=1,
    show_default=True,
    metavar="N",
    help="The ingredient, counted from 1, that counters and base statistics come from.",
)
buffers = _several(
    click.option(
        "--buffers",
        type=click.Choice(["average", "base"]),
        default="average",
        show_default=True,
        help="Batch-norm statistics: averaged like weights, or taken from one ingredient.",
    ),
    base,
)
selection = _several(
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
)


def _offline(context: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from soupmerge.sources.network import offline

        context.with_resource(offline())


debug = _several(
    click.option(
        "--offline",
        is_flag=True,
        expose_value=False,
        callback=_offline,
        help="Take what is in caches; ask no site.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Show neither progress nor notes."),
    click.option("-v", "--verbose", is_flag=True, help="Say more about files and the machine."),
    click.option("--debug", is_flag=True, help="Show a traceback if something goes wrong."),
)
machine = _several(
    click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda[:i]",
        help="Where to compute; auto is a GPU if there is one.",
    ),
    click.option(
        "--seed",
        type=Whole(0, 2**63 - 1),
        default=0,
        show_default=True,
        help="Of all that is random; the same seed gives the same run.",
    ),
    click.option("-j", "--workers", type=Whole(1, 1024), help="CPU threads [default: all]."),
    debug,
)


def batch_size(default: int) -> Callable[[F], F]:
    """Return the option that says how many images go at a time."""
    return click.option(
        "--batch-size",
        type=Whole(1, 1_000_000),
        default=default,
        show_default=True,
        help="Images at a time.",
    )


objective = _several(
    click.option(
        "--trades",
        default="0",
        metavar="A",
        help="Weight of the clean loss beside the adversarial one, in [0, 1].",
    ),
    click.option(
        "--trades-kl",
        type=Real(),
        metavar="BETA",
        help="TRADES as its authors have it: clean loss and BETA times a divergence; 6 is usual.",
    ),
    click.option(
        "--mart", type=Real(), metavar="BETA", help="MART, with BETA times its divergence."
    ),
    click.option(
        "--label-smoothing", type=Real(), default=0.0, metavar="S", help="Of labels, in [0, 1)."
    ),
)
training = _several(
    click.option(
        "--attack-steps",
        type=Whole(1, 10_000),
        default=2,
        show_default=True,
        help="Steps of the APGD that is trained against.",
    ),
    click.option(
        "--augment",
        type=click.Choice(["crop-flip", "none"]),
        default="crop-flip",
        show_default=True,
        help="What is done to training images.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="Compute in float32, or in bfloat16 where the device is faster so.",
    ),
    batch_size(128),
)
threats = click.option(
    "--threat",
    "threats",
    multiple=True,
    type=ThreatType(),
    metavar="NORM:EPS",
    help="Threat model to judge under, such as linf:8/255; may be repeated.",
)
attack = _several(
    threats,
    click.option(
        "--attack",
        type=click.Choice(ATTACKS),
        default="apgd",
        show_default=True,
        metavar="NAME",
        help=f"Attack to judge with: {', '.join(ATTACKS)}.",
    ),
    click.option(
        "--steps",
        type=Whole(1),
        default=100,
        show_default=True,
        help="Steps of attacks whose name does not say how many.",
    ),
    click.option(
        "--attack-precision",
        type=click.Choice(["fp32", "bf16", "auto"]),
        default="fp32",
        show_default=True,
        help="What attacks compute in; what they fool is confirmed in float32.",
    ),
    click.option(
        "--only-union",
        is_flag=True,
        help="Judge the union of threats alone; what one has broken is left alone by the others.",
    ),
    click.option(
        "--autoattack-version",
        type=click.Choice(["standard", "plus", "rand", "custom"]),
        default="standard",
        show_default=True,
        help="Which of its attacks AutoAttack runs.",
    ),
    click.option(
        "--autoattack-attacks",
        metavar="A,B",
        help="Attacks of the version custom, such as apgd-ce,square.",
    ),
)


DATA = (
    "digits, cifar10, cifar100, folder:PATH, npz:PATH or package.module:function; "
    "blur-3:DATA (or noise, contrast, jpeg; 1 to 5) corrupts them"
)


def data(split: str, *, required: bool = True) -> Callable[[F], F]:
    """Return the options that name a data set, *split* being the part that the command uses."""
    return _several(
        click.option(
            "--data",
            "data_ref",
            required=required,
            metavar="DATA",
            help=f"{DATA}.",
        ),
        click.option(
            "--split",
            default=split,
            show_default=True,
            help="Part of the data: train, val, test, or train[:45000], say.",
        ),
        click.option("--limit", type=Whole(1), metavar="N", help="Use only N images."),
    )


def data_sets(command: F) -> F:
    """Add the options that name several data sets."""
    return _several(
        click.option(
            "--data",
            "data_refs",
            multiple=True,
            required=True,
            metavar="DATA",
            help=f"{DATA}; may be repeated.",
        ),
        click.option(
            "--split",
            default="test",
            show_default=True,
            help="Part of each data set: train, val, test, or train[:45000], say.",
        ),
        click.option("--limit", type=Whole(1), metavar="N", help="Use only N images of each."),
    )(command)
