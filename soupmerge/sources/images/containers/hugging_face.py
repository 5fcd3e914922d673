"""Data sets of Hugging Face: at the Hub, in folders of tables, or single tables.

Only Parquet and Arrow files are read; no code of a data set is ever run.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soupmerge.errors import InputError, UsageError, enumerated, near_miss
from soupmerge.sources.images.containers.queries import options
from soupmerge.sources.images.containers.slices import Slices
from soupmerge.sources.images.containers.splits import files_below, of_split, split_in
from soupmerge.sources.images.containers.tables import Table, table
from soupmerge.sources.images.containers.written_labels import class_names, numbered
from soupmerge.sources.images.contents import Contents
from soupmerge.sources.images.contents import numbered as ids_of
from soupmerge.storage.reading import StableFile

TABLE = re.compile(r"(?!(.*/)?cache-).*\.(parquet|arrow)", re.DOTALL)
"""Names of tables in a folder; ``datasets`` puts its own notes beside them, in cache- files."""
CONVERTED = "refs/convert/parquet"
"""The branch of a data set at the Hub to which it is converted if it is not in Parquet."""
DEFAULT = "default"


@dataclass(frozen=True)
class Rows(Slices):
    """Images of tables, read from their copies.

    Attributes:
        tables: the tables themselves, one for each of `files`.
    """

    tables: Sequence[Path]

    def where(self, index: int) -> str:
        """Return the table and the row of an image."""
        return f"{self.tables[int(self.places[index, 0])]}: row {self.names[index]}"


def hf(rest: str, split: str) -> Contents:
    """List the rows of a data set: ``owner/name[@revision][:config]``, a folder or a file."""
    where = f"hf:{rest}"
    place, asked = options(rest, ("image", "label", "classes"), where)
    paths = _local(place, split, where) if os.path.exists(place) else _at_hub(place, split)
    columns = asked.get("image"), asked.get("label")
    tables = [table(StableFile.seen(path), *columns) for path in paths]
    names = [str(row) for found in tables for row in range(len(found.sizes))]
    places = [_places(i, found) for i, found in enumerate(tables)]
    images = Rows([found.copy for found in tables], names, np.concatenate(places), paths)
    texts = [*itertools.chain.from_iterable(found.labels for found in tables)]
    described = _classes(tables, where)
    known = class_names(Path(asked["classes"])) if "classes" in asked else described
    labels, classes = numbered(texts, known, where)
    return Contents(ids_of(range(len(names))), images, labels, classes)


def _places(i: int, found: Table) -> np.ndarray:
    """Return where the images of the table *i* are in its copy."""
    starts = np.cumsum(found.sizes) - found.sizes
    return np.column_stack([np.full_like(starts, i), starts, found.sizes])


def _classes(tables: Sequence[Table], where: str) -> list[str] | None:
    """Return the names of classes that all *tables* describe."""
    described = {tuple(found.classes) for found in tables}
    if len(described) > 1:
        lists = [enumerated(names) or "none" for names in described]
        fix = "give tables of one data set, or the names with ?classes=FILE"
        raise InputError("its tables name other classes", problems=lists, where=where, fix=fix)
    return [*described.pop()] or None


def _local(place: str, split: str, where: str) -> list[Path]:
    """Return the table at *place*, or the tables of *split* below the folder."""
    if not os.path.isdir(place):
        return [Path(place)]
    names = of_config(files_below(place, TABLE), None, where)
    return [Path(place, name) for name in of_split(names, split, where)]


def _at_hub(place: str, split: str) -> list[Path]:
    """Return the tables of *split* of a data set at the Hub, which are downloaded if need be."""
    from soupmerge.sources.hub import datasets  # only now: its client is slow to import
    from soupmerge.sources.hub.refs import DATA, HubRef

    repo = re.split("[@:]", place)[0]
    if repo.count("/") != 1 or repo.endswith((".parquet", ".arrow")) or repo[0] in "./~":
        fix = "check the path; a data set at the Hub is written hf:owner/name[@revision][:config]"
        raise InputError("there is no such file or folder", where=f"{DATA}{place}", fix=fix)
    ref = HubRef.parse(f"{DATA}{place}", DATA)

    def choose(names: Sequence[str]) -> list[str]:
        found = [name for name in names if TABLE.fullmatch(name)]
        if not found:
            what = "holds no tables in Parquet"
            fix = f"the Hub converts most data sets: write hf:OWNER/NAME@{CONVERTED}"
            raise InputError(what, where=ref, fix=fix)
        return of_split(of_config(found, ref.file, str(ref)), split, str(ref))

    return datasets.files(ref, choose)


def of_config(names: Sequence[str], config: str | None, where: str) -> list[str]:
    """Return those of *names*, of tables, that belong to the configuration *config*.

    A configuration is a folder; ``data``, and folders of splits, are none. If *config* is None, it
    is the only one, or the one called `DEFAULT`.

    Raises:
        UsageError: there is no such configuration, or several.

    Example:
        >>> of_config(["fine/train-0.parquet", "coarse/train-0.parquet"], "fine", "hf:me/photos")
        ['fine/train-0.parquet']
    """
    by_config: dict[str, list[str]] = {}
    for name in names:
        folders = name.split("/")[:-1]
        kept = [part for part in folders if part != "data" and not split_in(part)]
        by_config.setdefault("/".join(kept) or DEFAULT, []).append(name)
    if config is not None and config not in by_config:
        what = f"has no configuration {config!r}"
        raise UsageError(what, where=where, fix=near_miss(config, by_config))
    if config is None and len(by_config) > 1 and DEFAULT not in by_config:
        fix = "write hf:owner/name:CONFIG, or give one of its folders"
        what = f"has several configurations: {enumerated([*by_config])}"
        raise UsageError(what, where=where, fix=fix)
    return by_config[config or (DEFAULT if DEFAULT in by_config else next(iter(by_config)))]
