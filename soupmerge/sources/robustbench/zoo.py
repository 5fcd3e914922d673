"""The table of the zoo's entries: names, networks, files, licences. It needs no torch, no network.

The facts in ``zoo.csv`` are those of RobustBench 1.1.1 and its model_info. *start* is what
training started from: ``scratch``, another entry, or ``unknown``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from soupmerge.errors import UsageError, near_miss

PREFIX = "rb:"
SCRATCH, UNKNOWN = "scratch", "unknown"


@dataclass(frozen=True)
class ZooEntry:
    """One checkpoint of the zoo.

    Attributes:
        name: ``cifar10/Linf/NAME``, as in RobustBench; with ``_m0`` and so on for the parts of an
            ensemble.
        network: the reference of its network; empty if soupmerge has none.
        key: the state dict that RobustBench takes from a file that wraps several; or empty.
        source: location of the file, ``gdrive:ID`` or an address.
        licence: of the weights, as the Hub spells it.
        start: what training started from: `SCRATCH`, `UNKNOWN` or another entry's name.
        eps: radius of the threat, as RobustBench lists it, for images in ``[0, 1]``.
        clean, robust: accuracies in percent, as RobustBench lists them.
        preprocessing: RobustBench's name for what it does to ImageNet's images before they are
            attacked; empty if it does nothing, or what timm states for the network.
    """

    name: str
    network: str
    key: str
    source: str
    licence: str
    start: str
    eps: str
    clean: str
    robust: str
    preprocessing: str

    @property
    def ref(self) -> str:
        """The reference of its weights."""
        return PREFIX + self.name

    @property
    def run(self) -> str | None:
        """The entry whose training from scratch the weights come from, or None if unknown."""
        if self.start == SCRATCH:
            return self.ref
        return None if self.start == UNKNOWN else PREFIX + self.start


@cache
def entries() -> Mapping[str, ZooEntry]:
    """Return name → entry, in RobustBench's order."""
    table = files("soupmerge.sources.robustbench").joinpath("zoo.csv")
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return {entry.name: entry for row in rows for entry in _entries_of(row)}


def _entries_of(row: dict[str, str]) -> Iterator[ZooEntry]:
    sources = row.pop("files").split(" ")
    whole = ZooEntry(source=sources[0], **row)
    if len(sources) == 1:
        yield whole
        return
    for i, source in enumerate(sources):
        # The accuracies are the ensemble's; its parts were trained jointly, or are those of others.
        name = f"{whole.name}_m{i}"
        yield replace(whole, name=name, source=source, start=UNKNOWN, clean="", robust="")


def entry(ref: str) -> ZooEntry:
    """Return the entry that *ref*, ``rb:DATA/THREAT/NAME``, names.

    Raises:
        UsageError: there is none.
    """
    name = ref.removeprefix(PREFIX).partition("?")[0]
    found = entries().get(name)
    if found is None:
        what = f"RobustBench has no {name!r}"
        raise UsageError(what, where=ref, fix=_suggestion(name))
    return found


def _suggestion(name: str) -> str:
    """Return the entries of the same name for other data or threats, or one with a similar name."""
    last = name.rpartition("/")[2].lower()
    same = [PREFIX + n for n in entries() if n.lower().rpartition("/")[2] in (last, f"{last}_m0")]
    if last and same:
        return "did you mean " + " or ".join(map(repr, same)) + "?"
    full_list = "soupmerge pull --list rb lists all"
    near = near_miss(PREFIX + name, [PREFIX + n for n in entries()])
    return f"{near} ({full_list})" if near.startswith("did you") else full_list


def network(ref: str) -> str:
    """Return the reference of the network of the entry *ref*, with the arguments of its query.

    Raises:
        UsageError: there is no such entry, or no network for it.
    """
    found = entry(ref)
    if not found.network:
        fix = "give one of your own, package.module:function (--model)"
        raise UsageError("soupmerge has no network for it", where=ref, fix=fix)
    query = ref.partition("?")[2]
    joint = "&" if "?" in found.network else "?"
    return found.network + (joint + query if query else "")


def listed(beginning: str = "") -> list[ZooEntry]:
    """Return the entries whose names begin with *beginning*, such as ``cifar10/Linf``.

    Raises:
        UsageError: there is none.
    """
    beginning = beginning.removeprefix(PREFIX.rstrip(":")).removeprefix(":")
    found = [e for e in entries().values() if e.name.startswith(beginning)]
    if not found:
        places = sorted({e.name.rpartition("/")[0] for e in entries().values()})
        what = f"RobustBench has nothing that begins with {beginning!r}"
        raise UsageError(what, where="--list rb", fix=near_miss(beginning, places))
    return found
