"""Published data sets, read as their archives unpack, and checked by their counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path, PurePosixPath

from soupmerge.corruption_refs import CorruptionRef
from soupmerge.errors import InputError
from soupmerge.known_sets import KNOWN_SETS, Part
from soupmerge.label_spaces.known import label_space
from soupmerge.label_spaces.space import LabelSpace
from soupmerge.sources import cache
from soupmerge.sources.images import cifar_c, tiny_imagenet
from soupmerge.sources.images.containers.folders import folder
from soupmerge.sources.images.containers.image_files import ImageFiles
from soupmerge.sources.images.containers.tars import tar
from soupmerge.sources.images.contents import Contents, part

RB5000 = "rb5000"
"""The part of ImageNet's validation images on which RobustBench judges."""


def reader(name: str) -> Callable[[str, str], Contents]:
    """Return the reader of the published set *name*; see `read`."""
    return partial(read, name)


def read(name: str, rest: str, split: str) -> Contents:
    """Return the images of the published set *name*.

    Args:
        name: one of `KNOWN_SETS`.
        rest: where the set is, or "" for ``data/NAME`` in the cache; a set of class folders alone
            may be in a tar archive. For a collection of corrupted sets, the corruption comes first:
            ``fog-3`` or ``fog-3:PATH``.
        split: one of the parts of the set.

    Raises:
        UsageError: the set has no such part.
        InputError: it is missing, which says what to get; or it has not the images or classes that
            it should have.
    """
    known = KNOWN_SETS[name]
    corruption = CorruptionRef.published(f"{name}:{rest}") if known.is_corrupted else None
    asked = part(known.parts, split, name)
    if corruption is not None:
        _, _, rest = corruption.data.partition(":")
        place = asked.place.format(kind=corruption.kind, strength=corruption.strength)
        asked = asked._replace(place=place)
    root = home_of(name, rest)
    if not (root / asked.place).exists():
        raise _missing(name, root, asked.place, corruption.kind if corruption else split)
    strength = corruption.strength if corruption else 0
    contents = LAYOUTS[known.layout](root, asked, strength)
    if split == RB5000:
        contents = _of_robustbench(contents, root / asked.place)
    _require_counts(name, asked, contents, root / asked.place)
    return contents


def space_of(ref: str) -> LabelSpace | None:
    """Return the label space of the published set that *ref* names, or None if it has none."""
    known = KNOWN_SETS.get(ref.partition(":")[0])
    return label_space(known.space) if known and known.space else None


def home_of(name: str, place: str = "") -> Path:
    """Return the folder of the published set *name*, which need not be there.

    Args:
        name: one of `KNOWN_SETS`.
        place: where the set is, or "" for ``data/NAME`` in the cache. The folder that its archives
            unpack to may be in it.
    """
    known = KNOWN_SETS[name]
    root = Path(place) if place else cache.home() / "data" / (known.home or name)
    inner = root / known.unpacked
    return inner if known.unpacked and inner.is_dir() else root


def _folders(root: Path, asked: Part, strength: int) -> Contents:
    place = root / asked.place
    return tar(str(place), "") if place.is_file() else folder(str(place), "")


def _arrays(root: Path, asked: Part, strength: int) -> Contents:
    return cifar_c.read(root / asked.place, root / "labels.npy", strength, asked.images)


def _annotated(root: Path, asked: Part, strength: int) -> Contents:
    return tiny_imagenet.read(root, asked.place)


LAYOUTS: dict[str, Callable[[Path, Part, int], Contents]] = {
    "folders": _folders,
    "arrays": _arrays,
    "annotated": _annotated,
}
"""How a set is laid out → its reader, called with its folder, the part, and a strength."""


def _missing(name: str, root: Path, place: str, what: str) -> InputError:
    """Return the error that says what to get for the split or corruption *what*."""
    known = KNOWN_SETS[name]
    elsewhere = f"{name}:KIND-STRENGTH:PATH" if known.is_corrupted else f"{name}:PATH"
    checks = [
        f"get {a.name} from {known.site} (terms: {known.terms}), check that {a.tool} prints {a.sum}"
        for a in known.archives_of(what)
    ] or [f"get {known.unpacked} from {known.site} (terms: {known.terms})"]
    unpack = f"unpack it into {root}{known.advice and f', {known.advice}'}"
    fix = f"{' and '.join(checks)}, and {unpack}; or write {elsewhere}"
    return InputError(f"{known.title} is not there", where=root / place, fix=fix)


def _of_robustbench(contents: Contents, place: Path) -> Contents:
    """Return the images among *contents* on which RobustBench judges, in its order.

    Raises:
        InputError: some are missing; they are listed.
    """
    found = {PurePosixPath(id).stem: i for i, id in enumerate(contents.ids)}
    wanted = [f"ILSVRC2012_val_000{number}" for number in _numbers()]
    if missing := [name for name in wanted if name not in found]:
        what = f"lacks {len(missing):,} of RobustBench's {len(wanted):,} images"
        fix = "complete the validation images"
        raise InputError(what, problems=missing, where=place, fix=fix)
    chosen = [found[name] for name in wanted]
    source = contents.pixels
    if isinstance(source, ImageFiles):
        names = [source.names[i] for i in chosen]
        source = replace(source, names=names, stamps=source.stamps[chosen])
    ids = [contents.ids[i] for i in chosen]
    return contents._replace(ids=ids, pixels=source, labels=contents.labels[chosen])


def _numbers() -> list[str]:
    """Return the last five digits of the names of RobustBench's 5,000 validation images."""
    table = files("soupmerge.sources.images") / "tables" / "robustbench_5000.txt"
    lines = table.read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _require_counts(name: str, asked: Part, contents: Contents, place: Path) -> None:
    """Refuse *contents* that do not have the images and classes of the set *name*.

    Raises:
        InputError: they do not.
    """
    known, classes = KNOWN_SETS[name], contents.classes
    count = classes if isinstance(classes, int) else len(classes)
    found, expected = (len(contents.ids), count), (asked.images, known.classes)
    if found != expected:
        what = "{:,} images of {:,} classes".format
        fix = f"unpack the archives again, or read what is there with folder:{place}"
        raise InputError(
            f"holds {what(*found)}, but {known.title} has {what(*expected)}", where=place, fix=fix
        )
