"""Options: a data set, a part of it, and the number of images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

import soupmerge as sm
from soupmerge.choices import FINGERPRINTS
from soupmerge.cli import show
from soupmerge.cli.options.option_groups import Decorator, F, grouped
from soupmerge.cli.options.parameter_types import Named, Whole
from soupmerge.errors import UsageError

DATA = (
    "digits, cifar10, cifar100, folder:PATH, tar:PATH, wds:SHARDS, hf:PATH, hf:owner/name, "
    "cifar:PATH, npz:PATH or package.module:function (docs/images.md says more); blur-3:DATA "
    "corrupts its images (blur, noise, contrast or jpeg, with strength 1 to 5); "
    "DATA?resize=256&crop=224 brings them to one size"
)
SAMPLED = 16
"""Images that are looked at to find out whether all are grey."""
PARTS = "train, val, test, or a slice such as train[:45000]"


@dataclass(frozen=True)
class Reading:
    """What is done about images that cannot be decoded, and what fingerprints are made of.

    Raises:
        UsageError: broken images are both to be refused and to be left out.
    """

    scan: bool
    skip_broken: bool
    fingerprint: str

    def __post_init__(self) -> None:
        if self.scan and self.skip_broken:
            raise UsageError("give one of the two", where="--scan and --skip-broken")

    def keywords(self) -> dict[str, str]:
        """Return the arguments of `soupmerge.data` that say the same."""
        broken = "scan" if self.scan else "skip" if self.skip_broken else "refuse"
        return {"broken": broken, "by": self.fingerprint}


@dataclass(frozen=True)
class Data:
    """A data set, the part to use, and the number of images.

    Attributes:
        like: the network that will see the images, whose preprocessing is used if they have
            several sizes.
    """

    ref: str
    split: str
    limit: int | None
    reading: Reading
    like: Any = None

    def seen_by(self, net: Any) -> Data:
        """Return the data set as *net* will see it."""
        return replace(self, like=net)

    def images(self) -> sm.Images:
        """Return the images, after notes on what is worth knowing about them."""
        return self.part(self.split, self.limit)

    def part(self, split: str, limit: int | None = None) -> sm.Images:
        """Return images of another part of the same set."""
        how = self.reading.keywords()
        images = sm.data(self.ref, split=split, limit=limit, like=self.like, **how)
        print_notes(images)
        return images

    def warn_of_test(self, use: str) -> None:
        """Warn if the test images are put to *use*, such as "chooses the soup"."""
        if self.split.startswith("test"):
            what = f"--split {self.split} {use}: judge the soup on other images"
            warnings.warn(what, stacklevel=2)


@dataclass(frozen=True)
class DataSets:
    """Several data sets, of which the same part is used.

    Raises:
        UsageError: there is none, or a column has no name, or two have the same.
    """

    sets: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    split: str
    limit: int | None
    reading: Reading

    def __post_init__(self) -> None:
        if not self.refs:
            fix = "give --data DATA, or --column NAME=DATA"
            raise UsageError("no data set is given", where="--data", fix=fix)
        names = [name for name, _ in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"two columns are called {twice[0]}", where="--column")

    @property
    def refs(self) -> tuple[str, ...]:
        """The references of all sets: those of --data, then those of --column."""
        return (*self.sets, *(ref for _, ref in self.columns))

    def names(self, sizes: Sequence[int] = ()) -> tuple[str, ...]:
        """Return a short name for each set, at each of *sizes* if there are several.

        It is that of its column, or one made of its reference.
        """
        from soupmerge.soups.search.shots import short_names

        short = short_names(self.refs)[: len(self.sets)]
        names = (*short, *(name for name, _ in self.columns))
        if len(sizes) < 2:
            return names
        return tuple(f"{name} at {size}" for name in names for size in sizes)

    def seen_by(self, net: Any) -> list[sm.Images]:
        """Return the images of each set, as *net* will see them, after notes on them.

        Images that several sets corrupt are read once.
        """
        from soupmerge.sources.images.reading import data_sets

        how = self.reading.keywords()
        sets = data_sets(self.refs, split=self.split, limit=self.limit, like=net, **how)
        for images in sets:
            print_notes(images)
        return sets


@dataclass(frozen=True)
class OptionalData:
    """A data set that need not be given."""

    ref: str | None
    split: str
    limit: int | None
    reading: Reading

    @property
    def given(self) -> Data | None:
        """The data set, if there is one."""
        return None if self.ref is None else Data(self.ref, self.split, self.limit, self.reading)


def print_notes(images: sm.Images) -> None:
    """Print, once each, the order of named classes, the preprocessing, and that images are grey."""
    from soupmerge.weights.classes import listed

    printed = click.get_current_context().meta.setdefault("soupmerge.data", set())
    notes: dict[object, str] = {}
    if images.class_names:
        notes[images.class_names] = f"classes in order: {listed(images.class_names)}"
    if how := images.fingerprint().get("preprocessing"):
        notes[images.ref, how] = f"preprocessing: {how}"
    if _is_grey(images):
        notes[images.ref] = "the images are grey: their colour channels are equal"
    for key, note in notes.items():
        if key not in printed:
            printed.add(key)
            show.note(f"{images.ref}: {note}")


def _is_grey(images: sm.Images) -> bool:
    """Return whether the first images have three channels which are all equal."""
    import torch

    pixels = images.pixels[torch.arange(min(len(images), SAMPLED))]
    return pixels.shape[1] == 3 and bool((pixels == pixels[:, :1]).all())


def reading(command: F) -> F:
    """Add the options that say how stored images are read."""
    return grouped(
        "reading",
        Reading,
        click.option(
            "--scan",
            is_flag=True,
            help="Decode all images before work begins, and list those that are broken.",
        ),
        click.option(
            "--skip-broken",
            is_flag=True,
            help="Leave out, and count, images that cannot be decoded.",
        ),
        click.option(
            "--fingerprint",
            type=click.Choice(FINGERPRINTS),
            default=FINGERPRINTS[0],
            show_default=True,
            help="What identifies a large set of images: its contents too, or ids and file sizes.",
        ),
    )(command)


def data(split: str) -> Decorator:
    """Return the options that name a data set; *split* is the part used by default."""
    return _data_set(Data, split, required=True)


def optional_data(split: str) -> Decorator:
    """Return the options that may name a data set; *split* is the part used by default."""
    return _data_set(OptionalData, split, required=False)


def _data_set(value: Callable[..., Any], split: str, *, required: bool) -> Decorator:
    return grouped(
        "data",
        value,
        click.option("--data", "ref", required=required, metavar="DATA", help=f"{DATA}."),
        click.option(
            "--split", default=split, show_default=True, help=f"Part of the data: {PARTS}."
        ),
        click.option("--limit", type=Whole(1), metavar="N", help="Use only N images."),
        reading,
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
            metavar="DATA",
            help=f"{DATA}; may be repeated.",
        ),
        click.option(
            "--column",
            "columns",
            multiple=True,
            type=Named(),
            metavar="NAME=DATA",
            help="A data set with a name, for a table with a column for each set and their mean; "
            "may be repeated.",
        ),
        click.option(
            "--split", default="test", show_default=True, help=f"Part of each data set: {PARTS}."
        ),
        click.option("--limit", type=Whole(1), metavar="N", help="Use only N images of each."),
        reading,
    )(command)
