"""Options: the network that the weights belong to, and its normaliser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

import soupmerge as sm
from soupmerge.choices import NETWORKS
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.errors import UsageError, near_miss


@dataclass(frozen=True)
class Network:
    """The network that the options name; without one, files name theirs.

    Raises:
        UsageError: there is no built-in network of that name.
    """

    model: str | None
    mean: str | None
    std: str | None

    def __post_init__(self) -> None:
        name = (self.model or "").partition("?")[0]
        # Anything else is a reference or a path, which the library judges.
        is_plain = self.model is not None and not set(name) & set(":/\\.")
        if is_plain and name not in NETWORKS:
            fix = near_miss(name, [*NETWORKS, "timm:NAME", "package.module:function"])
            raise UsageError(f"unknown network {name!r}", where="--model", fix=fix)

    @property
    def is_given(self) -> bool:
        """Whether any of the options is given."""
        return bool(self.model or self.mean or self.std)

    def make(self, like: Any) -> Any:
        """Return the network, or without --model the one that the files of *like* name."""
        return sm.model(self.model, like=like, **self._normaliser())

    def make_new(self, seed: int, shape: Mapping[str, int]) -> Any:
        """Return a network with weights drawn from *seed*.

        Args:
            seed: seed of the weights.
            shape: arguments such as its number of classes.
        """
        return sm.model(self.model, like=None, seed=seed, **self._normaliser(), **shape)

    def _normaliser(self) -> dict[str, Any]:
        options = {"mean": self.mean, "std": self.std}
        return {key: value for key, value in options.items() if value}


def network(command: F) -> F:
    """Add the options that name a network."""
    return grouped(
        "network",
        Network,
        click.option(
            "--model",
            metavar="NAME",
            help="Network: digits-cnn, resnet9, resnet18-cifar, wrn-28-10, timm:NAME or "
            "package.module:function, with arguments as a query, such as resnet9?width=16 "
            "[default: the one that the files name].",
        ),
        click.option(
            "--mean", metavar="M,M,M", help="Means of a normaliser to put inside the network."
        ),
        click.option("--std", metavar="S,S,S", help="Standard deviations of that normaliser."),
    )(command)
