"""WebDataset's shards: tars in which the files of a sample have one name and several suffixes.

The library of that name reads shards as a stream, from their beginning. Here images are asked for
in any order, so that each shard is indexed once with the standard library's ``tarfile``.
"""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soupmerge.errors import InputError, enumerated
from soupmerge.sources.images.containers.braces import expanded
from soupmerge.sources.images.containers.features import names_of, of_type
from soupmerge.sources.images.containers.image_files import id_of
from soupmerge.sources.images.containers.queries import options
from soupmerge.sources.images.containers.samples import samples
from soupmerge.sources.images.containers.shards import TarImages
from soupmerge.sources.images.containers.splits import files_below, of_split
from soupmerge.sources.images.containers.written_labels import class_names, numbered
from soupmerge.sources.images.contents import Contents
from soupmerge.storage.reading import StableFile, read_json

SHARD = re.compile(r".*\.(tar(\.(gz|bz2|xz|zst))?|tgz)", re.DOTALL)
"""Names of shards in a folder; those that are compressed are refused when they are read."""


def wds(rest: str, split: str) -> Contents:
    """List the samples in WebDataset's shards: a file, a folder of shards, or names with braces."""
    where = f"wds:{rest}"
    place, asked = options(rest, ("image", "label", "classes"), where)
    shards = [StableFile.seen(path) for path in _shards(place, split, where)]
    found = [samples(shard, asked.get("image"), asked.get("label")) for shard in shards]
    if not any(each.names for each in found):
        raise InputError("holds no samples", where=where, fix="give shards of WebDataset")
    places = [np.insert(each.spans[:, :2], 0, i, axis=1) for i, each in enumerate(found)]
    images = TarImages(
        shards,
        [*itertools.chain.from_iterable(each.names for each in found)],
        np.concatenate(places),
        np.concatenate([each.spans[:, 2] for each in found]),
    )
    texts = [*itertools.chain.from_iterable(each.labels for each in found)]
    known = _class_names(place, shards[0].path.parent, asked)
    labels, classes = numbered(texts, known, where)
    return Contents(_ids(images, where), images, labels, classes)


def _shards(place: str, split: str, where: str) -> list[Path]:
    """Return the paths of the shards that *place* names, in a folder those of *split*."""
    if os.path.isdir(place):
        if not (names := files_below(place, SHARD)):
            raise InputError("holds no .tar files", where=where, fix="give a folder of shards")
        return [Path(place, name) for name in of_split(names, split, where)]
    paths = [place] if os.path.exists(place) else expanded(place)
    if missing := [path for path in paths if not os.path.exists(path)]:
        what = f"{len(missing)} of {len(paths)} shards are missing"
        raise InputError(what, problems=missing, where=where, fix="check the path")
    return [*map(Path, paths)]


def _class_names(place: str, beside: Path, asked: dict[str, str]) -> list[str] | None:
    """Return the names of the classes, from the file that is named or one beside the shards."""
    homes = [beside, Path(place)] if os.path.isdir(place) else [beside]
    if "classes" in asked:
        inside = [path for home in homes if (path := home / asked["classes"]).exists()]
        return class_names(inside[0] if inside else Path(asked["classes"]))
    for home in homes:
        if (path := home / "classes.txt").is_file():
            return class_names(path)
        if (path := home / "dataset_info.json").is_file():
            info = read_json(path)
            features = info.get("features") if isinstance(info, dict) else None
            columns = [asked.get("label", "cls"), *of_type(features, "ClassLabel")]
            named = [names for column in columns if (names := names_of(features, column))]
            return named[0] if named else None
    return None


def _ids(images: TarImages, where: str) -> Sequence[str]:
    """Return the names of *images*, after the name of their shard if that does not suffice."""
    if len(set(images.names)) == len(images):
        return [*map(id_of, images.names)]
    stems = [file.path.name.partition(".")[0] for file in images.files]
    owners = images.places[:, 0].tolist()
    names = [f"{stems[i]}/{name}" for i, name in zip(owners, images.names, strict=True)]
    if len(set(names)) < len(names):
        twice = [name for name, group in itertools.groupby(sorted(names)) if len([*group]) > 1]
        what = "several shards of one name hold samples of one name"
        raise InputError(what, problems=twice, where=where, fix="give each shard once")
    what = f"{where}: shards hold samples of the same names, so that ids begin with their shard"
    warnings.warn(f"{what}, such as {enumerated([id_of(names[0])])}", stacklevel=2)
    return [*map(id_of, names)]
