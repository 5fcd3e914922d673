"""Options: a data set, a part of it, and the number of images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

import soupmerge as sm
from soupmerge.choices import FINGERPRINTS, LABEL_SPACES
from soupmerge.cli import show
from soupmerge.cli.options.option_groups import Decorator, F, grouped
from soupmerge.cli.options.parameter_types import Named, Whole
from soupmerge.corruption_refs import CorruptionRef, expanded
from soupmerge.errors import UsageError
from soupmerge.label_spaces.known import label_space
from soupmerge.label_spaces.outputs import in_words

DATA = (
    "digits, cifar10, cifar100, folder:PATH, tar:PATH, wds:SHARDS, hf:PATH, hf:owner/name, "
    "cifar:PATH, npz:PATH, package.module:function (docs/images.md says more), or a published set "
    "such as imagenet-a (see soupmerge data --list); fog-3:DATA corrupts its images (see soupmerge "
    "data -h); DATA?resize=256&crop=224 brings them to one size"
)
SAMPLED = 16
"""Images that are looked at to find out whether all are grey."""
PARTS = "train, val, test, or a slice such as train[:45000]"


@dataclass(frozen=True)
class Reading:
    """What classes are, what is done about broken images, and what fingerprints are made of.

    Raises:
        UsageError: there is no such label space, or broken images are both to be refused and to be
            left out.
        InputError: the file of a label space does not name outputs.
    """

    classes: str | None
    scan: bool
    skip_broken: bool
    fingerprint: str

    def __post_init__(self) -> None:
        if self.scan and self.skip_broken:
            raise UsageError("give one of the two", where="--scan and --skip-broken")
        if self.classes is not None:
            label_space(self.classes)

    def keywords(self, networks: Iterable[sm.Checkpoint]) -> dict[str, Any]:
        """Return the arguments of `soupmerge.data` that say the same.

        Args:
            networks: those that will see the images, for what they record of their classes.
        """
        broken = "scan" if self.scan else "skip" if self.skip_broken else "refuse"
        classes = networks if self.classes is None else self.classes
        return {"classes": classes, "broken": broken, "by": self.fingerprint}


@dataclass(frozen=True)
class Data:
    """A data set, the part to use, and the number of images.

    Attributes:
        like: the network that will see the images, whose preprocessing is used if they have
            several sizes.
        networks: its weights, by whose record of classes labels are found unless --classes is
            given.
    """

    ref: str
    split: str
    limit: int | None
    reading: Reading
    like: Any = None
    networks: Iterable[sm.Checkpoint] = ()

    def seen_by(self, net: Any, networks: Iterable[sm.Checkpoint] = ()) -> Data:
        """Return the data set as *net* will see it, with the weights of *networks*."""
        return replace(self, like=net, networks=networks)

    def images(self) -> sm.Images:
        """Return the images, after notes on what is worth knowing about them."""
        return self.part(self.split, self.limit)

    def part(self, split: str, limit: int | None = None) -> sm.Images:
        """Return images of another part of the same set."""
        images = replace(self, split=split, limit=limit).unnoted()
        print_notes(images)
        return images

    def unnoted(self) -> sm.Images:
        """Return the images without notes, for which some are decoded."""
        how = self.reading.keywords(self.networks)
        return sm.data(self.ref, split=self.split, limit=self.limit, like=self.like, **how)

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
        for name, ref in self.columns:
            if (many := len(expanded([ref]))) > 1:
                what = f"{ref} stands for {many} data sets"
                raise UsageError(what, where=f"--column {name}", fix="give it as --data")

    @property
    def refs(self) -> tuple[str, ...]:
        """The references of all sets: those of --data, then those of --column."""
        return (*expanded(self.sets), *(ref for _, ref in self.columns))

    def names(self, sizes: Sequence[int] = ()) -> tuple[str, ...]:
        """Return a short name for each set, at each of *sizes* if there are several.

        It is that of its column, or one made of its reference.
        """
        from soupmerge.soups.search.shots import short_names

        short = short_names(self.refs)[: len(self.refs) - len(self.columns)]
        names = (*short, *(name for name, _ in self.columns))
        if len(sizes) < 2:
            return names
        return tuple(f"{name} at {size}" for name in names for size in sizes)

    def seen_by(self, net: Any, networks: Iterable[sm.Checkpoint]) -> list[sm.Images]:
        """Return the images of each set, as *net* will see them, after notes on them.

        Images that several sets corrupt are read once, and noted once.
        """
        from soupmerge.sources.images.reading import data_sets

        how = self.reading.keywords(networks)
        sets = data_sets(self.refs, split=self.split, limit=self.limit, like=net, **how)
        by_data: dict[str, sm.Images] = {}
        for images in sets:
            corruption = CorruptionRef.of(images.ref)
            by_data.setdefault(corruption.data if corruption else images.ref, images)
        for images in by_data.values():
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
    """Print, once each, classes and outputs, the preprocessing, and that images are grey."""
    from soupmerge.weights.classes import listed

    printed = click.get_current_context().meta.setdefault("soupmerge.data", set())
    notes: dict[object, str] = {}
    if images.class_names:
        notes[images.class_names] = f"classes in order: {listed(images.class_names)}"
    fingerprint = images.fingerprint()
    if outputs := in_words(fingerprint):
        notes[images.ref, outputs] = outputs
    if how := fingerprint.get("preprocessing"):
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
    """Add the options that say what classes are, and how stored images are read."""
    return grouped(
        "reading",
        Reading,
        click.option(
            "--classes",
            metavar="SPACE",
            help=f"Names of the networks' outputs: {', '.join(LABEL_SPACES)}, or a file.",
        ),
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


def data_argument(split: str) -> Decorator:
    """Return an argument that names a data set, and its options; *split* is the default part."""
    ref = click.argument("ref", required=False, metavar="[DATA]")
    return grouped("data", OptionalData, ref, *_part(split))


def _data_set(value: Callable[..., Any], split: str, *, required: bool) -> Decorator:
    ref = click.option("--data", "ref", required=required, metavar="DATA", help=f"{DATA}.")
    return grouped("data", value, ref, *_part(split))


def _part(split: str) -> tuple[Decorator, ...]:
    return (
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
            help=f"{DATA}; may be repeated. corruptions:DATA stands for the fifteen kinds of "
            "ImageNet-C at all strengths, and so does imagenet-c.",
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
