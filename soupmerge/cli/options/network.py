"""Which network the weights belong to, and the normaliser inside of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli.options.grouping import F, grouped


@dataclass(frozen=True)
class Network:
    """The network that the options name, if they do."""

    model: str | None
    mean: str | None
    std: str | None

    @property
    def named(self) -> bool:
        """Whether the options say anything about it."""
        return bool(self.model or self.mean or self.std)

    def make(self, like: Any) -> Any:
        """Return the network, or the one that the files of *like* name."""
        return sm.model(self.model, like=like, **self._normaliser())

    def fresh(self, seed: int, shape: Mapping[str, int]) -> Any:
        """Return a new network of *shape*, such as its number of classes, drawn from *seed*."""
        return sm.model(self.model, like=None, seed=seed, **self._normaliser(), **shape)

    def _normaliser(self) -> dict[str, Any]:
        said = {"mean": self.mean, "std": self.std}
        return {key: value for key, value in said.items() if value}


def network(command: F) -> F:
    """Add the options that name a network."""
    return grouped(
        "network",
        Network,
        click.option(
            "--model",
            metavar="NAME",
            help="digits-cnn, resnet9, resnet18-cifar, wrn-28-10, timm:NAME, "
            "package.module:function; arguments as a query, resnet9?width=16.",
        ),
        click.option(
            "--mean", metavar="M,M,M", help="Mean of a normaliser to put inside the network."
        ),
        click.option("--std", metavar="S,S,S", help="Standard deviation of that normaliser."),
    )(command)
