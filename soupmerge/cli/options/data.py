"""Which images: a data set, a part of it, and no more than so many."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options.grouping import Decorator, F, grouped
from soupmerge.cli.options.kinds import Whole

DATA = (
    "digits, cifar10, cifar100, folder:PATH, npz:PATH or package.module:function; "
    "blur-3:DATA (or noise, contrast, jpeg; 1 to 5) corrupts them"
)


@dataclass(frozen=True)
class Data:
    """A data set as the options name it."""

    ref: str
    split: str
    limit: int | None

    def images(self) -> sm.Images:
        """Return the images, and say what their labels stand for."""
        return read(self.ref, self.split, self.limit)

    def part(self, split: str, limit: int | None = None) -> sm.Images:
        """Return images of another part of the same set."""
        return read(self.ref, split, limit)

    def warn_of_test(self, does: str) -> None:
        """Warn if images that should judge are about to choose."""
        if self.split.startswith("test"):
            what = f"--split {self.split} {does}: judge the soup on other images"
            warnings.warn(what, stacklevel=2)


@dataclass(frozen=True)
class DataSets:
    """Several data sets as the options name them, the same part of each."""

    sets: tuple[str, ...]
    split: str
    limit: int | None

    def each(self) -> tuple[Data, ...]:
        """Return the sets one by one."""
        return tuple(Data(ref, self.split, self.limit) for ref in self.sets)


@dataclass(frozen=True)
class OptionalData:
    """A data set that a command can do without."""

    ref: str | None
    split: str
    limit: int | None

    @property
    def given(self) -> Data | None:
        """The set, if one is named."""
        return None if self.ref is None else Data(self.ref, self.split, self.limit)


def read(ref: str, split: str, limit: int | None) -> sm.Images:
    """Return the images of a part of a data set, and say what their labels stand for."""
    found = sm.data(ref, split=split, limit=limit)
    tell_classes(found)
    return found


def tell_classes(images: sm.Images) -> None:
    """Say once in which order the classes of *images* are, where they have names."""
    from soupmerge.weights.classes import listed

    said = click.get_current_context().meta.setdefault("soupmerge.classes", set())
    if images.class_names and images.class_names not in said:
        said.add(images.class_names)
        show.note(f"{images.ref}: classes in order: {listed(images.class_names)}")


def data(split: str) -> Decorator:
    """Return the options that name a data set, *split* being the part that the command uses."""
    return _one(Data, split, required=True)


def optional_data(split: str) -> Decorator:
    """Return the options that may name a data set."""
    return _one(OptionalData, split, required=False)


def _one(value: Callable[..., Any], split: str, *, required: bool) -> Decorator:
    return grouped(
        "data",
        value,
        click.option("--data", "ref", required=required, metavar="DATA", help=f"{DATA}."),
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
    return grouped(
        "data",
        DataSets,
        click.option(
            "--data",
            "sets",
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
